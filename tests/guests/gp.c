/*
 * gp - breaks a rule of segmentation: #GP.
 */
#include "guest.h"

int main(void)
{
#if MODE == 16
	/* An offset beyond the limit of 64 KiB. */
	volatile char *volatile beyond = (void *)0x12345;

	*beyond;
#else
	/* A selector beyond the limit of the GDT. */
	__asm__ volatile("mov %0, %%es" : : "r"(0x1230));
#endif
	return 0;
}

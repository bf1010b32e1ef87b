/*
 * triple - has an IDT with nothing in it, then an exception: a triple fault.
 */
#include "guest.h"

int main(void)
{
	static const char none[10];

#if MODE == 16
	__asm__ volatile("lidtl %0" : : "m"(none));
#else
	__asm__ volatile("lidt %0" : : "m"(none));
#endif
	__asm__ volatile("ud2");
	return 0;
}

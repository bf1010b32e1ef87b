/*
 * tables - writes over its page tables, and has the CPU look at them anew.
 */
#include "guest.h"

int main(void)
{
	for (volatile char *p = (void *)0x2000; p < (char *)0x6000; p++)
		*p = 0;
	__asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : : "r"((intptr_t)0));
	print("not reached\n");
	return 0;
}

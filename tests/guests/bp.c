/*
 * bp - runs into a breakpoint: #BP, whose frame holds the next instruction.
 */
#include "guest.h"

int main(void)
{
	__asm__ volatile("int3");
	return 0;
}

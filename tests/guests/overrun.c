/*
 * overrun - its stack grows, by one ud2 after the other, until it has run over
 * the code: #UD, there. (The jump is at a multiple of 2.)
 */
#include "guest.h"

int main(void)
{
	__asm__ volatile("mov $1f + 255, %%esp\n"
			 ".balign 16\n"
			 "nop\n"
			 "1: .byte 0x50\n" /* push %ax, %eax or %rax */
			 "jmp 1b"
			 : : "a"((intptr_t)0x0b0f0b0f0b0f0b0f));
	return 0;
}

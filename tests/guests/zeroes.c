/*
 * zeroes - jumps to zeroed memory, and runs through it to its end. Each two
 * bytes of it are an instruction, add %al, (%eax) or the like.
 */
#include "guest.h"

#define END ((intptr_t)(MODE == 16 ? 0x10000 : 0x200000))

int main(void)
{
	/* Here was the return address. */
	*(volatile uintptr_t *)(END - sizeof(uintptr_t)) = 0;
	__asm__ volatile("mov $0x7f00, %%esp\n"
			 "mov $0x7000, %%eax\n"
			 "mov %%eax, %%ebx\n"
			 "xor %%esi, %%esi\n"
			 "jmp *%0"
			 : : "d"(END - 256));
	return 0;
}

/*
 * top - prints how much RAM it has below 4 GiB: in MiB, by its stack pointer,
 * and whether each MiB keeps what is written there. Not for real mode.
 */
#include "guest.h"

int main(void)
{
	uintptr_t end = ((uintptr_t)__builtin_frame_address(0) | 0xfff) + 1;

	for (uintptr_t a = 0x100000; a < end; a += 0x100000)
		*(volatile uint32_t *)(a - 8) = (uint32_t)a;
	for (uintptr_t a = 0x100000; a < end; a += 0x100000)
		if (*(volatile uint32_t *)(a - 8) != (uint32_t)a)
			print("not kept\n");
	for (int shift = 12; shift >= 0; shift -= 4)
		outb(PORT_CONSOLE,
		     (uint8_t)"0123456789abcdef"[end >> 20 >> shift & 15]);
	print("\n");
	return 0;
}

/*
 * regs - prints the registers that make its mode, as it finds them.
 */
#include "guest.h"

static void print_hex(const char *name, uintptr_t value)
{
	print(name);
	for (int shift = 28; shift >= 0; shift -= 4)
		outb(PORT_CONSOLE,
		     (uint8_t)"0123456789abcdef"[value >> shift & 15]);
	print("\n");
}

int main(void)
{
	uintptr_t value;
	uint32_t low, high;

	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	print_hex("CR0=", value);
	__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	print_hex("CR3=", value);
	__asm__ volatile("mov %%cr4, %0" : "=r"(value));
	print_hex("CR4=", value);
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xC0000080));
	print_hex("EFER=", low);
	__asm__ volatile("mov %%cs, %0" : "=r"(value));
	print_hex("CS=", value & 0xffff);
	__asm__ volatile("mov %%ss, %0" : "=r"(value));
	print_hex("SS=", value & 0xffff);
	/* Reloading a segment register reads the GDT. */
	__asm__ volatile("mov %0, %%es" : : "r"(value));
	print_hex("SP=", (uintptr_t)__builtin_frame_address(0) & ~0xfffu);
	return 0;
}

/*
 * ports - uses each port in each size that it has.
 */
#include "guest.h"

static void check(const char *name, uint32_t got, uint32_t want)
{
	print(name);
	print(got == want ? " right\n" : " wrong\n");
}

static void outs(const void *data, unsigned count, unsigned size)
{
	if (size == 1)
		outsb(PORT_CONSOLE, data, count);
	else if (size == 2)
		__asm__ volatile("rep outsw" : "+S"(data), "+c"(count)
				 : "d"(PORT_CONSOLE) : "memory");
	else
		__asm__ volatile("rep outsl" : "+S"(data), "+c"(count)
				 : "d"(PORT_CONSOLE) : "memory");
}

int main(void)
{
	uint8_t bytes[6] = { 0 };

	outb(PORT_CONSOLE, 'a');
	outw(PORT_CONSOLE, 'b' | 'c' << 8);
	outl(PORT_CONSOLE, 'd' | 'e' << 8 | 'f' << 16 | '\n' << 24);
	outb(0x3F8, 'C');
	outb(0x3F8, '1');
	outb(0x3F8, '\n');
	outs("bytes\n", 6, 1);
	outs("words\n", 3, 2);
	outs("doubles\n", 2, 4);
	check("inb", inb(PORT_CONSOLE), 0xE9);
	check("inw", inw(PORT_CONSOLE), 0xE9E9);
	check("inl", inl(PORT_CONSOLE), 0xE9E9E9E9);
	check("status", inb(0x3FD), 0x60);
	insb(PORT_CONSOLE, bytes, 5);
	check("insb", bytes[0] & bytes[1] & bytes[2] & bytes[3] & bytes[4],
	      0xE9);
	check("no more", bytes[5], 0);
	return 0;
}

/*
 * comecho - tests COM1 by loopback, as drivers do: the line says that a byte has
 * come, and the modem's lines are looped back as well. Then it prints what it reads
 * from there, in capitals, as long as a byte waits; and a dot at the end.
 */
#include "guest.h"

#define COM1 0x3F8

static const char *test(void)
{
	outb(COM1 + 4, 0x1e);
	outb(COM1, 0xae);
	if (!(inb(COM1 + 5) & 1) || inb(COM1) != 0xae)
		return "no byte\n";
	outb(COM1 + 4, 0x1a); /* RTS and OUT2: CTS and DCD */
	if ((inb(COM1 + 6) & 0xf0) != 0x90)
		return "no CTS\n";
	outb(COM1 + 4, 0x15); /* DTR and OUT1: DSR and RI */
	if ((inb(COM1 + 6) & 0xf0) != 0x60)
		return "no DSR\n";
	outb(COM1 + 4, 0x0f);
	outb(COM1 + 5, 0xff); /* a register that cannot be written */
	return inb(COM1 + 2) & 1 ? "" : "an interrupt\n";
}

int main(void)
{
	for (const char *p = test(); *p; p++)
		outb(COM1, (uint8_t)*p);
	while (inb(COM1 + 5) & 1) {
		uint8_t c = inb(COM1);

		while (!(inb(COM1 + 5) & 0x20))
			;
		outb(COM1, c >= 'a' && c <= 'z' ? c - 32 : c);
	}
	outb(COM1, '.');
	return 0;
}

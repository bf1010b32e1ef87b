/*
 * serial - sets COM1 up as PC code does, tests it by loopback, and prints by it.
 */
#include "guest.h"

#define COM1 0x3F8

/* Registers and values, in the order of the usual initialisation. */
static const uint8_t setup[][2] = {
	{ 1, 0x00 }, /* no interrupts */
	{ 3, 0x80 }, /* divisor latch on... */
	{ 0, 0x03 }, /* ...its low byte: 38,400 baud */
	{ 1, 0x00 }, /* ...and its high byte */
	{ 3, 0x03 }, /* latch off, 8 bits, no parity */
	{ 2, 0xc7 }, /* FIFO on, cleared */
	{ 4, 0x0b }, /* RTS and DSR */
	{ 4, 0x1e }, /* loopback */
	{ 0, 0xae }, /* a byte, which must come back */
};

int main(void)
{
	const char *text = "not faulty\n";

	for (unsigned i = 0; i < sizeof(setup) / sizeof(*setup); i++)
		outb(COM1 + setup[i][0], setup[i][1]);
	if (inb(COM1) != 0xae)
		text = "faulty\n";
	outb(COM1 + 4, 0x0f); /* loopback off */
	outb(0x80, 0);
	while (*text) {
		while (!(inb(COM1 + 5) & 0x20))
			;
		outb(COM1, (uint8_t)*text++);
	}
	/* What was kept is given back, but for the line's status. */
	for (uint16_t reg = 0; reg < 8; reg++)
		if (reg != 5 && reg != 0)
			outb(COM1 + reg, (uint8_t)(0x10 + reg));
	outb(COM1 + 4, 0);
	outb(COM1 + 3, 0);
	if (inb(COM1 + 7) == 0x17 && inb(COM1 + 1) == 0x11 &&
	    inb(COM1 + 5) == 0x60)
		outb(PORT_EXIT, 20);
	return 0;
}

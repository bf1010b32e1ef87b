/*
 * screen - writes to the text screen of a PC: three lines, some of whose cells show
 * nothing; and then ends with the status that is after the image, or by HLT.
 */
#include "guest.h"

extern const char image_end[];

static void put(unsigned row, unsigned column, uint8_t c, uint8_t attribute)
{
#if MODE == 16
	unsigned at = 2 * (80 * row + column);
	uint16_t cell = (uint16_t)(attribute << 8 | c);

	__asm__ volatile("mov %w0, %%es\n"
			 "movw %w1, %%es:(%2)\n"
			 : : "r"(0xb800), "r"(cell), "r"(at) : "memory");
#else
	volatile uint8_t *at = (uint8_t *)0xb8000 + 2 * (80 * row + column);

	at[0] = c;
	at[1] = attribute;
#endif
}

static void write(unsigned row, unsigned column, const char *text)
{
	while (*text)
		put(row, column++, (uint8_t)*text++, 7);
}

int main(void)
{
	write(0, 0, "first");
	write(2, 3, "third");
	write(24, 76, "last");
	put(2, 9, 'x', 0);    /* black on black */
	put(2, 10, 'y', 0xff);
	put(2, 11, 0x1b, 7);  /* not of ASCII */
	put(2, 12, 0xdb, 7);
	if (image_end[0])
		outb(PORT_EXIT, (uint8_t)image_end[0]);
	return 0;
}

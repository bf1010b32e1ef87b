/*
 * bytes - prints every byte value, then 16 KiB, with an exit for each byte.
 */
#include "guest.h"

int main(void)
{
	for (unsigned i = 0; i < 256; i++)
		outb(PORT_CONSOLE, (uint8_t)i);
	for (unsigned line = 0; line < 256; line++) {
		for (unsigned i = 0; i < 63; i++)
			outb(PORT_CONSOLE, (uint8_t)(' ' + ((line + i) & 63)));
		outb(PORT_CONSOLE, '\n');
	}
	return 0;
}

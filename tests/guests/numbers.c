/*
 * numbers - prints 160 KiB, more than a pipe and a buffer of ours hold together:
 * the numbers below 2560, each a line of 63 digits.
 */
#include "guest.h"

#ifndef OUTS
#define OUTS "rep outsl"
#define SIZE 4
#endif

static char line[64];

int main(void)
{
	for (unsigned i = 0; i < 63; i++)
		line[i] = '0';
	line[63] = '\n';
	for (unsigned n = 0; n < 2560; n++) {
		const char *from = line;
		unsigned count = sizeof(line) / SIZE;
		char *digit = &line[62];

		__asm__ volatile(OUTS : "+S"(from), "+c"(count)
				 : "d"(PORT_CONSOLE) : "memory");
		while (++*digit > '9')
			*digit-- = '0';
	}
	return 0;
}

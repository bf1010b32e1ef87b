/*
 * mebibyte - prints 1 MiB: 256 blocks of 64 lines of 64 bytes. The first line
 * of each block is its number, the others are the same in every block.
 */
#include "guest.h"

#ifndef OUTS
#define OUTS "rep outsl"
#define SIZE 4
#endif

static char block[4096];

int main(void)
{
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (char)(i % 64 == 63 ? '\n' : '0' + i / 64);
	for (unsigned n = 0; n < 256; n++) {
		const char *from = block;
		unsigned count = sizeof(block) / SIZE;

		block[0] = "0123456789abcdef"[n >> 4];
		block[1] = "0123456789abcdef"[n & 15];
		__asm__ volatile(OUTS : "+S"(from), "+c"(count)
				 : "d"(PORT_CONSOLE) : "memory");
	}
	return 0;
}

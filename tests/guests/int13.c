/*
 * int13 - raises vector 13 by INT, which pushes no error code.
 */
#include "guest.h"

int main(void)
{
	__asm__ volatile("int $13");
	return 0;
}

/*
 * zeroes - jumps into zeroed memory, and runs through it to its end.
 */
#include "guest.h"

int main(void)
{
	((void (*)(void))0xf000)();
	return 0;
}

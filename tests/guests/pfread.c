/*
 * pfread - reads where nothing is, a GiB up: #PF, or an MMIO exit.
 */
#include "guest.h"

int main(void)
{
	volatile char *volatile nowhere = (void *)0x40000000;

	return *nowhere;
}

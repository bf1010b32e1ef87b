/*
 * pfwrite - writes where nothing is, a GiB up: #PF, or an MMIO exit.
 */
#include "guest.h"

int main(void)
{
	volatile uint16_t *volatile nowhere = (void *)0x40000010;

	*nowhere = 0xbeef;
	return 0;
}

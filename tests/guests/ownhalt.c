/*
 * ownhalt - halts on purpose where an exception stub was.
 */
#include "guest.h"

int main(void)
{
	volatile uint8_t *stub = (void *)0xc04;

	stub[0] = 0xf4; /* hlt */
	stub[1] = 0x90; /* nop */
	stub[2] = 0x90;
	((void (*)(void))0xc04)();
	return 0;
}

/*
 * spin - prints a line, then loops for ever with interrupts off.
 */
#include "guest.h"

int main(void)
{
	print("spinning\n");
	for (;;) /* a jump to itself would end the run */
		__asm__ volatile("nop");
}

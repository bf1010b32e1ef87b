/*
 * prompt - prints a prompt, without a newline, then loops for ever with
 * interrupts off.
 */
#include "guest.h"

int main(void)
{
	print("prompt> ");
	for (;;) /* a jump to itself would end the run */
		__asm__ volatile("nop");
}

/*
 * spin - prints a line, then loops for ever with interrupts off.
 */
#include "guest.h"

int main(void)
{
	print("spinning\n");
	for (;;)
		;
}

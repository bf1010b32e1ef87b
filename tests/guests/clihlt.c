/*
 * clihlt - turns interrupts off and halts, on purpose.
 */
#include "guest.h"

int main(void)
{
	__asm__ volatile("cli; hlt");
	return 0;
}

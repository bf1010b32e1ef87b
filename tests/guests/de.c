/*
 * de - divides by zero: #DE.
 */
#include "guest.h"

int main(void)
{
	__asm__ volatile("div %0" : : "r"(0), "a"(1), "d"(0));
	return 0;
}

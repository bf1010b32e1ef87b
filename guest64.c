/*
 * guest64.c - the built-in guest of long mode.
 */
#include "guest.h"

int main(void)
{
	print("Hello, world!\n");
	memval = 42;
	halt(42);
}

/*
 * guest32.c - the built-in guest of protected mode and of 32-bit paging.
 */
#include "guest.h"

int main(void)
{
	print("Hello, world!\n");
	memval = 42;
	halt(42);
}

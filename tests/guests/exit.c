/*
 * exit - prints "bye", without a newline, and ends through port 0xF4.
 */
#include "guest.h"

int main(void)
{
	print("bye");
	outl(PORT_EXIT, 0x2a);
	print("not reached\n");
	return 0;
}

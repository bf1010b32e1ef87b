/*
 * nosuch - prints, then writes to a port that is not there.
 */
#include "guest.h"

int main(void)
{
	print("before\n");
	outw(0x1234, 0xbeef);
	print("not reached\n");
	return 0;
}

/*
 * ud - prints, then executes an instruction that is none: #UD.
 */
#include "guest.h"

int main(void)
{
	print("before\n");
	__asm__ volatile("ud2");
	print("not reached\n");
	return 0;
}

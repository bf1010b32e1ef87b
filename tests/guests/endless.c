/*
 * endless - prints without end.
 */
#include "guest.h"

int main(void)
{
	for (;;)
		print("and on\n");
}

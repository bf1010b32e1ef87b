/*
 * pastram - writes beyond the end of RAM, but where 4 MiB pages still reach.
 */
#include "guest.h"

int main(void)
{
	volatile uint32_t *volatile nowhere = (void *)0x200010;

	*nowhere = 0x12345678;
	return 0;
}

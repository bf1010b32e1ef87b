/*
 * recurse - calls itself until the stack has run over everything.
 */
#include "guest.h"

static int __attribute__((noinline)) deeper(volatile int *from)
{
	volatile int here[64] = { *from };

	/* Never so, but the compiler does not know that. */
	if (here[0])
		return 0;
	return deeper(here) + here[0];
}

int main(void)
{
	volatile int n = 0;

	return deeper(&n);
}

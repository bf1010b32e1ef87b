/*
 * sse - computes in floating point, which compilers do with SSE in long mode.
 * The Makefile builds it with FLOAT=1.
 */
#include "guest.h"

int main(void)
{
#if MODE == 64
	static volatile double halves[64] __attribute__((aligned(16)));
	double sum = 0;

	for (int i = 0; i < 64; i++)
		halves[i] = i * 0.5;
	for (int i = 0; i < 64; i++)
		sum += halves[i];
	print(sum == 1008 ? "right\n" : "wrong\n");
#endif
	return 0;
}

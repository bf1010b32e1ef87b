/*
 * mem - has the compiler call memset() and memcpy(), which guest.h has for it,
 * and calls memmove() and memcmp() itself.
 */
#include "guest.h"

struct big {
	char text[300];
};

static void check(const char *name, int right)
{
	print(name);
	print(right ? " right\n" : " wrong\n");
}

/* The compiler is not to know what is at `data', and has to store it there. */
static void use(void *data)
{
	__asm__ volatile("" : : "r"(data) : "memory");
}

static void dirty_stack(void)
{
	char bytes[2000];

	for (volatile unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = 'x';
	use(bytes);
}

static int sum_of_zeroes(void)
{
	char bytes[1000] = { 0 };
	int sum = 0;

	use(bytes);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		sum |= bytes[i];
	return sum;
}

int main(void)
{
	static struct big from, to;
	char s[] = "..0123456789..";

	dirty_stack();
	check("zeroes", sum_of_zeroes() == 0);

	for (unsigned i = 0; i < sizeof(from.text); i++)
		from.text[i] = (char)(i * 7);
	use(&from);
	to = from;
	use(&to);
	check("copy", memcmp(&to, &from, sizeof(to)) == 0 &&
		      to.text[299] == (char)(299 * 7));

	check("memmove up", memmove(s + 4, s + 2, 10) == s + 4 &&
			    !memcmp(s, "..010123456789", sizeof(s)));
	check("memmove down", memmove(s + 2, s + 4, 10) == s + 2 &&
			      !memcmp(s, "..012345678989", sizeof(s)));
	memmove(s + 1, s, 0);
	check("memmove none", !memcmp(s, "..012345678989", sizeof(s)));
	check("memset", memset(s + 2, '-', 10) == s + 2 &&
			!memcmp(s, "..----------89", sizeof(s)));
	check("memcmp", memcmp("ab\x01", "ab\xff", 3) < 0 &&
			memcmp("b", "a", 1) > 0 && !memcmp("a", "b", 0));
	return 0;
}

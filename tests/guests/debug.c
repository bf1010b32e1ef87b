/*
 * debug - for gdb: calls functions, has variables, dies of an instruction that
 * is none, and has a line that never ends.
 */
#include "guest.h"

volatile int total = 5;

__attribute__((noinline)) int add(int n)
{
	total += n;
	return total;
}

__attribute__((noinline)) int twice(int n)
{
	return add(n) + add(n);
}

/* One line for gdb: it prints "tick" again and again. */
__attribute__((noinline)) void forever(void)
{
	__asm__ volatile("1: movb $'t', %%al; outb %%al, %0; movb $'i', %%al;"
			 "outb %%al, %0; movb $'c', %%al; outb %%al, %0;"
			 "movb $'k', %%al; outb %%al, %0; movb $10, %%al;"
			 "outb %%al, %0; jmp 1b"
			 : : "i"(PORT_CONSOLE) : "eax", "memory");
}

__attribute__((noinline)) void die(void)
{
	__asm__ volatile("ud2");
}

int main(void)
{
	print("one\n");
	print("two\n");
	if (twice(3) == 19)
		die();
	forever();
	return 0;
}

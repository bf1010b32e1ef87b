/*
 * guest.h - what a guest in C needs: its entry, I/O ports, print and halt, and
 * the four functions that compilers call by themselves.
 *
 * A guest runs on the bare virtual CPU, in ring 0, with no C library below it.
 * It begins at main(), which may return: the value goes where halt() puts it.
 * All source files of a guest may include this file: what it defines is either
 * static or weak, and of weak definitions the linker takes the first.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

#define PORT_CONSOLE	0xE9	/* a byte written here goes to stdout */
#define PORT_EXIT	0xF4	/* writing v here ends with status 2v + 1 */

/* Where simple-kvm looks for a built-in guest's result, see guest.ld. */
extern volatile intptr_t memval;

/*
 * simple-kvm jumps to the first byte of the image with the stack pointer at a
 * multiple of 16. A call puts it where the x86 ABI wants it at a function's
 * first instruction, so that aligned SSE accesses to the stack work.
 */
__asm__(".pushsection .start, \"ax\"\n"
	".weak _start\n"
	"_start:\n"
#ifdef __x86_64__
	"	callq main\n"
#else
	"	calll main\n"
#endif
	"1:	hlt\n"
	"	jmp 1b\n"
	".popsection\n");

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/*
 * Write the bytes at `data' to a port, or fill them from it. It is one
 * instruction, but outsb() is a VM exit for each byte. In real mode it uses 16
 * bits of the address and the count.
 */
static inline void outsb(uint16_t port, const void *data, size_t count)
{
	__asm__ volatile("rep outsb" : "+S"(data), "+c"(count)
			 : "d"(port) : "memory");
}

static inline void insb(uint16_t port, void *data, size_t count)
{
	__asm__ volatile("rep insb" : "+D"(data), "+c"(count)
			 : "d"(port) : "memory");
}

/* Print a string, up to its zero byte: one VM exit for each character. */
static inline void print(const char *s)
{
	while (*s)
		outb(PORT_CONSOLE, (uint8_t)*s++);
}

/* End the guest with a result in the accumulator (EAX or RAX). */
static inline void __attribute__((noreturn)) halt(intptr_t result)
{
	for (;;)
		__asm__ volatile("hlt" : : "a"(result) : "memory");
}

/*
 * For `char b[100] = { 0 }' or a copy of a struct, compilers emit calls of
 * these four, so a guest must have them, as in the C standard. They are written
 * with string instructions, since of a plain loop in memset() a compiler might
 * make a call of memset(). guest.ld puts them at the end, out of the way.
 */
#define GUEST_MEM	__attribute__((weak, section(".mem")))

GUEST_MEM void *memcpy(void *to, const void *from, size_t size)
{
	void *next = to;

	__asm__ volatile("rep movsb" : "+D"(next), "+S"(from), "+c"(size)
			 : : "memory");
	return to;
}

/* As memcpy(), but the two may overlap: if need be, it begins at the end. */
GUEST_MEM void *memmove(void *to, const void *from, size_t size)
{
	uint8_t *last = (uint8_t *)to + size - 1;
	const uint8_t *from_last = (const uint8_t *)from + size - 1;

	if ((uintptr_t)to - (uintptr_t)from >= size)
		return memcpy(to, from, size);
	__asm__ volatile("std; rep movsb; cld"
			 : "+D"(last), "+S"(from_last), "+c"(size)
			 : : "memory");
	return to;
}

GUEST_MEM void *memset(void *to, int byte, size_t size)
{
	void *next = to;

	__asm__ volatile("rep stosb" : "+D"(next), "+c"(size)
			 : "a"(byte) : "memory");
	return to;
}

GUEST_MEM int memcmp(const void *left, const void *right, size_t size)
{
	const uint8_t *a = left, *b = right;

	for (; size; a++, b++, size--)
		if (*a != *b)
			return *a - *b;
	return 0;
}

#endif

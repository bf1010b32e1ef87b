/*
 * guest.h - what a guest in C needs: its entry, I/O ports, print and halt.
 *
 * A guest runs on the bare virtual CPU, in ring 0, with no C library below it.
 * It begins at main(), which may return: the value goes where halt() puts it.
 * Include this file in one source file of a guest, since it holds the entry.
 */
#ifndef GUEST_H
#define GUEST_H

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
	".globl _start\n"
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

#endif

/*
 * ownstub - has an IDT of its own, and writes to the port of the exception stubs
 * where one was: no exception.
 */
#include "guest.h"

int main(void)
{
	static uint32_t idt[2];
	struct {
		uint16_t limit;
		uintptr_t base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, (uintptr_t)idt };
	volatile uint8_t *stub = (void *)0xc04;

#if MODE == 16
	__asm__ volatile("lidtl %0" : : "m"(idtr));
#else
	__asm__ volatile("lidt %0" : : "m"(idtr));
#endif
	stub[0] = 0xe6; /* out %al, $0xee */
	stub[1] = 0xee;
	((void (*)(void))0xc04)();
	return 0;
}

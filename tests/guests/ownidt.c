/*
 * ownidt - takes exceptions over with an IDT of its own.
 */
#include "guest.h"

void handler(void);
__asm__("handler:	mov $0xe9, %dx\n"
	"	mov $'o', %al\n"
	"	out %al, %dx\n"
	"	mov $0xf4, %dx\n"
	"	mov $3, %al\n"
	"	out %al, %dx\n"
	"	hlt\n");

int main(void)
{
	static uint32_t idt[8 * 4];
	struct {
		uint16_t limit;
		uintptr_t base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, (uintptr_t)idt };
	uint32_t address = (uint32_t)(uintptr_t)handler;

#if MODE == 16
	idt[6] = address;
	__asm__ volatile("lidtl %0" : : "m"(idtr));
#else
	uint32_t *gate = &idt[6 * MODE / 16];

	gate[0] = 0x08 << 16 | (address & 0xffff);
	gate[1] = (address & 0xffff0000) | 0x8e00;
	__asm__ volatile("lidt %0" : : "m"(idtr));
#endif
	__asm__ volatile("ud2");
	return 0;
}

/*
 * selfmod - changes an instruction that it has executed, and executes it again.
 */
#include "guest.h"

int letter(void);
__asm__("letter:	mov $'a', %eax\n"
	"	ret\n");

int main(void)
{
#if MODE == 16
	/* The operand follows a prefix for 32 bits and the opcode. */
	volatile uint8_t *operand = (uint8_t *)letter + 2;
#else
	volatile uint8_t *operand = (uint8_t *)letter + 1;
#endif

	for (int i = 0; i < 3; i++) {
		outb(PORT_CONSOLE, (uint8_t)letter());
		++*operand;
	}
	print("\n");
	return 0;
}

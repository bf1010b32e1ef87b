/*
 * fault - raises an exception that brings an error code. The two bytes after
 * the image say in which ring, 0 or 3, and which. Not for real mode.
 */
#include "guest.h"

#if MODE == 16
int main(void)
{
	return 0;
}
#else
#define PAGE_2M 0x200000
#define UP	((volatile char *)0x400000) /* a page of its own */

extern const char image_end[];

/* As SYSEXIT wants it: ring 3 has selectors 0x1b and 0x23, or 0x2b and 0x33. */
static volatile uint64_t gdt[] = {
	0,
	MODE == 64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff,
	0x00cf93000000ffff,
	0x00cffb000000ffff,	/* 0x18: code of ring 3, 32-bit */
	0x00cff3000000ffff,
	0x00affb000000ffff,	/* 0x28: the same, 64-bit */
	0x00cff3000000ffff,
	0x00cf13000000ffff,	/* 0x38: not present */
	0x0000890070000050, 0,	/* 0x40: a TSS at 0x7000, too small for IST7 */
	0x0000890000000067, 0,	/* 0x50: a TSS at 0 */
};

/*
 * Go to ring 3, to a function, with the stack at 0x6ff0. kvm-pvm can do it by
 * IRET in long mode, and by SYSEXIT elsewhere.
 */
static void ring3(void (*function)(void))
{
	const intptr_t sp = 0x6ff0;

	*(volatile uint32_t *)4 = 0x7ff0; /* the TSS's RSP0, or ESP0 and SS0 */
	*(volatile uint32_t *)8 = MODE == 64 ? 0 : 0x10;
	__asm__ volatile("ltr %w0" : : "r"(0x50));
#if MODE == 64
	__asm__ volatile("push $0x33\n"
			 "push %0\n"
			 "push $0x2\n"
			 "push $0x2b\n"
			 "push %1\n"
			 "iretq" : : "r"(sp), "r"(function));
#else
	__asm__ volatile("wrmsr" : : "c"(0x174), "a"(0x08), "d"(0));
	__asm__ volatile("sysexit" : : "c"(sp), "d"(function));
#endif
}

/* The page directory's entry for UP. */
static void map(uint64_t entry)
{
	((volatile uint64_t *)0x4000)[(uintptr_t)UP / PAGE_2M] = entry;
}

static void load(uint16_t selector)
{
	__asm__ volatile("mov %0, %%ds" : : "r"(selector));
}

static void read_up(void) { *UP; }
static void write_up(void) { *UP = 1; }
static void call_up(void) { ((void (*)(void))(uintptr_t)UP)(); }
static void int32(void) { __asm__ volatile("int $32"); }
static void unaligned(void)
{
	__asm__ volatile("push $0x40002\n"
			 "popf\n"
			 "cmpw $0, (0x5001)\n");
}

static void hlt(void) { __asm__ volatile("hlt"); }
static void ud(void) { __asm__ volatile("ud2"); }
static void ss(void) { __asm__ volatile("mov %0, %%ss" : : "r"(0x38)); }
static void np(void) { load(0x38); }
static void ldt(void) { load(0x123c); }

int main(void)
{
	void (*function)(void) = hlt;
	struct {
		uint16_t limit;
		uintptr_t base;
	} __attribute__((packed)) gdtr = { sizeof(gdt) - 1, (uintptr_t)gdt };

	__asm__ volatile("lgdt %0" : : "m"(gdtr));
	switch (image_end[1]) {
	case 's': /* a stack segment that is not present */
		function = ss;
		break;
	case 'n': /* a data segment that is not */
		function = np;
		break;
	case 'l': /* none in the LDT */
		function = ldt;
		break;
	case 'e': /* a gate that is not present */
		*(volatile uint8_t *)(0x1005 + 6 * MODE / 4) = 0x0e;
		function = ud;
		break;
	case 'd': /* that of #NP is not present, either */
		*(volatile uint8_t *)(0x1005 + 6 * MODE / 4) = 0x0e;
		*(volatile uint8_t *)(0x1005 + 11 * MODE / 4) = 0x0e;
		function = ud;
		break;
	case 'c': /* the gates lead to 16-bit code */
		gdt[1] = 0x00009b000000ffff;
		function = ud;
		break;
	case 't': /* a gate with a stack that the TSS does not have */
		__asm__ volatile("ltr %w0" : : "r"(0x40));
		*(volatile uint8_t *)(0x1004 + 6 * MODE / 4) = 7;
		function = ud;
		break;
	case 'a': /* a word that is not aligned, with RFLAGS.AC */
		function = unaligned;
		break;
	case 'i': /* a gate that ring 3 must not use */
		function = int32;
		break;
	case 'h': /* an instruction that it must not use */
		break;
	case 'r': /* a page that is not present */
		map(0);
		function = read_up;
		break;
	case 'w':
		map(0);
		function = write_up;
		break;
	case 'k': /* a page of ring 0 */
		map(0x83);
		function = read_up;
		break;
	case 'o': /* a page that is read-only */
		map(0x85);
		function = write_up;
		break;
	case 'x': /* a page that is not for code */
		__asm__ volatile("wrmsr" : : "c"(0xc0000080), "a"(0xd00),
				 "d"(0));
		map(1ull << 63 | 0x87);
		function = call_up;
		break;
	case 'v': /* a reserved bit */
		map(1 << 13 | 0x87);
		function = read_up;
		break;
	case 'm': /* a page where no RAM can be */
		map(0x140000087);
		function = read_up;
		break;
	}
	if (image_end[0] == '3')
		ring3(function);
	function();
	return 0;
}
#endif

/*
 * frame - comes to the stub of an exception with a frame of its own, and with
 * each register other than the rest. After the image stand the stack pointer
 * to begin with, the bits to set in EFER (4 bytes each), the stub's address, the
 * number of words to push (2 bytes each), and these. See tests/report.t.
 */
#include "guest.h"

/* clang-format off */
static const uint64_t gdt[] = {
	0,
	MODE == 64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff,
	0x00cf93000000ffff,
	0x825ddfd432166789,	/* 0x18: conforming code, limit in bytes */
	0x00affb120000fffe,	/* 0x20: 64-bit code, limit in pages */
	0x000213012100ffff,	/* 0x28: 16-bit data, not present */
	0x00cff3000000ffff,	/* 0x30: data of ring 3 */
	0x00cffb000000ffff,	/* 0x38: code of ring 3 */
	0x004293012100ffff,	/* 0x40: 32-bit data */
};
/* clang-format on */

void leave(void);
__asm__("leave:\n"
#if MODE == 16
	"	mov (image_end), %esp\n"
	"	mov $image_end + 12, %esi\n"
	"	movw -2(%esi), %cx\n"
	"1:	lodsw\n"
	"	pushw %ax\n"
	"	loop 1b\n"
	"	pushw $0xf000\n"
	"	pushw (image_end + 8)\n"
#else
	"	mov image_end, %esp\n"
	"	mov $image_end + 12, %esi\n"
	"	movzwl -2(%esi), %ecx\n"
#if MODE == 64
	"1:	lodsq\n"
	"	push %rax\n"
	"	loop 1b\n"
	"	movzwl image_end + 8, %eax\n"
	"	push %rax\n"
	"	movabs $0x8888888888888888, %r8\n"
	"	movabs $0x9999999999999999, %r9\n"
	"	movabs $0xaaaaaaaaaaaaaaaa, %r10\n"
	"	movabs $0xbbbbbbbbbbbbbbbb, %r11\n"
	"	movabs $0xcccccccccccccccc, %r12\n"
	"	movabs $0xdddddddddddddddd, %r13\n"
	"	movabs $0xeeeeeeeeeeeeeeee, %r14\n"
	"	movabs $0xffffffffffffffff, %r15\n"
#else
	"1:	lodsl\n"
	"	push %eax\n"
	"	loop 1b\n"
	"	movzwl image_end + 8, %eax\n"
	"	push %eax\n"
#endif
#endif
	"	mov $0x1a1a1a1a, %eax\n"
	"	mov $0x1b1b1b1b, %ebx\n"
	"	mov $0x1c1c1c1c, %ecx\n"
	"	mov $0x1d1d1d1d, %edx\n"
	"	mov $0x51515151, %esi\n"
	"	mov $0xd1d1d1d1, %edi\n"
	"	mov $0xb9b9b9b9, %ebp\n"
#if MODE == 16
	"	lretw\n");
#else
	"	ret\n");
#endif

int main(void)
{
	const struct {
		uint16_t limit;
		uintptr_t base;
	} __attribute__((packed)) gdtr = { 0xff0f, 0x600 };
	uintptr_t reg;

	memcpy((void *)0x600, gdt, sizeof(gdt));
#if MODE != 16
	/* 0xff08: 32-bit data of ring 3 */
	*(volatile uint64_t *)(0x600 + 0xff08) = 0x0042f3012100ffff;
	__asm__ volatile("lgdt %0" : : "m"(gdtr));
	__asm__ volatile("mov %0, %%fs" : : "r"(0x30));
	__asm__ volatile("mov %0, %%gs" : : "r"(0x33));
#else
	(void)gdtr;
	__asm__ volatile("mov %0, %%es" : : "r"(0xe5e5));
	__asm__ volatile("mov %0, %%fs" : : "r"(0xf5f5));
	__asm__ volatile("mov %0, %%gs" : : "r"(0x6565));
#endif
	/* CR0.TS; CR4.DE and PGE */
	__asm__ volatile("mov %%cr0, %0\n"
			 "or $0x8, %0\n"
			 "mov %0, %%cr0\n"
			 "mov %%cr4, %0\n"
			 "or $0x88, %0\n"
			 "mov %0, %%cr4" : "=&r"(reg));
	__asm__ volatile("rdmsr\n"
			 "or image_end + 4, %%eax\n"
			 "wrmsr" : : "c"(0xc0000080) : "eax", "edx");
	leave();
	return 0;
}

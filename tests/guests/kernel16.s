# kernel - a boot sector that enters protected mode itself, programs the interrupt
# controllers and the timer, writes to the screen, and halts with interrupts on.
	.code16
	.section .start, "ax"
	.globl	_start
	.set	moved, 0x7c00 - 0x8000	# it is linked there, and runs here
_start:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	in	$0x92, %al
	or	$2, %al
	out	%al, $0x92
	lgdt	gdtr + moved
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmp	$8, $(protected + moved)

	.code32
protected:
	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x90000, %esp
	mov	$0x11, %al
	out	%al, $0x20
	mov	$0x20, %al
	out	%al, $0x21
	mov	$0x34, %al
	out	%al, $0x43
	mov	$(text + moved), %esi
	mov	$0xb8000, %edi
	mov	$0x1f, %ah
1:	lodsb
	test	%al, %al
	jz	2f
	stosw
	jmp	1b
2:	sti
	hlt

text:	.asciz	"kernel"
gdt:	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:	.word	23
	.long	gdt + moved
	.org	510
	.word	0xaa55

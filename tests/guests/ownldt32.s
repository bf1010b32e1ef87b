# ownldt - has a code segment in an LDT, which begins at the image and has the same
# index as another one in the GDT; and divides by zero in it, at offset 0x100. If
# it goes on after that, it prints an exclamation mark.
	.section .start, "ax"
	.globl	_start
_start:
	lgdt	gdtr
	mov	$0x18, %ax
	lldt	%ax
	ljmp	$0x0c, $(code - _start)

	.org	0x100
code:
	div	%ecx			# ECX is 0
	mov	$'!', %al
	out	%al, $0xe9
	hlt

	.balign	8
ldt:
	.quad	0
	.quad	0x00409b0080000fff	# 0x0c: code, base 0x8000, limit 0xfff
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	# 0x08: flat code: the stubs' own
	.quad	0x00cf93000000ffff	# 0x10: flat data
	.word	gdt - ldt - 1, ldt, 0x8200, 0 # 0x18: the LDT
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt

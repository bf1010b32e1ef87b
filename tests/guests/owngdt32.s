# owngdt - has a GDT of its own, with a code segment that begins at the image
# and ends 0x1000 bytes later, and divides by zero in it, at offset 0x100.
	.section .start, "ax"
	.globl	_start
_start:
	lgdt	gdtr
	ljmp	$0x18, $(code - _start)

	.org	0x100
code:
	xor	%ecx, %ecx
	div	%ecx

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	# 0x08: flat code: the stubs' own
	.quad	0x00cf93000000ffff	# 0x10: flat data
	.quad	0x00409b0080000fff	# 0x18: code, base 0x8000, limit 0xfff
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt

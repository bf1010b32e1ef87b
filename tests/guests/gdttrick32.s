# gdttrick - runs in the higher half without paging: its code segment begins at
# 0x40000000, and an offset above 0xc0000000 wraps to where the image is. There it
# makes an interrupt that nothing handles.
	.section .start, "ax"
	.globl	_start
_start:
	lgdt	gdtr
	ljmp	$0x18, $(code + 0xc0000000)
code:
	int	$0x30

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	# 0x08: flat code: the stubs' own
	.quad	0x00cf93000000ffff	# 0x10: flat data
	.quad	0x40cf9b000000ffff	# 0x18: code, base 0x40000000
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt

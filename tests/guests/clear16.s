# clear - a boot sector that clears the memory from 0x500 to itself, as far as its
# stack, and from its end to 0xa0000. Then it prints by 10,000 calls, and reboots.
	.code16
	.section .start, "ax"
	.globl	_start
_start:
	cld
	xor	%ax, %ax
	mov	%ax, %es
	mov	$0x500, %di
	mov	$((0x7b00 - 0x500) / 4), %cx
	rep stosl
	mov	$0x7e0, %bx		# a segment, and the next, up to 0xa000
1:	mov	%bx, %es
	xor	%di, %di
	mov	$(0x200 / 4), %cx
	rep stosl
	add	$0x20, %bx
	cmp	$0xa000, %bx
	jb	1b
	mov	$10000, %bp
2:	mov	$0x0e2e, %ax		# a dot
	int	$0x10
	dec	%bp
	jnz	2b
	ljmp	$0xffff, $0
	.org	510
	.word	0xaa55

# hook - a boot sector that takes INT 0x10 over: what is to be printed it prints
# in capitals, by the old handler, which it calls for the first text, and jumps to
# for the second.
	.code16
	.section .start, "ax"
	.globl	_start
	.set	moved, 0x7c00 - 0x8000	# it is linked there, and runs here
_start:
	mov	0x40, %eax
	mov	%eax, old + moved
	movw	$(calls + moved), 0x40
	movw	$0, 0x42
	mov	$(first + moved), %si
	call	print
	movw	$(jumps + moved), 0x40
	mov	$(second + moved), %si
	call	print
	cli
	hlt

calls:	and	$0xdf, %al
	pushf
	lcall	*(old + moved)
	iret

jumps:	and	$0xdf, %al
	ljmp	*(old + moved)

print:	lodsb
	test	%al, %al
	jz	1f
	mov	$0x0e, %ah
	int	$0x10
	jmp	print
1:	ret

first:	.asciz	"called"
second:	.asciz	"jumped"
old:	.long	0
	.org	510
	.word	0xaa55

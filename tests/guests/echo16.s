# echo - a boot sector that prints a prompt by teletype, echoes each key until
# Enter, prints the line again, and jumps to itself.
	.code16
	.section .start, "ax"
	.globl	_start
	.set	moved, 0x7c00 - 0x8000	# it is linked there, and runs here
_start:
	sti				# or Bochs would stop at the end
	mov	$(prompt + moved), %si
	call	print
	mov	$0x600, %di
key:	mov	$0, %ah
	int	$0x16
	stosb
	call	type
	cmp	$'\r', %al
	jne	key
	mov	$'\n', %al
	call	type
	mov	$0, %al
	stosb
	mov	$0x600, %si
	call	print
	jmp	.

print:	lodsb
	test	%al, %al
	jz	1f
	call	type
	jmp	print
type:	mov	$0x0e, %ah
	int	$0x10
1:	ret

prompt:	.asciz	"key> "
	.org	510
	.word	0xaa55

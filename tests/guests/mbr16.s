# mbr - copies itself to 0x600, as a master boot record does, and goes on there:
# it prints "moved" and ends with status 7. If FAULT is defined (mbrfault16.s),
# it divides by zero instead of ending.
	.code16
	.section .start, "ax"
	.globl	_start
_start:
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	$_start, %si
	mov	$0x600, %di
	mov	$(end - _start), %cx
	cld
	rep movsb
	ljmp	$0, $(0x600 + moved - _start)
moved:
	mov	$(0x600 + text - _start), %si
	mov	$6, %cx
	mov	$0xe9, %dx
	rep outsb
	.ifdef	FAULT
	div	%cl			# CX is 0
	.else
	mov	$3, %al
	out	%al, $0xf4
	.endif
	hlt
text:	.ascii	"moved\n"
end:

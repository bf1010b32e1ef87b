# outs64.s - for the bench: 100,000 bytes to the console, one OUT for each.

	.section .start, "ax"
	.globl	_start
_start:
	mov	$100000, %ecx
	mov	$'x', %al
next:	outb	%al, $0xe9		# the console port: a VM exit
	dec	%ecx
	jnz	next

	mov	$42, %eax		# zeroes the upper half of RAX, too
	mov	%rax, 0x400
halt:	hlt
	jmp	halt

# guest16.s - the built-in guest of real mode: print, store 42, halt with 42.

	.code16
	.section .start, "ax"
	.globl	_start
_start:
	mov	$message, %si
	mov	$0xe9, %dx		# the console port
	cld
next:	lodsb				# AL = the byte at DS:SI, SI + 1
	test	%al, %al
	jz	done
	outb	%al, %dx		# an I/O instruction, hence a VM exit
	jmp	next

done:	mov	$42, %ax
	mov	%ax, 0x400		# simple-kvm looks here...
halt:	hlt				# ...and into AX once we halt
	jmp	halt

	.section .rodata
message:
	.asciz	"Hello, world!\n"

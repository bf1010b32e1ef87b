# bios - a boot sector that calls a BIOS as it is told to. From offset 0x180 on there
# are up to three records of 38 bytes: the vector (0: the end), a zero, ES, BP, and
# EDI, ESI, EBP (not used), ESP (not used), EBX, EDX, ECX, EAX as POPAL takes them.
# After each call it prints, by port 0xE9, EAX, EBX, ECX, EDX, EFLAGS and ESP in
# hex. It has set all flags that may be, and the upper half of ESP. At the end it
# prints the 32 bytes at 0x9000.
	.code16
	.section .start, "ax"
	.globl	_start
	.set	moved, 0x7c00 - 0x8000	# it is linked there, and runs here
_start:
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0x12347c00, %esp
	mov	$(record + moved), %si
next:	cld
	lodsw
	test	%al, %al
	jz	end
	movb	%al, call + 1 + moved
	lodsw
	mov	%ax, %es
	lodsw
	mov	%ax, bp + moved
	mov	%si, saved + moved
	mov	%sp, %bp
	mov	%si, %sp		# POPAL reads the record
	popal
	mov	$0x12347c00, %esp
	mov	bp + moved, %bp
	pushl	$0x244ad7		# ID AC IF SF ZF AF PF CF NT
	popfl
call:	int	$0
	pushfl
	pushal
	cld
	mov	%sp, %bp
	mov	28(%bp), %eax		# EAX, as PUSHAL left it
	call	hex
	mov	16(%bp), %eax		# EBX
	call	hex
	mov	24(%bp), %eax		# ECX
	call	hex
	mov	20(%bp), %eax		# EDX
	call	hex
	mov	32(%bp), %eax		# EFLAGS
	call	hex
	mov	12(%bp), %eax		# ESP, before PUSHAL
	add	$4, %eax
	call	hex
	mov	$'\n', %al
	out	%al, $0xe9
	mov	$0x12347c00, %esp
	xor	%ax, %ax
	mov	%ax, %ds
	mov	saved + moved, %si
	add	$32, %si
	jmp	next

# Print EAX in hex, and a space.
hex:	mov	$8, %cl
1:	rol	$4, %eax
	push	%ax
	and	$15, %al
	cmp	$10, %al
	jb	2f
	add	$('a' - '0' - 10), %al
2:	add	$'0', %al
	out	%al, $0xe9
	pop	%ax
	dec	%cl
	jnz	1b
	mov	$' ', %al
	out	%al, $0xe9
	ret

end:	mov	$0x9000, %si
	mov	$8, %ch
1:	lodsl
	push	%cx
	call	hex
	pop	%cx
	dec	%ch
	jnz	1b
	cli
	hlt
bp:	.word	0
saved:	.word	0

	.org	0x180
record:
	.org	510
	.word	0xaa55

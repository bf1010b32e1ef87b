# waits - a boot sector that sets up a PC's devices, waits for bits of them to be
# set and to be clear, and clears low memory. Then it prints a line, once by
# AH 0x0e and once by AH 0x09, 10,000 times, without a newline; and reboots.
	.code16
	.section .start, "ax"
	.globl	_start
_start:
	mov	$0x11, %al		# the interrupt controllers
	out	%al, $0x20
	out	%al, $0xa0
	mov	$0xff, %al
	out	%al, $0x21
	out	%al, $0xa1
	mov	$0x36, %al		# the timer
	out	%al, $0x43
	out	%al, $0x40
	in	$0x40, %al
	in	$0x92, %al		# A20
	or	$2, %al
	out	%al, $0x92
	mov	$0x0a, %al		# the clock's state
	out	%al, $0x70
	in	$0x71, %al
	mov	$0x0e0a, %ax		# the VGA's cursor, index and data
	mov	$0x3d4, %dx
	out	%ax, %dx
	mov	$0x3da, %dx
1:	in	%dx, %al		# a retrace ends, and begins
	test	$8, %al
	jnz	1b
2:	in	%dx, %al
	test	$8, %al
	jz	2b
3:	in	$0x64, %al		# the keyboard takes a byte, and has one
	test	$2, %al
	jnz	3b
4:	in	$0x64, %al
	test	$1, %al
	jz	4b
	in	$0x60, %al
5:	in	$0x61, %al		# a refresh of memory
	test	$0x10, %al
	jz	5b
	in	$0x80, %al		# this is not there, and so the end
	.org	510
	.word	0xaa55

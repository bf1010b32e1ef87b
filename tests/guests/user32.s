# user - in ring 3, halts, which is not for it to do. Then it ends, in ring 0, by
# the exception's stub.
	.section .start, "ax"
	.globl	_start
_start:
	lgdt	gdtr
	movl	$0x9000, 4		# ESP0 and SS0 of a TSS at 0
	movl	$0x10, 8
	mov	$0x28, %ax
	ltr	%ax
	mov	$0x174, %ecx		# IA32_SYSENTER_CS
	mov	$8, %eax
	xor	%edx, %edx
	wrmsr
	mov	$user, %edx
	mov	$0xa000, %ecx
	sysexit				# CS becomes 0x1b, SS 0x23: no KVM has
					# an IRET to an outer ring to emulate
user:
	hlt
	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	# 0x08: code
	.quad	0x00cf93000000ffff	# 0x10: data
	.quad	0x00cffb000000ffff	# 0x1b: code of ring 3
	.quad	0x00cff3000000ffff	# 0x23: data of ring 3
	.quad	0x0000890000000067	# 0x28: the TSS
gdtr:	.word	. - gdt - 1
	.long	gdt

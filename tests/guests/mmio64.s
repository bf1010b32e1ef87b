# mmio - maps 0x200000 to where no RAM is, and writes eight bytes there. What KVM
# says of such an exit has them where for I/O it has an offset; that one would
# lead out of any memory.
	.section .start, "ax"
	.globl	_start
_start:
	movl	$0x40000087, 0x4008	# page directory [1]: 2 MiB at 1 GiB
	movabs	$0x8000000000000000, %rax
	mov	%rax, 0x200000
	hlt

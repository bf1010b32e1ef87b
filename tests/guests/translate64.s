# translate - has two pages of its own address space that are not neighbours in
# memory, and no third: 0x400000 is at 0x30000, 0x401000 at 0x20000. It hands
# addresses there, and some at the end of RAM, to hypercalls: port 0x43 is to
# read up to 8 bytes, port 0x44 to write as many. Then it prints what it finds
# where they should have been written. tests/hypercall.t has the hypercalls.
	.section .start, "ax"
	.globl	_start
_start:
	movl	$0x10007, 0x4010	# page directory [2]: a table at 0x10000
	movl	$0x30007, 0x10000
	movl	$0x20007, 0x10008
	movl	$0x64636261, 0x30ffc	# abcd
	movl	$0x68676665, 0x20000	# efgh
	movl	$0x6c6b6a69, 0x20ffc	# ijkl
	movl	$0x706f6e6d, 0x1ffffc	# mnop, the last bytes of RAM

	mov	$0x400ffc, %eax
	out	%eax, $0x43
	mov	$0x401ffc, %eax
	out	%eax, $0x43
	mov	$0x402000, %eax
	out	%eax, $0x43
	mov	$0x1ffffc, %eax
	out	%eax, $0x43
	mov	$0xfffffffc, %eax
	out	%eax, $0x43

	mov	$0x400ffc, %eax
	out	%eax, $0x44
	mov	$0x401ffc, %eax
	out	%eax, $0x44
	mov	$0x402000, %eax
	out	%eax, $0x44
	mov	0x30ffc, %eax
	out	%eax, $0xe9
	mov	0x20000, %eax
	out	%eax, $0xe9
	mov	0x20ffc, %eax
	out	%eax, $0xe9
	hlt

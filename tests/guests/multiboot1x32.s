# multiboot1 - a kernel with a Multiboot header. It prints EAX, and as many words of
# what EBX points to as make the information that simple-kvm has for it, in hex.
	.set	MAGIC, 0x1BADB002
	.set	FLAGS, 3
	.set	WORDS, 25
	.section .start, "ax"
	.globl	_start
_start:	jmp	begin
	.balign	4
	.long	MAGIC, FLAGS, -(MAGIC + FLAGS)
	.include "tests/guests/words.inc"

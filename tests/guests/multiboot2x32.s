# multiboot2 - the same with a header of version 2.
	.set	MAGIC, 0xE85250D6
	.set	WORDS, 24
	.section .start, "ax"
	.globl	_start
_start:	jmp	begin
	.balign	8
header:	.long	MAGIC, 0, end - header, -(MAGIC + end - header)
	.word	0, 0
	.long	8
end:
	.include "tests/guests/words.inc"

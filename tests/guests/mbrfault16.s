# mbrfault - copies itself to 0x600, as mbr16.s, and divides by zero there.
	.set	FAULT, 1
	.include "tests/guests/mbr16.s"

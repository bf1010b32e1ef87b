# content - fills the 4 MiB from 2 MiB on, each page with its own number, and
# then prints "filled" for ever: who stops reading that makes simple-kvm sleep.
	.text
	.globl	_start
_start:
	movl	$0x200000, %edi
	movl	$1, %eax		# the first page's number
fill:
	movl	$512, %ecx		# quadwords of a page
	rep stosq
	incl	%eax
	cmpl	$1024, %eax
	jbe	fill
again:
	movl	$text, %esi
	movl	$7, %ecx
	movl	$0xe9, %edx
	rep outsb
	jmp	again
text:
	.ascii	"filled\n"

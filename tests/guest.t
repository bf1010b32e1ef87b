#!/bin/sh
# What a guest's author has from guest.h, guest.ld and the Makefile: what
# compilers call, links by hand and of several files, no SSE unless it is asked
# for, and debugging information that leaves the image as it is. FULL=1 compiles
# what compilers call at four levels of the optimizer instead of one, and clang as
# well as gcc.
# backends: no (needs a compiler)
#
# shellcheck disable=SC2086 # $make and $o may be several words
. "${0%/*}/lib.sh"

# This make is not to know of the one that runs the tests.
unset MAKEFLAGS MFLAGS MAKELEVEL MODE RAM FLOAT OBJS
make=${MAKE:-make}
src=$T/src
copy_tree "$src"
cd "$src" || exit 1
[ -w /dev/kvm ] && kvm=y || kvm=
# What make makes of the program's source is of interest here, not the source.
cat >simple-kvm.c <<'C'
#include <stdio.h>
int main(int argc, char *argv[])
{
	return printf("%d %s\n", argc, argv[0]) < 0;
}
C

# mode_options MODE: how simple-kvm and objdump call it ($o and $arch).
mode_options() {
	case $1 in
	16) o=-r arch=i8086 ;;
	32) o=-s arch=i386 ;;
	64) o=-l arch=i386:x86-64 ;;
	esac
}

# prints WHAT WANT ARGUMENT...: a run with these arguments prints it.
prints() {
	what=$1
	want=$2
	shift 2
	[ "$kvm" ] || { skip "$what" 'no KVM'; return; }
	run "$@"
	is "$what" "$status $out" "0 $want$NL"
}

# builds WHAT ARGUMENT...: so does make, without a warning.
builds() {
	what=$1
	shift
	limit $make -s "$@" >"$T/log" 2>&1
	is "$what: builds" "$? $(cat "$T/log")" '0 '
}

# ------------------------------------- what compilers call, and what they use

right="zeroes right${NL}copy right${NL}memmove up right${NL}memmove down right\
${NL}memmove none right${NL}memset right${NL}memcmp right"
cp tests/guests/mem.c mem.c
for cc in gcc ${FULL:+clang}; do
	command -v $cc >/dev/null || { skip "mem, $cc" 'not installed'; continue; }
	for mode in 16 32 64; do
		mode_options $mode
		for opt in -O3 ${FULL:+-O0 -Os -O2}; do
			what="mem, $cc $opt, MODE=$mode"
			rm -f mem.bin
			builds "$what" mem.bin CC=$cc MODE=$mode \
				GUEST_CFLAGS="$opt -Werror"
			prints "$what: runs" "$right" $o mem.bin
			unlike "$what: no SSE" "$(objdump -d -m $arch mem.elf)" \
				'[xy]mm[0-9]'
		done
	done
done

cat >half.c <<'G'
#include "guest.h"
volatile double one = 1;
int main(void) { one = one * 0.5; return 0; }
G
for mode in 16 32 64; do
	mode_options $mode
	$make -s half.bin MODE=$mode >"$T/log" 2>&1
	is "floating point without FLOAT=1, MODE=$mode: refused" "$?" 2
	builds "FLOAT=1, MODE=$mode" half.bin MODE=$mode FLOAT=1
	objdump -d -m $arch half.elf >"$T/half$mode"
done
like 'FLOAT=1: SSE in long mode' "$(cat "$T/half64")" 'mulsd.*xmm'
for mode in 16 32; do
	like "FLOAT=1, MODE=$mode: the x87" "$(cat "$T/half$mode")" 'fmul'
	unlike "FLOAT=1, MODE=$mode: no SSE" "$(cat "$T/half$mode")" 'xmm'
	# For a CPU that has it clang would use it.
	need_command clang "FLOAT=1, clang, MODE=$mode" || continue
	mode_options $mode
	builds "FLOAT=1, clang, MODE=$mode" half.bin CC=clang MODE=$mode FLOAT=1 \
		GUEST_CFLAGS='-O2 -march=haswell'
	unlike "FLOAT=1, clang, MODE=$mode: no SSE" \
		"$(objdump -d -m $arch half.elf)" 'xmm'
done

$make -s half.bin FLOAT=0 >"$T/log" 2>&1
is 'FLOAT=0: refused, too' "$?" 2

# -------------------------------------- what compilers may not take for granted

# REP OUTSB and REP INSB change what they are given, and use memory. Any memory
# may be used as any type, address 0 as well; and a function that is called as
# one of a C library is the guest's own.
cat >bare.c <<'G'
#include "guest.h"

#define SELF	__attribute__((noinline))

int abs(int n);
SELF int abs(int n) { return n + 8; }
SELF static int from(const int *p)
{
	int value = *p;

	return p ? value : 12345;
}
SELF static int mixed(int *i, short *s)
{
	*i = 1;
	*s = 2;
	return *i;
}
int leaf(int n)
{
	volatile int copies[2] = { n, n };

	return copies[0] + copies[1];
}

int main(void)
{
	char line[] = { '?', '1', '\n' };
	const char *text = "ab";
	uint8_t in[4], again[4] = { 0 }, *to = again;
	size_t n = 2;
	int *null = 0, word;

	line[0] = 'x';
	outsb(PORT_CONSOLE, line, sizeof(line));
	line[0] = 'y';
	outsb(PORT_CONSOLE, line, sizeof(line));
	/* The compiler is not to know what these are. */
	__asm__("" : "+r"(text), "+r"(n), "+r"(to), "+r"(null));
	outsb(PORT_CONSOLE, text, n);
	outsb(PORT_CONSOLE, text, n);
	print("\n");

	in[0] = in[1] = in[2] = 0;
	insb(PORT_CONSOLE, in, 2);
	word = in[0] == 0xE9 && in[1] == 0xE9 && !in[2];
	print(word ? "in " : "wrong ");
	insb(PORT_CONSOLE, to, n);
	insb(PORT_CONSOLE, to, n);
	print(again[1] == 0xE9 && !again[2] ? "again " : "wrong ");

	*(volatile int *)0x600 = 1;
	print(from(null) == 12345 ? "null " : "wrong ");
	print(mixed(&word, (short *)&word) == 2 ? "mixed " : "wrong ");
	print(abs(-1) == 7 ? "own\n" : "wrong\n");
	return 0;
}
G
for mode in 16 32 64; do
	mode_options $mode
	builds "nothing granted, MODE=$mode" bare.bin MODE=$mode
	prints "nothing granted, MODE=$mode: runs" \
		"x1${NL}y1${NL}abab${NL}in again null mixed own" $o bare.bin
done
unlike 'nothing below the stack pointer' "$(objdump -d bare.elf)" \
	'-0x[0-9a-f]*(%rsp)'
builds 'a compiler that protects the stack' bare.bin \
	CC="${CC:-cc} -fstack-protector-all"

# ------------------------------------------------------------- several files

# Both include guest.h, and so hold an entry each.
cat >one.c <<'G'
#include "guest.h"
extern const char text[];
int two(void);
int main(void)
{
	outsb(PORT_CONSOLE, "one ", 4);
	return two();
}
G
cat >two.c <<'G'
#include "guest.h"
extern const char text[];
int two(void) { print("two "); print(text); return 0; }
G
printf '\t.globl text\n\t.section .rodata\ntext:\t.asciz "three\\n"\n' >three.s

for mode in 16 32 64; do
	mode_options $mode
	rm -f one.elf
	builds "OBJS, MODE=$mode" one.bin MODE=$mode OBJS='two.o three.o'
	prints "OBJS, MODE=$mode: flat" 'one two three' $o one.bin
	prints "OBJS, MODE=$mode: ELF" 'one two three' $o one.elf
done
sed 's/three/four/' three.s >"$T/x" && cp "$T/x" three.s
builds 'OBJS, one of them changed' one.bin OBJS='two.o three.o'
prints 'OBJS, one of them changed: runs' 'one two four' -l one.bin
printf '\t.globl text\n\t.section .rodata\ntext:\t.asciz "five\\n"\n' >five.s
builds 'OBJS, another' one.bin OBJS='two.o five.o'
prints 'OBJS, another: runs' 'one two five' -l one.bin
builds 'OBJS, an older one again' one.bin OBJS='two.o three.o'
prints 'OBJS, an older one again: runs' 'one two four' -l one.bin
# Wherever an object lies, it is built again when what it includes changes.
mkdir parts
printf '\t.globl text\n\t.section .rodata\ntext:\t.include "parts/text"\n' \
	>parts/six.s
printf '\t.asciz "six\\n"\n' >parts/text
builds 'OBJS, in a directory' one.bin OBJS='two.o parts/six.o'
prints 'OBJS, in a directory: runs' 'one two six' -l one.bin
printf '\t.asciz "seven\\n"\n' >parts/text
builds 'OBJS, in a directory: what it includes' one.bin OBJS='two.o parts/six.o'
prints 'OBJS, in a directory: what it includes: runs' 'one two seven' -l one.bin
# The program's own guests are none of its business, in whatever order.
$make -s clean
builds 'OBJS, and the program with it' simple-kvm one.bin MODE=32 \
	OBJS='two.o five.o'
prints 'OBJS, and the program with it: runs' 'one two five' -s one.bin
unlike 'the built-in guests are without it' "$(nm guest32.elf)" ' two$'

# The name memval may be the guest's.
cat >own.c <<'G'
#include "guest.h"
volatile intptr_t memval = 7;
int main(void) { print(memval == 7 ? "own\n" : "not its own\n"); return 0; }
G
builds 'a memval of its own' own.bin
prints 'a memval of its own: runs' 'own' -l own.bin

# By hand, as little as it takes.
for mode in 16 32 64; do
	mode_options $mode
	case $mode in
	64) emulation=elf_x86_64 bits=64 ;;
	*) emulation=elf_i386 bits=32 ;;
	esac
	rm -f hand.elf
	for f in one two; do
		${CC:-cc} -m$mode -O2 -ffreestanding -fno-pic \
			-fno-stack-protector -mgeneral-regs-only -c $f.c
	done
	as --$bits -o five.o five.s
	ld -m $emulation -z noexecstack -T guest.ld -o hand.elf \
		one.o two.o five.o >"$T/log" 2>&1
	is "linked by hand, MODE=$mode" "$? $(cat "$T/log")" '0 '
	prints "linked by hand, MODE=$mode: ELF" 'one two five' $o hand.elf
	objcopy -O binary hand.elf hand.bin
	prints "linked by hand, MODE=$mode: flat" 'one two five' $o hand.bin
done
# It fits into 2 MiB, less a page, from 0x8000 on; or is found not to.
for size in 0x1f7000 0x1f7001; do
	printf '\t.bss\n\t.skip %s\n' $size >large.s
	as --64 -o large.o large.s
	ld -z noexecstack -T guest.ld -o large.elf large.o >"$T/log$size" 2>&1
	echo "$?" >>"$T/log$size"
done
is 'by hand, as large as can be' "$(cat "$T/log0x1f7000")" 0
like 'by hand, too large: refused' "$(cat "$T/log0x1f7001")" \
	'does not fit into its RAM'

# What is loaded is in two sections and two segments, wherever it comes from.
cat >pieces.s <<'S'
	.section .text.a, "ax"
	hlt
	.section .rodata.a, "a"
	.byte 1
	.section .data.a, "aw"
	.byte 2
	.section .bss.a, "aw", @nobits
	.skip 3
	.comm common, 4
	.section .note.a, "a", @note
	.byte 5
	.section .eh_frame, "a"
	.long 0
	.section .comment
	.byte 6
S
builds 'many sections' pieces.elf
is 'many sections: two are left' "$(readelf -SW pieces.elf |
	sed -n 's/^ *\[ *[0-9]*\] \(\.[a-z._]*\) .* [WX]*A[WX]* .*/\1/p' |
	tr '\n' ' ')" '.text .data '
is 'many sections: code is not writable, data not executable' \
	"$(readelf -lW pieces.elf |
	sed -n 's/^ *LOAD .* \([RWE ]\{3\}\) .*/\1/p')" \
	"R E${NL}RW "
like 'many sections: no padding before them' "$(readelf -lW pieces.elf)" \
	'^ *LOAD  *0x000[0-9a-f]* '

# ------------------------------------------------------------------ debugging

$make -s clean
$make -s guest16.bin guest32.bin guest64.bin
for g in guest16.s guest32.c guest64.c; do
	name=${g%.?}
	like "$name.elf knows its source" \
		"$(readelf --debug-dump=decodedline $name.elf)" \
		"^$g  *[0-9][0-9]*  *0x8"
	mv $name.bin "$T"
done
$make -s guest32.bin guest64.bin GUEST_CFLAGS='-O2 -g0'
rm guest16.o guest16.elf
sed 's/ -g --MD/ --MD/' Makefile >"$T/Makefile"
$make -s -f "$T/Makefile" guest16.bin
for name in guest16 guest32 guest64; do
	unlike "$name.elf without -g does not" "$(readelf -SW $name.elf)" \
		debug_line
	succeeds "$name.bin is the same with -g" cmp $name.bin "$T/$name.bin"
done
for mode in 16 32 64; do
	case $mode in
	16) real='-ex set architecture i8086 ' o='-r ' ;;
	*) real='' o='' ;; # as its class says
	esac
	$make -s simple-kvm >"$T/log" 2>&1
	is "make NAME.debug, MODE=$mode" "$($make -s one.debug MODE=$mode \
		OBJS='two.o five.o' GDB=echo)" \
		"one.elf $real-ex target remote |\
 ./simple-kvm --gdb -m 2M ${o}one.elf"
done

# ---------------------------------------------------- the program's own flags

for flags in CPPFLAGS=-D_FORTIFY_SOURCE=3 'CFLAGS=-O2 -D_FORTIFY_SOURCE=2' \
	CFLAGS=-O2; do
	limit $make -s simple-kvm.o "$flags" >"$T/log" 2>&1
	is "$flags: builds" "$?" 0
	unlike "$flags: is not defined twice" "$(cat "$T/log")" redefined
	like "$flags: has its effect" "$(nm simple-kvm.o)" ' U __.*_chk$'
done

done_testing

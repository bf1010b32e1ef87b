#!/bin/sh
# Kernels and boot code written for a PC find what they look for: a serial port with
# input, devices that can be set up, the text screen, Multiboot; and who waits for
# an interrupt, or for SSE, is told why it does not come.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm
once_a_backend

waits='simple-kvm: the guest waits for an interrupt: none ever comes'

# ---------------------------------------------------------------------------- COM1

serial() {
	printf 'some text, and \1\377' >"$T/in"
	status=0
	limit "$SIMPLE_KVM" "$mode" -t 60 "$GUESTS/comecho$bits.bin" \
		<"$T/in" >"$T/out" 2>"$T/err" || status=$?
	is "$mode: COM1 from a file" "$status $(od -An -c "$T/out" | tr -d ' \n')" \
		'0 SOMETEXT,AND001377.'
	printf 'some text, and \1\377' |
		limit "$SIMPLE_KVM" "$mode" -t 60 "$GUESTS/comecho$bits.bin" \
		>"$T/got" 2>"$T/err"
	succeeds "$mode: COM1 from a pipe" cmp "$T/got" "$T/out"
	run "$mode" -t 60 "$GUESTS/comecho$bits.bin"
	is "$mode: COM1 at the end of stdin" "$status $out$err" '0 .'
	# Not with --gdb, where stdin is the wire.
	if [ -z "${BACKEND:-}" ]; then
		# shellcheck disable=SC2016 # a packet's frame
		printf '$c#63abc' >"$T/in"
		limit "$SIMPLE_KVM" --gdb "$mode" "$GUESTS/comecho$bits.bin" \
			<"$T/in" >"$T/got" 2>"$T/err"
		is "$mode: COM1 with --gdb" "$(cat "$T/got")" \
			"+\$O2e#e6\$W00#b7"
	fi
}
each_mode COM1 serial
# Bytes of the keyboard are drained: 1: in $0x64, %al; test $1, %al; jz 2f; in $0x60,
# %al; jmp 1b; 2: hlt
printf '\344\144\250\1\164\4\344\140\353\366\364' >"$T/image"
run -r -t 20 "$T/image"
is 'a keyboard that is drained is empty in the end' "$status" 0
# mov $0x0b, %al; mov $0x3fc, %dx; out %al, %dx; mov $0x3fe, %dx; in %dx, %al; out
# %al, $0xe9; hlt
printf '\260\013\272\374\3\356\272\376\3\354\346\351\364' >"$T/image"
run -r "$T/image"
is 'COM1: no modem' "$status$(od -An -tx1 "$T/out")" '0 00'

# ---------------------------------------------------------------------- the screen

screen='simple-kvm: |first
simple-kvm: |
simple-kvm: |   third   ..'
for _ in 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23; do
	screen="$screen${NL}simple-kvm: |"
done
screen="$screen${NL}simple-kvm: |$(printf '%76s' '')last"
shown() {
	run "$mode" -t 60 "$GUESTS/screen$bits.bin"
	is "$mode: the screen, after a halt" "$status $err" "0 $screen"
	{ cat "$GUESTS/screen$bits.bin"; printf 3; } >"$T/image"
	run "$mode" -t 60 "$T/image"
	is "$mode: the screen, after port 0xF4" "$status $err" "103 $screen"
}
each_mode 'the screen' shown
run -l
unlike 'a blank screen is not shown' "$err" '|'
# movb $'x', 0xb8000; movb $7, 0xb8001; movb $7, 0xb8003 (a zero); ud2
printf '\306\5\0\200\13\0x\306\5\1\200\13\0\7\306\5\3\200\13\0\7\017\013' \
	>"$T/image"
run -s "$T/image"
is 'the screen, after a failure' "$status $(printf '%s\n' "$err" | tail -n 1)" \
	'1 simple-kvm: |x'
like '...and its report' "$err" 'exception 6, #UD'
# The same in an image that is where the screen would be.
{ cat "$T/image"; dd if=/dev/zero bs=1024 count=720 2>/dev/null; } >"$T/large"
run -s "$T/large"
unlike 'no screen within the image' "$err" '|'

run -t 60 "$GUESTS/kernel16.bin"
is 'a kernel that enters protected mode, and waits' "$status $out$err" \
	"0 $waits${NL}simple-kvm: |kernel"
# The same after some output: mov $'x', %al; out %al, $0xe9; sti; hlt
printf '\260\170\346\351\373\364' >"$T/image"
for mode in -r -s -l; do
	need_mode $mode "$mode: waits, after some output" || continue
	run $mode "$T/image"
	is "$mode: waits, after some output" "$status $out $err" "0 x $waits"
done

# Where no bit is waited for, an IN gives 0: in $0x64, %al; in $0x71, %al;
# out %al, $0xe9; hlt
printf '\344\144\344\161\346\351\364' >"$T/image"
run -r "$T/image"
is 'other ports are 0' "$(od -An -tx1 "$T/out")" ' 00'

# ----------------------------------------------------------------------- Multiboot

mode=-s bits=32
map='00000000 0009fc00 00000000 00000001'
high='00000000 00100000 00000000 00000001'
run -s "$GUESTS/multiboot1x32.bin"
is 'Multiboot 1' "$out" "2badb002 00000041 0000027f 00000400 $(
	for _ in 1 2 3 4 5 6 7 8; do printf '00000000 '; done
)00000030 00000634 00000014 00000000 $map 00000014 00100000 $high "
run -s -m 3G "$GUESTS/multiboot1x32.bin"
like 'Multiboot 1: with more RAM' "$out" ' 0000027f 002ffc00 0.* bff00000 '
two="36d76289 00000060 00000000 00000004 00000010 0000027f 00000400 00000006\
 00000040 00000018 00000000 00000000 $map 00000000 00100000 $high 00000000\
 00000000 00000008 "
run -s "$GUESTS/multiboot2x32.bin"
is 'Multiboot 2' "$out" "$two"
if [ -e "$GUESTS/multiboot2x32.elf" ]; then
	run "$GUESTS/multiboot2x32.elf"
	is 'Multiboot 2, an ELF file' "$out" "$two"
fi
if need_mode -p 'Multiboot with paging'; then
	run -p "$GUESTS/multiboot2x32.bin"
	is 'Multiboot 2, with paging' "$out" "$two"
fi
# Other guests have zeros there: a header whose sum is wrong, or that is too far on,
# or not aligned.
header() { # FILE OFFSET BYTE: change that byte
	cp "$1" "$T/image"
	# shellcheck disable=SC2059 # the format is the byte
	printf "$3" | dd of="$T/image" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
no_header() {
	run -s "$T/image"
	like "no header: $1" "$out" '^00000000 '
}
header "$GUESTS/multiboot1x32.bin" 12 '\0'
no_header 'a wrong sum, version 1'
header "$GUESTS/multiboot2x32.bin" 20 '\0'
no_header 'a wrong sum, version 2'
# moved BYTES: insert so many bytes before the header, after a jump over them.
moved() {
	size=$(($2 + 5))
	{
		printf '\351'
		i=0
		while [ $i -lt 4 ]; do
			# shellcheck disable=SC2059 # the format is the byte
			printf "\\$(printf %03o $(((size - 5) >> 8 * i & 255)))"
			i=$((i + 1))
		done
		dd if=/dev/zero bs="$2" count=1 2>/dev/null
		cat "$1"
	} >"$T/image"
}
printf '\364\0\0\0\2\260\255\033\0\0\0\0\376\117\122\344' >"$T/image"
run -s -v "$T/image"
like 'a header at the end of the image, version 1' "$err" \
	' RAX 000000002badb002 '
moved "$GUESTS/multiboot1x32.bin" 1
no_header 'not aligned, version 1'
moved "$GUESTS/multiboot2x32.bin" 7
no_header 'not aligned, version 2'
moved "$GUESTS/multiboot1x32.bin" 8171
run -s "$T/image"
like 'a header at the end of 8 KiB, version 1' "$out" '^2badb002 '
moved "$GUESTS/multiboot1x32.bin" 8183
no_header 'beyond 8 KiB, version 1'
moved "$GUESTS/multiboot2x32.bin" 32731
run -s "$T/image"
like 'a header at the end of 32 KiB, version 2' "$out" '^36d76289 '
moved "$GUESTS/multiboot2x32.bin" 32763
no_header 'beyond 32 KiB, version 2'
if [ "${BACKEND:-}" = vmx ]; then
	skip 'not in long mode' 'the code may loop, and that would stop Bochs'
else
	run_for_a_time -l "$GUESTS/multiboot2x32.bin"
	unlike 'not in long mode' "$out" '^36d76289'
fi

# ---------------------------------------------------------------------------- words

# xorps %xmm0, %xmm0; and with a prefix, xorpd
for bytes in '\017\127\300' '\146\017\127\300'; do
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$bytes\\364" >"$T/image"
	run -s "$T/image"
	case $err in
	*'cannot emulate'*) skip 'SSE in protected mode' 'KVM cannot emulate it' ;;
	*) like 'SSE in protected mode' "$err" \
		'#UD invalid opcode (SSE? CR4.OSFXSR is off)$' ;;
	esac
done
printf '\017\013' >"$T/image" # ud2
run -s "$T/image"
like 'UD2 in protected mode' "$err" '#UD invalid opcode$'
# There is no BIOS here. This does what an INT 0x12 would, for not each KVM can:
# pushf; push %cs; push $1f; jmp 0xc48, that vector's stub; int $0x12; 1: hlt
printf '\234\016\150\016\200\0\0\351\074\214\377\377\315\022\364' \
	>"$T/image"
run -s "$T/image"
like 'INT 0x12 in protected mode' "$status $err" \
	'^1 .*: INT 0x12, and nothing handles it$'
dd if=/dev/zero bs=512 count=1 2>/dev/null | tr '\0' '\364' >"$T/image"
run "$T/image"
is '512 bytes that are no boot sector' "$status $err" \
	'0 simple-kvm: no output: a boot sector would end with 55 AA'

done_testing

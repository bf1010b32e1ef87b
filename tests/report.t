#!/bin/sh
# A report is exact: the exception's name and error code, every register as it
# was where that happened, the stack, and what the memory map has there.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm
for mode in -r -s -l; do
	has_mode $mode || skip_all "this KVM does not have the mode $mode"
done

# little SIZE NUMBER...: print them as printf wants bytes, SIZE of each, lowest
# first.
little() {
	size=$1
	shift
	for n; do
		i=0
		while [ $i -lt "$size" ]; do
			printf '\\%03o' $((n >> 8 * i & 255))
			i=$((i + 1))
		done
	done
}

# framed VECTOR SP WORD...: in the mode at hand, have the CPU enter the stub of
# this vector as if the exception had pushed the words, from SP down.
framed() {
	[ "$bits" = 16 ] && stubs=0 || stubs=$((0xc00)) # in segment 0xf000
	bytes=$(little 4 "$2" "$efer"
		little 2 $((stubs + 4 * $1)) $(($# - 2))
		shift 2
		little $((bits / 8)) "$@")
	# shellcheck disable=SC2059 # the format is the bytes
	{ cat "$GUESTS/frame$bits.bin"; printf "$bytes"; } >"$T/frame"
	run "$mode" "$T/frame"
}
efer=0x801 # SCE and NXE
unmapped="(not mapped by the guest's page tables)\$"

# reports WHAT: the report is what stands on stdin, but for our name, and for
# two types that segments have under kvm_amd after a reset.
reports() {
	is "$1" "$(sed -e 's/^simple-kvm: //' -e '/^  TR /s/type 3 /type 11/' \
		-e '/^  SS  0000 /s/type 2 /type 3 /' "$T/err")" "$(cat)"
}

# ------------------------------------------------------------ all of a report

mode=-r bits=16
framed 1 0x8000 0x8888 0x7777 0x6666 0x5555 0x4444 0x3333 0x2222 0x1111 \
	0xfad7 0x9f01 0x8002
reports '-r: all of it' <<'R'
the guest failed: exception 1, #DB debug exception
at address 0xa7012 (RAM above the image, and the stack): 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
  RAX 000000001a1a1a1a  RBX 000000001b1b1b1b  RCX 000000001c1c1c1c
  RDX 000000001d1d1d1d  RSI 0000000051515151  RDI 00000000d1d1d1d1
  RSP 0000000000007ff0  RBP 00000000b9b9b9b9  R8  0000000000000000
  R9  0000000000000000  R10 0000000000000000  R11 0000000000000000
  R12 0000000000000000  R13 0000000000000000  R14 0000000000000000
  R15 0000000000000000  RIP 0000000000008002
  RFLAGS 000000000000fad7 CF PF AF ZF SF IF OF NT
  CS  9f01 base 0009f010 limit 0000ffff type 11 dpl 0
  DS  0000 base 00000000 limit 0000ffff type 3  dpl 0
  ES  e5e5 base 000e5e50 limit 0000ffff type 3  dpl 0
  FS  f5f5 base 000f5f50 limit 0000ffff type 3  dpl 0
  GS  6565 base 00065650 limit 0000ffff type 3  dpl 0
  SS  0000 base 00000000 limit 0000ffff type 3  dpl 0
  TR  0000 base 00000000 limit 0000ffff type 11 dpl 0
  LDT 0000 base 00000000 limit 0000ffff type 2  dpl 0
  GDT base 00000000 limit ffff  IDT base 00000000 limit 03ff
  CR0    0000000060000018 TS ET NW CD
  CR2    0000000000000000  CR3 0000000000000000
  CR4    0000000000000088 DE PGE
  EFER   0000000000000801 SCE NXE
  stack, from 0x7ff0 up: 1111 2222 3333 4444 5555 6666 7777 8888
R

mode=-s bits=32
framed 13 0x200000 0x87654321 0x76543210 0x6543210f 0x543210fe 0x43210fed \
	0x3210fedc 0x210fedcb 0xffffffff 0x18 0x90008123 0x123d
reports '-s: all of it' <<'R'
the guest failed: exception 13, #GP general protection, error code 0x123d: selector 0x1238 EXT LDT
at address 0x12d4b339 (beyond the end of RAM): (no RAM)
  RAX 000000001a1a1a1a  RBX 000000001b1b1b1b  RCX 000000001c1c1c1c
  RDX 000000001d1d1d1d  RSI 0000000051515151  RDI 00000000d1d1d1d1
  RSP 00000000001fffe4  RBP 00000000b9b9b9b9  R8  0000000000000000
  R9  0000000000000000  R10 0000000000000000  R11 0000000000000000
  R12 0000000000000000  R13 0000000000000000  R14 0000000000000000
  R15 0000000000000000  RIP 0000000090008123
  RFLAGS 00000000ffffffff CF PF AF ZF SF TF IF DF OF NT RF VM AC VIF VIP ID
  CS  0018 base 82d43216 limit 000d6789 type 15 dpl 2 32-bit
  DS  0010 base 00000000 limit ffffffff type 3  dpl 0 32-bit
  ES  0010 base 00000000 limit ffffffff type 3  dpl 0 32-bit
  FS  0030 base 00000000 limit ffffffff type 3  dpl 3 32-bit
  GS  0033 base 00000000 limit ffffffff type 3  dpl 3 32-bit
  SS  0010 base 00000000 limit ffffffff type 3  dpl 0 32-bit
  TR  0000 base 00000000 limit 0000ffff type 11 dpl 0
  LDT 0000 base 00000000 limit 0000ffff type 2  dpl 0
  GDT base 00000600 limit ff0f  IDT base 00001000 limit 07ff
  CR0    0000000000000039 PE TS ET NE
  CR2    0000000000000000  CR3 0000000000000000
  CR4    0000000000000088 DE PGE
  EFER   0000000000000801 SCE NXE
  stack, from 0x1fffe4 up: 210fedcb 3210fedc 43210fed 543210fe 6543210f 76543210 87654321 (no RAM)
R

mode=-l bits=64
framed 11 0x200000 0x7777777777777777 0x6666666666666666 0xff0b 0x1ffff3 \
	0x12aaaaaaaaaaa 0x23 0x7fffffffffffff00 0x6a
reports '-l: all of it' <<'R'
the guest failed: exception 11, #NP segment not present, error code 0x6a: vector 0xd IDT
at address 0x7fffffffffffff00 (beyond the end of RAM): (not mapped by the guest's page tables)
  RAX 000000001a1a1a1a  RBX 000000001b1b1b1b  RCX 000000001c1c1c1c
  RDX 000000001d1d1d1d  RSI 0000000051515151  RDI 00000000d1d1d1d1
  RSP 00000000001ffff3  RBP 00000000b9b9b9b9  R8  8888888888888888
  R9  9999999999999999  R10 aaaaaaaaaaaaaaaa  R11 bbbbbbbbbbbbbbbb
  R12 cccccccccccccccc  R13 dddddddddddddddd  R14 eeeeeeeeeeeeeeee
  R15 ffffffffffffffff  RIP 7fffffffffffff00
  RFLAGS 00012aaaaaaaaaaa SF IF OF VM VIF ID
  CS  0023 base 00120000 limit ffffefff type 11 dpl 3 64-bit
  DS  0010 base 00000000 limit ffffffff type 3  dpl 0 32-bit
  ES  0010 base 00000000 limit ffffffff type 3  dpl 0 32-bit
  FS  0030 base 00000000 limit ffffffff type 3  dpl 3 32-bit
  GS  0033 base 00000000 limit ffffffff type 3  dpl 3 32-bit
  SS  ff0b base 00012100 limit 0002ffff type 3  dpl 3 32-bit
  TR  0000 base 00000000 limit 0000ffff type 11 dpl 0
  LDT 0000 base 00000000 limit 0000ffff type 2  dpl 0
  GDT base 00000600 limit ff0f  IDT base 00001000 limit 0fff
  CR0    000000008005003b PE MP TS ET NE WP AM PG
  CR2    0000000000000000  CR3 0000000000002000
  CR4    00000000000006a8 DE PAE PGE OSFXSR OSXMMEXCPT
  EFER   0000000000000d01 SCE LME LMA NXE
  stack, from 0x1ffff3 up: 7777776666666666 (not mapped by the guest's page tables)
R

# LME alone does not make it long mode.
mode=-s bits=32
if [ "${BACKEND:-}" = svm ]; then
	skip '-s with EFER.LME' 'QEMU stops'
else
	efer=0x100
	framed 13 0x7ff0 0x2 0x8 0x5678 0x1230
	efer=0
	like '-s with EFER.LME: EFER' "$err" '  EFER   0000000000000100 LME$'
	like '-s with EFER.LME: why' "$err" '#GP .*, error code 0x1230: '
	like '-s with EFER.LME: where' "$err" '^simple-kvm: at address 0x5678 '
fi
# A stack that ends where the segment does.
mode=-r bits=16
framed 0 0 0x2 0 0x600
like '-r, the end of the stack segment: RSP' "$err" ' RSP 0000000000000000 '
like '-r, the end of the stack segment: the stack' "$err" \
	'stack, from 0x0 up: 0000 f000 0004 f000 '
framed 0 0x12340004 0x7 0x6 0x2 0 0x600
like '-r, more than 16 bits of ESP: what a frame does not change' "$err" \
	' RSP 0000000012340000 '
# To single-step KVM sets TF, and so the frame has it.
framed 0 0x8000 0x303 0 0x600
like '-r: TF' "$err" '  RFLAGS 0000000000000303 CF TF IF$'
run -r --step "$T/frame"
like '-r --step: TF is not shown' "$err" '  RFLAGS 0000000000000203 CF IF$'

# From ring 3 in protected mode: the frame has a stack.
mode=-s bits=32
framed 0 0x7ff0 0x33 0x1ffff6 0x202 0x3b 0x8000
like '-s, ring 3: RIP' "$err" '^simple-kvm: at address 0x8000 (the image): '
like '-s, ring 3: CS' "$err" '  CS  003b .* dpl 3 32-bit$'
like '-s, ring 3: SS' "$err" '  SS  0033 .* dpl 3 32-bit$'
like '-s, ring 3: RSP' "$err" ' RSP 00000000001ffff6 '
like '-s, ring 3: RFLAGS' "$err" '  RFLAGS 0000000000000202 IF$'
like '-s, ring 3: the stack' "$err" 'up: [0-9a-f]* [0-9a-f]* (no RAM)$'
# 32-bit code in long mode, with a 16-bit stack that has a base.
mode=-l bits=64
framed 0 0x7ff0 0x28 0x5678ffe0 0x2 0x18 0x8000
like '-l, 32-bit code: SS' "$err" \
	'  SS  0028 base 00012100 limit 0002ffff type 3  dpl 0$'
like '-l, 32-bit code: RSP' "$err" ' RSP 000000005678ffe0 '
like '-l, 32-bit code: the stack' "$err" \
	'stack, from 0x220e0 up:\( 00000000\)\{8\}$'
framed 0 0x7ff0 0x40 0xffffffe0 0x2 0x18 0x8000
like '-l, 32-bit code: a stack that wraps' "$err" 'stack, from 0x120e0 up:'
framed 0 0x7ff0 0x40 0xffffffffe0 0x2 0x20 0x8000
like '-l, 64-bit code: no base, and all bits' "$err" \
	"stack, from 0xffffffffe0 up: $unmapped"
# At the end of RAM there is nothing to show.
for pair in -s32 -l64; do
	mode=${pair%??} bits=${pair#??}
	[ "$mode" = -s ] && nothing='(no RAM)$' || nothing=$unmapped
	framed 0 0x200000 0x10 0x200000 0x2 0x8 0x200000
	like "$mode, the end of RAM: RIP" "$err" \
		"^simple-kvm: at address 0x200000 (beyond the end of RAM): $nothing"
done
like '-l, the end of RAM: the stack' "$err" \
	"stack, from 0x200000 up: $unmapped"

# Half of a word is where nothing is mapped: mov $-4, %rsp; out %al, $0x7f
printf '\110\307\304\374\377\377\377\346\177' >"$T/half"
run -l "$T/half"
like '-l, the end of all addresses: the stack' "$err" \
	"stack, from 0xfffffffffffffffc up: $unmapped"

# ------------------------------------------------------------- real exceptions

# where_it_was: std; stc; ud2. The CPU's own frame leads back there.
where_it_was() {
	printf '\375\371\017\013' >"$T/ud"
	run "$mode" "$T/ud"
	sp=0000000000200000 cs='0008 base 00000000 limit ffffffff'
	ds='S  0010 base 00000000 limit ffffffff type 3  dpl 0 32-bit'
	tables='GDT base 00000500 limit 0017  IDT base 00001000 limit 0'
	case $mode in
	-r) sp=0000000000008000 cs='0000 base 00000000 limit 0000ffff' size=
		ds='S  0000 base 00000000 limit 0000ffff'
		tables='GDT base 00000000 limit ffff  IDT base 00000000 limit 03ff' ;;
	-l) size=' 64-bit' ;;
	*) size=' 32-bit' ;;
	esac
	like "$mode: RIP" "$err" '^simple-kvm: at address 0x8002 (the image): 0f 0b'
	like "$mode: RSP" "$err" "  RSP $sp  RBP 0000000000000000 "
	# Not every KVM sets RF in the frame of a fault, as the manual wants it.
	like "$mode: RFLAGS" "$err" \
		'  RFLAGS 00000000000\(00403 CF DF\|10403 CF DF RF\)$'
	like "$mode: CS" "$err" "  CS  $cs type 11 dpl 0$size\$"
	is "$mode: DS, ES, FS, GS and SS" "$(grep -c " [DEFGS]$ds" "$T/err")" 5
	like "$mode: GDT and IDT" "$err" "^simple-kvm:   $tables"
}
each_mode 'where it was' where_it_was

# fault WHICH PATTERN ARGUMENT...: how the guest dies that does this, a ring and
# a letter of tests/guests/fault.c.
fault() {
	which=$1 why=$2
	shift 2
	{ cat "$GUESTS/fault$bits.bin"; printf '%s' "$which"; } >"$T/fault"
	run "$mode" -t 20 "$@" "$T/fault"
	like "$mode $which${*:+ $*}: why" "$err" "failed: $why\$"
}

# Outside of real mode kvm-pvm does not even begin an INT.
printf '\315\15' >"$T/int"
run -s "$T/int"
case $err in *' at address 0x8000 '*) pvm=yes ;; *) pvm= ;; esac

ss='exception 12, #SS stack-segment fault'
np='exception 11, #NP segment not present'
gp='exception 13, #GP general protection'
df='exception 8, #DF double fault'
ts='exception 10, #TS invalid TSS'
pf='exception 14, #PF page fault, error code'
image=' at address 0x8[0-9a-f]* (the image): '
for pair in -s32 -l64; do
	mode=${pair%??} bits=${pair#??}
	fault 0s "$ss, error code 0x38: selector 0x38"
	like "$mode 0s: where" "$err" "${image}8e d0"
	fault 0n "$np, error code 0x38: selector 0x38"
	like "$mode 0n: where" "$err" "${image}8e d8"
	fault 0l "$gp, error code 0x123c: selector 0x1238 LDT"
	like "$mode 0l: where" "$err" "${image}8e d8"
	fault 0d "$df"
	like "$mode 0d: where" "$err" "${image}0f 0b"
	fault 3n "$gp, error code 0x38: selector 0x38"
	fault 3h "$gp"
	like "$mode 3h: where" "$err" "${image}f4"
	like "$mode 3h: RSP" "$err" '  RSP 0000000000006ff0 '
	[ "$mode" = -l ] && selectors='2b 33' || selectors='1b 23'
	like "$mode 3h: CS" "$err" "  CS  00${selectors% *} .* dpl 3 $bits-bit\$"
	like "$mode 3h: SS" "$err" "  SS  00${selectors#* } .* dpl 3 32-bit\$"
	fault 3h "$gp" --step
	if [ "$mode${BACKEND:-}" = -lsvm ]; then
		skip '-l 0e, 3i' "QEMU's error code means another vector"
	elif [ -z "$pvm" ]; then
		fault 0e "$np, error code 0x3[23]: vector 0x6\\( EXT\\)* IDT"
		fault 3i "$gp, error code 0x102: vector 0x20 IDT"
	else
		skip "$mode 0e, 3i" 'kvm-pvm does not tell of a bad gate'
	fi
done
if [ -z "$pvm" ]; then
	fault 0t "$ts, error code 0x4[01]: selector 0x40\\( EXT\\)*"
else
	skip '-l 0t' 'kvm-pvm does not look at the size of the TSS'
fi
if [ "${BACKEND:-}" = svm ]; then
	skip '-l 3a' 'QEMU does not check alignment'
else
	fault 3a 'exception 17, #AC alignment check'
	like '-l 3a: where' "$err" "$image"
fi
nowhere='CR2 is 0x400000 (beyond the end of RAM)'
# The page is mapped to address 0.
there='CR2 is 0x400000 (the interrupt vectors of real mode)'
for pair in 0: '3: USER'; do
	n=${pair%%:*}
	[ "$n" = 0 ] && add=0 || add=4
	user=${pair#*:}
	pf() {
		code=$(printf '%x' $(($2 + add)))
		fault "$n$1" "$pf 0x$code: $3"
	}
	pf r 0 "read of a page that is not present$user; $nowhere"
	pf w 2 "write to a page that is not present$user; $nowhere"
	pf o 3 "write to a page that forbids it$user; $there"
	pf x 17 "read of a page that forbids it$user FETCH; $there"
	like "-l ${n}x: where" "$err" 'at address 0x400000 (the interrupt vect'
	if [ "${BACKEND:-}${BACKEND_PARAMS:-}" = svmnpt=1 ]; then
		skip "-l ${n}v" 'QEMU says that the page is not present'
	else
		pf v 9 "read of a page that forbids it$user RESERVED; $nowhere"
	fi
done
# In RAM, but nothing leads there.
fault 0r "$pf .* 0x400000 (RAM above the image, and the stack)" -m 8M
fault 3k "$pf 0x5: read of a page that forbids it USER; $there"

mode=-s bits=32
fault 0c 'exception 6, #UD invalid opcode'
like '-s 0c: where' "$err" "${image}0f 0b"
mode=-l bits=64
fault 0m "KVM_EXIT_MMIO (6): a 1-byte read from address 0x140000000,\
 which is not there"

# An emulated CPU is slow.
[ -z "${BACKEND:-}" ] || skip_all 'they are about what is the same on any KVM'

# ----------------------------------------------------- names and error codes

# The 256 vectors lead to as many stubs. Past the named ones all are the same.
mode=-s bits=32
cat >"$T/names" <<'N'
0, #DE divide error
1, #DB debug exception
2, NMI interrupt
3, #BP breakpoint
4, #OF overflow
5, #BR BOUND range exceeded
6, #UD invalid opcode
7, #NM device not available
8, #DF double fault, error code 0x2: vector 0x0 IDT
9, coprocessor segment overrun
10, #TS invalid TSS, error code 0x2: vector 0x0 IDT
11, #NP segment not present, error code 0x2: vector 0x0 IDT
12, #SS stack-segment fault, error code 0x2: vector 0x0 IDT
13, #GP general protection, error code 0x2: vector 0x0 IDT
14, #PF page fault, error code 0x2: write to a page that is not present; CR2 is 0x0 (the interrupt vectors of real mode)
15, reserved
16, #MF x87 floating-point error
17, #AC alignment check, error code 0x2: vector 0x0 IDT
18, #MC machine check
19, #XM SIMD floating-point exception
20, #VE virtualization exception
21, #CP control protection exception, error code 0x2: vector 0x0 IDT
22, reserved
23, reserved
24, reserved
25, reserved
26, reserved
27, reserved
28, reserved
29, reserved
30, reserved
31, reserved
32, reserved
255, reserved
N
while IFS=, read -r v _; do
	framed "$v" 0x6000 0x2 0x8 0x600 0x2 </dev/null
	sed -n '1s/^simple-kvm: the guest failed: exception //p' "$T/err"
done <"$T/names" >"$T/got"
is 'the names of exceptions' "$(cat "$T/got")" "$(cat "$T/names")"
# There is no stub, nor a vector, after the last:
# movw $0xeee6, 0x1000; jmp 0x1000
printf '\146\307\5\0\20\0\0\346\356\351\362\217\377\377' >"$T/last"
run -s "$T/last"
like 'after the last stub' "$err" \
	' a 1-byte write of 0x0 to port 0xee, which is not there$'

# Which vectors bring an error code: for those RIP is the word after it.
for pair in -s32 -l64; do
	mode=${pair%??} bits=${pair#??}
	: >"$T/wrong"
	for v in 0 1 2 3 4 5 6 7 9 15 16 18 19 20 22 31 40 42 45 255; do
		framed $v 0x6000 0x10 0x6000 0x2 0x8 0x5678
		case $err in
		*": exception $v, "*' at address 0x5678 '*) ;;
		*) echo "$v: $err" >>"$T/wrong" ;;
		esac
		case $err in *'error code'*) echo "$v: $err" >>"$T/wrong" ;; esac
	done
	for v in 8 10 11 12 13 14 17 21; do
		framed $v 0x6000 0x10 0x6000 0x2 0x8 0x5678 0xfff9
		case $err in
		*": exception $v, "*' code 0xfff9: '*' at address 0x5678 '*) ;;
		*) echo "$v: $err" >>"$T/wrong" ;;
		esac
	done
	is "$mode: which exceptions bring an error code" "$(cat "$T/wrong")" ''
done
like '-l: the largest selector' "$err" ': selector 0xfff8 EXT$'
framed 12 0x6000 0x10 0x6000 0x2 0x8 0x5678 0
like '-l: an error code of 0 says nothing' "$err" '#SS stack-segment fault$'

# After INT 0x21 its own vector means that, and any other an exception. The word
# that is pushed first is this instruction.
for pair in -r16 -l64; do
	mode=${pair%??} bits=${pair#??}
	here=$((0x8000 + $(wc -c <"$GUESTS/frame$bits.bin") + 12))
	[ "$mode" = -r ] && frame='0x2 0' || frame='0x10 0x6000 0x2 0x8'
	# shellcheck disable=SC2086 # words
	framed 0x21 0x6000 0x21cd $frame $((here + 2))
	like "$mode: after INT 0x21" "$err" 'failed: INT 0x21, '
	# shellcheck disable=SC2086 # words
	framed 0x22 0x6000 0x21cd $frame $((here + 2))
	like "$mode: after another INT" "$err" 'failed: exception 34, reserved$'
done
framed 13 0x6000 0x0dcd 0x10 0x6000 0x2 0x8 $((here + 2))
like '-l: after INT 0x0d' "$err" 'failed: INT 0x0d, and nothing handles it$'
like '-l: after INT 0x0d: where' "$err" \
	"at address $(printf '0x%x' $((here + 2))) "

# ------------------------------------------------------ what the memory map has

mode=-l bits=64
end=$((0x8000 + $(wc -c <"$GUESTS/frame64.bin") + 12 + 5 * 8))
cat >"$T/map" <<E
0x0: the interrupt vectors of real mode
0x3ff: the interrupt vectors of real mode
0x400: the result
0x4ff: the result
0x500: the GDT
0x5ff: the GDT
0x600: free memory below the tables
0xbff: free memory below the tables
0xc00: the exception stubs
0xfff: the exception stubs
0x1000: the IDT
0x1fff: the IDT
0x2000: the page tables
0x6fff: the page tables
0x7000: RAM below the image
0x7fff: RAM below the image
0x8000: the image
$(printf '0x%x' $((end - 1))): the image
$(printf '0x%x' $end): RAM above the image, and the stack
0x1fffff: RAM above the image, and the stack
0x200000: beyond the end of RAM
0x7fffffffffffffff: beyond the end of RAM
E
while IFS=: read -r address _; do
	framed 0 0x8000 0x10 0x8000 0x2 0x8 $((address)) </dev/null
	sed -n '2s/^simple-kvm: at address \(.*\) (\(.*\)):.*/\1: \2/p' "$T/err"
done <"$T/map" >"$T/got"
is 'the regions of memory' "$(cat "$T/got")" "$(cat "$T/map")"

# elf ADDRESS: make an ELF file of two segments: the first, at 0x12000, has two
# bytes in the file and 0x1000 in memory; the other, at 0x10000, has a ud2 put
# to this address, and jumps there.
elf() {
	code=$(printf '\\273'; little 4 "$1"	# mov $ADDRESS, %ebx
		# movw $0x0b0f, (%ebx); jmp *%ebx
		printf '\\146\\307\\003\\017\\013\\377\\343')
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\177ELF\\1\\1\\1$(little 1 0 0 0 0 0 0 0 0 0
		little 2 2 3
		little 4 1 0x10000 52 0 0
		little 2 52 32 2 0 0 0
		little 4 1 116 0x12000 0x12000 2 0x1000 7 1
		little 4 1 118 0x10000 0x10000 12 12 7 1)\\0\\0$code" >"$T/elf"
}
cat >"$T/map" <<'E'
0x7ffe: RAM below the image
0x8000: RAM below the image
0xfffe: RAM below the image
0x11ffe: the image
0x12ffe: the image
0x13000: RAM above the image, and the stack
E
while IFS=: read -r address _; do
	elf "$address"
	run "$T/elf"
	sed -n '2s/^simple-kvm: at address \(.*\) (\(.*\)): 0f 0b .*/\1: \2/p' \
		"$T/err"
done <"$T/map" >"$T/got"
is 'the regions of an ELF file: a jump into its .bss, and elsewhere' \
	"$(cat "$T/got")" "$(cat "$T/map")"

# ------------------------------------------------------ exits without a handler

# gives_up REASON SUBERROR TEXT: an exit of that kind ends the run so.
gives_up() {
	limit "$TESTS/tamper" "exit=$1,$2" "$SIMPLE_KVM" -l </dev/null \
		>"$T/out" 2>"$T/err"
	is "exit reason $1, $2: why" "$(head -n 1 "$T/err")" \
		"simple-kvm: the guest failed: KVM_EXIT_$3"
	like "exit reason $1, $2: all of the report" "$(cat "$T/err")" \
		'^simple-kvm:   stack, from 0x[0-9a-f]* up: '
	like "exit reason $1, $2: status" "$(cat "$T/err")" '^tamper: exit 1$'
}
gives_up 0 0 ' (0): KVM gave up, reason 0x0'
gives_up 9 $((0x80000021)) \
	'FAIL_ENTRY (9): KVM gave up, reason 0x80000021'
gives_up 17 1 "INTERNAL_ERROR (17): KVM cannot emulate an instruction (SSE?\
 try -mgeneral-regs-only. INT? not on kvm-pvm)"
gives_up 17 2 'INTERNAL_ERROR (17): KVM gave up, reason 0x2'
gives_up 17 4 'INTERNAL_ERROR (17): KVM gave up, reason 0x4'
# There are others than those that we know by name.
gives_up 40 1 ' (40): KVM gave up, reason 0x1'
gives_up 100 1 ' (100): KVM gave up, reason 0x1'

done_testing

#!/bin/sh
# A boot sector that somebody wrote for a PC runs: it is where a BIOS loads it, the
# services that it calls do what they do there, its disk is the file, its keyboard
# is stdin, and it ends. What there is no service for is told by name.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

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

# record VECTOR AX [BX [CX [DX [ES [DI [SI [BP]]]]]]]: a call for bios16.s, as it
# wants it.
record() {
	little 2 $(($1)) $((${6:-0})) $((${9:-0}))
	little 4 $((${7:-0})) $((${8:-0})) 0 0 $((${3:-0})) $((${5:-0})) \
		$((${4:-0})) $(($2))
}

# zeroes N, fill N: so many bytes, zeros or x.
zeroes() { dd if=/dev/zero bs="$1" count=1 2>/dev/null; }
fill() { zeroes "$1" | tr '\0' x; }

# sector RECORDS: make a boot sector $T/sector of bios16.s and these.
sector() {
	{
		head -c 384 "$GUESTS/bios16.bin"
		# shellcheck disable=SC2059 # the format is the bytes
		printf "$1"
		zeroes 126
	} | head -c 510 >"$T/sector"
	printf '\125\252' >>"$T/sector"
}

# calls WHAT RECORDS: run such a sector, with what $T/disk has after it, and leave
# the lines of registers in $out, with the flags without those that are always so.
calls() {
	what=$1
	sector "$2"
	[ ! -e "$T/disk" ] || cat "$T/disk" >>"$T/sector"
	run $args "$T/sector"
}
args='-t 20'

# registers N EAX EBX ECX EDX CF: so they are after the Nth call.
registers() {
	n=$1 want="$2 $3 $4 $5,$6"
	# shellcheck disable=SC2046 # the fields
	set -- $(sed -n "${n}p" "$T/out")
	is "$what: registers $n" "$1 $2 $3 $4,$((0x${5:-0} & 1))" "$want"
}
before='1111aaaa 2222bbbb 3333cccc 4444dddd'

# ------------------------------------------------------------- where it is, and how

sector "$(record 0 0)"
for mode in '' -r; do
	# shellcheck disable=SC2086 # none or one
	run $mode -v -t 20 "$T/sector"
	is "a boot sector $mode: status" "$status" 0
	like "a boot sector $mode: where" "$err" ' RSP 0000000000007c00 '
	like "a boot sector $mode: its map" "$(printf '%s' "$err" |
		grep -A2 -e '--- 0x7e00')" '--- 0x7c00$'
done
run -t 20 "$GUESTS/echo16.bin"
is 'what ends so is no boot sector in another mode' \
	"$(run -s -v "$GUESTS/echo16.bin"; grep -c -e '--- 0x7c00' "$T/err")" 0
# int $0x21; its report shows DL, the drive.
drive() {
	printf '\315\041' >"$T/b"
	zeroes "$1" >>"$T/b"
	head -c 510 "$T/b" >"$T/image"
	printf '\125\252' >>"$T/image"
	zeroes "$1" >>"$T/image"
	head -c "$1" "$T/image" >"$T/b"
	run -t 20 "$T/b"
}
drive 512
like 'a floppy: DL' "$err" ' RDX 0000000000000000'
unlike 'a boot sector: its mode is no guess' "$err" guess
drive 1474560
like 'the largest floppy: DL' "$err" ' RDX 0000000000000000'
drive 1474561
like 'a hard disk: DL' "$err" ' RDX 0000000000000080'

# --------------------------------------------------------------------- the services

# Flags: what a service does not change stays: of CF PF AF ZF SF IF OF, and ID. The
# upper half of ESP stays as well, and that of EAX. (Where KVM runs real mode as
# virtual 8086, PUSHF shows the guest the IOPL of 3 that KVM has set for that.)
calls 'INT 12h' "$(record 0x12 0x1111aaaa 0x2222bbbb 0x3333cccc 0x4444dddd)"
is 'INT 12h: all registers' "$(printf '%s' "$out" | head -n 1 |
	sed 's/ 00\([0-9a-f]*\) 12347c00 $/ \1/; s/ 207ad7$/ 204ad7/')" \
	"1111027f ${before#* } 204ad7"
calls 'video' "$(record 0x10 0x1111034f 0x2222bbbb 0x3333cccc 0x4444dddd
	record 0x10 0x11110faa 0x2222bbbb 0x3333cccc 0x4444dddd
	record 0x10 0x1111aaaa 0x2222bbbb 0x3333cccc 0x4444dddd)"
registers 1 1111034f 2222bbbb 3333cccc 44440000 1
registers 2 11115003 2222bbbb 3333cccc 4444dddd 1
registers 3 1111aaaa 2222bbbb 3333cccc 4444dddd 1
calls 'equipment, and other services' \
	"$(record 0x11 0 0 0 0; record 0x13 0x1212 0 0 0; record 0x15 0x5300)"
registers 1 00000221 00000000 00000000 00000000 1
registers 2 00008612 00000000 00000000 00000000 1
registers 3 00008600 00000000 00000000 00000000 1
calls 'A20, memory, the clock' \
	"$(record 0x15 0x2401; record 0x15 0x8800; record 0x1a 0x2299)"
registers 1 00000001 00000000 00000000 00000000 0
registers 2 00000400 00000000 00000000 00000000 0
registers 3 00008699 00000000 00000000 00000000 1
calls 'keyboard' "$(record 0x16 0x0299; record 0x1a 0x0099)"
is 'keyboard: no Shift key; the clock: AL' \
	"$(printf '%s' "$out" | cut -c -8 | head -n 2 | tr '\n' ' ')" \
	'00000000 00000000 '

args='-t 20 -m 65M'
calls 'more memory than AX holds' "$(record 0x15 0x8800)"
registers 1 0000ffff 00000000 00000000 00000000 0
args='-t 20'

# The map of memory: two ranges, then no more; and who does not say SMAP.
smap=$((0x534d4150))
calls 'E820' "$(record 0x15 0xe820 0 20 $smap 0 0x9000
	record 0x15 0xe820 1 20 $smap 0 0x9010; record 0x15 0xe820 2 20 $smap 0 0x9000)"
registers 1 534d4150 00000001 00000014 534d4150 0
registers 2 534d4150 00000000 00000014 534d4150 0
registers 3 00008620 00000002 00000014 534d4150 1
is 'E820: the ranges' "$(printf '%s\n' "$out" | tail -n 1)" \
	'00000000 00000000 0009fc00 00000000 00100000 00000000 00100000 00000000 '
calls 'E820, one range' "$(record 0x15 0xe820 0 20 $smap 0 0x9000)"
is 'E820: memory that may be used' "$(printf '%s\n' "$out" | tail -n 1 |
	cut -d ' ' -f 3-6)" '0009fc00 00000000 00000001 00000000'
calls 'E820, wrongly' "$(record 0x15 0xe820 0 20 0 0 0x9000)"
registers 1 00008620 00000000 00000014 00000000 1
calls 'E801, which is not there' "$(record 0x15 0xe801 0 20 $smap 0 0x9000)"
registers 1 00008601 00000000 00000014 534d4150 1

# Text: three characters, eighty blanks, and 2,000 that clear the screen; a string
# after the records, without and with attributes, in segment 0 and in another; rows
# of the cursor.
calls 'AH 09h' "$(record 0x10 0x0923 0 3; record 0x10 0x0a20 0 80
	record 0x10 0x0920 0 2000)"
is 'AH 09h and 0Ah: CX times' "$(printf '%s' "$out" | sed 's/[0-9a-f]\{8\} .*//' |
	tr '\n' '|')" "###|$(printf '%80s' '')||"
calls 'AH 09h' "$(record 0x10 0x0923 0 100)"
is 'AH 09h: more than a row' "$(printf '%s' "$out" | tr -cd '#' | wc -c)" 100
text=$((0x7c00 + 384 + 76))
calls 'AH 13h' "$(record 0x10 0x1301 0 3 0 0 0 0 $text
	record 0x10 0x1303 0 3 0 0x7c0 0 0 $((text - 0x7c00)); printf AxByCz)"
is 'AH 13h: with and without attributes' "$(printf '%s' "$out" | head -n 2 |
	sed 's/[0-9a-f]\{8\} .*//' | tr '\n' ' ')" 'AxB ABC '
calls 'the cursor' "$(record 0x10 0x0200 0 0 0x0000; record 0x10 0x0200 0 0 0x0500
	record 0x10 0x0200 0 0 0x0507)"
is 'the cursor: a newline for another row' "$(printf '%s' "$out" |
	sed 's/[0-9a-f]\{8\} .*//' | tr '\n' '|')" '||||'
calls 'the cursor' "$(record 0x10 0x0200 0 0 0x0500; record 0x10 0x0200 0 0 0x0200
	record 0x10 0x0300 0 0 0x44444444)"
is 'the cursor: a newline for a row above, too' "$(printf '%s' "$out" |
	sed 's/[0-9a-f]\{8\} .*//' | tr '\n' '|')" '|||||'
registers 5 00000300 00000000 00000000 44440200 1

# The clock: 1: xor %ax, %ax; int $0x1a; cmp $2, %dx; jb 1b; jcxz 2f; hlt; 2: mov
# $'x', %al; out %al, $0xe9; hlt. And the same time in memory: sti, for Bochs; 1:
# cmpw $2, 0x46c; jb 1b; cli; mov $'x', %al; out %al, $0xe9; hlt
printf '\061\300\315\032\203\372\2\162\367\343\1\364\260x\346\351\364' >"$T/flat"
run -r -t 20 "$T/flat"
is 'the clock: DX counts, and CX is 0' "$status $out$err" '0 x'
printf '\373\203\076\154\4\2\162\371\372\260x\346\351\364' >"$T/flat"
run -r -t 20 "$T/flat"
is 'the clock in memory counts' "$status $out$err" '0 x'

run -t 20 "$GUESTS/hook16.bin"
is 'a guest that takes a vector, and uses the old one' "$status $out$err" \
	'0 CALLEDJUMPED'
run -t 60 "$GUESTS/clear16.bin"
is 'low memory is cleared, and 10,000 calls: status' "$status $err" '0 '
is 'low memory is cleared, and 10,000 calls: output' \
	"$(printf '%s' "$out" | tr -d . | wc -c) ${#out}" '0 10000'
# A stack at an odd address, and at 0: mov $0xff01, %sp (or 0); mov $0x0e78, %ax;
# int $0x10; hlt
for sp in '\001\377' '\0\0'; do
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\274$sp\\270\\170\\016\\315\\020\\364" >"$T/flat"
	run -r -t 20 "$T/flat"
	is "SP $sp" "$status $out" '0 x'
done
# It is any real-mode guest's, a flat one at 0x8000 and an ELF file. mov $0x0e78,
# %ax; int $0x10; hlt
printf '\270\170\016\315\020\364' >"$T/flat"
run -r -t 20 "$T/flat"
is 'a flat image that calls the BIOS' "$status $out$err" '0 x'
# With CR0.NE an exception is no INT 0x10: fninit; fldcw 0x8020; mov %cr0, %eax; or
# $0x20, %al; mov %eax, %cr0; fldz; fld1; fdiv %st(1), %st; fwait
printf '\333\343\331\056\040\200\017\040\300\014\040\017\042\300\331\356\331\350\330\361\233\364' \
	>"$T/flat"
{ zeroes 10; printf '\0\3'; } >>"$T/flat"
run -r -t 20 "$T/flat"
case $err in
*'cannot emulate'*) skip '#MF in real mode' 'this KVM has no x87 here' ;;
*'exception 16, #MF'*) result 0 '#MF in real mode' ;;
*) like '#MF in real mode' "$status,$err" '^0,$' ;; # an emulator may have none
esac
# An INT 0x10 is still a call: mov %cr0, %eax; or $0x20, %al; mov %eax, %cr0; mov
# $0x0e78, %ax; int $0x10; hlt
printf '\017\040\300\014\040\017\042\300\270x\016\315\020\364' >"$T/flat"
run -r -t 20 "$T/flat"
is 'INT 0x10 with CR0.NE' "$status $out$err" '0 x'
for int in 20 21 80; do
	[ $int != 80 ] || [ "${BACKEND:-}" ] || continue # kvm-pvm never returns
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\315\\$(printf %03o $((0x$int)))\\364" >"$T/flat"
	run -r -t 20 "$T/flat"
	like "INT 0x$int: no service" "$status $err" \
		"^1 .*: INT 0x$int, AX is 0x0000, and there is no such service\$"
done

# -------------------------------------------------------------------------- the disk

# Sectors 1 to 39 begin with their numbers.
{
	n=1
	while [ $n -lt 40 ]; do
		printf '%04d' $n
		fill 508
		n=$((n + 1))
	done
} >"$T/disk"
# read_at N CX DX [COUNT]: print what of a call's record reads there, to 0x9000.
read_at() { record 0x13 $((0x200 + ${3:-1})) 0x9000 "$1" "$2"; }
# starts WHAT N: the number of the sector that has been read.
starts() {
	# The lowest byte is the last one of a word.
	got=$(printf '%s\n' "$out" | tail -n 1 | cut -c -8 |
		sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/; s/3\(.\)/\1/g')
	is "$1" "$got" "$2"
}
calls 'CHS 0/0/2' "$(read_at 0x0002 0x0000)"
registers 1 00000001 00009000 00000002 00000000 0
starts 'CHS 0/0/2' 0001
calls 'CHS 0/1/1' "$(read_at 0x0001 0x0100)"
starts 'CHS 0/1/1: 18 sectors a track' 0018
calls 'CHS 1/0/1' "$(read_at 0x0101 0x0000)"
starts 'CHS 1/0/1: 2 heads' 0036
calls 'CHS, a hard disk' "$(read_at 0x0001 0x0080)"
is 'CHS 0/0/1 of a hard disk: the first' "$(printf '%s\n' "$out" | tail -n 1 |
	cut -c -8)" "$(od -An -tx4 -N4 "$T/sector" | tr -d ' ')"
calls 'CHS 0/0/33, a hard disk' "$(read_at 0x0021 0x0080)"
starts 'CHS 0/0/33 of a hard disk: six bits of sector' 0032
calls 'more than one' "$(read_at 0x0002 0x0000 38)"
registers 1 00000026 00009000 00000002 00000000 0
starts 'more than one' 0001
calls 'the end of the file' "$(read_at 0x0104 0x0000 2)"
registers 1 00000002 00009000 00000104 00000000 0
starts 'the end of the file: the last' 0039
calls 'beyond the end of the file' "$(read_at 0x0105 0x0000)"
registers 1 00000001 00009000 00000105 00000000 0
is 'beyond the end of the file: zeros' "$(printf '%s\n' "$out" | tail -n 1 |
	tr -d ' 0')" ''
calls 'a sector, and none' "$(read_at 0x0002 0x0000; read_at 0x0105 0x0000)"
is 'beyond the end of the file: zeros again' "$(printf '%s\n' "$out" |
	tail -n 1 | tr -d ' 0')" ''
calls 'the last of a floppy' "$(read_at 0x4f12 0x0100; read_at 0x5001 0x0000
	read_at 0x4f12 0x0100 2)"
registers 1 00000001 00009000 00004f12 00000100 0
registers 2 00000401 00009000 00005001 00000000 1
registers 3 00000402 00009000 00004f12 00000100 1
calls 'no sector 0' "$(read_at 0x0000 0x0000; read_at 0x0100 0x0000)"
registers 1 00000401 00009000 00000000 00000000 1
registers 2 00000401 00009000 00000100 00000000 1
calls 'ten bits of cylinder' "$(read_at 0x00c1 0x0000)"
registers 1 00000401 00009000 000000c1 00000000 1
calls 'no memory' "$(record 0x13 0x02ff 0xffff 1 0 0xffff)"
is 'memory above 1 MiB' "$(printf '%s' "$out" | cut -c -8 | head -n 1)" 000000ff
args='-t 20 -m 1M'
calls 'no memory' "$(record 0x13 0x0201 0xfe01 1 0 0xf000)"
registers 1 00000401 0000fe01 00000001 00000000 1
calls 'the end of memory' "$(record 0x13 0x0201 0xfe00 1 0 0xf000)"
registers 1 00000001 0000fe00 00000001 00000000 0
args='-t 20'
calls 'reset, verify, write' "$(record 0x13 0x0077; record 0x13 0x0403
	record 0x13 0x0301)"
registers 1 00000077 00000000 00000000 00000000 0
registers 2 00000003 00000000 00000000 00000000 0
registers 3 00000301 00000000 00000000 00000000 1
calls 'geometry of a floppy, of a hard disk; extensions' \
	"$(record 0x13 0x0800; record 0x13 0x0800 0 0 0x80
	record 0x13 0x4100 0x55aa)"
registers 1 00000000 00000000 00004f12 00000101 0
registers 2 00000000 00000000 0000013f 00000f01 0
registers 3 00000000 0000aa55 00000001 00000000 0

# by_packet N OFFSET SEGMENT LBA STATUS STARTS: read by a packet, which is after the
# record and a zero; AH is the status, and the first sector read is that one.
by_packet() {
	calls "packet $1 $2 $3 $4" "$(record 0x13 0x4200 0 0 0 0 0 $((0x7c00 + 424))
		little 2 0 16 "$1" $(($2)) $(($3))
		little 8 $(($4)))"
	is "$what: AH" "$(printf '%s' "$out" | cut -c 5-6 | head -n 1)" "$5"
	[ -z "$6" ] || starts "$what" "$6"
}
by_packet 1 0x9000 0 1 00 0001
by_packet 2 0 0x900 38 00 0038
by_packet 1 0x9000 0 39 00 0039
by_packet 1 0x9000 0 2879 00 00000000
by_packet 2 0x9000 0 2879 04 ''
by_packet 1 0x9000 0 2880 04 ''
by_packet 1 0x9000 0 0x0080000000000000 04 ''
by_packet 1 0x9000 0 -1 04 ''
by_packet 65535 0x9000 0 1 04 ''
calls 'a packet beyond RAM' "$(record 0x13 0x4200 0 0 0 0 0 0x5000)"
is 'no packet there: it reads none' "$(printf '%s' "$out" | cut -c 5-6 |
	head -n 1)" 00
# The packet is in DS. mov $0x7c0, %ax; mov %ax, %ds; mov $0x20, %si; mov $0x42,
# %ah; int $0x13; mov 0x1400, %al (0x9000); out %al, $0xe9; hlt; the packet
{
	printf '\270\300\7\216\330\276\040\0\264\102\315\023\240\0\024\346\351\364'
	zeroes 14
	printf '\020\0\1\0\0\220\0\0\1\0\0\0\0\0\0\0'
	zeroes 462
	printf '\125\252x'
} >"$T/packet"
run -t 20 "$T/packet"
is 'a packet in DS' "$status $out" '0 x'
# None can be read there: mov $0xffff, %ax; mov %ax, %ds; mov $0x10, %si; mov $0x42,
# %ah; int $0x13; mov %ah, %al; out %al, $0xe9; hlt
printf '\270\377\377\216\330\276\020\0\264\102\315\023\210\340\346\351\364' \
	>"$T/flat"
run -r -m 1M -t 20 "$T/flat"
is 'a packet above RAM' "$status $(od -An -tx1 "$T/out" | tr -d ' ')" '0 04'
calls 'write by a packet' "$(record 0x13 0x4300)"
registers 1 00000300 00000000 00000000 00000000 1

# A BIOS parameter block says the geometry: 9 sectors, 1 head; but not if it has
# zeros there. The boot sector's own bytes are there, so it is one that reads by
# itself: jmp 1f; .org 0x0b; .word 512; .org 0x18; .word 9, 1; 1: mov $0x0201, %ax;
# mov $0x9000, %bx; mov $0x0101, %cx; xor %dx, %dx; int $0x13; mov $0x08, %ah; int
# $0x13 (and its results)
# bpb BLOCK CODE: make a boot sector $T/bpb that jumps over these sectors of a
# track, and heads, to the code.
bpb() {
	{
		printf '\353\032\220\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0'
		# shellcheck disable=SC2059 # the format is the bytes
		printf "$1$2"
		zeroes 500
	} | head -c 510 >"$T/bpb"
	printf '\125\252' >>"$T/bpb"
}
reads='\270\1\2\273\0\220\271\1\1\061\322\315\023' # to 0x9000
reads=$reads'\276\0\220\271\4\0\272\351\0\363\156'     # print 4 bytes
reads=$reads'\264\010\061\322\315\023\210\310\356\210\360\356\364'
for block in '\011\0\1\0 0009' '\0\0\0\0 0036'; do
	bpb "${block% *}" "$reads"
	cat "$T/disk" >>"$T/bpb"
	run -t 20 "$T/bpb"
	is "a BIOS parameter block: ${block#* }" \
		"$(printf '%s' "$out" | cut -c -4)" "${block#* }"
done
# Less than a cylinder of 63 sectors and 255 heads: mov $0x0880, %ax; mov %al, %dl;
# int $0x13; mov %cl, %al; out %al, $0xe9; mov %ch, %al; out %al, $0xe9; hlt
bpb '\077\0\377\0' \
	'\270\200\010\210\302\315\023\210\310\346\351\210\350\346\351\364'
run -t 20 "$T/bpb"
is 'a disk of less than a cylinder' \
	"$(od -An -tx1 "$T/out" | tr -d ' ')" 3f00
# More than a floppy, and the last sector is not whole.
{ zeroes $((2879 * 512)); printf 2880; } >"$T/disk"
by_packet 1 0x9000 0 2880 00 2880
by_packet 1 0x9000 0 2881 04 ''
rm "$T/disk"
# A large hard disk: cylinder 1023 is the last that can be told, and 256 begins with
# its number.
what='a large hard disk'
sector "$(record 0x13 0x0800 0 0 0x80; read_at 0x0041 0x0080)"
printf 0256 | dd of="$T/sector" bs=512 seek=$((256 * 16 * 63)) conv=notrunc \
	2>/dev/null
printf x | dd of="$T/sector" bs=1M seek=600 conv=notrunc 2>/dev/null
run -t 20 "$T/sector"
registers 1 00000000 00000000 0000ffff 00000f01 0
starts "$what: ten bits of cylinder" 0256

# -------------------------------------------------------------------------- the keys

echo16=$GUESTS/echo16.bin
ended='simple-kvm: the guest has ended: '
jump="${ended}it jumps to itself"
no_key="${ended}it waits for a key, and stdin has ended"
# typed WANT_STATUS WANT_OUTPUT WANT_ERR ARGUMENT...: what came of the guest.
typed() {
	is "$what: status" "$status" "$1"
	is "$what: output" "$(printf '%s' "$out" | tr '\r' '|')" "$2"
	is "$what: what it says" "$err" "$3"
}
# from FILE: run the guest with this as its stdin.
from() {
	status=0
	limit "$SIMPLE_KVM" -t 60 "$echo16" <"$1" >"$T/out" 2>"$T/err" || status=$?
	out=$(cat "$T/out") err=$(cat "$T/err")
}
printf 'ab\ncd' >"$T/keys"
what='keys from a file'
from "$T/keys"
typed 0 "key> ab|${NL}ab|" "$jump"
what='keys from a pipe'
mkfifo "$T/pipe"
hand_over "$T/keys" "$T/pipe" &
from "$T/pipe"
wait $!
typed 0 "key> ab|${NL}ab|" "$jump"
printf 'ab' >"$T/keys"
what='keys that end too early'
from "$T/keys"
typed 0 'key> ab' "$no_key"
for file in /dev/null "$T"; do
	what="keys from $file"
	from "$file"
	typed 0 'key> ' "$no_key"
done
what='no stdin'
status=0
limit "$SIMPLE_KVM" -t 60 "$echo16" <&- >"$T/out" 2>"$T/err" || status=$?
out=$(cat "$T/out") err=$(cat "$T/err")
typed 0 'key> ' "$no_key"
# What it did not ask for is still there.
printf 'ab\nrest\n' | {
	limit "$SIMPLE_KVM" -t 60 "$echo16" >"$T/out" 2>"$T/err"
	cat >"$T/rest"
}
is 'what is not asked for is not read' "$(cat "$T/rest")" rest
run -t 20 "$GUESTS/waits16.bin"
printf 'rest' | {
	limit "$SIMPLE_KVM" -l >"$T/out" 2>"$T/err"
	cat >"$T/got"
}
is 'nothing is read for a guest that does not ask' "$(cat "$T/got")" rest

# Looking for keys: 1: mov $1, %ah; int $0x16; jz 1b; mov $0x0e, %ah; int $0x10; mov
# $0, %ah; int $0x16; mov $0x0e, %ah; int $0x10; hlt
printf '\264\1\315\026\164\372\264\016\315\020\264\0\315\026\264\016\315\020\364' \
	>"$T/peek"
printf 'xy' >"$T/keys"
limit "$SIMPLE_KVM" -r -t 60 "$T/peek" <"$T/keys" >"$T/out" 2>"$T/err"
is 'a key that was seen is still there' "$(cat "$T/out")" xx

# The same by AH 0x11 and 0x10, and the next key: mov $0x11, %ah; int $0x16; mov
# $0x10, %ah; int $0x16; out %al, $0xe9; mov $0x10, %ah; int $0x16; out %al, $0xe9;
# hlt
printf '\264\021\315\026\264\020\315\026\346\351\264\020\315\026\346\351\364' \
	>"$T/peek"
limit "$SIMPLE_KVM" -r -t 60 "$T/peek" <"$T/keys" >"$T/out" 2>"$T/err"
is 'AH 11h looks, and AH 10h takes' "$(cat "$T/out")" xy
# Flags stay, where ZF would say that no key is there: xor %ax, %ax; int $0x16; jnz
# 1f; out %al, $0xe9; 1: hlt
printf '\061\300\315\026\165\2\346\351\364' >"$T/peek"
limit "$SIMPLE_KVM" -r -t 60 "$T/peek" <"$T/keys" >"$T/out" 2>"$T/err"
is 'a key that is waited for: ZF stays' "$(cat "$T/out")" x

# waiting SIGNALS ARGUMENT...: run the guest with a stdin that stays open, send it
# these when it has printed its prompt, and leave its status.
mkfifo "$T/stdin" "$T/stdout"
waiting() {
	signals=$1
	shift
	exec 3<>"$T/stdin"
	with_pid "$SIMPLE_KVM" "$@" "$echo16" <&3 >"$T/stdout" 2>"$T/err" &
	exec 4<"$T/stdout"
	dd bs=1 count=5 <&4 >"$T/prompt" 2>/dev/null
	pid=$(cat "$T/pid")
	for signal in $signals; do
		kill -"$signal" "$pid"
		# It has stopped, or goes on.
		case $signal in
		STOP)
			until grep -q 'State:.*T' "/proc/$pid/status"
			do sleep 0.01; done ;;
		esac
	done
	[ -z "${keys:-}" ] || printf '%s\n' "$keys" >&3
	limit cat <&4 >"$T/out"
	exec 4<&- 3>&-
	status=0
	wait $! || status=$?
	is "while it waits, $signals $*: the prompt" "$(cat "$T/prompt")" 'key> '
}
# Where stdin is open, and nothing comes: mov $1, %ah; int $0x16; jnz 1f; mov $'0',
# %al; out %al, $0xe9; 1: hlt
printf '\264\1\315\026\165\4\2600\346\351\364' >"$T/peek"
status=0
limit "$SIMPLE_KVM" -r -t 20 "$T/peek" <>"$T/stdin" >"$T/out" 2>"$T/err" ||
	status=$?
is 'looking for a key does not wait' "$status $(cat "$T/out")" '0 0'
if [ -r /proc/self/status ]; then
	keys=
	waiting TERM -t 60
	is 'a signal while it waits: status' "$status" 143
	like 'a signal while it waits: message' "$(cat "$T/err")" \
		'the guest stopped: Terminated$'
	waiting '' -t 0.1
	is '--timeout while it waits: status' "$status" 124
	like '--timeout while it waits: message' "$(cat "$T/err")" \
		'the guest stopped: its time is over (--timeout)$'
	keys=x
	waiting 'STOP CONT STOP CONT' -t 60
	is 'stopped and continued while it waits' "$status $(tr -d '\r' \
		<"$T/out")" "0 x${NL}x"
fi
# In the background SIGINT is ignored: env sets it back.
if [ -z "${BACKEND:-}" ] && need_command perl 'SIGINT while it waits'; then
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e '$SIG{INT} = "DEFAULT"; pipe R, W; pipe S, X;
		if (!($pid = fork)) { close W; close S; open STDIN, "<&R";
			open STDOUT, ">&X"; exec @ARGV }
		close X; sysread S, $_, 5; kill INT, $pid; waitpid $pid, 0;
		exit $? >> 8' "$SIMPLE_KVM" -t 60 "$echo16" 2>"$T/err"
	is 'SIGINT while it waits' "$?" 130
fi
if need_command script 'keys from a terminal'; then
	mkfifo "$T/tty"
	{ printf 'ab\n'; cat "$T/tty"; } | limit script -qec \
		"'$SIMPLE_KVM' -t 60 '$echo16'; echo \$? >'$T/status'; : >'$T/tty'" \
		/dev/null >"$T/out" 2>&1
	is 'keys from a terminal: status' "$(cat "$T/status")" 0
	like 'keys from a terminal: output' "$(tr '\r' '|' <"$T/out")" '^ab|'
fi

# ---------------------------------------------------------- watched, and in batches

printf 'ab\n' >"$T/keys"
for option in -c --stats --trace --step; do
	status=0
	limit "$SIMPLE_KVM" $option -t 60 "$echo16" <"$T/keys" >"$T/out" \
		2>"$T/err" || status=$?
	is "$option: status and output" "$status $(tr '\r' '|' <"$T/out")" \
		"0 key> ab|${NL}ab|"
	like "$option: the end" "$(cat "$T/err")" "^$jump\$"
	case $option in
	--trace) like '--trace: a service' "$(cat "$T/err")" \
		'^simple-kvm: INT 0x10, AX 0x0e6b$' ;;
	--stats) like '--stats: each is an exit' "$(cat "$T/err")" \
		'^simple-kvm: KVM_EXIT_IO: 15$' ;;
	esac
done
# Each instruction around an INT: mov $0x0e78, %ax; int $0x10; nop; inc %bx; hlt
printf '\270\170\016\315\020\220\103\364' >"$T/flat"
run -r --step "$T/flat"
is '--step: every instruction around an INT' "$(printf '%s\n' "$err" |
	sed -n 's/.*RIP=\(80[0-9a-f]*\)[ ;].*/\1/p' | sort -u | tr '\n' ' ')" \
	'8000 8003 8005 8006 8007 '
if [ -z "${BACKEND:-}" ]; then
	# shellcheck disable=SC2016 # packets' frames
	printf '$c#63' >"$T/packet"
	limit "$SIMPLE_KVM" --gdb -r "$GUESTS/hook16.bin" <"$T/packet" >"$T/out"
	is '--gdb: the services' "$(tr '$' '\n' <"$T/out" | sed -n \
		's/^O\(4[^#]*\)#.*/\1/p' | tr -d '\n')" 43414c4c45444a554d504544
fi

# --------------------------------------------------------------------- how it ends

for mode in -r -s -l; do
	need_mode $mode "$mode: jmp to itself" || continue
	[ "${BACKEND:-}" != vmx ] || continue # it would stop Bochs
	printf '\260\170\346\351\353\376' >"$T/flat" # mov $'x', %al; out; jmp .
	run $mode -t 60 "$T/flat"
	is "$mode: a jump to itself" "$status $out $err" "0 x $jump"
done
# sti, for Bochs; ljmp $0x7c0, $0x406; jmp .
printf '\373\352\6\4\300\7\353\376' >"$T/flat"
run -r -t 20 "$T/flat"
is 'a jump to itself in another segment' "$status $err" "0 $jump"
# int $0x19; int $0x18; sti first, for nothing is waited for then.
for pair in '\031 19' '\030 18'; do
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\373\315${pair% *}" >"$T/flat"
	run -r -t 20 "$T/flat"
	is "INT 0x${pair#* }" "$status $err" "0 ${ended}it would boot again"
done
printf '\373\352\0\0\377\377' >"$T/flat" # sti; ljmp $0xffff, $0
run -r -t 20 "$T/flat"
is 'a jump to the BIOS' "$status $err" '0 '
run -t 20 "$GUESTS/waits16.bin"
is 'waits for devices end: status' "$status" 1
like 'waits for devices end: to what is not there' "$err" \
	'a 1-byte read from port 0x80, which is not there$'
# in $0x60, %al; out %al, $0xe9; the same of 0x92 and of 0x40; hlt
printf '\344\140\346\351\344\222\346\351\344\100\346\351\364' >"$T/flat"
run -r -t 20 "$T/flat"
is 'what other devices have is 0' "$status$(od -An -tx1 "$T/out")" '0 00 00 00'

done_testing

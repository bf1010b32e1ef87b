#!/bin/sh
# A guest of one's own runs, from a flat or an ELF file, in as much RAM as was
# asked for; and whatever cannot be loaded is refused with status 2 and its own
# message, before anything runs.
# backends: yes
. "${0%/*}/lib.sh"

# refused PATTERN ARGUMENT...: status 2, and a message that matches.
refused() {
	pattern=$1
	shift
	run "$@"
	is "${what:-$*}: refused" "$status" 2
	like "${what:-$*}: why" "$err" "$pattern"
}

what=
for size in '' 0 12q 4T -1 1.5M 1023K 3145729K 4G 1048577 99999999999999999999 \
	18014398509481985K 2MM M 0x200000 ' 2M' 2M1; do
	refused '^simple-kvm: --memory takes' -m "$size"
done
need_kvm

# patch OFFSET OCTAL...: $T/elf with these bytes changed, as $T/bad.
patch() {
	offset=$1
	shift
	cp "$T/elf" "$T/bad"
	# shellcheck disable=SC2059 # the format is the bytes
	for byte; do printf "\\$byte"; done |
		dd of="$T/bad" bs=1 seek="$offset" conv=notrunc 2>/dev/null
}

# bad WHAT PATTERN OFFSET OCTAL...: such a patch is refused.
bad() {
	what="$class: $1" pattern=$2
	shift 2
	patch "$@"
	refused "^simple-kvm: $T/bad: $pattern" "$T/bad"
}

# cut_off WHAT PATTERN BYTES: the file's first bytes only are refused.
cut_off() {
	what="$class: $1"
	head -c "$3" "$T/elf" >"$T/bad"
	refused "^simple-kvm: $T/bad: $2" "$T/bad"
}

class='64-bit'
cp "$GUESTS/regs64.elf" "$T/elf"
run "$T/elf"
is 'a 64-bit file without an option: runs in long mode' "$status" 0
like '...which CS tells' "$out" 'EFER=00000500'
run -l "$T/elf"
is 'a 64-bit file with -l' "$status" 0
"$SIMPLE_KVM" /dev/stdin <"$T/elf" >"$T/out"
is 'an ELF file from /dev/stdin' "$?" 0
# shellcheck disable=SC2002 # a pipe is what is tested
cat "$T/elf" | "$SIMPLE_KVM" /dev/stdin >"$T/out"
is 'an ELF file from a pipe' "$?" 0
for mode in -r -s -p; do
	what="a 64-bit file with $mode"
	refused 'a 64-bit file cannot run in' $mode "$T/elf"
done
cut_off 'no more than the magic' 'the ELF header is truncated' 4
cut_off 'half a header' 'the ELF header is truncated' 63
cut_off 'half a program header' 'its program headers are truncated' 170
cut_off 'half a segment' 'a segment is truncated' 300
bad 'byte order' 'its byte order' 5 2
bad 'machine' 'it is for another machine' 18 3 0
bad 'object file' 'it is not a linked program' 16 1
bad 'core file' 'it is not a linked program' 16 4
bad 'no program headers' '0 program headers' 56 0
bad 'too many program headers' '65535 program headers' 56 377 377
bad 'size of a program header' 'its program headers are truncated' 54 40
bad 'program headers elsewhere' 'its program headers are truncated' \
	32 377 377 377 377 377 377 377 377
bad 'interpreter' 'not static: it needs an interpreter' 120 3
bad 'segment beyond the file' 'a segment is truncated' 72 0 0 1
bad 'segment whose end overflows' 'a segment is truncated' \
	72 377 377 377 377 377 377 377 377
bad 'more bytes than memory' 'a segment is larger' 104 1 0
bad 'segment over the tables' '0x7000 is below 0x8000' 88 0 160 0
bad 'segment above RAM' 'too large for long mode' 88 0 0 40
bad 'segment whose memory overflows' 'too large for long mode' \
	104 377 377 377 377 377 377 377 377
bad 'segment into the stack' 'too large for long mode' 104 0 200 37
bad 'entry elsewhere' 'its entry, 0x7fff, is in no' 24 377 177
bad 'entry behind the end' 'its entry, 0x1000000, is in no' 24 0 0 0 1
bad 'no segment to load' 'its entry, .* is in no' 64 6
patch 16 3
run "$T/bad"
is 'ET_DYN without relocations: runs' "$status" 0
# The second program header as PT_DYNAMIC, with an entry of DT_RELASZ in it.
patch 120 2
printf '\10\0\0\0\0\0\0\0\30\0\0\0\0\0\0\0' | dd of="$T/bad" bs=1 \
	seek=$((0xb0)) conv=notrunc 2>/dev/null
cp "$T/bad" "$T/elf"
patch 128 260 0 0 0 0 0 0 0
cp "$T/bad" "$T/elf"
bad 'relocations' 'not static: it has relocations' 152 40 0 0 0 0 0 0 0

class='32-bit'
cp "$GUESTS/regs32.elf" "$T/elf"
run "$T/elf"
is 'a 32-bit file without an option: runs in protected mode' "$status" 0
like '...which CR0 tells' "$out" 'CR0=00000031'
if need_mode -p 'a 32-bit file with -p'; then
	run -p "$T/elf"
	like 'a 32-bit file with -p' "$out" 'CR0=80050033'
fi
run -r "$GUESTS/regs16.elf"
like 'a 32-bit file with -r, for real mode' "$out" 'CR0=60000010'
what='a 32-bit file with -l'
refused 'a 32-bit file cannot run in long mode' -l "$T/elf"
cut_off 'half a header' 'the ELF header is truncated' 51
cut_off 'half a program header' 'its program headers are truncated' 80
bad 'x86-64 in 32 bits (x32)' 'it is for another machine' 18 76
bad 'class' 'its class is neither' 4 3
bad 'no class' 'its class is neither' 4 0
bad 'program headers elsewhere' 'its program headers are truncated' \
	28 377 377 377 377
bad 'segment whose memory overflows' 'too large for protected mode' \
	72 377 377 377 377
bad 'segment over the tables' '0x4000 is below 0x8000' 64 0 100
bad 'segment beyond 64 KiB' 'too large for protected mode' 64 0 0 377
cp "$GUESTS/regs16.elf" "$T/elf"
patch 64 0 377
what='real mode: a segment beyond 64 KiB'
refused 'too large for real mode' -r "$T/bad"

cp "$GUESTS/mebibyte64.elf" "$T/elf"
class='64-bit'
bad 'overlap' 'two segments overlap' 104 0 20

# Memory beyond p_filesz is zero: this guest prints what it filled itself.
if [ -z "${BACKEND:-}" ]; then
	patch 152 0 10
	"$SIMPLE_KVM" "$GUESTS/mebibyte64.elf" | cksum >"$T/want"
	"$SIMPLE_KVM" "$T/bad" | cksum >"$T/got"
	succeeds '.bss behind the end of a segment' cmp "$T/want" "$T/got"
else
	skip '.bss behind the end of a segment' 'slow on an emulated CPU'
fi

# All RAM is there and mapped, and the stack is at its end.
for size in 1M:0001 5M:0005 3G:0c00 1049600K:0401; do
	for pair in -s32 -p32 -l64; do
		mode=${pair%??} bits=${pair#??}
		need_mode "$mode" "$mode -m ${size%:*}" || continue
		run "$mode" --memory "${size%:*}" "$GUESTS/top$bits.bin"
		is "$mode -m ${size%:*}" "$out" "${size#*:}$NL"
	done
done
run -r -m 3G
is 'real mode has its RAM, too' "$status" 0
dd if=/dev/zero bs=1024 count=4096 2>/dev/null | tr '\0' '\220' >"$T/4m"
printf '\364' >>"$T/4m"
what='an image larger than RAM'
refused 'too large for long mode: 4194305 bytes' -l "$T/4m"
run -l -m 8M -t 100 "$GUESTS/regs64.bin"
is 'an image in larger RAM' "$status" 0

# rss ARGUMENT...: the most memory that was resident in such a run, in KiB.
rss() {
	run -l --stats "$@"
	sed -n 's/.*peak RSS: \([0-9]*\) KiB$/\1/p' "$T/err"
}
small=$(rss) large=$(rss -m 3G)
succeeds "RAM that is not touched costs nothing: $small and $large KiB" \
	[ "$large" -lt $((small + 1024)) ]

run -l "$GUESTS/cpuid64.bin"
is "CPUID shows the host's vendor" "$(head -n 1 "$T/out")" \
	"$(sed -n 's/^vendor_id[^:]*: //p' /proc/cpuinfo | head -n 1)"
like '...and its features' "$out" '^sse2$'
run -l "$GUESTS/sse64.bin"
case $err in
*'KVM gave up: it cannot emulate'*)
	[ -z "${BACKEND:-}" ] || result 1 'SSE in long mode'
	skip 'SSE in long mode' 'this KVM emulates ring 0, and SSE not at all' ;;
*) is 'SSE in long mode' "$out" "right$NL" ;;
esac

done_testing

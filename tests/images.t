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
	18014398509481985K 18014398509484032K 2MM M 0x200000 2M1 '2 M' 2m; do
	refused '^simple-kvm: --memory takes 1M to 3G, a multiple of 4K$' \
		-m "$size"
done
need_kvm

# put OFFSET OCTAL...: change $T/bad there to these bytes.
put() {
	offset=$1
	shift
	# shellcheck disable=SC2059 # the format is the bytes
	for byte; do printf "\\$byte"; done |
		dd of="$T/bad" bs=1 seek="$offset" conv=notrunc 2>/dev/null
}

# patch OFFSET OCTAL...: make $T/bad as $T/elf, but for these bytes.
patch() {
	cp "$T/elf" "$T/bad"
	put "$@"
}

# bad WHAT PATTERN OFFSET OCTAL...: such a patch is refused.
bad() {
	what="$class: $1" pattern=$2
	shift 2
	patch "$@"
	refused "^simple-kvm: $T/bad: $pattern\$" "$T/bad"
}

# cut_off WHAT PATTERN BYTES: the file's first bytes only are refused.
cut_off() {
	what="$class: $1"
	head -c "$3" "$T/elf" >"$T/bad"
	refused "^simple-kvm: $T/bad: $2\$" "$T/bad"
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
for pair in '-r real mode' '-s protected mode' '-p 32-bit paging'; do
	what="a 64-bit file with ${pair%% *}"
	refused "a 64-bit file cannot run in ${pair#* }\$" "${pair%% *}" "$T/elf"
done
truncated='its program headers are truncated'
linked='it is not a linked program'
cut_off 'no program headers' "$truncated" 64
cut_off 'a program header and a half' "$truncated" 170
cut_off 'half a segment' 'a segment is truncated' 300
cut_off 'a segment but for a byte' 'a segment is truncated' $((0xb0 + 0x1a2))
head -c $((0xb0 + 0x1a3)) "$T/elf" >"$T/bad"
run "$T/bad"
is "$class: all of the segment, and nothing else" "$status" 0
bad 'machine' 'it is for another machine than x86' 18 3 0
bad 'object file' "$linked" 16 1
bad 'position-independent' 'it is a (static) PIE: link it with -no-pie' 16 3
bad 'core file' "$linked" 16 4
bad 'no program headers' 'its entry, 0x8000, is in no segment' 56 0
bad 'too many program headers' "$truncated" 56 377 377
bad 'size of a program header' "$truncated" 54 40
bad 'program headers elsewhere' "$truncated" 32 370 377 377 377 377 377 377 377
bad 'program headers at an odd place' "$truncated" 32 104
bad 'segment beyond the file' 'a segment is truncated' 72 0 0 1
bad 'segment whose end overflows' 'a segment is truncated' \
	72 377 377 377 377 377 377 377 377
bad 'more bytes than memory' 'a segment is truncated' 104 1 0
tables="0x7000, the tables' end: link it with ld -n, or -Ttext-segment=0x10000"
bad 'segment over the tables' "its address 0x6fff is below $tables" 88 377 157
bad 'segment at 0' "its address 0x0 is below $tables" 88 0 0
bad 'segment above RAM' "419 bytes at 0x200000, RAM ends at 0x200000: -m 3M\
 would do, or link lower (--build-id=none?)" \
	88 0 0 40
bad 'segment whose memory overflows' "18446744073709551615 bytes at 0x8000,\
 beyond 3 GiB" 104 377 377 377 377 377 377 377 377
# 0x1f7000 bytes from 0x8000 on just fit.
bad 'segment into the stack' "2060289 bytes at 0x8000, RAM ends at 0x200000:\
 -m 3M would do" 104 1 160 37
patch 104 0 160 37
run "$T/bad"
is "$class: segment up to the stack" "$status" 0
bad 'entry below' 'its entry, 0x7fff, is in no segment' 24 377 177
bad 'entry after the end' 'its entry, 0x81a3, is in no segment' 24 243 201
patch 24 242 201
run -t 20 "$T/bad"
like "$class: entry at the last byte: runs" "$status" '^[01]$'
bad 'entry far away' 'its entry, 0x1008000, is in no segment' 24 0 200 0 1
bad 'no segment to load' 'its entry, 0x8000, is in no segment' 64 6
# The other segment, which is empty, may be anywhere.
patch 144 0 0 0 377
run "$T/bad"
is "$class: an empty segment: no matter where" "$status" 0

# Linkers put the headers on the page before the code.
cp "$GUESTS/exit64.elf" "$T/elf"
patch 88 0 160
put 24 0 160
run "$T/bad"
is "$class: a segment at 0x7000, and its entry: runs" "$status" 85

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
refused 'a 32-bit file cannot run in long mode$' -l "$T/elf"
cut_off 'a program header and a half' "$truncated" 100
cut_off 'half a segment' 'a segment is truncated' 300
bad 'x86-64 in 32 bits (x32)' 'it is for another machine than x86' 18 76
bad 'object file' "$linked" 16 1
bad 'position-independent' 'it is a (static) PIE: link it with -no-pie' 16 3
bad 'too many program headers' "$truncated" 44 377 377
bad 'size of a program header' "$truncated" 42 70
bad 'program headers elsewhere' "$truncated" 28 374 377 377 377
bad 'segment beyond the file' 'a segment is truncated' 56 0 0 1
bad 'more bytes than memory' 'a segment is truncated' 72 1 0
bad 'segment whose memory overflows' \
	'4294967295 bytes at 0x8000, beyond 3 GiB' \
	72 377 377 377 377
bad 'segment over the tables' "its address 0x4000 is below $tables" 64 0 100
bad 'segment beyond RAM' \
	"469 bytes at 0xff8000, RAM ends at 0x200000: -m 16M would do, or link\
 lower (--build-id=none?)" 64 0 200 377
bad 'entry below' 'its entry, 0x7fff, is in no segment' 24 377 177
# In real mode the page before the image is the stack's.
cp "$GUESTS/regs16.elf" "$T/elf"
patch 64 0 377
what='real mode: a segment beyond 64 KiB'
refused 'bytes at 0xff00, beyond what real mode reaches$' -r "$T/bad"
patch 64 377 177
what='real mode: a segment over the stack'
refused "0x7fff is below 0x8000, the tables' end: " -r "$T/bad"

# Memory beyond p_filesz is zero: this guest prints what it filled itself.
cp "$GUESTS/mebibyte64.elf" "$T/elf"
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
refused '/4m: 4194305 bytes at 0x8000, RAM ends at 0x200000: -m 5M would do$' -l "$T/4m"
what='an image without end'
refused '^simple-kvm: /dev/zero: it does not fit below 0x1ff000: see --memory$' \
	-l /dev/zero
what='...in real mode, which large RAM does not help'
refused '^simple-kvm: /dev/zero: it does not fit below 0x10000: see --memory$' \
	-m 3G /dev/zero
run -l -m 8M -t 100 "$GUESTS/regs64.bin"
is 'an image in larger RAM' "$status" 0

# rss ARGUMENT...: the most memory that was resident in such a run, in KiB, when
# the guest has said that it spins.
rss() {
	"$SIMPLE_KVM" -l -t 60 "$@" "$GUESTS/spin64.bin" >"$T/fifo" 2>"$T/err" &
	head -n 1 <"$T/fifo" >"$T/line"
	sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' /proc/$!/status
	kill $!
	wait $!
}
if [ "${BACKEND:-}" = vmx ]; then
	skip 'RAM that is not touched' 'a loop without interrupts stops Bochs'
else
	mkfifo "$T/fifo"
	small=$(rss) large=$(rss -m 3G)
	succeeds "RAM that is not touched costs nothing: $small, $large KiB" \
		[ "$large" -lt $((small + 1024)) ]
fi

run -l "$GUESTS/cpuid64.bin"
is "CPUID shows the host's vendor" "$(head -n 1 "$T/out")" \
	"$(sed -n 's/^vendor_id[^:]*: //p' /proc/cpuinfo | head -n 1)"
like '...and its features' "$out" '^sse2$'
like '...but not VMX' "$out" '^no vmx$'
like '...nor SVM' "$out" '^no svm$'
# Not every host has these: strace can make KVM say that there are all features.
if [ -z "${BACKEND:-}" ] && strace --help 2>/dev/null | grep -q poke_exit; then
	export ASAN_OPTIONS=detect_leaks=0 # which does not work under ptrace
	number=$(strace -e trace=ioctl "$SIMPLE_KVM" -l "$GUESTS/cpuid64.bin" \
		2>&1 | grep '^ioctl' | grep -n GET_SUPPORTED_CPUID |
		sed 's/:.*//')
	# Two entries: function, index, flags, EAX to EDX, padding.
	zero=00000000 ones=ffffffff
	poke=0200000000000000
	for function in 01000000 01000080; do
		poke=$poke$function$zero$zero$zero$zero$ones$ones
		poke=$poke$zero$zero$zero
	done
	strace -v -o "$T/trace" -e trace=ioctl -e inject="ioctl:poke_exit=@arg3=\
$poke:when=$number" "$SIMPLE_KVM" -l "$GUESTS/cpuid64.bin" >"$T/out" 2>"$T/err"
	is 'VMX and SVM are hidden, and nothing else is' \
		"$(grep KVM_SET_CPUID2 "$T/trace" | grep -o '[cd]x=0x[0-9a-f]*' |
		tr '\n' ' ')" \
		'cx=0xffffffdf dx=0xffffffff cx=0xfffffffb dx=0xffffffff '
	is '...and the guest sees that' "$(tail -n 3 "$T/out")" \
		"sse2${NL}no vmx${NL}no svm"
else
	skip 'VMX and SVM are hidden' 'needs strace 5.11 or later'
fi
run -l "$GUESTS/sse64.bin"
case $err in
*'KVM cannot emulate an instruction'*)
	[ -z "${BACKEND:-}" ] || result 1 'SSE in long mode'
	skip 'SSE in long mode' 'this KVM emulates ring 0, and SSE not at all' ;;
*) is 'SSE in long mode' "$out" "right$NL" ;;
esac

done_testing

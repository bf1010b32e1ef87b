#!/bin/sh
# The command line means what --help says; what it cannot mean, and an image
# that cannot be run, is refused with status 2 before any guest runs.
# backends: yes
. "${0%/*}/lib.sh"

# refused WHAT PATTERN ARGUMENT...: status 2, no output, a message on stderr.
refused() {
	what=$1 pattern=$2
	shift 2
	run "$@"
	is "$what: status" "$status" 2
	is "$what: no output" "$out" ''
	like "$what: message" "$err" "$pattern"
	unlike "$what: every line says whose it is" "$err" '^simple-kvm[^:]'
}

refused 'unknown short option' "^simple-kvm: invalid option -- 'x'" -x
refused 'unknown long option' "^simple-kvm: unrecognized option '--fast'" \
	--fast
refused 'a value where none belongs' "^simple-kvm: option '--long'" --long=1
refused 'usage line' '^simple-kvm: usage: simple-kvm \[-r' -x
refused 'two modes' '^simple-kvm: only one mode' -r -l
refused 'two images' '^simple-kvm: only one image' -l a b

run --help
is '--help: status' "$status" 0
is '--help: nothing on stderr' "$err" ''
for option in -m,.--memory -t,.--timeout -r,.--real -s,.--protected -p,.--paged -l,.--long -h,.--help \
	-V,.--version; do
	like "--help tells $option" "$out" "$option "
done
for word in ELF 0x8000 0xF4 124 '128 + N'; do
	like "--help tells of $word" "$out" "$word"
done
run -V
is '--version: status' "$status" 0
like '--version: name and number' "$out" '^simple-kvm [0-9.]*$'
if [ -c /dev/full ]; then
	status=0
	"$SIMPLE_KVM" --help >/dev/full 2>"$T/err" || status=$?
	is '--help that cannot be written' "$status" 3
fi

need_kvm
zeroes() { dd if=/dev/zero bs=1024 count="$1" 2>/dev/null; }

refused 'missing image' 'none.bin: No such file' "$T/none.bin"
refused 'a directory' "^simple-kvm: $T: Is a directory" "$T"
: >"$T/empty"
refused 'an empty file' "^simple-kvm: $T/empty: the file is empty" "$T/empty"
zeroes 33 >"$T/33k"
refused 'too large for real mode' '33k: too large.*33792 bytes at 0x8000, where the limit is 0x10000' \
	-r "$T/33k"
zeroes 2048 >"$T/2m"
for mode in -s -l; do
	refused "$mode: too large for RAM" '2m: too large.*where the limit is 0x1ff000' \
		$mode "$T/2m"
done
if [ "$(id -u)" = 0 ]; then
	skip 'an unreadable file' 'root reads everything'
else
	: >"$T/locked"
	chmod 0 "$T/locked"
	refused 'an unreadable file' 'locked: Permission denied' "$T/locked"
fi

# The largest images there may be; their last instruction is a HLT.
{ dd if=/dev/zero bs=32767 count=1 2>/dev/null | tr '\0' '\220'
	printf '\364'; } >"$T/32k"
run -r "$T/32k"
is 'an image up to 64 KiB' "$status" 0
printf '\364' >"$T/hlt"
run -l "$T/hlt"
is 'an image of one byte' "$status" 0
status=0
"$SIMPLE_KVM" -l /dev/stdin <"$T/hlt" || status=$?
is 'an image from /dev/stdin' "$status" 0
status=0
{ printf '\220'; cat "$T/hlt"; } | "$SIMPLE_KVM" -l /dev/stdin || status=$?
is 'an image from a pipe' "$status" 0

done_testing

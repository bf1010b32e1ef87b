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
	# Where to find help is argp's own line, after an error of usage.
	is "$what: every line says whose it is" "$(printf '%s\n' "$err" |
		grep -v -e '^simple-kvm: .' -e "^Try \`simple-kvm --help' or ")" ''
}

refused 'unknown short option' "^simple-kvm: invalid option -- 'x'" -x
refused 'unknown long option' "^simple-kvm: unrecognized option '--fast'" \
	--fast
refused 'a value where none belongs' "^simple-kvm: option '--long'" --long=1
refused 'where to find help' "^Try \`simple-kvm --help' or" -x
refused 'a value that is missing' \
	"^simple-kvm: option requires an argument -- 'm'" -m
refused 'two modes' '^simple-kvm: only one mode can be chosen$' -r -l
refused 'two modes in one word' '^simple-kvm: only one mode can be chosen$' -lr
refused 'two images' '^simple-kvm: Too many arguments$' -l a b

run --help
is '--help: status' "$status" 0
is '--help: nothing on stderr' "$err" ''
for option in -r,.--real -s,.--protected -p,.--paged -l,.--long \
	-m,.--memory=SIZE -t,.--timeout=SEC -c,.--coalesce -v,.--verbose \
	....--trace ....--step ....--stats ....--help -V,.--version; do
	like "--help tells $option" "$out" "^  $option  *[A-Z]"
done
help=$out
run -h
is '-h: status' "$status" 0
is '-h: the same as --help' "$out$err" "$help"
for word in ELF 0x8000 0xF4 124 '128 + N'; do
	like "--help tells of $word" "$out" "$word"
done
run -V
is '--version: status' "$status" 0
like '--version: name and number' "$out" '^simple-kvm [0-9.]*$'
for option in --help --version; do
	[ -c /dev/full ] || { skip "$option to /dev/full" 'none'; continue; }
	status=0
	limit "$SIMPLE_KVM" $option >/dev/full 2>"$T/err" || status=$?
	is "$option that cannot be written: status" "$status" 3
	is "$option that cannot be written: message" "$(cat "$T/err")" \
		'simple-kvm: write to standard output: No space left on device'
done

need_kvm
once_a_backend
zeroes() { dd if=/dev/zero bs=1024 count="$1" 2>/dev/null; }

refused 'missing image' 'none.bin: No such file' "$T/none.bin"
refused 'a directory' "^simple-kvm: $T: Is a directory" "$T"
: >"$T/empty"
refused 'an empty file' "^simple-kvm: $T/empty: the file is empty" "$T/empty"
zeroes 929 >"$T/929k"
for mode in -r ''; do
	refused "'$mode': too large for real mode" \
		'/929k: it ends at 0xf0400, beyond real mode: try -s$' \
		${mode:+"$mode"} "$T/929k"
done
if [ "$(id -u)" = 0 ]; then
	skip 'an unreadable file' 'root reads everything'
else
	: >"$T/locked"
	chmod 0 "$T/locked"
	refused 'an unreadable file' 'locked: Permission denied' "$T/locked"
fi

for pair in -r:--real -s:--protected -l:--long; do
	run "${pair%:*}" "${pair%:*}" "${pair#*:}"
	is "the same mode thrice, ${pair%:*}: status" "$status" 0
done

# The largest images there may be, and a byte more: this begins with a HLT.
for pair in -r950272 -s2060288 -p2060288 -l2060288; do
	mode=${pair%"${pair#??}"} size=${pair#??}
	{ printf '\364'; dd if=/dev/zero bs="$size" count=1 2>/dev/null; } \
		>"$T/more"
	head -c "$size" "$T/more" >"$T/most"
	run "$mode" "$T/most"
	case $mode:$status$err in
	-p*:3*': this KVM lacks it, '*) result 0 "$mode: $size bytes" ;;
	*) is "$mode: $size bytes" "$status $err" '0 ' ;;
	esac
	case $mode in
	-r) message='0xf0001, beyond real mode: try -s' ;;
	*) message='0x1ff001, beyond 0x1ff000: try -m 3M' ;;
	esac
	refused "$mode: $size bytes and one more" "^simple-kvm: $T/more:\
 it ends at $message\$" "$mode" "$T/more"
done
# And the last instruction of this is a HLT.
{ dd if=/dev/zero bs=32767 count=1 2>/dev/null | tr '\0' '\220'
	printf '\364'; } >"$T/32k"
run -r "$T/32k"
is 'an image up to 64 KiB' "$status" 0
printf '\364' >"$T/hlt"
run -l "$T/hlt"
is 'an image of one byte' "$status" 0
status=0
limit "$SIMPLE_KVM" -l /dev/stdin <"$T/hlt" || status=$?
is 'an image from /dev/stdin' "$status" 0
status=0
{ printf '\220'; cat "$T/hlt"; } | limit "$SIMPLE_KVM" -l /dev/stdin || status=$?
is 'an image from a pipe' "$status" 0

done_testing

#!/bin/sh
# What the guest writes arrives on stdout byte for byte, all of it, in few
# writes and before simple-kvm's own words; when it cannot, the status says so.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: ports" || continue
	run "$mode" "$GUESTS/ports$bits.bin"
	is "$mode: every port in every size" "$out" "abcdef
C1
bytes
words
doubles
inb right
inw right
inl right
status right
insb right
no more right
"
	run "$mode" "$GUESTS/exit$bits.bin"
	is "$mode: port 0xF4 ends with (v << 1) | 1" "$status" 85
	is "$mode: ...and what was written before is not lost" "$out" bye

	run "$mode" "$GUESTS/nosuch$bits.bin"
	is "$mode: a port that is not there" "$status" 1
	is "$mode: ...stops the guest" "$out" "before$NL"
	like "$mode: ...with a message that says all of it" "$err" \
		'a 2-byte write of 0xbeef to port 0x1234, which is not there'
done

# The expected bytes come from the test's own hand, not from simple-kvm.
{
	i=0
	while [ $i -lt 256 ]; do
		# shellcheck disable=SC2059 # the format is the byte
		printf "\\$(printf %03o $i)"
		i=$((i + 1))
	done
	awk 'BEGIN { for (l = 0; l < 256; l++) {
		for (i = 0; i < 63; i++)
			printf "%c", 32 + (l + i) % 64
		print "" } }'
} >"$T/want"
"$SIMPLE_KVM" -l "$GUESTS/bytes64.bin" >"$T/got"
succeeds 'all byte values, one by one' cmp "$T/got" "$T/want"
"$SIMPLE_KVM" -l "$GUESTS/bytes64.bin" | cat >"$T/got"
succeeds '...through a pipe' cmp "$T/got" "$T/want"

mebibyte() {
	awk 'BEGIN { for (n = 0; n < 256; n++) for (l = 0; l < 64; l++) {
		line = ""
		while (length(line) < 63)
			line = line sprintf("%c", 48 + l)
		if (l == 0)
			line = sprintf("%02x", n) substr(line, 3)
		print line } }'
}
if [ -n "${BACKEND:-}" ]; then
	skip '1 MiB' 'takes minutes on an emulated CPU'
else
	mebibyte >"$T/want"
	"$SIMPLE_KVM" -l "$GUESTS/mebibyte64.bin" >"$T/got"
	succeeds '1 MiB' cmp "$T/got" "$T/want"
	# A reader that takes odd pieces makes partial writes of ours.
	"$SIMPLE_KVM" -l "$GUESTS/mebibyte64.bin" | dd ibs=777 >"$T/got" \
		2>/dev/null
	succeeds '1 MiB to a slow reader' cmp "$T/got" "$T/want"
fi

# non_blocking: a pipe of one page as stdout, which takes a part of each write
# and gives EAGAIN to the next. (1031 is F_SETPIPE_SZ.)
non_blocking() {
	# shellcheck disable=SC2016 # perl's variables
	perl -e 'use Fcntl; pipe(R, W); fcntl(W, F_SETFL, O_NONBLOCK);
		fcntl(W, 1031, 4096);
		if (!fork) { close R; open STDOUT, ">&W"; exec @ARGV; }
		close W; print while <R>; wait; exit $? >> 8' \
		"$SIMPLE_KVM" -l "$GUESTS/mebibyte64.bin" >"$T/got" &&
		cmp "$T/got" "$T/want"
}
if [ -n "${BACKEND:-}" ] || ! command -v perl >/dev/null; then
	skip 'a non-blocking stdout' 'needs perl'
else
	succeeds 'a non-blocking stdout' non_blocking
fi

if [ -c /dev/full ]; then
	status=0
	"$SIMPLE_KVM" -l >/dev/full 2>"$T/err" || status=$?
	is '/dev/full: status' "$status" 3
	is '/dev/full: message, and no verdict' "$(cat "$T/err")" \
		'simple-kvm: write to standard output: No space left on device'
else
	skip '/dev/full' 'there is none'
fi
status=0
"$SIMPLE_KVM" -l >&- 2>"$T/err" || status=$?
is 'a closed stdout: status' "$status" 3
like 'a closed stdout: message' "$(cat "$T/err")" \
	'^simple-kvm: standard output: isatty: Bad file'

# The reader is gone before the run begins: it holds the FIFO only for the open.
mkfifo "$T/fifo"
: <"$T/fifo" &
{
	wait $!
	status=0
	"$SIMPLE_KVM" -l 2>"$T/err" || status=$?
} >"$T/fifo"
is 'a closed pipe: status' "$status" 3
like 'a closed pipe: message' "$(cat "$T/err")" \
	'^simple-kvm: write to standard output: Broken pipe'

"$SIMPLE_KVM" -l >"$T/both" 2>&1
like 'output comes before the verdict' "$(head -n 1 "$T/both")" Hello
like '...and the verdict after it' "$(tail -n 1 "$T/both")" expected

if ! command -v strace >/dev/null || ! command -v script >/dev/null; then
	skip 'few writes' 'needs strace and script'
	skip 'a line at a time to a terminal' 'needs strace and script'
else
	# The sanitizer's search for leaks does not work under ptrace.
	export ASAN_OPTIONS=detect_leaks=0
	strace -o "$T/trace" -e trace=write \
		"$SIMPLE_KVM" -l "$GUESTS/ports64.bin" >"$T/got"
	is 'few writes' "$(grep -c 'write(1,' "$T/trace")" 1
	script -qec "strace -o '$T/trace' -e trace=write \
		'$SIMPLE_KVM' -l '$GUESTS/ports64.bin'" /dev/null >"$T/got"
	is 'a line at a time to a terminal' \
		"$(grep -c 'write(1,' "$T/trace")" "$(wc -l <"$T/got")"
fi

done_testing

#!/bin/sh
# What the guest writes arrives on stdout byte for byte, all of it, in few
# writes and before simple-kvm's own words; when it cannot, the status says so.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm
once_a_backend

ports() {
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
		'^simple-kvm: the guest failed: KVM_EXIT_IO (2): '\
'a 2-byte write of 0xbeef to port 0x1234, which is not there$'
}
each_mode ports ports
# mov $-1, %eax; out %eax, $0xf4; hlt
printf '\146\270\377\377\377\377\146\347\364\364' >"$T/flat"
run -r "$T/flat"
is 'port 0xF4: of a word the lowest byte counts' "$status" 255

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
run -l "$GUESTS/bytes64.bin"
succeeds 'all byte values, one by one' cmp "$T/out" "$T/want"
limit "$SIMPLE_KVM" -l "$GUESTS/bytes64.bin" | cat >"$T/got"
succeeds '...through a pipe' cmp "$T/got" "$T/want"

# A pipe that has room for 4 KiB, and is read when its writer has waited there
# for some time, and ticks have come.
mkfifo "$T/fifo"
exec 3<>"$T/fifo"
dd if=/dev/zero bs=1024 count=60 >&3 2>/dev/null
with_pid "$SIMPLE_KVM" -l "$GUESTS/bytes64.bin" 3>&- >"$T/fifo" 2>"$T/err" &
until [ -s "$T/pid" ]; do sleep 0.01; done
read -r pid <"$T/pid"
# waits: how often it has waited.
waits() { sed -n 's/^voluntary.*[^0-9]//p' "/proc/$pid/status"; }
n=$(waits)
until [ "$(waits)" -gt $((n + 10)) ] || ! kill -0 "$pid"; do sleep 0.01; done \
	2>/dev/null
exec 4<"$T/fifo" 3>&-
tail -c +61441 <&4 >"$T/got"
exec 4<&-
wait $!
is 'a pipe with little room, and a late reader: status' \
	"$? $(cat "$T/err")" '0 '
succeeds '...and output' cmp "$T/got" "$T/want"
rm "$T/fifo"

lost='simple-kvm: write to standard output'
if [ -n "${BACKEND:-}" ]; then
	skip '160 KiB' 'takes minutes on an emulated CPU'
else
	awk 'BEGIN { while (n < 2560) printf "%063d\n", n++ }' >"$T/want"
	run -l "$GUESTS/numbers64.bin"
	succeeds '160 KiB' cmp "$T/out" "$T/want"
	# A reader that takes odd pieces makes partial writes of ours.
	limit "$SIMPLE_KVM" -l "$GUESTS/numbers64.bin" |
		dd ibs=777 >"$T/got" 2>/dev/null
	succeeds '160 KiB to a reader of odd pieces' cmp "$T/got" "$T/want"
fi

# non_blocking: a pipe of one page as stdout that gives EAGAIN when it is full,
# and that is read when simple-kvm has ended. (1031 is F_SETPIPE_SZ.)
non_blocking() {
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e 'use Fcntl; pipe(R, W); fcntl(W, F_SETFL, O_NONBLOCK);
		fcntl(W, 1031, 4096);
		if (!fork) { close R; open STDOUT, ">&W"; exec @ARGV; }
		close W; wait; $status = $? & 127 || $? >> 8;
		print while <R>; exit $status' \
		"$SIMPLE_KVM" -l "$GUESTS/numbers64.bin" >"$T/got" 2>"$T/err"
}
if [ -n "${BACKEND:-}" ] || ! command -v perl >/dev/null; then
	skip 'a non-blocking stdout that is full' 'needs perl'
else
	non_blocking
	is 'a non-blocking stdout that is full: status' "$?" 3
	is 'a non-blocking stdout that is full: message' "$(cat "$T/err")" \
		"$lost: Resource temporarily unavailable"
	# How much it takes is a matter of when it is flushed.
	size=$(wc -c <"$T/got")
	head -c "$size" "$T/want" >"$T/begin"
	succeeds 'a non-blocking stdout that is full: something arrived' \
		[ "$size" -gt 0 ]
	succeeds '...and that is right' cmp "$T/got" "$T/begin"
fi

if [ -c /dev/full ]; then
	status=0
	limit "$SIMPLE_KVM" -l >/dev/full 2>"$T/err" || status=$?
	is '/dev/full: status' "$status" 3
	is '/dev/full: message, and no verdict' "$(cat "$T/err")" \
		"$lost: No space left on device"
else
	skip '/dev/full' 'there is none'
fi
status=0
limit "$SIMPLE_KVM" -l >&- 2>"$T/err" || status=$?
is 'a closed stdout: status' "$status" 3
is 'a closed stdout: message' "$(cat "$T/err")" "$lost: Bad file descriptor"

# closed_pipe [SIGNAL]: the reader is gone before the run begins: it holds the
# FIFO only for the open. The signal is one that whoever starts it ignores.
mkfifo "$T/fifo"
closed_pipe() {
	: <"$T/fifo" &
	{
		wait $!
		status=0
		(
			[ $# = 0 ] || trap '' "$1"
			limit "$SIMPLE_KVM" -l 2>"$T/err"
		) || status=$?
	} >"$T/fifo"
}
closed_pipe PIPE
is 'a closed pipe, SIGPIPE ignored: status' "$status" 3
is 'a closed pipe, SIGPIPE ignored: message' "$(cat "$T/err")" \
	"$lost: Broken pipe"
status=0
# shellcheck disable=SC2016 # for that shell
sh -c 'kill -PIPE $$' || status=$?
if [ "$status" = 141 ]; then
	closed_pipe
	is 'a closed pipe: it ends as any program does' \
		"$status $(cat "$T/err")" '141 '
else
	skip 'a closed pipe' 'this test was started with SIGPIPE ignored'
fi

# stderr is a pipe here: the limit is for files.
if [ -n "${BACKEND:-}" ]; then
	skip 'a file that may not grow' 'takes minutes on an emulated CPU'
else
	err=$(ulimit -f 8
		limit "$SIMPLE_KVM" -l "$GUESTS/numbers64.bin" 2>&1 >"$T/got"
		echo "status $?")
	is 'a file that may not grow' "$err" "$lost: File too large${NL}status 3"
fi

limit "$SIMPLE_KVM" -l >"$T/both" 2>&1
like 'output comes before the verdict' "$(head -n 1 "$T/both")" Hello
like '...and the verdict after it' "$(tail -n 1 "$T/both")" expected
limit "$SIMPLE_KVM" -l "$GUESTS/ud64.bin" >"$T/both" 2>&1
is 'output comes before a report' "$(head -n 1 "$T/both")" before

if ! command -v strace >/dev/null || ! command -v script >/dev/null; then
	skip 'few writes' 'needs strace and script'
	skip 'a write for each line of a report' 'needs strace and script'
	skip 'a line at a time to a terminal' 'needs strace and script'
else
	# The timer does not run here: at its ticks it writes, too.
	no_ticks='-e trace=write,timer_settime -e inject=timer_settime:retval=0'
	# shellcheck disable=SC2086 # these are several words
	capture strace -o "$T/trace" $no_ticks \
		"$SIMPLE_KVM" -l "$GUESTS/ports64.bin"
	is 'few writes' "$(grep -c 'write(1,' "$T/trace")" 1
	lines=$(wc -l <"$T/out")
	# on_terminal REDIRECTION: print how many writes there are on a terminal,
	# but for what is redirected.
	on_terminal() {
		limit script -qec "strace -o '$T/trace' $no_ticks '$SIMPLE_KVM' \
			-l '$GUESTS/ports64.bin' $1" /dev/null >"$T/got"
		grep -c 'write(1,' "$T/trace"
	}
	is 'a line at a time to a terminal' "$(on_terminal '</dev/null')" "$lines"
	is 'few writes to a file, with stdin from a terminal' \
		"$(on_terminal ">'$T/file'")" 1
	# mov $0xe9, %dx; mov $16384, %cx; rep outsl; outsb; hlt
	printf '\272\351\0\271\0\100\146\363\157\156\364' >"$T/flat"
	# shellcheck disable=SC2086 # these are several words
	capture strace -f --seccomp-bpf -o "$T/trace" $no_ticks \
		"$SIMPLE_KVM" -r "$T/flat"
	is 'a write is for 64 KiB' "$(sed -n 's/.*write(1,.* = //p' "$T/trace" |
		tr '\n' ' ')" '65536 1 '
	traced write '' -l --trace "$GUESTS/ud64.bin"
	is 'a write for each line of a report' \
		"$(grep -c 'write(2,' "$T/trace")" "$(wc -l <"$T/err")"
fi

done_testing

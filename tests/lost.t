#!/bin/sh
# What the guest has written is there whatever ends the run; and where it cannot
# be written, to a full disk, a file that may not grow or a pipe that does not
# block, the status is 3, and the message tells the reason.
# backends: no (needs strace, perl and a ptrace program)
. "${0%/*}/lib.sh"
need_kvm
has_mode -l || skip_all 'this KVM does not have the mode -l'

# lost WHAT REASON: that this is how it ended, in one line.
lost() {
	is "$1: status" "$status" 3
	is "$1: why" "$(cat "$T/err")" \
		"simple-kvm: write to standard output: $2"
}

# ---------------------------------------------------- when KVM fails in the midst

if need_command strace 'KVM_RUN fails'; then
	# Each of its KVM_RUN calls but the first returns after one byte more.
	traced ioctl '' -l
	first=$(call_number ioctl KVM_RUN)
	for n in 0 1 6 14; do
		traced ioctl "ioctl:error=EIO:when=$((first + n))" -l
		is "KVM_RUN fails after $n bytes: status" "$status" 3
		is "KVM_RUN fails after $n bytes: why" "$err" \
			'simple-kvm: KVM_RUN: Input/output error'
		is "KVM_RUN fails after $n bytes: output" "$(cat "$T/out")" \
			"$(echo 'Hello, world!' | head -c $n)"
	done
fi

# While it writes what it has, to a pipe that is full for a while, ticks come.
# They do not change why it failed.
if need_command strace 'KVM_RUN fails, and the output is read late' &&
	need_command perl 'KVM_RUN fails, and the output is read late'
then
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e 'use Fcntl; pipe R, W; fcntl W, F_SETFL, O_NONBLOCK;
		while (syswrite W, "x") { }
		fcntl W, F_SETFL, 0;
		if (!fork) { open STDOUT, ">&W"; exec @ARGV; }
		close W;
		select undef, undef, undef, 0.3;
		while (<R>) { s/^x+//; print }' \
		strace -o "$T/trace" -e trace=ioctl \
		-e inject="ioctl:error=EIO:when=$((first + 6))" \
		"$SIMPLE_KVM" -l -t 100 >"$T/out" 2>"$T/err"
	is 'KVM_RUN fails, and the output is read late: output' \
		"$(cat "$T/out")" 'Hello,'
	is 'KVM_RUN fails, and the output is read late: why' \
		"$(cat "$T/err")" 'simple-kvm: KVM_RUN: Input/output error'
fi

# The same with bytes in the ring of --coalesce, which only a KVM_RUN can leave
# there: each that would succeed fails. Before that, once, it is interrupted,
# and the flush with it.
run -l -c --stats
case $err in
*KVM_EXIT_IO*) skip 'bytes in the ring' 'this KVM has no coalesced PIO' ;;
*)
	capture "$TESTS/tamper" fail-run "$SIMPLE_KVM" -l -c
	is 'KVM_RUN fails, bytes in the ring: output' "$out" "Hello, world!$NL"
	is 'KVM_RUN fails, bytes in the ring: why, and status' "$err" \
		"simple-kvm: KVM_RUN: Input/output error${NL}tamper: exit 3"
	limit "$TESTS/tamper" fail-run "$SIMPLE_KVM" -l -c \
		>/dev/full 2>"$T/err"
	is 'KVM_RUN fails, and so does the output' "$(cat "$T/err")" \
		"simple-kvm: write to standard output: No space left on device
tamper: exit 3" ;;
esac

# --------------------------------------------------- when it cannot all be written

# writes BYTES: make a guest of real mode that writes as many: words of four bytes
# by one rep outsl, and the rest by a rep outsb.
writes() {
	# mov $0xe9, %dx; mov $COUNT, %cx; rep outsl; mov $COUNT, %cx; rep outsb; hlt
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\272\\351\\0$(count $(($1 / 4)))\\146\\363\\157" >"$T/writes.bin"
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$(count $(($1 % 4)))\\363\\156\\364" >>"$T/writes.bin"
}
count() { printf '\\271\\%03o\\%03o' $(($1 % 256)) $(($1 / 256)); }

if [ -c /dev/full ]; then
	# Nothing; little; what may be a buffer's size, and a byte less and more.
	writes 0
	limit "$SIMPLE_KVM" -r "$T/writes.bin" >/dev/full 2>"$T/err"
	is 'nothing to /dev/full' "$? $(cat "$T/err")" '0 '
	for n in 1 4096 4097 65535 65536 65537 ${FULL:+131073}; do
		writes "$n"
		run -r "$T/writes.bin"
		is "the guest writes $n bytes" "$status $(wc -c <"$T/out")" "0 $n"
		status=0
		limit "$SIMPLE_KVM" -r "$T/writes.bin" >/dev/full 2>"$T/err" ||
			status=$?
		lost "$n bytes to /dev/full" 'No space left on device'
	done
	# However it ends.
	for end in exit64 ud64 nosuch64; do
		status=0
		limit "$SIMPLE_KVM" -l "$GUESTS/$end.bin" >/dev/full 2>"$T/err" ||
			status=$?
		lost "$end to /dev/full" 'No space left on device'
	done
	status=0
	limit "$SIMPLE_KVM" -l -t 20 "$GUESTS/prompt64.bin" >/dev/full 2>"$T/err" ||
		status=$?
	lost 'a prompt to /dev/full, at a tick' 'No space left on device'
	for option in --help -h --version; do
		status=0
		limit "$SIMPLE_KVM" $option >/dev/full 2>"$T/err" || status=$?
		is "$option to /dev/full: status" "$status" 3
	done
	# What nobody can read does not change how it ended.
	status=0
	limit "$SIMPLE_KVM" -l "$GUESTS/ud64.bin" >"$T/out" 2>/dev/full || status=$?
	is 'a report to /dev/full: status' "$status" 1
	is 'a report to /dev/full: output' "$(cat "$T/out")" before
else
	skip '/dev/full' 'there is none'
fi

# A full disk that has room again later: what was lost in between is lost. (The
# timer does not run here, so that it is stdio that writes, when its buffer is
# full.)
if need_command strace 'one write that fails'; then
	writes 65537
	capture strace -f --seccomp-bpf -o "$T/trace" \
		-e trace=write,timer_settime \
		-e inject=timer_settime:retval=0 \
		-e inject=write:error=ENOSPC:when=1 \
		"$SIMPLE_KVM" -r "$T/writes.bin"
	lost 'one write that fails' 'No space left on device'
fi

# limited BLOCKS ARGUMENT...: print the messages, and the status after them, of a
# run whose stdout is a file that may have so many blocks.
limited() (
	# shellcheck disable=SC3045 # or it is not needed
	ulimit -c 0 2>/dev/null
	ulimit -f "$1"
	shift
	limit "$SIMPLE_KVM" "$@" >"$T/out"
	echo "status $?"
)
too_large='simple-kvm: write to standard output: File too large
status 3'
is 'ulimit -f 0' "$(limited 0 -l 2>&1)" "$too_large"
is 'ulimit -f 0, at a tick' \
	"$(limited 0 -l -t 20 "$GUESTS/prompt64.bin" 2>&1)" "$too_large"
is 'ulimit -f 1' "$(limited 1 -l "$GUESTS/numbers64.bin" 2>&1)" "$too_large"

# non_blocking ROOM ARGUMENT...: with stdout a pipe that does not block, and that
# has room for so many bytes, which nobody reads.
non_blocking() {
	status=0
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e 'use Fcntl; $room = shift;
		pipe R, W; fcntl R, F_SETFD, 0; fcntl W, F_SETFL, O_NONBLOCK;
		while (syswrite W, "x" x 4096) { }
		sysread R, $_, $room if $room;
		open STDOUT, ">&W"; exec @ARGV' "$@" 2>"$T/err" || status=$?
}
again='Resource temporarily unavailable'
if command -v perl >/dev/null; then
	non_blocking 0 "$SIMPLE_KVM" -l
	lost 'a full pipe that does not block' "$again"
	non_blocking 4096 "$SIMPLE_KVM" -l
	is '...with room: status' "$status" 0
	for n in 0 4096 61440; do
		non_blocking $n "$SIMPLE_KVM" -l "$GUESTS/numbers64.bin"
		lost "...with room for $n of 160 KiB" "$again"
	done
	writes 65536
	non_blocking 61440 "$SIMPLE_KVM" -r "$T/writes.bin"
	lost '...with room for all but a page' "$again"
	non_blocking 0 "$SIMPLE_KVM" -l -t 20 "$GUESTS/prompt64.bin"
	lost '...at a tick' "$again"
	non_blocking 0 "$SIMPLE_KVM" -l -c -t 20 "$GUESTS/prompt64.bin"
	lost '...with --coalesce' "$again"
	non_blocking 0 "$SIMPLE_KVM" -l "$GUESTS/ud64.bin"
	lost '...and a guest that fails' "$again"
else
	skip 'a pipe that does not block' 'needs perl'
fi

done_testing

#!/bin/sh
# A guest that never ends is stopped by --timeout, SIGINT or SIGTERM: with the
# status that says which, its output, and a report of where it was.
# backends: yes
. "${0%/*}/lib.sh"

# refused VALUE: no time that --timeout can take.
refused() {
	run -t "$1"
	is "--timeout '$1': status" "$status" 2
	like "--timeout '$1': message" "$err" '^simple-kvm: --timeout takes'
}
for value in '' 0 0.0 -1 1x inf nan . 1.2.3 '1 ' 1e10 99999999999; do
	refused "$value"
done
need_kvm

# Whatever strtod() takes is a number.
for value in 1000 1e3 0x10 1000000000; do
	run -l --timeout $value
	is "a guest that ends in $value s: status" "$status" 0
done

# A loop with interrupts off stops the whole PC that Bochs emulates.
[ "${BACKEND:-}" != vmx ] || { done_testing; exit; }

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: --timeout" || continue
	run $mode -t 0.2 "$GUESTS/spin$bits.bin"
	is "$mode --timeout: status" "$status" 124
	is "$mode --timeout: output" "$out" "spinning$NL"
	like "$mode --timeout: message" "$err" \
		'^simple-kvm: the guest stopped: its time is over (--timeout)$'
	like "$mode --timeout: where it was" "$err" \
		'^simple-kvm: at address 0x80[0-9a-f]* (the image): eb fe '
	like "$mode --timeout: registers" "$err" '^simple-kvm:   RIP 0'
done

# Less than the clock counts is still a time.
status=0
timeout -s KILL 60 "$SIMPLE_KVM" -l -t 1e-12 "$GUESTS/spin64.bin" \
	>"$T/out" 2>"$T/err" || status=$?
is 'the least --timeout: status' "$status" 124

run -l -t 0.2 "$GUESTS/endless64.bin"
is 'an endless print: status' "$status" 124
is 'an endless print: nothing but its lines' \
	"$(sed '$d' "$T/out" | sort -u)" 'and on'

# With nobody who reads, the output cannot be written, but the run still ends: a
# second later, and without its report, since output comes first.
mkfifo "$T/fifo"
exec 3<>"$T/fifo"
dd if=/dev/zero bs=1024 count=64 >&3 2>/dev/null # as much as it holds
status=0
timeout -s KILL 60 "$SIMPLE_KVM" -l -t 0.2 --stats "$GUESTS/endless64.bin" \
	>"$T/fifo" 2>"$T/err" || status=$?
is 'output that nobody reads: status, and nothing else' \
	"$status $(cat "$T/err")" '124 '
exec 3>&-

# stopped STATUS SIGNAL...: a guest that prints gets these signals, in a row.
# Its first line says that it runs. simple-kvm is in the foreground, for what a
# shell starts in the background ignores SIGINT; $prepare is run before it.
prepare=:
stopped() {
	want=$1
	shift
	rm -f "$T/fifo"
	mkfifo "$T/fifo"
	{
		head -n 1 >"$T/line"
		for signal; do
			kill -"$signal" "$(cat "$T/pid")"
		done
		cat >/dev/null
	} <"$T/fifo" &
	status=0
	# shellcheck disable=SC2016 # for that shell
	timeout -s KILL 60 sh -c "$prepare"'; echo $$ >"$0"; exec "$@"' "$T/pid" \
		"$SIMPLE_KVM" -l "$GUESTS/endless64.bin" \
		>"$T/fifo" 2>"$T/err" || status=$?
	wait $!
	is "SIG$*: its output" "$(cat "$T/line")" 'and on'
	is "SIG$*: status" "$status" "$want"
}
# reported WHAT: why it was stopped, and where.
reported() {
	is "$1: message" "$(head -n 1 "$T/err")" \
		"simple-kvm: the guest stopped: $1"
	like "$1: registers" "$(cat "$T/err")" '^simple-kvm:   RIP 0*80'
}
stopped 143 TERM
reported Terminated
# Bit 1 of the signals that are ignored, as they are in hexadecimal.
case $(sed -n 's/^SigIgn:.*\(.\)$/\1/p' /proc/self/status) in
[014589cd])
	stopped 130 INT
	reported Interrupt ;;
*)
	skip 'SIGINT' 'this test was started with SIGINT ignored' ;;
esac
prepare="trap '' INT"
stopped 143 INT TERM
reported Terminated

# A signal between the set-up and KVM_RUN: strace delivers it right after a call
# in between, when it is caught already.
if command -v strace >/dev/null && [ -z "${BACKEND:-}" ]; then
	status=0
	timeout -s KILL 20 strace -o "$T/trace" -e trace=timer_settime,ioctl \
		-e inject=timer_settime:signal=TERM:when=1 \
		"$SIMPLE_KVM" -l "$GUESTS/spin64.bin" >"$T/out" 2>"$T/err" ||
		status=$?
	is 'a signal before KVM_RUN came when it should' \
		"$(sed -n -e 's/.*\(KVM_RUN\), 0.*/\1/p' \
		-e 's/^--- \(SIGTERM\) .*/\1/p' "$T/trace" | head -n 2)" \
		"SIGTERM${NL}KVM_RUN"
	is 'a signal before KVM_RUN is not lost' "$status" 143
else
	skip 'a signal before KVM_RUN' 'needs strace'
fi

done_testing

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

stopped_in() {
	run_for_a_time "$mode" "$GUESTS/spin$bits.bin"
	is "$mode --timeout: status" "$status" 124
	is "$mode --timeout: output" "$out" "spinning$NL"
	like "$mode --timeout: message" "$err" \
		'^simple-kvm: the guest stopped: its time is over (--timeout)$'
	like "$mode --timeout: where it was" "$err" \
		'^simple-kvm: at address 0x80[0-9a-f]* (the image): \(90 eb\|eb fd\) '
	like "$mode --timeout: registers" "$err" '^simple-kvm: .*  RIP 0'
}
each_mode --timeout stopped_in

# Less than the clock counts is still a time.
run -l -t 1e-12 "$GUESTS/spin64.bin"
is 'the least --timeout: status' "$status" 124

run_for_a_time -l "$GUESTS/endless64.bin"
is 'an endless print: status' "$status" 124
is 'an endless print: nothing but its lines' \
	"$(sed '$d' "$T/out" | sort -u)" 'and on'

# With nobody who reads, the output cannot be written, but the run still ends: a
# second later, and without its report, since output comes first.
mkfifo "$T/fifo"
exec 3<>"$T/fifo"
dd if=/dev/zero bs=1024 count=64 >&3 2>/dev/null # as much as it holds
status=0
limit "$SIMPLE_KVM" -l -t 0.2 --stats "$GUESTS/endless64.bin" \
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
			pid=$(cat "$T/pid")
			kill -"$signal" "$pid"
			# Until it has come, or is ignored.
			while grep -q 'Pnd:.*[1-9a-f]' "/proc/$pid/status"
			do sleep 0.01; done 2>/dev/null
		done
		cat >/dev/null
	} <"$T/fifo" &
	status=0
	# shellcheck disable=SC2016 # for that shell
	limit sh -c "$prepare"'; echo $$ >"$0"; exec "$@"' "$T/pid" \
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
	like "$1: registers" "$(cat "$T/err")" '^simple-kvm: .*  RIP 0*80'
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

# What follows has strace to make sure when a signal comes.
need_command strace 'a signal at a certain time' || { done_testing; exit; }

# A signal between the set-up and KVM_RUN: strace delivers it right after a call
# in between, when it is caught already. This does not start the timer, whose
# ticks would interrupt KVM_RUN soon.
traced timer_settime,ioctl timer_settime:retval=0:signal=TERM \
	-l "$GUESTS/spin64.bin"
is 'a signal before KVM_RUN came when it should' \
	"$(sed -n -e 's/.*\(KVM_RUN\), 0.*/\1/p' \
	-e 's/^--- \(SIGTERM\) .*/\1/p' "$T/trace" | head -n 2)" \
	"SIGTERM${NL}KVM_RUN"
is 'a signal before KVM_RUN is not lost' "$status $(head -n 1 "$T/err")" \
	'143 simple-kvm: the guest stopped: Terminated'

# traces N PATTERN: wait until the trace has so many lines that match, or nobody
# writes it any more.
traces() {
	until [ "$(grep -c "$2" "$T/trace")" -ge "$1" ] || ! kill -0 $strace
	do sleep 0.01; done 2>/dev/null
}

# late TICKS: stop a guest whose output nobody reads, let so many ticks pass,
# and only then read it. The ticks are ours: strace lets no timer run. Before, there
# are more, which do not count; and after the signal there are others, which
# change nothing. $status is the status; the rest is in $T/got and $T/err.
late() {
	rm -f "$T/fifo" "$T/trace"
	mkfifo "$T/fifo"
	exec 3<>"$T/fifo"
	dd if=/dev/zero bs=1024 count=64 >&3 2>/dev/null # as much as it holds
	# shellcheck disable=SC2016 # for that shell
	limit strace -o "$T/trace" -e trace=ioctl,timer_settime \
		-e inject=timer_settime:retval=0 \
		sh -c 'echo $$ >"$0"; exec "$@"' "$T/pid" \
		"$SIMPLE_KVM" -l --stats "$GUESTS/prompt64.bin" \
		3>&- >"$T/fifo" 2>"$T/err" &
	strace=$!
	traces 8 'KVM_RUN, 0) *= 0' # a byte each; then it spins
	tick 51 51
	signal TERM
	tick 25 76
	signal INT
	tick $(($1 - 25)) $((51 + $1))
	exec 4<"$T/fifo" 3>&-
	cat <&4 >"$T/got"
	exec 4<&-
	status=0
	wait $strace || status=$?
}
signal() {
	kill -"$1" "$(cat "$T/pid")"
	traces 1 "^--- SIG$1 "
}
tick() {
	for _ in $(seq "$1"); do
		kill -34 "$(cat "$T/pid")" # SIGRTMIN
	done 2>/dev/null
	traces "$2" '^--- SIGRT_2 '
}
late 50
is 'read within a second: all of the output' \
	"$(wc -c <"$T/got") $(tail -c 8 "$T/got")" '65544 prompt> '
is '...status and message are of the first signal' \
	"$status $(head -n 1 "$T/err")" \
	'143 simple-kvm: the guest stopped: Terminated'
like '...the whole report' "$(cat "$T/err")" '^simple-kvm:   stack, from 0x'
is '...and --stats' "$(tail -n 1 "$T/err")" 'simple-kvm: KVM_EXIT_IO: 8'
late 51
is 'read later than that: nothing but the status' "$status $(cat "$T/err")" \
	'143 '

done_testing

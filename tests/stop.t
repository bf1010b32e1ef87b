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
for value in '' 0 0.0 -1 1x 1e3 0x10 inf nan . 1.2.3 ' 1' 99999999999; do
	refused "$value"
done
need_kvm

run -l --timeout 1000
is 'a guest that ends in time: status' "$status" 0

# A loop with interrupts off stops the whole PC that Bochs emulates.
[ "${BACKEND:-}" != vmx ] || { done_testing; exit; }

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: --timeout" || continue
	run $mode -t 0.2 "$GUESTS/spin$bits.bin"
	is "$mode --timeout: status" "$status" 124
	is "$mode --timeout: output" "$out" "spinning$NL"
	like "$mode --timeout: message" "$err" \
		'^simple-kvm: the guest stopped: its time is over (--timeout)'
	like "$mode --timeout: where it was" "$err" \
		'at address 0x80.*in the image;.*: eb fe '
	like "$mode --timeout: registers" "$err" '^simple-kvm:   RIP 0'
done

run -l -t 0.2 "$GUESTS/endless64.bin"
is 'an endless print: status' "$status" 124
is 'an endless print: nothing but its lines' \
	"$(sed '$d' "$T/out" | sort -u)" 'and on'

# With nobody who reads, the output cannot be written, but the run still ends.
mkfifo "$T/fifo"
exec 3<>"$T/fifo"
dd if=/dev/zero bs=1024 count=64 >&3 2>/dev/null # as much as it holds
status=0
"$SIMPLE_KVM" -l -t 0.2 "$GUESTS/endless64.bin" >"$T/fifo" 2>"$T/err" ||
	status=$?
is 'output that nobody reads: status' "$status" 124
like 'output that nobody reads: message' "$(cat "$T/err")" \
	'^simple-kvm: nobody reads the output: [0-9]* bytes of it are lost'
exec 3>&-

# stopped SIGNAL STATUS: a guest that prints is stopped by the signal. Its first
# line says that it runs; simple-kvm is the child of a subshell, for its status.
stopped() {
	rm -f "$T/fifo"
	mkfifo "$T/fifo"
	(
		"$SIMPLE_KVM" -l "$GUESTS/endless64.bin" >"$T/fifo" \
			2>"$T/err" &
		echo $! >"$T/pid"
		status=0
		wait $! || status=$?
		echo $status >"$T/status"
	) &
	{
		read -r line
		kill -"$1" "$(cat "$T/pid")"
		cat >/dev/null
	} <"$T/fifo"
	wait $!
	is "SIG$1: its output" "$line" 'and on'
	is "SIG$1: status" "$(cat "$T/status")" "$2"
	like "SIG$1: message" "$(cat "$T/err")" "the guest stopped: signal"
	like "SIG$1: registers" "$(cat "$T/err")" 'RIP'
}
stopped TERM 143
stopped INT 130

# A signal between the set-up and KVM_RUN: strace delivers it right after the
# last call before the first KVM_RUN.
if command -v strace >/dev/null && [ -z "${BACKEND:-}" ]; then
	status=0
	timeout 20 strace -o "$T/trace" -e trace=rt_sigaction \
		-e inject=rt_sigaction:signal=TERM:when=4 \
		"$SIMPLE_KVM" -l "$GUESTS/spin64.bin" >"$T/out" 2>"$T/err" ||
		status=$?
	succeeds 'a signal before KVM_RUN came when it should' \
		grep -q 'SIGALRM.*INJECTED\|--- SIGTERM' "$T/trace"
	is 'a signal before KVM_RUN is not lost' "$status" 143
else
	skip 'a signal before KVM_RUN' 'needs strace'
fi

done_testing

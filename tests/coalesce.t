#!/bin/sh
# --coalesce changes how many exits output costs, and nothing else: the bytes,
# their order, the status, and that output appears while the guest runs.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm
once_a_backend

# exits: the lines of --stats that count them, as one.
exits() { sed -n 's/^simple-kvm: KVM_EXIT_//p' "$T/err" | tr '\n' ' '; }

run -l -c --stats
is 'the built-in guest: status' "$status" 0
is 'the built-in guest: output' "$out" "Hello, world!$NL"
counts=$(exits)
run -l -c -v
like 'KVM is asked whether it can' "$err" '^simple-kvm: KVM_CHECK_EXTENSION = '
case $err in
*'KVM_CHECK_EXTENSION = 0'*) skip_all 'this KVM has no coalesced PIO' ;;
esac
is 'no exit for its output' "$counts" 'HLT: 1 '
run -l --stats
is '...but for each byte without --coalesce' "$(exits)" 'IO: 14 HLT: 1 '

coalesced() {
	# Single bytes go to the ring, the others and COM1 do not.
	for guest in bytes ports exit ud; do
		limit "$SIMPLE_KVM" "$mode" "$GUESTS/$guest$bits.bin" >"$T/want" \
			2>"$T/err"
		want=$?
		limit "$SIMPLE_KVM" "$mode" -c "$GUESTS/$guest$bits.bin" >"$T/got" \
			2>"$T/err"
		is "$mode $guest: the same status" "$?" "$want"
		succeeds "$mode $guest: the same output" cmp "$T/got" "$T/want"
	done
}
each_mode coalesced coalesced

if [ -z "${BACKEND:-}" ]; then
	awk 'BEGIN { while (n < 2560) printf "%063d\n", n++ }' >"$T/want"
	run -l --coalesce "$GUESTS/numbersb64.bin"
	succeeds '160 KiB, a byte at a time' cmp "$T/out" "$T/want"
else
	skip '160 KiB, a byte at a time' 'takes minutes on an emulated CPU'
fi

run -l -c --trace
is 'not with --trace, which shows each exit' \
	"$(grep -c ': exit ' "$T/err")" 15
run -l -c --step --stats
like 'nor with --step' "$(exits)" 'IO: 14 DEBUG: '

# A loop with interrupts off stops the whole PC that Bochs emulates.
if [ "${BACKEND:-}" = vmx ]; then
	skip 'a guest that prints and spins' 'it would stop Bochs'
else
	run_for_a_time -l -c "$GUESTS/spin64.bin"
	is 'a guest that prints and spins: status' "$status" 124
	is 'a guest that prints and spins: output' "$out" "spinning$NL"

	# The output comes while the guest runs, so that we can stop it.
	mkfifo "$T/fifo"
	with_pid "$SIMPLE_KVM" -l -c "$GUESTS/spin64.bin" >"$T/fifo" 2>"$T/err" &
	read -r line <"$T/fifo"
	is 'its output appears while it spins' "$line" spinning
	kill "$(cat "$T/pid")"
	wait $!
	is '...and a signal stops it' "$?" 143
	like '...with a report' "$(cat "$T/err")" 'the guest stopped: Terminated$'
fi

if need_command strace 'a KVM that cannot'; then
	# The one asks for a ring at all, the other for one of ports.
	for which in 1 2; do
		traced ioctl '' -l -c
		number=$(call_number ioctl KVM_CHECK_EXTENSION $which)
		traced ioctl "ioctl:retval=0:when=$number" -l -c --stats
		is "a KVM that cannot, $which: status" "$status" 0
		is "a KVM that cannot, $which: output" "$out" "Hello, world!$NL"
		is "a KVM that cannot, $which: exits" "$(exits)" \
			'IO: 14 HLT: 1 '
		is "a KVM that cannot, $which: nothing more to say" \
			"$(grep -cv ': KVM_' "$T/err")" 1
	done
fi

done_testing

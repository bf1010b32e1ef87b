#!/bin/sh
# --coalesce changes how many exits output costs, and nothing else: the bytes,
# their order, the status, and that output appears while the guest runs.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

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

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: coalesced" || continue
	# Single bytes go to the ring, the others and COM1 do not.
	for guest in bytes ports exit ud; do
		"$SIMPLE_KVM" "$mode" "$GUESTS/$guest$bits.bin" >"$T/want" \
			2>"$T/err"
		want=$?
		"$SIMPLE_KVM" "$mode" -c "$GUESTS/$guest$bits.bin" >"$T/got" \
			2>"$T/err"
		is "$mode $guest: the same status" "$?" "$want"
		succeeds "$mode $guest: the same output" cmp "$T/got" "$T/want"
	done
done

if [ -z "${BACKEND:-}" ]; then
	"$SIMPLE_KVM" -l "$GUESTS/mebibyte64.bin" >"$T/want"
	"$SIMPLE_KVM" -l --coalesce "$GUESTS/mebioutsb64.bin" >"$T/got"
	succeeds '1 MiB, a byte at a time' cmp "$T/got" "$T/want"
else
	skip '1 MiB, a byte at a time' 'takes minutes on an emulated CPU'
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
	run -l -c -t 0.2 "$GUESTS/spin64.bin"
	is 'a guest that prints and spins: status' "$status" 124
	is 'a guest that prints and spins: output' "$out" "spinning$NL"

	# The output comes while the guest runs, so that we can stop it.
	mkfifo "$T/fifo"
	"$SIMPLE_KVM" -l -c "$GUESTS/spin64.bin" >"$T/fifo" 2>"$T/err" &
	pid=$!
	read -r line <"$T/fifo"
	is 'its output appears while it spins' "$line" spinning
	kill $pid
	wait $pid
	is '...and a signal stops it' "$?" 143
	like '...with a report' "$(cat "$T/err")" 'the guest stopped: Terminated$'
fi

if command -v strace >/dev/null && [ -z "${BACKEND:-}" ]; then
	export ASAN_OPTIONS=detect_leaks=0
	# The one asks for a ring at all, the other for one of ports.
	for which in 1 2; do
		status=0
		number=$(strace -e trace=ioctl "$SIMPLE_KVM" -l -c 2>&1 \
			>"$T/out" | grep '^ioctl' | grep -n CHECK_EXT |
			sed -n "${which}s/:.*//p")
		strace -o "$T/trace" -e trace=ioctl \
			-e inject="ioctl:retval=0:when=$number" \
			"$SIMPLE_KVM" -l -c --stats >"$T/out" 2>"$T/err" ||
			status=$?
		is "a KVM that cannot, $which: status" "$status" 0
		is "a KVM that cannot, $which: output" "$(cat "$T/out")" \
			'Hello, world!'
		is "a KVM that cannot, $which: exits" "$(exits)" \
			'IO: 14 HLT: 1 '
		is "a KVM that cannot, $which: nothing more to say" \
			"$(grep -cv ': KVM_' "$T/err")" 1
	done
else
	skip 'a KVM that cannot coalesce' 'needs strace'
fi

done_testing

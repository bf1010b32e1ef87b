#!/bin/sh
# --coalesce changes how many exits output costs, and nothing else: the bytes,
# their order, the status, and that output appears while the guest runs.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

run -l -c --stats
is 'the built-in guest: status' "$status" 0
is 'the built-in guest: output' "$out" "Hello, world!$NL"
case $err in
*'does not coalesce'*) skip_all 'this KVM has no coalesced PIO' ;;
esac
like 'no exit for its output' "$err" 'I/O exits: 0 out, 0 in'

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
run -l -c --step
is 'nor with --step' "$(grep -c 'step: .*: e6 e9' "$T/err")" 14

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
fi

if command -v strace >/dev/null && [ -z "${BACKEND:-}" ]; then
	export ASAN_OPTIONS=detect_leaks=0
	status=0
	# The third KVM_CHECK_EXTENSION asks for coalesced PIO.
	number=$(strace -e trace=ioctl "$SIMPLE_KVM" -l -c 2>&1 >"$T/out" |
		grep '^ioctl' | grep -n CHECK_EXT | sed -n '3s/:.*//p')
	strace -o "$T/trace" -e inject="ioctl:retval=0:when=$number" \
		"$SIMPLE_KVM" -l -c >"$T/out" 2>"$T/err" || status=$?
	is 'a KVM that cannot: status' "$status" 0
	is 'a KVM that cannot: output' "$(cat "$T/out")" 'Hello, world!'
	like 'a KVM that cannot: is told' "$(cat "$T/err")" \
		'^simple-kvm: this KVM does not coalesce'
else
	skip 'a KVM that cannot coalesce' 'needs strace'
fi

done_testing

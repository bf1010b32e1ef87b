#!/bin/sh
# A guest of one's own runs, from a flat or an ELF file, in as much RAM as was
# asked for; and whatever cannot be loaded is refused with status 2 and its own
# message, before anything runs.
# backends: yes
. "${0%/*}/lib.sh"

# refused PATTERN ARGUMENT...: status 2, and a message that matches.
refused() {
	pattern=$1
	shift
	run "$@"
	is "${what:-$*}: refused" "$status" 2
	like "${what:-$*}: why" "$err" "$pattern"
}

what=
for size in '' 0 12q 4T -1 1.5M 1020K 1023K 3145729K 3145732K 4G 1048577 99999999999999999999 \
	18014398509481985K 18014398509484032K 17592186044418M 17179869185G -18446744073707454464 \
	2MM M 0x200000 2M1 '2 M' 2m; do
	refused '^simple-kvm: --memory takes 1M to 3G, a multiple of 4K$' \
		-m "$size"
done
need_kvm
once_a_backend

# What their headers may say is in elf.t.
elf=$GUESTS/regs64.elf
run "$elf"
is 'a 64-bit file without an option: runs in long mode' "$status" 0
like '...which EFER tells' "$out" '^EFER=00000500$'
run -l "$elf"
is 'a 64-bit file with -l' "$status" 0

# A file, and what can only be read once: the output is the same, and so is that
# of a large image, which a pipe hands over in many parts.
printf '\351\0\0\023\0' >"$T/flat" # jmp to 1,245,189 bytes on: OUT and HLT
dd if=/dev/zero bs=1024 count=1216 2>/dev/null >>"$T/flat"
printf '\260\053\346\351\364' >>"$T/flat"
mkfifo "$T/image"
run "$elf"
printf '%s' "${out%X}" >"$T/want"
for kind in elf flat; do
	case $kind in
	elf) file=$elf ;;
	flat) file=$T/flat; printf + >"$T/want" ;;
	esac
	for from in file stdin pipe FIFO; do
		status=0
		# shellcheck disable=SC2002 # a pipe is what is tested
		case $from in
		file) limit "$SIMPLE_KVM" -l "$file" ;;
		stdin) limit "$SIMPLE_KVM" -l /dev/stdin <"$file" ;;
		pipe) cat "$file" | limit "$SIMPLE_KVM" -l /dev/stdin ;;
		FIFO)
			hand_over "$file" "$T/image" &
			limit "$SIMPLE_KVM" -l "$T/image"
			;;
		esac >"$T/out" || status=$?
		is "an image of kind $kind: $from" "$status" 0
		succeeds '...which prints the same' cmp "$T/out" "$T/want"
	done
done
wait

run "$GUESTS/regs32.elf"
is 'a 32-bit file without an option: runs in protected mode' "$status" 0
like '...which CR0 tells' "$out" '^CR0=00000031$'
if need_mode -p 'a 32-bit file with -p'; then
	run -p "$GUESTS/regs32.elf"
	like 'a 32-bit file with -p' "$out" '^CR0=80050033$'
fi
run -r "$GUESTS/regs16.elf"
like 'a 32-bit file with -r, for real mode' "$out" '^CR0=60000010$'

# All RAM is there and mapped, and the stack is at its end.
for size in 1M:0001 2097152:0002 5M:0005 3G:0c00 1049600K:0401; do
	for pair in -s32 -p32 -l64; do
		mode=${pair%??} bits=${pair#??}
		need_mode "$mode" "$mode -m ${size%:*}" || continue
		run "$mode" --memory "${size%:*}" "$GUESTS/top$bits.bin"
		is "$mode -m ${size%:*}" "$out" "${size#*:}$NL"
	done
done
run -r -m 3G
is 'real mode has its RAM, too' "$status" 0
{ printf '\364'; dd if=/dev/zero bs=1024 count=4096 2>/dev/null; } >"$T/4m"
what='an image larger than RAM'
refused "^simple-kvm: $T/4m: it ends at 0x408001, beyond 0x1ff000: try -m 5M\$" -l "$T/4m"
run -l -m 5M "$T/4m"
is '...which would do' "$status $err" '0 '
# A file that does not fit is not even read: it takes no time.
dd if=/dev/null of="$T/3g" bs=1048576 seek=3072 2>/dev/null
what='a file of 3 GiB'
refused "^simple-kvm: $T/3g: it ends at 0xc0008000, beyond 3 GiB\$" -l "$T/3g"
if need_command strace '...and it is not read'; then
	traced read,pread64 '' -l -m 3G "$T/3g"
	is '...and it is not read' "$(grep -c '= [0-9]\{5,\}$' "$T/trace")" 0
fi
what='an image without end'
refused '^simple-kvm: /dev/zero: it does not fit: see --memory$' \
	-l /dev/zero
what='...in real mode'
refused '^simple-kvm: /dev/zero: it does not fit: see --memory$' -r /dev/zero
# rss ARGUMENT...: the most memory that was resident in such a run, in KiB, when
# the guest has said that it spins.
rss() {
	with_pid "$SIMPLE_KVM" -l "$@" "$GUESTS/spin64.bin" >"$T/fifo" 2>"$T/err" &
	head -n 1 <"$T/fifo" >"$T/line"
	pid=$(cat "$T/pid")
	sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$pid/status"
	kill "$pid"
	wait $!
}
if [ "${BACKEND:-}" = vmx ]; then
	skip 'RAM that is not touched' 'a loop without interrupts stops Bochs'
else
	mkfifo "$T/fifo"
	small=$(rss) large=$(rss -m 3G)
	succeeds "RAM that is not touched costs nothing: $small, $large KiB" \
		[ "$large" -lt $((small + 1024)) ]
fi

run -l "$GUESTS/cpuid64.bin"
is "CPUID shows the host's vendor" "$(head -n 1 "$T/out")" \
	"$(sed -n 's/^vendor_id[^:]*: //p' /proc/cpuinfo | head -n 1)"
like '...and its features' "$out" '^sse2$'
like '...but not VMX' "$out" '^no vmx$'
like '...nor SVM' "$out" '^no svm$'
# Not every host has these: strace can make KVM say that there are all features.
if [ -z "${BACKEND:-}" ] && strace --help 2>/dev/null | grep -q poke_exit; then
	traced ioctl '' -l "$GUESTS/cpuid64.bin"
	number=$(call_number ioctl GET_SUPPORTED_CPUID)
	# Two entries: function, index, flags, EAX to EDX, padding.
	zero=00000000 ones=ffffffff
	poke=0200000000000000
	for function in 01000000 01000080; do
		poke=$poke$function$zero$zero$zero$zero$ones$ones
		poke=$poke$zero$zero$zero
	done
	capture strace -v -o "$T/trace" -e trace=ioctl \
		-e inject="ioctl:poke_exit=@arg3=$poke:when=$number" \
		"$SIMPLE_KVM" -l "$GUESTS/cpuid64.bin"
	is 'VMX and SVM are hidden, and nothing else is' \
		"$(grep KVM_SET_CPUID2 "$T/trace" | grep -o '[cd]x=0x[0-9a-f]*' |
		tr '\n' ' ')" \
		'cx=0xffffffdf dx=0xffffffff cx=0xfffffffb dx=0xffffffff '
	is '...and the guest sees that' "$(tail -n 3 "$T/out")" \
		"sse2${NL}no vmx${NL}no svm"
else
	skip 'VMX and SVM are hidden' 'needs strace 5.11 or later'
fi
run -l "$GUESTS/sse64.bin"
case $err in
*'KVM cannot emulate an instruction'*)
	[ -z "${BACKEND:-}" ] || result 1 'SSE in long mode'
	skip 'SSE in long mode' 'this KVM emulates ring 0, and SSE not at all' ;;
*) is 'SSE in long mode' "$out" "right$NL" ;;
esac

done_testing

#!/bin/sh
# A guest that somebody else wrote either runs, or its author is told what to
# change: no silence without a reason, the size of RAM that would do, and the
# ports that PC code sets up by habit.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

# bytes OCTAL: make the flat image $T/flat of them.
bytes() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$1" >"$T/flat"
}

# told WHAT LINE ARGUMENT...: the run ends with 0, and this is all that it says.
told() {
	what=$1 line=$2
	shift 2
	run "$@"
	is "$what: status" "$status" 0
	is "$what: all it says" "$err" "${line:+simple-kvm: $line}"
}

guess='no output: real mode was a guess; try -s, -p or -l'
waits='the guest waits for an interrupt: none ever comes'

bytes '\364'			# hlt
told 'a silent guest in a mode that nobody chose' "$guess" "$T/flat"
told 'a silent guest in a mode that was chosen' '' -r "$T/flat"
told '...with -c, too' "$guess" -c "$T/flat"
run -l "$T/flat"
is 'a silent guest in long mode' "$status,$err" '0,'

bytes '\17\13'			# ud2
run "$T/flat"
like 'a guest that fails in a mode that nobody chose' "$err" \
	'#UD invalid opcode (real mode was a guess: -s, -p, -l?)$'
run -r "$T/flat"
like '...in a mode that was chosen' "$err" '#UD invalid opcode$'

bytes '\260\170\346\351\364'	# mov $'x', %al; out %al, $0xe9; hlt
told 'a guest that prints' '' "$T/flat"
is '...prints' "$out" x
told '...prints with -c' '' -c "$T/flat"
bytes '\373\364'		# sti; hlt
told 'a HLT with interrupts on' "$waits" "$T/flat"
told '...in a mode that was chosen, too' "$waits" -r "$T/flat"
bytes '\260\170\346\351\373\364' # the same after some output
told '...and after some output' "$waits" -r "$T/flat"

# boot_sector OCTAL: as bytes, but 512 with a boot sector's mark at the end.
boot_sector() {
	bytes "$1"
	dd if=/dev/zero bs=512 count=1 2>/dev/null >>"$T/flat"
	head -c 510 "$T/flat" >"$T/sector"
	printf '\125\252' >>"$T/sector"
}
boot_sector '\364'
told 'a silent boot sector' '' "$T/sector"
told '...in real mode' '' -r "$T/sector"
cat "$T/sector" "$T/sector" >"$T/flat"
told 'two sectors' '' "$T/flat"
head -c 511 "$T/sector" >"$T/flat"
told 'a byte less is none' "$guess" "$T/flat"
cat "$T/flat" "$T/flat" >"$T/more"
told '...nor are twice as many' "$guess" "$T/more"

serial_port() {
	run "$mode" "$GUESTS/serial$bits.bin"
	is "$mode: a serial port that is set up and tested" "$out" \
		"not faulty$NL"
	is "$mode: ...and keeps what is written to it" "$status" 41
}
each_mode 'a serial port' serial_port

# out %al, $0x80; the same with %ax, and with %eax; hlt
bytes '\346\200\347\200\146\347\200\364'
told 'port 0x80' '' -r "$T/flat"

# nosuch OCTAL PORT: an access to this port fails.
nosuch() {
	bytes "$1"
	run -r "$T/flat"
	like "port $2 is not there" "$err" " port $2, which is not there\$"
}
nosuch '\272\367\3\354' 0x3f7		# mov $0x3f7, %dx; in %dx, %al
nosuch '\272\0\4\354' 0x400		# mov $0x400, %dx; in %dx, %al
nosuch '\344\200' 0x80			# in $0x80, %al
nosuch '\344\37' 0x1f			# in $0x1f, %al
nosuch '\346\104' 0x44			# out %al, $0x44
nosuch '\344\142' 0x62			# in $0x62, %al
nosuch '\272\340\3\354' 0x3e0		# mov $0x3e0, %dx; in %dx, %al

# An instruction that KVM cannot emulate: this KVM must emulate all of ring 0.
bytes '\17\127\300\364'			# xorps %xmm0, %xmm0; hlt
run -l "$T/flat"
case $status in
1) like 'SSE that KVM cannot emulate: what to try' "$err" \
	'KVM cannot emulate an instruction (SSE? try -mgeneral-regs-only\. INT? .*)$' ;;
*) skip 'SSE that KVM cannot emulate' 'this KVM can' ;;
esac

done_testing

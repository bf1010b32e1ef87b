#!/bin/sh
# A guest that dies says why: which exception or exit, where, with which bytes,
# registers and stack; and one that ends on purpose is not mistaken for it.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

# ends GUEST STATUS PATTERN: in the mode at hand, so ends the guest.
ends() {
	run $mode -t 20 "$GUESTS/$1$bits.bin"
	is "$mode $1: status" "$status" "$2"
	like "$mode $1: why" "$err" "$3"
}

# INT is internal error 1 under kvm-pvm, an exception under any other KVM.
interrupt() {
	case $err in *'KVM gave up: it cannot emulate'*) [ -z "${BACKEND:-}" ] &&
		return ;; esac
	like "$mode $1: exception" "$err" "$2"
}

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: faults" || continue

	ends de 1 'failed: exception 0, #DE divide error'
	ends ud 1 'failed: exception 6, #UD invalid opcode'
	is "$mode ud: what it printed before" "$out" "before$NL"
	like "$mode ud: the address and what is there" "$err" \
		'^simple-kvm: at address 0x80[0-9a-f]*, in the image;.*: 0f 0b '
	like "$mode ud: RIP" "$err" '^simple-kvm:   RIP 00000000000080'
	like "$mode ud: RFLAGS by name" "$err" 'RFLAGS 0.* ZF'
	like "$mode ud: EDX" "$err" 'RDX 0'
	case $mode in
	-r) cs='CS  0000 base 00000000 limit 0000ffff' cr0='60000010 ET NW CD'
		sp='0x7ff[0-9a-f]' word='[0-9a-f]{4}' ;;
	-s) cs='CS  0008.*type 11 dpl 0 32-bit' cr0='00000031 PE ET NE' ;;
	-p) cs='CS  0008.*type 11 dpl 0 32-bit' cr0='PE MP ET NE WP AM PG' ;;
	-l) cs='CS  0008.*type 11 dpl 0 64-bit' cr0='PE MP ET NE WP AM PG' ;;
	esac
	[ "$mode" = -r ] || sp='0x1fff[ef][0-9a-f]' word="[0-9a-f]{$((bits / 4))}"
	like "$mode ud: segments" "$err" "$cs"
	like "$mode ud: CR0 by name" "$err" "CR0    .*$cr0\$"
	succeeds "$mode ud: the stack, in words of the mode" \
		grep -qE "stack, from $sp up:( $word)+( \(no more RAM\))?\$" "$T/err"

	run $mode "$GUESTS/bp$bits.bin"
	interrupt bp 'exception 3, #BP breakpoint'
	run $mode "$GUESTS/int13$bits.bin"
	interrupt int13 'exception 13, #GP general protection *\(;\|$\)'
	interrupt 'int13, whose frame has no error code' \
		'at address 0x80[0-9a-f]*, in the image'

	case $mode${BACKEND:-} in
	-rsvm) skip '-r gp' "QEMU does not check segments' limits" ;;
	-r*) ends gp 1 'exception 13, #GP general protection$' ;;
	*) ends gp 1 'exception 13, #GP .*code 0x1230: about selector 0x1230' ;;
	esac
	case $mode in
	-r)
		ends pfread 1 'exception 13, #GP'
		ends pfwrite 1 'exception 13, #GP'
		;;
	-s)
		ends pfread 1 'a 1-byte read from address 0x40000000, 0x3fe00000 b'
		ends pfwrite 1 'a 2-byte write of 0xbeef to address 0x40000010'
		like "$mode pfwrite: the exit's name" "$err" 'KVM_EXIT_MMIO'
		ends pastram 1 'write of 0x12345678 .*0x200010, 0x10 bytes beyond'
		;;
	-p)
		ends pfread 1 'exception 14, #PF .*code 0x0: read of a page that is not present, in supervisor mode; CR2 is 0x40000000, beyond'
		ends pfwrite 1 'exception 14, #PF .*code 0x2: write to .*CR2 is 0x40000010'
		# Within the last page of 4 MiB, but not within RAM.
		ends pastram 1 'write of 0x12345678 .*0x200010, 0x10 bytes beyond'
		ends tables 1 'triple fault'
		;;
	-l)
		ends pfread 1 'exception 14, #PF .*code 0x0: read of a page that is not present, in supervisor mode; CR2 is 0x40000000, beyond'
		ends pfwrite 1 'exception 14, #PF .*code 0x2: write to .*CR2 is 0x40000010'
		ends pastram 1 'exception 14, #PF .*CR2 is 0x200010'
		ends tables 1 'triple fault'
		;;
	esac
	# Real mode under kvm-pvm does not mind the limit of the IDT.
	case $mode in
	-r) ends triple 1 'triple fault.*KVM_EXIT_SHUTDOWN\|exception 6' ;;
	*) ends triple 1 'triple fault.*KVM_EXIT_SHUTDOWN' ;;
	esac
	# These execute what they meet, and that may be an endless loop.
	if [ "${BACKEND:-}" = vmx ]; then
		skip "$mode zeroes, recurse" 'a loop without interrupts stops Bochs'
	else
		ends zeroes 1 'the guest failed: '
		run $mode -t 2 "$GUESTS/recurse$bits.bin"
		like "$mode recurse: status" "$status" '^\(1\|124\)$'
		like "$mode recurse: why" "$err" 'the guest \(failed\|stopped\)'
	fi

	ends clihlt 0 '^$'
	ends ownhalt 0 '^$'
	ends ownidt 7 '^$'
	is "$mode ownidt: its handler ran" "$out" o
	ends selfmod 0 '^$'
	is "$mode selfmod: the changed instructions ran" "$out" "abc$NL"
done

# flat OCTAL: run these bytes as a guest in real mode.
flat() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$1" >"$T/flat.bin"
	run -r "$T/flat.bin"
}

# An unknown port, in every size; an operand-size prefix is 0x66 (146).
flat '\344\177'		# in $0x7f, %al
like 'in of 1 byte' "$err" 'failed: a 1-byte read from port 0x7f, which'
flat '\345\177'		# in $0x7f, %ax
like 'in of 2 bytes' "$err" 'failed: a 2-byte read from port 0x7f, which'
flat '\146\345\177'	# in $0x7f, %eax
like 'in of 4 bytes' "$err" 'failed: a 4-byte read from port 0x7f, which'
flat '\146\270\1\2\3\4\346\177'		# mov $0x04030201, %eax; out %al, $0x7f
like 'out of 1 byte' "$err" 'a 1-byte write of 0x1 to port 0x7f, which'
flat '\146\270\1\2\3\4\347\177'		# the same, with out %ax
like 'out of 2 bytes' "$err" 'a 2-byte write of 0x201 to port 0x7f, which'
flat '\146\270\1\2\3\4\146\347\177'	# the same, with out %eax
like 'out of 4 bytes' "$err" 'a 4-byte write of 0x4030201 to port 0x7f, w'
is '...status' "$status" 1
flat '\347\76'		# out %ax, $0x3e
like 'a size that a port does not have' "$err" 'port 0x3e'
flat '\272\370\3\357'	# mov $0x3f8, %dx; out %ax, %dx
like 'a serial port takes no words' "$err" 'a 2-byte write .* port 0x3f8'
flat '\272\177\0\271\3\0\277\0\220\363\154'	# rep insb of 3 from port 0x7f
like 'REP INS' "$err" 'a 1-byte read from port 0x7f'
flat '\272\177\0\271\3\0\276\0\200\363\156'	# rep outsb of 3 to port 0x7f
like 'REP OUTS' "$err" 'a 1-byte write of 0xba to port 0x7f'

done_testing

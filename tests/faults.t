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

# Outside real mode INT and INT3 are an internal error under kvm-pvm, and under
# any other KVM the CPU's own affair.
gave_up='failed: KVM_EXIT_INTERNAL_ERROR (17): KVM cannot emulate an'\
' instruction'
is_pvm() {
	[ -z "${BACKEND:-}" ] && [ "$mode" != -r ] || return
	case $err in *"$gave_up"*) true ;; *) false ;; esac
}

at='^simple-kvm: at address 0x80[0-9a-f]* (the image):'
io='failed: KVM_EXIT_IO (2): a'
mmio='failed: KVM_EXIT_MMIO (6): a'
not_there='which is not there$'
beyond='(beyond the end of RAM)'
past_ram="$mmio 4-byte write of 0x12345678 to address 0x200010, $not_there"
gp='failed: exception 13, #GP general protection'
page='failed: exception 14, #PF page fault, error code'
page_read="$page 0x0: read of a page that is not present; CR2 is"
page_write="$page 0x2: write to a page that is not present; CR2 is"
triple='failed: KVM_EXIT_SHUTDOWN (8): triple fault '

# How guests die in the mode at hand, and how some do not.
guests() {
	ends de 1 'failed: exception 0, #DE divide error$'
	ends ud 1 'failed: exception 6, #UD invalid opcode$'
	is "$mode ud: what it printed before" "$out" "before$NL"
	like "$mode ud: the address and what is there" "$err" "$at 0f 0b "
	like "$mode ud: RIP" "$err" '^simple-kvm: .*  RIP 00000000000080'
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
		grep -qE "stack, from $sp up:( $word)+( \((no RAM|not mapped by the guest's page tables)\))?\$" "$T/err"

	run $mode "$GUESTS/bp$bits.bin"
	is "$mode bp: status" "$status" 1
	if is_pvm; then
		skip "$mode bp: why" 'this KVM cannot emulate INT3'
		like "$mode bp: where" "$err" "$at cc "
	else
		like "$mode bp: why" "$err" 'failed: exception 3, #BP breakpoint$'
		like "$mode bp: where" "$err" "$at \(66 \)*31 c0 "
	fi

	# By INT, vector 13 comes without an error code.
	case $mode in
	-r) whose='AX is 0x0000, and there is no such service' ;;
	*) whose='and nothing handles it' ;;
	esac
	run $mode "$GUESTS/int13$bits.bin"
	is "$mode int13: status" "$status" 1
	if is_pvm; then
		like "$mode int13: where" "$err" "$at cd 0d "
	else
		like "$mode int13: why" "$err" "failed: INT 0x0d, $whose\$"
		like "$mode int13: where, after the instruction" "$err" \
			"$at \(66 \)*31 c0 "
	fi

	case $mode${BACKEND:-} in
	-rsvm) skip '-r gp' "QEMU does not check segments' limits" ;;
	-r*) ends gp 1 "$gp\$" ;;
	*) ends gp 1 "$gp, error code 0x1230: selector 0x1230\$" ;;
	esac
	case $mode in
	-r)
		ends pfread 1 "$gp\$"
		ends pfwrite 1 "$gp\$"
		;;
	-s)
		ends pfread 1 \
			"$mmio 1-byte read from address 0x40000000, $not_there"
		ends pfwrite 1 "$mmio 2-byte write of 0xbeef to address\
 0x40000010, $not_there"
		ends pastram 1 "$past_ram"
		;;
	-p)
		ends pfread 1 "$page_read 0x40000000 $beyond"
		ends pfwrite 1 "$page_write 0x40000010 $beyond"
		# Within the last page of 4 MiB, but not within RAM.
		ends pastram 1 "$past_ram"
		ends tables 1 "$triple"
		;;
	-l)
		ends pfread 1 "$page_read 0x40000000 $beyond"
		ends pfwrite 1 "$page_write 0x40000010 $beyond"
		ends pastram 1 "$page_write 0x200010 $beyond"
		ends tables 1 "$triple"
		;;
	esac
	# A reset CPU, as kvm_amd leaves it, is somewhere else.
	case $mode${BACKEND:-} in
	-[pl] | -[pl]vmx)
		run $mode "$GUESTS/tables$bits.bin"
		like "$mode tables: no bytes, and why" "$err" \
			"^simple-kvm: at address .*: (not mapped by the guest's page\
 tables)\$" ;;
	esac
	# Real mode under kvm-pvm does not mind the limit of the IDT.
	case $mode in
	-r) ends triple 1 "$triple\|failed: exception 6, #UD invalid opcode\$" ;;
	*) ends triple 1 "$triple" ;;
	esac
	# To the end of memory, and over its own code.
	case $mode${BACKEND:-} in
	-rsvm) skip '-r zeroes' "QEMU does not check segments' limits" ;;
	-r*) ends zeroes 1 "$gp\$" ;;
	-[sp]*) ends zeroes 1 'INTERNAL_ERROR (17): there is no memory at RIP$'
		like "$mode zeroes: where" "$err" " 0x200000 $beyond" ;;
	-l*) ends zeroes 1 "$page_read 0x200000 $beyond" ;;
	esac
	ends overrun 1 'failed: exception 6, #UD invalid opcode$'
	like "$mode overrun: where" "$err" "$at 0f 0b 0f 0b 0f 0b"
	like "$mode overrun: the stack" "$err" 'stack, .* up:\( \(0b0f\)*\)\{8\}$'

	ends clihlt 0 '^$'
	ends ownhalt 0 '^$'
	ends ownidt 7 '^$'
	is "$mode ownidt: its handler ran" "$out" o
	ends selfmod 0 '^$'
	is "$mode selfmod: the changed instructions ran" "$out" "abc$NL"
}
each_mode faults guests

# flat OCTAL [ARGUMENT...]: run these bytes as a guest, in real mode unless told.
flat() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$1" >"$T/flat.bin"
	shift
	[ $# -gt 0 ] || set -- -r
	run "$@" "$T/flat.bin"
}

flat '\346\356'		# out %al, $0xee
like 'a write to port 0xee from elsewhere' "$err" \
	"$io 1-byte write of 0x0 to port 0xee, $not_there"
flat '\344\356'		# in $0xee, %al
like 'a read from port 0xee' "$err" \
	"$io 1-byte read from port 0xee, $not_there"

# Where no memory is, there is no code: mov $0xd0000000, %eax; jmp *%eax; and in
# real mode, with RAM that ends below it, ljmp $0xffff, $0x10
for mode in -s -p; do
	need_mode $mode "$mode: a jump to where no memory is" || continue
	flat '\270\0\0\0\320\377\340' $mode
	case $mode in
	-s) why='INTERNAL_ERROR (17): there is no memory at RIP$' ;;
	-p) why="$page_read 0xd0000000 $beyond" ;;
	esac
	like "$mode: a jump to where no memory is" "$err" "$why"
	like "$mode: ...where" "$err" 'at address 0xd0000000 (beyond .*): (no.*)$'
done
flat '\352\20\0\377\377' -r -m 1M
like '-r: a jump to where no memory is' "$err" \
	'INTERNAL_ERROR (17): there is no memory at RIP$'
# A stack there: movabs $0xdead000000008000, %rsp; push %rax. KVM_TRANSLATE takes it
# for 0x8000.
flat '\110\274\0\200\0\0\0\0\255\336\120\364' -l
case ${BACKEND:-} in
svm) skip '-l: a stack at no canonical address' 'the CPU has been reset' ;;
*) like '-l: a stack at no canonical address' "$err" \
	"stack, from 0xdead0000000[0-9a-f]* up: (not mapped by the guest's page" ;;
esac

# An unknown port, in every size; an operand-size prefix is 0x66 (146).
flat '\344\177'		# in $0x7f, %al
like 'in of 1 byte' "$err" "$io 1-byte read from port 0x7f, $not_there"
flat '\345\177'		# in $0x7f, %ax
like 'in of 2 bytes' "$err" "$io 2-byte read from port 0x7f, $not_there"
flat '\146\345\177'	# in $0x7f, %eax
like 'in of 4 bytes' "$err" "$io 4-byte read from port 0x7f, $not_there"
flat '\146\270\1\2\3\4\346\177'		# mov $0x04030201, %eax; out %al, $0x7f
like 'out of 1 byte' "$err" "$io 1-byte write of 0x1 to port 0x7f, $not_there"
flat '\146\270\1\2\3\4\347\177'		# the same, with out %ax
like 'out of 2 bytes' "$err" \
	"$io 2-byte write of 0x201 to port 0x7f, $not_there"
flat '\146\270\1\2\3\4\146\347\177'	# the same, with out %eax
like 'out of 4 bytes' "$err" \
	"$io 4-byte write of 0x4030201 to port 0x7f, $not_there"
is '...status' "$status" 1
flat '\347\76'		# out %ax, $0x3e
like 'another port' "$err" "$io 2-byte write of 0x0 to port 0x3e, $not_there"
flat '\272\370\3\357'	# mov $0x3f8, %dx; out %ax, %dx
like 'a serial port takes no words' "$err" \
	"$io 2-byte write of 0x0 to port 0x3f8, $not_there"
flat '\272\177\0\271\3\0\277\0\220\363\154'	# rep insb of 3 from port 0x7f
like 'REP INS' "$err" "$io 1-byte read from port 0x7f, $not_there"
flat '\272\177\0\271\3\0\276\0\200\363\156'	# rep outsb of 3 to port 0x7f
like 'REP OUTS' "$err" "$io 1-byte write of 0xba to port 0x7f, $not_there"

# Whether memory is read or written does not follow from its address: KVM has the
# direction of port I/O where the lowest byte of that is.
if need_mode -s 'memory that is not there'; then
	flat '\240\21\0\0\100' -s	# mov 0x40000011, %al
	like 'a read of memory, at an odd address' "$err" \
		"$mmio 1-byte read from address 0x40000011, $not_there"
	flat '\242\0\0\0\100' -s	# mov %al, 0x40000000
	like 'a write to memory, at an even address' "$err" \
		"$mmio 1-byte write of 0x0 to address 0x40000000, $not_there"
fi

done_testing

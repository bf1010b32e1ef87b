#!/bin/sh
# What happens can be watched: --verbose tells the set-up in its order, from
# guest memory and from KVM; --trace every exit; --step every instruction;
# --stats counts that are right. None of it changes the guest or its end.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

# lines PATTERN: how many lines of $err match it.
lines() { printf '%s\n' "$err" | grep -c -e "$1"; }

# in_order PATTERN...: the patterns match lines of $err, in this order.
in_order() {
	rest=$err
	for pattern; do
		printf '%s\n' "$rest" | grep -q -e "$pattern" ||
			{ echo "not, or not there: $pattern"; return 1; }
		rest=$(printf '%s\n' "$rest" |
			awk -v p="$pattern" 'found { print } $0 ~ p { found = 1 }')
	done
}

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: watched" || continue
	run "$mode"
	verdict=$err

	for option in -v --trace --step --stats; do
		run "$mode" $option
		is "$mode $option: status" "$status" 0
		is "$mode $option: output" "$out" "Hello, world!$NL"
		like "$mode $option: verdict" "$err" "^$verdict\$"
		unlike "$mode $option: whose words" "$err" '^simple-kvm[^:]'
	done

	run "$mode" -v
	succeeds "$mode -v: in the order it happens" in_order 'open .dev.kvm' \
		'KVM_GET_API_VERSION = 12' 'KVM_CREATE_VM = ' \
		'KVM_SET_TSS_ADDR' 'mmap 2097152 bytes' \
		'KVM_SET_USER_MEMORY_REGION' 'KVM_CREATE_VCPU' \
		'struct kvm_run' 'KVM_SET_CPUID2' 'image: .* at 0x8000' \
		'KVM_SET_SREGS' 'KVM_SET_REGS' 'memory map' 'RAX 0' 'CR0  ' \
		'KVM_TRANSLATE of 0x8000: valid, physical address 0x8000' \
		'KVM_TRANSLATE of 0x200000' "$verdict"
	succeeds "$mode -v: the map, from the end of RAM down" in_order \
		'--- 0x200000$' 'the stack$' '--- 0x80' 'the image$' \
		'--- 0x8000$' '--- 0x7000$' 'the IDT' '--- 0x600$' 'the GDT' \
		'--- 0x0$'
	case $mode in
	-r)
		unlike "$mode -v: no GDT" "$err" 'GDT: selector' ;;
	*)
		like "$mode -v: GDT, code" "$err" \
			'selector 0x08 = 00[ac]f9b000000ffff: base 0x0, limit 0xfffff pages, type 11, dpl 0, present'
		like "$mode -v: GDT, data" "$err" \
			'selector 0x10 = 00cf93000000ffff:.*type 3,.*present, 32-bit' ;;
	esac

	run "$mode" --trace
	is "$mode --trace: a line for each exit" "$(lines ': exit ')" 15
	like "$mode --trace: the first" "$err" \
		'exit 1: KVM_EXIT_IO, RIP 0x80.*: a 1-byte write of 0x48 to port 0xe9, count 1: 48 "H"$'
	like "$mode --trace: the last" "$err" 'exit 15: KVM_EXIT_HLT, RIP 0x80'
	run "$mode" --trace "$GUESTS/ports$bits.bin"
	like "$mode --trace: an IN, with its data" "$err" \
		'a 2-byte read from port 0xe9, count 1: e9 e9 '
	like "$mode --trace: 4 bytes" "$err" '0xa666564 to port 0xe9, .*"def\."'

	run "$mode" --step
	like "$mode --step: the first instruction" "$err" \
		'step: RIP 0x8000: [0-9a-f ]* .*RIP=80'
	like "$mode --step: changed registers" "$err" 'RAX=2a'
	like "$mode --step: ends with the HLT" \
		"$(printf '%s\n' "$err" | grep step: | tail -n 1)" \
		'RIP 0x80[0-9a-f]*: f4 '
	# Bochs reports a step now and then before the instruction, as well.
	is "$mode --step: a line for each OUT" "$(grep step: "$T/err" |
		grep -c -e ': e6 e9 .* RIP=' -e ': ee .* RIP=')" 14
	run "$mode" --step "$GUESTS/ud$bits.bin"
	is "$mode --step: a guest that fails" "$status" 1
	like "$mode --step: ...and why" "$err" 'exception 6, #UD'

	run "$mode" --stats
	like "$mode --stats: runs" "$err" \
		'KVM_RUN: 15 calls, 0\.[0-9]* s; outside of it: 0\.[0-9]* s'
	like "$mode --stats: IO" "$err" 'KVM_EXIT_IO: 14$'
	like "$mode --stats: HLT" "$err" 'KVM_EXIT_HLT: 1$'
	like "$mode --stats: out and in" "$err" 'I/O exits: 14 out, 0 in$'
	like "$mode --stats: output" "$err" 'output: 14 bytes in 1 writes$'
	like "$mode --stats: memory" "$err" 'peak RSS: [0-9]* KiB$'
done

if need_mode -l 'page tables of long mode'; then
	run -l -v -m 3G
	is '-l -v: a PML4 entry' "$(lines '^simple-kvm: PML4\[0\] = 0x3007 PRESENT RW USER: 0x0 to 0x7fffffffff$')" 1
	is '-l -v: a PDPT entry for each GiB' "$(lines '^simple-kvm:   PDPT')" 3
	is '-l -v: a line for 512 pages' "$(lines '^simple-kvm:     PD\[0..511\] = ')" 3
	like '-l -v: the last of them' "$err" 'PD\[0..511\] = 0x80000087 PRESENT RW USER PS: 0x80000000 to 0xbfffffff$'
fi
if need_mode -p 'the page directory of 32-bit paging'; then
	run -p -v -m 16M
	is '-p -v: a line for four pages' "$(lines 'PD\[0..3\] = 0x87 PRESENT RW USER PS: 0x0 to 0xffffff$')" 1
fi

# The numbers are right, too, for a guest that is stopped.
if [ "${BACKEND:-}" = vmx ]; then
	skip '--stats of a spinning guest' 'a loop without interrupts stops Bochs'
else
	run -l --stats -t 0.3 "$GUESTS/spin64.bin"
	is '--stats of a spinning guest: status' "$status" 124
	like '--stats of a spinning guest: exits' "$err" 'KVM_EXIT_IO: 9$'
	like '--stats of a spinning guest: output' "$err" \
		'output: 9 bytes in 1 writes'
	like '--stats of a spinning guest: the time is in KVM_RUN' "$err" \
		'calls, 0\.[23][0-9]* s; outside of it: 0\.0'
fi

done_testing

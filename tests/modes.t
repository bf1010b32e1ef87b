#!/bin/sh
# Every mode runs its guest to the right end, in the state the design promises,
# and a KVM that lacks a mode is told apart from a guest that failed.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

# built_in OPTION NAME ACCUMULATOR: the built-in guest of a mode.
built_in() {
	need_mode "$1" "$1: the built-in guest" || return 0
	run "$1"
	is "$1: status" "$status" 0
	is "$1: output" "$out" "Hello, world!$NL"
	is "$1: verdict" "$err" "simple-kvm: $2: $3 is 42, memory at 0x400\
 is 42: as expected"
}

built_in -r 'real mode' AX
built_in -s 'protected mode' EAX
built_in -p '32-bit paging' EAX
built_in -l 'long mode' RAX
built_in --real 'real mode' AX
built_in --protected 'protected mode' EAX
built_in --paged '32-bit paging' EAX
built_in --long 'long mode' RAX

run
like 'real mode without an option' "$err" '^simple-kvm: real mode: '

# registers OPTION IMAGE CR0 CR3 CR4 EFER CS SS SP: as a guest sees them.
registers() {
	need_mode "$1" "$1: registers from inside" || return 0
	run "$1" "$GUESTS/$2.bin"
	is "$1: registers from inside" "$out" "CR0=$3
CR3=$4
CR4=$5
EFER=$6
CS=$7
SS=$8
SP=$9
"
	is "$1: an image that halts: status" "$status" 0
	is "$1: an image that halts: nothing to say" "$err" ''
}

#                   CR0      CR3      CR4      EFER     CS   SS       SP
registers -r regs16 60000010 00000000 00000000 00000000 \
	00000000 00000000 00007000
registers -s regs32 00000031 00000000 00000000 00000000 \
	00000008 00000010 001ff000
registers -p regs32 80050033 00002000 00000010 00000000 \
	00000008 00000010 001ff000
registers -l regs64 80050033 00002000 00000620 00000500 \
	00000008 00000010 001ff000

if has_mode -p; then
	skip 'a mode that KVM lacks' 'this KVM has all modes'
else
	run -p
	is 'a mode that KVM lacks: status' "$status" 3
	is 'a mode that KVM lacks: no output' "$out" ''
	like 'a mode that KVM lacks: its name and the bit' "$err" \
		'^simple-kvm: 32-bit paging: this KVM lacks it, for it did not'\
' set bits 0x80000000 of CR0, 0x0 of CR4, 0x0 of EFER: '
fi

done_testing

#!/bin/sh
# Under --gdb a guest stops as gdb wants it, in each mode: at steps, breakpoints,
# exceptions and ^C, with its registers as they were there and its output before
# it; and if it ends, it says how.
# backends: yes
. "${0%/*}/lib.sh"
. "${0%/*}/rsp.sh"
need_kvm

# code HEX: the packet that puts these bytes at 0x8000.
code() { printf 'M8000,%x:%s' $((${#1} / 2)) "$1"; }

# absent WHAT CODE: this code, in hex, stops at 0x8000 because of an access to what
# is not there; again if it goes on; and if it goes on at 0x8010, prints an O.
absent() {
	session "$(code "$2")" M8010,5:b04fe6e9f4 c g c g
	is "$1: stops" "$(reply 3) $(reply 5)" 'S0b S0b'
	is "$1: at the access, twice" "$(reply 6)" "$(reply 4)"
	there=$(reply 4)
	if [ "$bits" = 64 ]; then rip=257; else rip=65; fi
	elsewhere=$(printf '%s' "$there" | cut -c "-$((rip - 1))")1080
	elsewhere=$elsewhere$(printf '%s' "$there" | cut -c "$((rip + 4))-")
	session "$(code "$2")" M8010,5:b04fe6e9f4 c "G$elsewhere" c
	is "$1: goes on elsewhere" "$(output | grep -o '^O')" O
}

stops() {
	with=$mode guest=
	session g
	start=$replies

	# Two NOPs and UD2; a NOP and HLT; OUT of a byte and two NOPs. Bochs
	# tells of some steps twice.
	session M8000,4:90900f0b s s s s s s s s g
	is "$mode: s to a fault" "$(reply 9)" S04
	is "$mode: s to a fault: RIP" "$(rip 10)" 8002
	session M8000,2:90f4 s s s s s s s s
	is "$mode: s over HLT, to a wrong result" \
		"$(printf '%s\n' "$replies" | tail -n 1)" W01
	is "$mode: ...which is the status, too" "$status" 1
	like "$mode: ...and told before" "$(output)" '0: wrong, 42 was expected'
	if [ "${BACKEND:-}" = vmx ]; then
		skip "$mode: s, exactly" 'Bochs tells of some steps twice'
	else
		session M8000,3:e6e990 g s g s g
		is "$mode: s over OUT" "$(reply 3)" S05
		is "$mode: s over OUT: RIP" "$(rip 4)" 8002
		is "$mode: s after OUT: RIP" "$(rip 6)" 8003
		is "$mode: what it has printed" \
			"$(printf '%s\n' "$sent" | grep '^O[^K]')" O00
		session M8000,3:e6e9cc c
		is "$mode: output before a breakpoint" "$(printf '%s\n' "$sent" |
			tail -n 2 | tr '\n' ' ')" 'O00 S05 '
	fi

	# As gdb does it: INT3, continue, put the byte and RIP back, continue.
	session m8000,1
	byte=$replies
	session M8000,1:cc c g "M8000,1:$byte" "G$start" c
	is "$mode: a breakpoint" "$(reply 2)" S05
	is "$mode: a breakpoint: RIP is after it" "$(rip 3)" 8001
	is "$mode: a breakpoint: all as it was" \
		"$(reply 3 | cut -c 1-16)" "$(printf '%s' "$start" | cut -c 1-16)"
	is "$mode: after it, output" "$(output | head -n 1)" 'Hello, world!'
	is "$mode: after it, the end" "$(reply 6)" W00
	is "$mode: status" "$status" 0
	session M8000,2:90cc c g s
	is "$mode: its own INT3" "$(reply 2)" S05
	is "$mode: its own INT3: RIP is after it" "$(rip 3)" 8002

	# The verdict is about all of AX, EAX or RAX, and as much memory; and
	# about no more: mov $298, %ax; mov %ax, 0x400; hlt, and so on.
	case $bits in
	16) set -- b82a01a30004f4 66b82a000100a30004f4 ;;
	32) set -- b82a010000a300040000f4 b82a000000a300040000f4 ;;
	64) set -- 48b82a0000000100000048a30004000000000000f4 \
		48b82a0000000000000048a30004000000000000f4 ;;
	esac
	session "$(code "$1")" c
	is "$mode: a verdict of 42, and more" "$(reply 2)" W01
	session M404,4:ffffffff "$(code "$2")" c
	is "$mode: a verdict of 42, whatever is beside it" "$(reply 3)" W00

	if [ "$mode" = -r ]; then
		# ljmp $0x800, $5; 5: div %cl; mov $'!', %al; out %al, $0xe9; hlt
		session M8000,c:ea05000008f6f1b021e6e9f4 c 'qRcmd,72' M8005,2:9090 c
		is "$mode: a fault in another segment" "$(reply 1)" OK
		is "$mode: ...its signal" "$(reply 2)" S08
		like "$mode: ...CS there" "$(output)" '  CS  0800 base 00008000'
		is "$mode: ...which it goes on in" "$(output | grep -o '^!')" '!'
	fi

	# What is not there, and then gdb goes on elsewhere, or tries again: the
	# access is not completed afterwards. in $0x7f, %al, then at 0x8010
	# mov $'O', %al; out %al, $0xe9; hlt
	guest=
	absent "$mode: an absent port" e47fb021e6e9f490
	case $mode in
	# mov 0xd0000000, %eax
	-s) absent "$mode: absent memory" a1000000d0b021e6e9f4 ;;
	# movabs 0xd0000000, %al
	-l) absent "$mode: absent memory" a0000000d000000000b021e6e9f4 ;;
	esac

	# The code segment has L and D set, which means D: lgdt 0x8020;
	# ljmp $0x18, $0x800e; ud2, which becomes two NOPs; hlt
	if [ "$mode" = -s ]; then
		session M8000,e:0f011520800000ea0e8000001800 M800e,3:0f0bf4 \
			M8020,6:1f0000810000 m500,18 M8118,8:ffff0000009bef00 \
			M8108,10:ffff0000009bcf00ffff00000093cf00 \
			c M800e,2:9090 c
		is "$mode: a code segment with L and D" \
			"$(printf '%s\n' "$replies" | tail -n 3)" "S04${NL}OK${NL}W01"
	fi

	# A fault in a segment of an LDT, which becomes two NOPs.
	if [ "$mode" = -s ]; then
		guest=ownldt
		session c M8100,2:9090 c
		is "$mode: goes on in a segment of an LDT" "$(reply 1)" S08
		is "$mode: ...there" "$(output | tail -n 1)" '!'
		guest=
	fi

	# HLT is not for ring 3, also when stepped.
	if [ "$mode" = -s ] && [ "${BACKEND:-}" = svm ]; then
		skip "$mode: s over HLT in ring 3" "QEMU's SVM stops at it"
	elif [ "$mode" = -s ]; then
		guest=user
		session s s s s s s s s s s s s s s s s
		is "$mode: s over HLT in ring 3" \
			"$(printf '%s\n' "$replies" | tail -n 1)" S0b
		guest=
	fi

	# What enters a stub is told by its vector: int $1; jmp to that of #DE, or
	# of #MF, which in real mode is a BIOS's.
	case $mode in
	-r)
		session M8000,2:cd01 c
		is "$mode: INT 1" "$(reply 2)" S05
		session M8000,5:ea000000f0 c
		is "$mode: #DE" "$(reply 2)" S08 ;;
	*)
		session M8000,5:e93b8cffff c
		is "$mode: #MF" "$(reply 2)" S08
		session M8000,5:e9478cffff c
		is "$mode: #XM" "$(reply 2)" S08 ;;
	esac

	guest=bp
	session c c
	is "$mode bp: INT3, and then the end" "$replies" "S05${NL}W00"

	guest=ud
	session c g C04
	is "$mode ud: output first" "$(output | head -n 1)" before
	is "$mode ud: SIGILL" "$(reply 1)" S04
	at=$(rip 2)
	is "$mode ud: C with the signal ends it" "$(reply 3)" X04
	is "$mode ud: status" "$status" 1
	is "$mode ud: the reason" "$(output)" "before
simple-kvm: the guest failed: exception 6, #UD invalid opcode"
	# It goes on where it is; and again after the UD2 has become two NOPs.
	session c "m$at,2" c "M$at,2:9090" c
	is "$mode ud: RIP at the fault" "$(reply 2)" 0f0b
	is "$mode ud: c makes it fail again" "$(reply 3)" S04
	is "$mode ud: mended" "$(output | grep -v '^simple-kvm')" \
		"before${NL}not reached"
	is "$mode ud: mended: the end" "$(reply 5)" W00

	guest=de
	session c
	is "$mode de: SIGFPE" "$(reply 1)" S08
	guest='exit'
	session c
	is "$mode exit: output first" "$(printf '%s\n' "$sent" | tail -n 1)" W55
	is "$mode exit: all of it" "$(output)" bye
	is "$mode exit: status" "$status" 85
	guest=nosuch
	session c C0b
	is "$mode nosuch: SIGSEGV, then the end" "$replies" \
		"S0b${NL}X0b"
	session c C09
	is "$mode nosuch: the end by another signal" "$replies" "S0b${NL}X09"
	like "$mode nosuch: the reason" "$(output)" 'a .-byte .* port 0x.*not there$'
	is "$mode nosuch: status" "$status" 1
	# Where KVM emulates real mode, it does not look at the IDT's limit.
	guest=triple
	case $mode,${BACKEND:-},${BACKEND_PARAMS:-} in
	-r,, | -r,vmx,*=0) triple=S04 ;;
	*) triple=S0b ;;
	esac
	session c C0b
	is "$mode triple" "$replies" "$triple${NL}X0b"
	case $mode in
	-r) ;;
	*)
		guest=pfread
		session c
		is "$mode pfread: SIGSEGV" "$(reply 1)" S0b ;;
	esac

	# A loop: JMP to itself.
	if [ "${BACKEND:-}" = vmx ]; then
		skip "$mode: ^C" 'a loop without interrupts stops Bochs'
	else
		guest=
		session M8000,2:ebfe c ^C g c ^C '?' k '?'
		is "$mode: ^C, twice, and k" "$replies" \
			"OK${NL}S02${NL}$start${NL}S02${NL}S02"
		is "$mode: k: status" "$status" 129
		# The + that gdb sends for packets do not hide a ^C.
		{
			packets M8000,2:ebfe c
			head -c 70000 /dev/zero | tr '\0' + # a pipe holds 64 Ki
			printf '\003'
			packets '?' k
		} >"$T/packets"
		serve "$mode"
		is "$mode: ^C after +" "$replies" "OK${NL}S02${NL}S02"
		# mov 0x46c, %ax; 1: cmp 0x46c, %ax; je 1b; mov $'T', %al;
		# out %al, $0xe9; hlt
		if [ "$mode" = -r ]; then
			session M8000,e:a16c043b066c0474fab054e6e9f4 c
			is "$mode: the BIOS's clock goes" "$(output | head -c 1)" T
		fi
		session ^C s g s g
		is "$mode: ^C that comes before a step" "$(reply 1)" S02
		is "$mode: ...which is not made" "$(rip 2)" 8000
		is "$mode: ...and the next one is" "$(reply 3)" S05
	fi
}
each_mode gdb stops

done_testing

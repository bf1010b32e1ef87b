#!/bin/sh
# --gdb serves gdb's remote protocol on stdin and stdout, in each mode: registers,
# memory, monitor, acknowledgements, the end; and what is malformed does no harm.
# backends: yes
. "${0%/*}/lib.sh"
. "${0%/*}/rsp.sh"
need_kvm
once_a_backend

protocol() {
	with=$mode

	# The end of the file is the end of gdb.
	session '?' g qC
	is "$mode: status, when gdb goes" "$status" 129
	is "$mode: stopped at first" "$(reply 1)" S05
	is "$mode: RIP at first" "$(rip 2)" 8000
	is "$mode: what it does not know" "$(reply 3)" ''
	start=$(reply 2)
	case $bits in
	64) is "$mode: size of the registers" ${#start} 280 ;;
	*) is "$mode: size of the registers" ${#start} 80 ;;
	esac
	session 'qXfer:features:read:target.xml:0,ffb'
	case $bits in
	16) like "$mode: architecture" "$replies" '^l<.*>i8086<' ;;
	32) like "$mode: architecture" "$replies" '^l<.*>i386<' ;;
	64) like "$mode: architecture" "$replies" '^l<.*>i386:x86-64<' ;;
	esac

	# The first register is RAX, the last one RFLAGS.
	changed=78563412${start#????????}
	changed=${changed%????????}46000000
	session "G$changed" g "G${start%??}" "G${start}00" g
	is "$mode: G" "$(reply 1)" OK
	is "$mode: G: what is set" "$(reply 2)" "$changed"
	is "$mode: G: too short" "$(reply 3)" E01
	is "$mode: G: too long" "$(reply 4)" E01
	is "$mode: G: nothing else has changed" "$(reply 5)" "$changed"

	# Each register has its number in gdb's order, and is shown by its name.
	case $bits in
	64) many=16 width=16 want='1 2 3 4 5 6 8 7 9 a b c d e f 10' ;;
	*) many=8 width=8 want='1 4 2 3 7 8 5 6' ;;
	esac
	numbered=$(awk -v n=$many -v w=$width 'BEGIN {
		while (i++ < n) {
			bytes = sprintf("%02x", i)
			while (length(bytes) < w)
				bytes = bytes "0"
			printf "%s", bytes
		} }')
	rest=$(printf '%s' "$start" | cut -c "$((many * width + 1))-")
	session "G$numbered$rest" 'qRcmd,72656773'
	is "$mode: G: which register is which" "$(output |
		grep -o 'R[ABCDS0-9][XIP0-9]* *0[0-9a-f]*' | head -n $many |
		sed 's/.* 0*//' | tr '\n' ' ')" "$want "

	session M9ffe,4:01020304 m9ffe,4 m9ffd,6 m1ffffe,4 m200000,1 \
		M1fffff,2:0506 M200000,1:05 mffffffffffffffff,2 \
		m0,ffffffffffffffff mfffffffffffff000,2000
	is "$mode: M over the end of a page" "$(reply 1)" OK
	is "$mode: m over the end of a page" "$(reply 2)" 01020304
	is "$mode: m around it" "$(reply 3)" 000102030400
	is "$mode: m over the end of RAM" "$(reply 4)" 0000
	is "$mode: m beyond RAM" "$(reply 5)" E01
	is "$mode: M over the end of RAM" "$(reply 6)" E01
	is "$mode: M beyond RAM" "$(reply 7)" E01
	is "$mode: m at the end of all addresses" "$(reply 8)" E01
	long=$(reply 9)
	is "$mode: m of more than a packet holds" ${#long} 4096
	if [ "$bits" = 64 ]; then
		# The last entry of the PML4 becomes what its first one is.
		session M2ff8,8:0730000000000000 mffffff8000008000,8 m8000,8
		is "$mode: m at the upper half of addresses" "$(reply 2)" \
			"$(reply 3)"
	fi

	with=$mode
	session D '?'
	is "$mode: D" "$status $replies" '129 OK'
	session 'qSupported:multiprocess+;swbreak+'
	is "$mode: what it can do" "$replies" \
		'PacketSize=1000;qXfer:features:read+'
	session 'qRcmd,72656773' g
	like "$mode: monitor: CR0" "$(output)" 'CR0    0'
	like "$mode: monitor: segments" "$(output)" 'CS  .* base 0'
	is "$mode: monitor: done" "$(printf '%s\n' "$replies" | tail -n 2)" \
		"OK$NL$start"
	with="$mode --trace --stats"
	session c
	like "$mode --trace: in gdb" "$(output)" 'exit 1: KVM_EXIT_IO'
	is "$mode --trace: output, too" "$(output |
		sed 's/simple-kvm: .*//' | tr -d '\n')" 'Hello, world!'
	like "$mode: the verdict, in gdb" "$(output)" '42: as expected$'
	like "$mode --stats" "$(output)" 'KVM_EXIT_IO: 14$'
	is "$mode: nothing after the end" "$(printf '%s\n' "$sent" | tail -n 1)" W00
	is "$mode: nothing on stderr" "$err" ''
	with="$mode -v"
	session '?'
	is "$mode -v: before it begins" "$replies" S05
	like "$mode -v: on stderr" "$err" 'KVM_CREATE_VM'

	# A wire that takes nothing.
	if [ -c /dev/full ]; then
		packets c >"$T/packets"
		status=0
		limit "$SIMPLE_KVM" --gdb "$mode" <"$T/packets" >/dev/full \
			2>"$T/err" || status=$?
		is "$mode: a wire that is full: status" "$status" 3
	else
		skip "$mode: a wire that is full" 'there is no /dev/full'
	fi

	# Acknowledgements, whatever gdb would like, and whatever the sum.
	packets '?' QStartNoAckMode >"$T/packets"
	printf '\044?#00' >>"$T/packets"
	serve "$mode"
	is "$mode: acknowledgements" "$(cat "$T/out")" \
		"+\$S05#b8+\$#00+\$S05#b8"

	# What no gdb sends.
	session m m, m1 mx,y M M1 M1,1 M1,1: M1,1:0 M1,1:xx M1,2:00 \
		M1,1:0000 M1,8000000000000000: G Gx Gxx \
		'qXfer:features:read:target.xml:' \
		'qXfer:features:read:target.xml:0,' qRcmd c8000 '!' vCont P0=0 \
		'?'
	is "$mode: malformed: the last reply" \
		"$(printf '%s\n' "$replies" | tail -n 1)" S05
	is "$mode: malformed: errors" "$(printf '%s\n' "$replies" |
		sed 16q | sort -u)" E01
	{
		printf '$'
		head -c 100000 /dev/zero | tr '\0' m
		printf '#00'
		packets '?'
	} >"$T/packets"
	serve "$mode"
	is "$mode: too long a packet ends it" "$replies$status" 129
	# As much as there is room for, and a byte more.
	room=$(head -c 4096 /dev/zero | tr '\0' x)
	packets "$room" '?' >"$T/packets"
	serve "$mode"
	is "$mode: the longest packet" "$(printf '%s\n' "$replies" | tail -n 1)" S05
	packets "x$room" '?' >"$T/packets"
	serve "$mode"
	is "$mode: a byte more ends it" "$replies$status" 129
	printf '\044m0,1' >"$T/packets"
	serve "$mode"
	is "$mode: half a packet ends it" "$replies$status" 129
}
each_mode gdb protocol

run --gdb --step
is '--gdb --step: status' "$status" 2
run --gdb -t 1
is '--gdb --timeout: status' "$status" 2
like '--gdb --timeout: why' "$err" '^simple-kvm: .*--gdb.*--timeout'

for redirect in '<' '>'; do
	what="--gdb on a terminal, $redirect /dev/null"
	need_command script "$what" || continue
	limit script -qec "'$SIMPLE_KVM' --gdb -l $redirect /dev/null 2>'$T/err'" \
		/dev/null >/dev/null 2>&1 </dev/null
	is "$what: status" $? 2
	like "$what: what to type" "$(cat "$T/err")" \
		"^target remote | .* --gdb -l "
done

done_testing

#!/bin/sh
# An exception or an INT is told from whatever else a guest does: by its vector,
# with the place and the segment it came from, wherever the guest runs and
# whatever memory it makes its own. A HLT is never taken for one.
# backends: yes
. "${0%/*}/lib.sh"
need_kvm

# flat OCTAL ARGUMENT...: run these bytes as a guest, within a limit.
flat() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$1" >"$T/flat.bin"
	shift
	run -t 20 "$@" "$T/flat.bin"
}

# told WHAT PATTERN: that the guest failed for this reason.
told() {
	is "$1: status" "$status" 1
	like "$1: why" "$err" "^simple-kvm: the guest failed: $2"
}

# A boot record's first deed is to copy itself to 0x600. Each step is an exit, so
# the one without them comes first.
for step in '' --step; do
	# shellcheck disable=SC2086 # none or one
	run -r -t 20 $step "$GUESTS/mbr16.bin"
	is "mbr $step: status" "$status" 7
	is "mbr $step: output" "$out" "moved$NL"
	# shellcheck disable=SC2086 # none or one
	run -r -t 20 $step "$GUESTS/mbrfault16.bin"
	told "mbrfault $step" 'exception 0, #DE divide error$'
	is "mbrfault $step: came there once" "$out" "moved$NL"
	like "mbrfault $step: where" "$err" '^simple-kvm: at address 0x622 .*: f6 f1'
	unlike "mbrfault $step: RFLAGS are the guest's own" "$err" 'RFLAGS.* TF'
done

# HLT where an exception stub is, or was, as an offset: in a segment at 0x8000,
# entered by ljmp $0x800, $OFFSET.
for pair in '0x600\0\6' '0x604\4\6' '0xc00\0\14' '0xc02\2\14'; do
	what="HLT at 0x800:${pair%%\\*}"
	# shellcheck disable=SC2059 # the format is the bytes
	{
		printf '\352'"${pair#?????}"'\0\10'
		dd if=/dev/zero bs=4091 count=1 2>/dev/null | tr '\0' '\364'
	} >"$T/hlt.bin"
	run -r -t 20 "$T/hlt.bin"
	is "$what: status" "$status" 0
	is "$what: no word of an exception" "$err" ''
done
# mov $0xf4, the opcode of HLT, to where a stub is, and jump there: mov $0xf000,
# %ax; mov %ax, %ds; movb $0xf4, 0x40; ljmp $0xf000, $0x40
flat '\270\0\360\216\330\306\006\100\0\364\352\100\0\0\360' -r
is 'HLT in place of a stub: status' "$status" 0
is 'HLT in place of a stub: no word of an exception' "$err" ''
# Interrupt 0x21 becomes the guest's own: movl $0x800c, 0x84; int $0x21; hlt.
# Its handler prints an o, and returns.
flat '\146\307\006\204\0\014\200\0\0\315\041\364\260o\346\351\317' -r
is 'an INT of its own: status' "$status" 0
is 'an INT of its own: output' "$out" o
# The same, but the handler halts.
flat '\146\307\006\204\0\014\200\0\0\315\041\220\364' -r
is "a handler's HLT: status" "$status" 0
is "a handler's HLT: no word of an exception" "$err" ''
# In protected mode the gate of interrupt 0x21 is at 0x1108: movw $0x8010, 0x1108;
# int $0x21; hlt. kvm-pvm gives up at that INT, but not for want of a handler.
flat '\146\307\5\10\21\0\0\20\200\315\041\364\364\364\364\364\260o\346\351\317' -s
case $status,${BACKEND:-} in
1,) told '-s: an INT of its own' '.*: KVM cannot emulate an instruction' ;;
*) is '-s: an INT of its own: output' "$out" o ;;
esac
# The stubs' port, from elsewhere: out %al, $0xee
for mode in -r -s -l; do
	flat '\346\356' $mode
	told "$mode: the stubs' port" '.* a 1-byte write of 0x0 to port 0xee'
done

# Another port, from a stub's place: movw $0x99e6, 0xc04; jmp 0xc04
flat '\146\307\5\4\14\0\0\346\231\351\366\213\377\377' -s
told "another port in a stub's place" '.* a 1-byte write of 0x0 to port 0x99'
# The stubs' port from where a stub is as an offset: ljmp $0x800, $0x84
{
	printf '\352\204\0\0\10'
	dd if=/dev/zero bs=127 count=1 2>/dev/null
	printf '\346\356'
} >"$T/out.bin"
run -r "$T/out.bin"
told "the stubs' port at 0x800:0x84" '.* a 1-byte write of 0x0 to port 0xee'
# An access to memory from a stub's place. What KVM says of it has the number of
# the stubs' port where that would be: mov $0xee0000, %ebx;
# movw $0x0388, 0xc04 (mov %al, (%ebx)); jmp 0xc04
flat '\273\0\0\356\0\146\307\5\4\14\0\0\210\3\351\361\213\377\377' -s
told "an MMIO write in a stub's place" '.* write of 0x0 to address 0xee0000'

# An INT is not the reason just because it comes next: out %al, $0x99; int $0x10
flat '\346\231\315\20' -r
told 'another port, and then an INT' '.* a 1-byte write of 0x0 to port 0x99'

# The report shows the segment in which the fault was.
# ljmp $0x800, $5; xor %cx, %cx; div %cx
flat '\352\5\0\0\10\061\311\367\361' -r
told 'CS is 0800, DIV' 'exception 0, #DE divide error$'
like 'CS is 0800, DIV: where' "$err" \
	'^simple-kvm: at address 0x8007 (the image): f7 f1'
like 'CS is 0800, DIV: CS' "$err" '  CS  0800 base 00008000 limit 0000ffff'
like 'CS is 0800, DIV: RIP' "$err" '  RIP 0000000000000007'
# ljmp $0x800, $5; int $0x21
flat '\352\5\0\0\10\315\041' -r
told 'CS is 0800, INT' 'INT 0x21, AX is 0x0000, and there is no such service$'
like 'CS is 0800, INT: where' "$err" '^simple-kvm: at address 0x8007 '
# With all of ESP in use: mov $0x12348000, %esp; ud2
flat '\146\274\0\200\064\022\017\013' -r
case $err,${BACKEND:-} in
*'  RSP 0000000000008000 '*,) skip 'the upper half of ESP' 'this KVM loses it' ;;
*) like 'the upper half of ESP' "$err" '  RSP 0000000012348000 ' ;;
esac
# With ID set, a flag of the upper half: pushl $0x200002; popfl; ud2
flat '\146\150\2\0\40\0\146\235\017\013' -r
like 'the upper half of EFLAGS' "$err" '  RFLAGS 000000000020.* ID$'
# The bytes before a fault may look like an INT: xor %cx, %cx; mov $0xcd, %ax;
# div %cx; and mov $0x06cd, %ax; ud2
flat '\061\311\270\315\0\367\361' -r
told 'a fault after the bytes of an INT 0' 'exception 0, #DE divide error$'
flat '\270\315\06\017\013' -r
told 'a fault after the bytes of an INT 6' 'exception 6, #UD invalid opcode$'
for mode in -s -p; do
	need_mode $mode "$mode: a segment of its own" || continue
	run $mode -t 20 "$GUESTS/ownldt32.bin"
	told "$mode, a segment in an LDT" 'exception 0, #DE divide error$'
	like "$mode, a segment in an LDT: where" "$err" \
		'^simple-kvm: at address 0x8100 (the image): f7 f1'
	like "$mode, a segment in an LDT: CS" "$err" \
		'  CS  000c base 00008000 limit 00000fff type 11 dpl 0 32-bit'
	run $mode -t 20 "$GUESTS/gdttrick32.bin"
	case $err,${BACKEND:-} in
	*,svm)
		skip "$mode, a segment that wraps" 'QEMU makes no INT there' ;;
	*KVM_EXIT_INTERNAL_ERROR*,)
		like "$mode, a segment that wraps" "$err" \
			'at address 0x80[0-9a-f]* (the image): cd 30 ' ;;
	*)
		told "$mode, a segment that wraps" \
			'INT 0x30, and nothing handles it$' ;;
	esac
	run $mode -t 20 "$GUESTS/owngdt32.bin"
	told "$mode, a segment of its own" 'exception 0, #DE divide error$'
	like "$mode, a segment of its own: where" "$err" \
		'^simple-kvm: at address 0x8102 (the image): f7 f1'
	like "$mode, a segment of its own: CS" "$err" \
		'  CS  0018 base 00008000 limit 00000fff type 11 dpl 0 32-bit'
	like "$mode, a segment of its own: RIP" "$err" '  RIP 0000000000000102'
done

# PAE alone does not make its gates longer: mov %cr4, %eax; or $0x20, %al;
# mov %eax, %cr4; ud2
flat '\017\040\340\014\040\017\042\340\017\013' -s
told '-s, with CR4.PAE' 'exception 6, #UD invalid opcode$'
like '-s, with CR4.PAE: where' "$err" 'at address 0x8008 (the image): 0f 0b '
like '-s, with CR4.PAE: RIP' "$err" '  RIP 0000000000008008$'

# interrupts MODE HIGH LOW WHY: each INT whose number has one of these digits, and
# one of those, is told so, where it was, and nothing else. Those below 8 are
# told as the exceptions that they are. Outside of real mode kvm-pvm cannot do an
# INT, and RIP is at it. With as few processes as can be: they are what takes
# time on an emulated CPU.
interrupts() {
	: >"$T/wrong"
	for high in $2; do
		for low in $3; do
			interrupt "$1" "$high$low" "$4"
		done
	done
	is "$1: INT 0x[$2][$3]" "$(cat "$T/wrong")" ''
}
cannot='simple-kvm: the guest failed: KVM_EXIT_INTERNAL_ERROR (17): KVM cannot '
interrupt() {
	n=$((0x$2))
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\315\\$((n / 64))$((n / 8 % 8))$((n % 8))\\364" >"$T/flat.bin"
	status=0
	"$SIMPLE_KVM" "$1" -t 20 "$T/flat.bin" 2>"$T/err" || status=$?
	{ read -r why; read -r where; } <"$T/err"
	case $1,$2 in # what a BIOS serves
	-r,1[0-36-9] | -r,15 | -r,1a) return ;;
	esac
	if [ $n -lt 8 ]; then
		told="exception $n, "
	else
		told="INT 0x$2, $3,"
	fi
	case $status,$why,$where in
	"1,simple-kvm: the guest failed: $told"*' 0x8002 ('*) ;;
	"1,$cannot"*' 0x8000 (the image): cd '*)
		[ -z "${BACKEND:-}" ] && [ "$1" != -r ] ;;
	*) false ;;
	esac || echo "INT 0x$2: $status, $why, $where" >>"$T/wrong"
}

service='AX is 0x0000, and there is no such service'
# Under kvm-pvm INTs from 0x80 up never leave KVM_RUN in real mode.
flat '\315\200' -r -t "$([ "${BACKEND:-}" ] && echo 2 || echo 0.2)"
case $status,${BACKEND:-} in
124,)
	like '-r: INT 0x80, and the time is over' "$err" \
		'the guest stopped: its time is over (--timeout)$'
	like '-r: INT 0x80, and the time is over: where' "$err" \
		'at address 0x8000 (the image): cd 80 '
	upper=
	;;
*)
	told '-r: INT 0x80' "INT 0x80, $service\$"
	upper=' 8 9 a b c d e f'
	;;
esac
# What is slow takes a part of them, each configuration of a backend another one.
case $SANITIZER${BACKEND_PARAMS:-} in
'') low='0 1 2 3 4 5 6 7 8 9 a b c d e f' ;;
*=1) low='0 2 4 6 8 a c e' ;;
*) low='1 3 5 7 9 b d f' ;;
esac
interrupts -r "0 1 2 3 4 5 6 7$upper" "$low" "$service"
for mode in -s -p -l; do
	need_mode $mode "$mode: INT" || continue
	interrupts $mode '0 1 8 f' '0 d f' 'and nothing handles it'
done

# What raises the same vectors without an INT is an exception: int3, into, bound.
flat '\314' -r
told 'INT3' 'exception 3, #BP breakpoint'
# mov $0x7f, %al; add $1, %al; into
flat '\260\177\004\001\316' -r
told 'INTO' 'exception 4, #OF overflow'
# An INT with the vector of an exception that brings an error code has none.
for mode in -s -p -l; do
	need_mode $mode "$mode: INT 13" || continue
	flat '\315\015' $mode
	case $err,${BACKEND:-} in
	"$cannot"*,)
		skip "$mode: INT 13" 'this KVM cannot do it' ;;
	*)
		like "$mode: INT 13" "$err" 'INT 0x0d, and nothing handles it$'
		unlike "$mode: INT 13 has no error code" "$err" 'error code' ;;
	esac
done

done_testing

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

watched() {
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
	succeeds "$mode -v: in the order it happens" in_order \
		': open."/dev/kvm", O_RDWR .* = [0-9]' \
		': KVM_GET_API_VERSION = 12$' ': KVM_CREATE_VM = [0-9]' \
		': KVM_SET_TSS_ADDR = 0$' \
		': mmap of RAM = 0x[0-9a-f]*$' \
		': KVM_SET_USER_MEMORY_REGION = 0$' \
		': KVM_CREATE_VCPU = [0-9]' ': KVM_GET_VCPU_MMAP_SIZE = [0-9]' \
		': mmap of struct kvm_run = 0x[0-9a-f]*$' ': KVM_GET_SREGS = 0$' \
		': KVM_SET_SREGS = 0$' ': KVM_GET_SREGS = 0$' \
		': KVM_SET_REGS = 0$' 'the image$' 'RAX 0' 'RIP 0*8000$' \
		'CR0  ' 'EFER  ' "$verdict"
	is "$mode -v: nothing but the verdict once it runs" \
		"$(printf '%s\n' "$err" | sed '1,/:   EFER  /d')" "$verdict"
	is "$mode -v: its own look at the registers is not told" \
		"$(lines ': KVM_GET_REGS = ')" 0
	# Where the image ends is the compiler's affair.
	is "$mode -v: the map, from the end of RAM down" \
		"$(sed -n 's/^simple-kvm:   \([+|]\)/\1/p' "$T/err" |
			awk '/^[|]    the image$/ { last = "+--- END" }
			NR > 1 { print last } { last = $0 } END { print last }')" \
		"+--- 0x200000
$(if [ "$mode" = -r ]; then
	echo '|    the exception stubs
+--- 0xf0000
|    RAM above the image, and the stack
+--- END
|    the image
+--- 0x8000
|    free memory
+--- 0x500'
else
	echo '|    RAM above the image, and the stack
+--- END
|    the image
+--- 0x8000
|    RAM below the image
+--- 0x7000
|    the page tables
+--- 0x2000
|    the IDT
+--- 0x1000
|    the exception stubs
+--- 0xc00
|    free memory below the tables
+--- 0x600
|    the GDT
+--- 0x500'
fi)
|    the result
+--- 0x400
|    the interrupt vectors of real mode
+--- 0x0"
	case $mode in
	-l) code=00af9b000000ffff ;;
	*) code=00cf9b000000ffff ;;
	esac
	case $mode in
	-r) want= ;;
	*) want="selector 0x00 = 0000000000000000
selector 0x08 = $code
selector 0x10 = 00cf93000000ffff" ;;
	esac
	is "$mode -v: GDT" "$(sed -n 's/^simple-kvm: GDT: //p' "$T/err")" "$want"
	run "$mode" -v "$GUESTS/exit$bits.bin"
	succeeds "$mode -v: an image from a file" in_order \
		': KVM_GET_VCPU_MMAP_SIZE = ' ': KVM_GET_SUPPORTED_CPUID = 0$' \
		': KVM_SET_CPUID2 = 0$' ': KVM_GET_SREGS = 0$'

	run "$mode" --trace
	is "$mode --trace: a line for each exit" "$(lines ': exit ')" 15
	like "$mode --trace: the first" "$err" '^simple-kvm: exit 1: '\
'KVM_EXIT_IO, RIP 0x80[0-9a-f]*: a 1-byte write of 0x48 to port 0xe9, count'\
' 1: "H"$'
	like "$mode --trace: a byte that does not print" "$err" \
		'exit 14: KVM_EXIT_IO, .* of 0xa to port 0xe9, count 1: "\\x0a"$'
	like "$mode --trace: the last" "$err" \
		'^simple-kvm: exit 15: KVM_EXIT_HLT, RIP 0x80[0-9a-f]*$'
	run "$mode" --trace "$GUESTS/ports$bits.bin"
	like "$mode --trace: an IN, with its data" "$err" \
		'a 2-byte read from port 0xe9, count 1: "\\xe9\\xe9"$'
	like "$mode --trace: 4 bytes" "$err" \
		'a 4-byte write of 0xa666564 to port 0xe9, count 1: "def\\x0a"$'
	run "$mode" --trace "$GUESTS/ud$bits.bin"
	like "$mode --trace: an exception is an exit" "$err" \
		'exit 8: KVM_EXIT_IO, .* write of .* to port 0xee, count 1: '
	if [ "$mode" = -s ]; then
		run -s --trace "$GUESTS/pfwrite32.bin"
		like '-s --trace: an exit without I/O' "$err" '^simple-kvm: '\
'exit 1: KVM_EXIT_MMIO, RIP 0x80[0-9a-f]*: a 2-byte write of 0xbeef to address'\
' 0x40000010$'
	fi

	run "$mode" --step
	[ "$mode" = -r ] && sp=8000 || sp=200000
	like "$mode --step: before the first instruction" \
		"$(grep -m 1 step: "$T/err")" \
		"^simple-kvm: step: RSP=$sp RIP=8000 RFLAGS=2; next:\
\( [0-9a-f][0-9a-f]\)\{8\}\$"
	like "$mode --step: changed registers, and only these" "$err" \
		'^simple-kvm: step: RAX=2a RIP=80[0-9a-f]*; next: '
	like "$mode --step: ends before the HLT" \
		"$(grep step: "$T/err" | tail -n 1)" '; next: f4 '
	# Bochs reports a step twice now and then: the second changes nothing.
	is "$mode --step: a line for each OUT" \
		"$(lines 'step: .*; next: \(e6 e9\|ee\) ')" 14
	run "$mode" --step --stats
	unlike "$mode --step: no HLT" "$err" 'KVM_EXIT_HLT'
	run "$mode" --step "$GUESTS/ud$bits.bin"
	is "$mode --step: a guest that fails" "$status" 1
	like "$mode --step: ...and why" "$err" 'exception 6, #UD'
	like "$mode --step: ...without KVM's own trap flag" "$err" \
		'RFLAGS 00000000000[0-9a-f]*[02468ace][0-9a-f][0-9a-f] '

	run "$mode" "$GUESTS/ud$bits.bin"
	report=$err
	run "$mode" -v "$GUESTS/ud$bits.bin"
	is "$mode -v: nothing but the report of a guest that fails" \
		"$(printf '%s\n' "$err" | sed '1,/:   EFER  /d')" "$report"

	# However it ends.
	run "$mode" --stats
	is "$mode --stats: halted" "$(sed "$no_times" "$T/err")" "$verdict
simple-kvm: KVM_RUN: 15 exits, N s; outside of it: N s
simple-kvm: KVM_EXIT_IO: 14
simple-kvm: KVM_EXIT_HLT: 1"
	run "$mode" --stats "$GUESTS/exit$bits.bin"
	is "$mode --stats: port 0xF4" "$status $(sed "$no_times" "$T/err")" \
		"85 simple-kvm: KVM_RUN: 4 exits, N s; outside of it: N s
simple-kvm: KVM_EXIT_IO: 4"
	run "$mode" --stats "$GUESTS/ud$bits.bin"
	is "$mode --stats: failed" "$(sed "$no_times" "$T/err" | tail -n 2)" \
		"simple-kvm: KVM_RUN: 8 exits, N s; outside of it: N s
simple-kvm: KVM_EXIT_IO: 8"
}
# Times, and where in an image, are left out of lines that are compared.
no_rip='s/RIP 0x80[0-9a-f]*/RIP/'
no_times='s/[0-9][0-9]*\.[0-9]\{6\} s/N s/g'
each_mode watched watched

# HLT is not for ring 3, also when stepped.
if [ "${BACKEND:-}" = svm ]; then
	skip 'HLT in ring 3' "QEMU's SVM stops at it"
elif need_mode -s 'HLT in ring 3'; then
	for option in '' --step; do
		# shellcheck disable=SC2086 # none or one
		run -s $option "$GUESTS/user32.bin"
		like "HLT in ring 3 $option" "$status $(grep failed "$T/err")" \
			'^1 .*: exception 13, #GP general protection$'
	done
fi

# Exits for any reason are counted.
if need_mode -l '--stats: KVM_EXIT_MMIO'; then
	run -l --stats "$GUESTS/mmio64.bin"
	is '--stats: KVM_EXIT_MMIO' "$(tail -n 1 "$T/err")" \
		'simple-kvm: KVM_EXIT_MMIO: 1'
fi

# An instruction is a step, one after an OUT, too: nop; out %al, $0xe9; nop; nop;
# in $0xe9, %al; nop; hlt.
printf '\220\346\351\220\220\344\351\220\364' >"$T/steps"
run -r --step "$T/steps"
is '--step: every instruction, also after I/O' \
	"$(sed -n 's/.*: step:\(.*\); next: \(..\).*/\1 \2/p' "$T/err")" \
	' RSP=8000 RIP=8000 RFLAGS=2 90
 RIP=8001 e6
 RIP=8003 90
 RIP=8004 90
 RIP=8005 e4
 RAX=e9 RIP=8007 90
 RIP=8008 f4'

# One that changes nothing is none: mov $'x', %al; out %al, $0xe9; jmp to itself.
printf '\260x\346\351\353\376' >"$T/steps"
run -r --step "$T/steps"
is '--step: where nothing changes, nothing is said' "$status $(lines step:)" \
	'0 3'

# A guest of four OUTs: the first and the last characters that are shown as they
# are, and their neighbours. mov $N, %al; out %al, $0xe9; ... hlt
for byte in 037 040 176 177; do
	# shellcheck disable=SC2059 # the format is the byte
	printf "\\260\\$byte\\346\\351"
done >"$T/outs"
printf '\364' >>"$T/outs"
limit "$SIMPLE_KVM" -r --trace "$T/outs" >"$T/both" 2>&1
is '--trace: characters, each output before its exit' \
	"$(sed "$no_rip" "$T/both")" "\
$(printf '\037')simple-kvm: exit 1: KVM_EXIT_IO, RIP: a 1-byte write of 0x1f\
 to port 0xe9, count 1: \"\\x1f\"
 simple-kvm: exit 2: KVM_EXIT_IO, RIP: a 1-byte write of 0x20\
 to port 0xe9, count 1: \" \"
~simple-kvm: exit 3: KVM_EXIT_IO, RIP: a 1-byte write of 0x7e\
 to port 0xe9, count 1: \"~\"
$(printf '\177')simple-kvm: exit 4: KVM_EXIT_IO, RIP: a 1-byte write of 0x7f\
 to port 0xe9, count 1: \"\\x7f\"
simple-kvm: exit 5: KVM_EXIT_HLT, RIP"

# What REP INS brings may be more than is shown. mov $0xe9, %dx; mov $COUNT, %cx;
# mov $0x9000, %di; rep insb, insw or insl; hlt
ins() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\272\\351\\0\\271\\$(printf %03o "$2")\\0\\277\\0\\220$3\\364" \
		>"$T/ins"
	run -r --trace "$T/ins"
	is "--trace: rep ins of $2 times $1" "$(sed "$no_rip" "$T/err")" \
		"simple-kvm: exit 1: KVM_EXIT_IO, RIP: a $1-byte read from port\
 0xe9, count $2: $4
simple-kvm: exit 2: KVM_EXIT_HLT, RIP"
}
e9='\xe9\xe9\xe9\xe9'
ins 1 3 '\363\154\220' '"\xe9\xe9\xe9"'
ins 1 16 '\363\154\220' "\"$e9$e9$e9$e9\""
ins 1 17 '\363\154\220' "\"$e9$e9$e9$e9\""
ins 2 8 '\363\155\220' "\"$e9$e9$e9$e9\""
ins 2 9 '\363\155\220' "\"$e9$e9$e9$e9\""
ins 4 2 '\146\363\155' "\"$e9$e9\""
ins 4 60 '\146\363\155' "\"$e9$e9$e9$e9\""

# walks: the ways through the page tables that -v shows, without "simple-kvm: ".
walks() {
	sed -n 's/^simple-kvm: \(address 0x\|  P[DM]\|  physical\)/\1/p' "$T/err"
}
if need_mode -l 'page tables of long mode'; then
	run -l -v -m 3G
	is '-l -v: the ways of the entry, and of the last byte' "$(walks)" \
		'address 0x8000: CR3 = 0x2000
  PML4[0] = 0x3007 PRESENT RW USER
  PDPT[0] = 0x4007 PRESENT RW USER
  PD[0] = 0x87 PRESENT RW USER PS
  physical address 0x8000
address 0xbfffffff: CR3 = 0x2000
  PML4[0] = 0x3007 PRESENT RW USER
  PDPT[2] = 0x6007 PRESENT RW USER
  PD[511] = 0xbfe00087 PRESENT RW USER PS
  physical address 0xbfffffff'
fi
if need_mode -p 'the page directory of 32-bit paging'; then
	run -p -v -m 16M
	is '-p -v: the ways of the entry, and of the last byte' "$(walks)" \
		'address 0x8000: CR3 = 0x2000
  PD[0] = 0x87 PRESENT RW USER PS
  physical address 0x8000
address 0xffffff: CR3 = 0x2000
  PD[3] = 0xc00087 PRESENT RW USER PS
  physical address 0xffffff'
fi
for mode in -r -s; do
	run $mode -v
	is "$mode -v: no page tables" "$(walks)" ''
done

# read_times: set $in and $outside to the times that --stats has told.
read_times() {
	in=$(sed -n 's/.* exits, \(.*\) s; outside of it: .*/\1/p' "$T/err")
	outside=$(sed -n 's/.* exits, .*; outside of it: \(.*\) s$/\1/p' "$T/err")
	comment "in KVM_RUN: $in s, outside: $outside s"
}
# at_least X Y: X >= Y, as numbers, and both are some.
at_least() { awk "BEGIN { exit !($1 >= $2 && $2 > 0) }"; }

# The numbers are right, too, for a guest that is stopped.
if [ "${BACKEND:-}" = vmx ]; then
	skip '--stats of a spinning guest' 'a loop without interrupts stops Bochs'
else
	before=$(cut -d ' ' -f 1 /proc/uptime)
	run_for_a_time -l --stats "$GUESTS/spin64.bin"
	after=$(cut -d ' ' -f 1 /proc/uptime)
	is '--stats of a spinning guest' \
		"$status $(sed "$no_times" "$T/err" | tail -n 2)" \
		"124 simple-kvm: KVM_RUN: 9 exits, N s; outside of it: N s
simple-kvm: KVM_EXIT_IO: 9"
	# The clock and the timer are the same, so it cannot be less; and it
	# cannot be more than the time from before to after, in hundredths.
	read_times
	succeeds '--stats of a spinning guest: all of the time' \
		at_least "$in + $outside" "$seconds"
	succeeds '--stats of a spinning guest: the guest had most of it' \
		at_least "$in" "$seconds / 2"
	succeeds '--stats of a spinning guest: and not more' \
		at_least "$after - $before + 0.01" "$in + $outside"
fi

# What strace holds up, in microseconds, is in the one or in the other.
if need_command strace '--stats: which time is which'; then
	traced ioctl '' -l
	create=$(call_number ioctl KVM_CREATE_VM)
	number=$(call_number ioctl KVM_RUN)
	traced ioctl "ioctl:delay_exit=200000:when=$number" -l --stats
	read_times
	succeeds '--stats: the time in KVM_RUN' at_least "$in" 0.2
	traced ioctl "ioctl:delay_exit=200000:when=$create" -l --stats
	read_times
	succeeds '--stats: the time outside of it' at_least "$outside" 0.2
fi

done_testing

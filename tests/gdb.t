#!/bin/sh
# gdb itself can debug a guest through --gdb, in each mode: breakpoints, finish,
# variables and calls, faults, ^C, output, monitor; and if gdb is killed,
# simple-kvm ends, too. FULL=1 tries protected mode as well.
# backends: no (needs gdb)
# shellcheck disable=SC2016 # the variables in single quotes are gdb's
. "${0%/*}/lib.sh"
need_kvm
command -v gdb >/dev/null || skip_all 'gdb is not installed'
(cd "${TESTS%/*}" && for n in 16 32 64; do
	${MAKE:-make} -s "tests/guests/debug$n.elf" \
		"tests/guests/spin$n.elf"
done) >"$T/log" 2>&1 || bail_out "$(cat "$T/log")"
mkfifo "$T/fifo"
# The commands for gdb have these by name, whatever characters are in them.
export HOME="$T" SIMPLE_KVM image

# target: the command for gdb that starts simple-kvm on $image.
target() { echo 'target remote | "$SIMPLE_KVM" --gdb '"$mode"' "$image"'; }

# debug IMAGE COMMAND...: have gdb execute the commands, once the guest waits.
# $out is what it says, $all this and the guest's output and all messages.
debug() {
	image=$1
	shift
	for command; do
		shift
		set -- "$@" -ex "$command"
	done
	case $image in *.elf) set -- "$@" "$image" ;; esac
	capture gdb -nx -batch -ex 'set confirm off' -ex "$(target)" "$@"
	all=$out$err
}

# wait_for TEXT: read lines from file 3 until one has it.
wait_for() {
	while read -r line <&3; do
		case $line in *"$1"*) return ;; esac
	done
	return 1
}

# start_gdb GUEST TARGET COMMANDS: start gdb, with its output to the fifo, and its
# process in $T/pid. It is not for limit, as it may be killed here, too.
start_gdb() {
	image=$GUESTS/$1$bits.elf
	printf '%s\n' 'set confirm off' 'shell echo $PPID >"$HOME/pid"' \
		"$2" "$3" 'print 6 * 7' 'x/i $pc' >"$T/script"
	timeout -s KILL "$RUN_LIMIT" gdb -nx -batch -x "$T/script" "$image" \
		>"$T/fifo" 2>&1 </dev/null &
}

# interrupted GUEST COMMANDS TEXT: when the guest has said TEXT, send gdb a ^C.
interrupted() {
	start_gdb "$1" "$(target)" "$2"
	exec 3<"$T/fifo"
	wait_for "$3"
	kill -INT "$(cat "$T/pid")"
	limit cat <&3 >"$T/rest"
	exec 3<&-
	like "$mode $1: ^C" "$(cat "$T/rest")" 'received signal SIGINT'
	like "$mode $1: ^C: gdb goes on" "$(cat "$T/rest")" '= 42'
	like "$mode $1: ^C: the guest is there" "$(cat "$T/rest")" '=> 0x80'
}

in_gdb() {
	if [ "$mode${FULL:-}" = -s ]; then
		skip "$mode: gdb" 'FULL=1 tries it'
		return
	fi
	elf=$GUESTS/debug$bits.elf
	debug "$elf" 'break add' c bt finish 'print total' 'print twice(1)' \
		'info breakpoints' 'delete' 'print twice(1)' 'print total' \
		'set var total = 100' 'print/d add(1)' 'monitor regs' c bt
	like "$mode: break" "$out" 'Breakpoint 1, add (n=.*3)'
	like "$mode: backtrace, the caller" "$out" '^#1 .* twice (n=.*3)'
	like "$mode: backtrace, its caller" "$out" '^#2 .* main ()'
	like "$mode: finish" "$out" '^Value returned is $1 = 8'
	like "$mode: a variable" "$out" '^$2 = 8'
	like "$mode: a call" "$out" '^$3 = 19'
	like "$mode: a call that has changed it" "$out" '^$4 = 10'
	like "$mode: a call after having set it" "$out" '^$5 = 101'
	like "$mode: monitor" "$all" 'CR0  '
	like "$mode: monitor: segments" "$all" 'CS  .* base '
	like "$mode: the guest's output" "$all" '^two$'
	debug "$elf" c bt c
	like "$mode: a fault" "$out" 'received signal SIGILL'
	like "$mode: a fault: where" "$out" '^#0 .* die ()'
	like "$mode: a fault: its caller" "$out" '^#1 .* main ()'
	like "$mode: a fault: why" "$all" '^simple-kvm: .*#UD invalid opcode$'
	like "$mode: its end" "$out" 'Program terminated with signal SIGILL'

	debug "$elf" 'break main' c next next 'stepi 3' 'x/i $pc' kill
	is "$mode: next over output" "$(sed -n '/^one$/p; /^two$/p' "$T/err")" \
		"one${NL}two"
	unlike "$mode: next: no error" "$all" '[Ee]rror\|annot\|ignored'

	# ^C, while the guest runs, and while gdb steps.
	interrupted spin c spinning
	interrupted debug 'break die
		continue
		return
		next
		next' tick

	# If gdb is killed, simple-kvm goes, and closes file 9.
	mkfifo "$T/alive"
	start_gdb spin 'target remote | exec 9>"$HOME/alive"; \
		"$SIMPLE_KVM" --gdb '"$mode"' "$image"' c
	exec 3<"$T/fifo" # in this order: gdb starts when it is open
	exec 4<"$T/alive"
	wait_for spinning
	kill -9 "$(cat "$T/pid")"
	succeeds "$mode: gdb is killed" limit cat <&4
	exec 3<&- 4<&-
	rm "$T/alive"
}
each_mode gdb in_gdb

# More output than fits into the pipe between the two: 28 KiB of lines, 4 times.
# mov $0xe9, %dx; mov $4, %bx; 1: mov $0x8020, %si; mov $0x1c00, %cx; rep outsl;
# dec %bx; jnz 1b; hlt; .org 0x20
printf '\272\351\0\273\4\0\276\040\200\271\0\034\146\363\157'\
'\113\165\364\364\0\0\0\0\0\0\0\0\0\0\0\0\0' >"$T/lines.bin"
awk 'BEGIN { for (; n < 448; n++) printf "%063d\n", n }' >"$T/lines"
cat "$T/lines" >>"$T/lines.bin"
cat "$T/lines" "$T/lines" "$T/lines" "$T/lines" >"$T/want"
mode=-r
debug "$T/lines.bin" c
grep -x '[0-9]\{63\}' "$T/err" >"$T/got" # gdb warns of no symbols
succeeds 'output that fills the pipe' cmp "$T/want" "$T/got"
like 'the end of the guest' "$out" 'exited normally\]$'

done_testing

#!/bin/sh
# gdb itself can debug a guest through --gdb, in each mode: breakpoints, finish,
# variables and calls, faults, ^C, output, monitor; and if gdb is killed,
# simple-kvm ends, too.
# backends: no (needs gdb)
# shellcheck disable=SC2016 # the variables in single quotes are gdb's
. "${0%/*}/lib.sh"
need_kvm
command -v gdb >/dev/null || skip_all 'gdb is not installed'
(cd "${TESTS%/*}" && for n in 16 32 64; do
	${MAKE:-make} -s "tests/guests/debug$n.elf" \
		"tests/guests/spin$n.elf" "tests/guests/mebibyte$n.elf"
done) >"$T/log" 2>&1 || bail_out "$(cat "$T/log")"
mkfifo "$T/fifo"
export HOME="$T"

# target ARGUMENT...: the command for gdb that starts simple-kvm.
target() { echo "target remote | '$SIMPLE_KVM' --gdb $*"; }

# debug ELF COMMAND...: have gdb execute the commands, once the guest waits.
# $out is what it says, $all this and the guest's output and all messages.
debug() {
	elf=$GUESTS/$1$bits.elf
	shift
	for command; do
		shift
		set -- "$@" -ex "$command"
	done
	timeout 60 gdb -nx -batch -ex 'set confirm off' \
		-ex "$(target "$mode" "'$elf'")" "$@" "$elf" \
		>"$T/out" 2>"$T/err" </dev/null
	out=$(cat "$T/out")
	all=$(cat "$T/out" "$T/err")
}

# wait_for TEXT: read lines from file 3 until one has it.
wait_for() {
	while read -r line <&3; do
		case $line in *"$1"*) return ;; esac
	done
	return 1
}

# start_gdb GUEST TARGET COMMANDS: start gdb, with its output to the fifo, and its
# process in $T/pid.
start_gdb() {
	printf '%s\n' 'set confirm off' 'shell echo $PPID >"$HOME/pid"' "$2" "$3" 'echo now\n' 'print 6 * 7' \
		'x/i $pc' >"$T/script"
	timeout 60 gdb -nx -batch -x "$T/script" "$GUESTS/$1$bits.elf" \
		>"$T/fifo" 2>&1 </dev/null &
}

# interrupted GUEST COMMANDS TEXT: when the guest has said TEXT, send gdb a ^C.
interrupted() {
	start_gdb "$1" "$(target "$mode" "'$GUESTS/$1$bits.elf'")" "$2"
	exec 3<"$T/fifo"
	wait_for "$3"
	kill -INT "$(cat "$T/pid")"
	timeout 60 cat <&3 >"$T/rest"
	exec 3<&-
	like "$mode $1: ^C" "$(cat "$T/rest")" 'received signal SIGINT'
	like "$mode $1: ^C: gdb goes on" "$(cat "$T/rest")" '= 42'
	like "$mode $1: ^C: the guest is there" "$(cat "$T/rest")" '=> 0x80'
}

for pair in -r16 -s32 -p32 -l64; do
	mode=${pair%??} bits=${pair#??}
	need_mode "$mode" "$mode: gdb" || continue

	debug debug 'break add' c bt finish 'print total' 'print twice(1)' \
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
	debug debug c bt c
	like "$mode: a fault" "$out" 'received signal SIGILL'
	like "$mode: a fault: where" "$out" '^#0 .* die ()'
	like "$mode: a fault: its caller" "$out" '^#1 .* main ()'
	like "$mode: a fault: why" "$all" '^simple-kvm: .*#UD invalid opcode$'
	like "$mode: its end" "$out" 'Program terminated with signal SIGILL'

	debug debug 'break main' c next next 'stepi 3' 'x/i $pc' kill
	is "$mode: next over output" "$(sed -n '/^one$/p; /^two$/p' "$T/err")" \
		"one${NL}two"
	unlike "$mode: next: no error" "$all" '[Ee]rror\|annot\|ignored'

	debug mebibyte c
	"$SIMPLE_KVM" "$mode" "$GUESTS/mebibyte$bits.elf" >"$T/want"
	succeeds "$mode: 1 MiB of output" cmp "$T/want" "$T/err"
	like "$mode: the end of the guest" "$out" 'exited normally\]$'

	# ^C, while the guest runs, and while gdb steps.
	interrupted spin c spinning
	interrupted debug 'break die
		continue
		return
		next
		next' tick

	# If gdb is killed, simple-kvm goes, and closes file 9.
	mkfifo "$T/alive"
	start_gdb spin "target remote | exec 9>'$T/alive'; \
		'$SIMPLE_KVM' --gdb $mode '$GUESTS/spin$bits.elf'" c
	exec 3<"$T/fifo" # in this order: gdb starts when it is open
	exec 4<"$T/alive"
	wait_for spinning
	kill -9 "$(cat "$T/pid")"
	succeeds "$mode: gdb is killed" timeout 60 cat <&4
	exec 3<&- 4<&-
	rm "$T/alive"
done
done_testing

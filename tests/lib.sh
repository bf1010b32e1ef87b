# shellcheck shell=sh
# tests/lib.sh - what the tests share: running simple-kvm, and printing TAP.
#
# A test sources this file with `. "${0%/*}/lib.sh"' and ends with
# `done_testing'. It has:
#   $SIMPLE_KVM  the program, as an absolute path
#   $GUESTS      the directory of the test guests, built by the Makefile
#   $T           a directory of its own, removed at the end
#   $SANITIZER   yes if the program is the build of SANITIZE=1, or nothing
#
# Nothing that a test runs may run for good: whatever could goes through run,
# capture or limit.
#
# The line `# backends: yes' or `# backends: no (why)' near the top of a test
# says whether `make test-backends' runs it, where there is only busybox.

TESTS=$(cd "${0%/*}" && pwd)
SIMPLE_KVM=${SIMPLE_KVM:-${TESTS%/*}/simple-kvm}
# shellcheck disable=SC2034 # for the tests
GUESTS=$TESTS/guests
T=$(mktemp -d) || exit 1
trap finish EXIT
trap 'exit 129' HUP INT TERM
export LC_ALL=C
case $SIMPLE_KVM in */asan/*) SANITIZER=yes ;; *) SANITIZER= ;; esac
# What the sanitizers find ends the program with a status that it never has
# itself. Their search for leaks does not work under strace.
export ASAN_OPTIONS=exitcode=100:detect_leaks=0 UBSAN_OPTIONS=exitcode=100

# The seconds that one command may take: far more than any needs.
RUN_LIMIT=${RUN_LIMIT:-${SANITIZER:+120}}
RUN_LIMIT=${RUN_LIMIT:-60}

# Newline, for patterns and expected output.
NL='
'

count=0
failures=0
printf X >"$T/mark"

# finish: what is left to do, however the test ends.
finish() {
	[ ! -s "$T/over" ] || result 1 "$(cat "$T/over")"
	rm -rf "$T"
}

# result STATUS WHAT: print the TAP line of one test.
result() {
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		failures=$((failures + 1))
	fi
}

# comment TEXT: print it line by line as a TAP diagnostic.
comment() { printf '%s\n' "$1" | sed 's/^/#   /'; }

# is WHAT GOT WANT: the two strings are the same.
is() {
	if [ "$2" = "$3" ]; then
		result 0 "$1"
	else
		result 1 "$1"
		comment "got:  $2"
		comment "want: $3"
	fi
}

# matches TEXT PATTERN: one of its lines matches the basic regular expression.
matches() {
	grep -q -e "$2" <<-TEXT
		$1
	TEXT
}

# like WHAT GOT PATTERN: one line of GOT matches.
like() {
	if matches "$2" "$3"; then
		result 0 "$1"
	else
		result 1 "$1"
		comment "got:     $2"
		comment "pattern: $3"
	fi
}

# unlike WHAT GOT PATTERN: no line of GOT matches it.
unlike() {
	if matches "$2" "$3"; then
		result 1 "$1"
		comment "got: $2"
	else
		result 0 "$1"
	fi
}

# succeeds WHAT COMMAND...: the command ends with status 0.
succeeds() {
	what=$1
	shift
	if "$@" >"$T/succeeds" 2>&1; then
		result 0 "$what"
	else
		result 1 "$what"
		comment "$(cat "$T/succeeds")"
	fi
}

# skip WHAT WHY: the test cannot be made here.
skip() {
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

# skip_all WHY: none of this file's tests, or none of those that would follow,
# can be made here.
skip_all() {
	if [ "$count" -gt 0 ]; then
		skip 'the other tests' "$1"
		done_testing
		exit
	fi
	echo "1..0 # SKIP $1"
	exit 0
}

# bail_out WHY: nothing can be tested, and that is a failure.
bail_out() {
	echo "Bail out! $1"
	exit 1
}

done_testing() {
	echo "1..$count"
	[ "$failures" = 0 ]
}

# limit COMMAND...: run the command, but for RUN_LIMIT seconds at most: then it
# is killed, and the whole test fails. So no command may end with status 137,
# as if by SIGKILL, for another reason. The command and what it has started are
# a process group of their own; its process id is not $!. In an emulated machine
# processes are dear, and the whole test has a limit: there it is just run.
limit() {
	if [ "${BACKEND:-}" ]; then
		"$@"
		return
	fi
	timeout -s KILL "$RUN_LIMIT" "$@" || {
		set -- $? "$@"
		[ "$1" = 137 ] || return "$1"
		shift
		echo "ran for more than $RUN_LIMIT s: $*" |
			tr '\n' ' ' >"$T/over"
		kill -TERM $$
		return 137
	}
}

# with_pid COMMAND...: limit it, with its process id in $T/pid, for what runs in
# the background.
with_pid() {
	rm -f "$T/pid"
	# shellcheck disable=SC2016 # for that shell
	limit sh -c 'echo $$ >"$0"; exec "$@"' "$T/pid" "$@"
}

# hand_over FILE FIFO: write the file to it, within the limit, also if nobody
# opens it.
hand_over() { limit dd if="$1" of="$2" bs=64k 2>/dev/null; }

# capture COMMAND...: run it within the limit. $status, $out and $err are what
# came of it; the latter two are in $T/out and $T/err as well.
capture() {
	status=0
	limit "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	contents "$T/out"
	out=$contents
	contents "$T/err"
	err=${contents%"$NL"}
}

# contents FILE: $contents is what it has, newlines at its end included. Where
# that is a line at most, and so it mostly is, it takes no other process.
contents() {
	contents='' more=''
	if { IFS= read -r contents &&
		contents=$contents$NL && IFS= read -r more; } <"$1" ||
		[ "$more" ]
	then
		contents=$(cat "$1" "$T/mark") # the mark keeps the newlines
		contents=${contents%X}
	fi
}

# run ARGUMENT...: capture simple-kvm.
run() { capture "$SIMPLE_KVM" "$@"; }

# run_for_a_time ARGUMENT...: run a guest that prints, and never ends, with a
# --timeout of $seconds: where that is too short for it to print, with more.
run_for_a_time() {
	for seconds in 0.1 2 20; do
		run -t $seconds "$@"
		[ -z "$out" ] || return 0
	done
}

# traced CALLS FAULT ARGUMENT...: run simple-kvm under strace, which leaves these
# system calls in $T/trace. FAULT, if not empty, is for its option -e inject=.
traced() {
	calls=$1 fault=$2
	shift 2
	capture strace -o "$T/trace" -e trace="$calls" \
		${fault:+-e "inject=$fault"} "$SIMPLE_KVM" "$@"
}

# call_number CALL TEXT [N]: print which of the system calls of this name in
# $T/trace is the first, or the Nth, that has the text: what `when=' wants.
call_number() {
	grep "^$1(" "$T/trace" | grep -nFe "$2" | sed -n "${3:-1}s/:.*//p"
}

# copy_tree DIRECTORY: what git has or would have, as in a clone; without git,
# all there is.
copy_tree() (
	mkdir -p "$1" && cd "${TESTS%/*}" || exit
	if git rev-parse >/dev/null 2>&1; then
		git ls-files -co --exclude-standard |
			while IFS= read -r f; do [ ! -e "$f" ] || echo "$f"; done |
			tar -cf - -T - | tar -xf - -C "$1"
	else
		tar -cf - . | tar -xf - -C "$1" && make -s -C "$1" clean
	fi
)

# has_mode OPTION: does this KVM have the mode? It may be refused for want of a
# bit; anything else that goes wrong is for the tests to see.
has_mode() {
	run "$1"
	[ "$status" != 3 ] || case $err in
	*': this KVM lacks it, for it did not set'*) [ "${REQUIRE_KVM:-}" = all ] ;;
	*) true ;;
	esac
}

# need_mode OPTION WHAT: as has_mode; where it is not so, skip the test WHAT.
need_mode() {
	has_mode "$1" && return
	skip "$2" "this KVM lacks the mode $1"
	return 1
}

# each_mode WHAT FUNCTION: call it for each mode, with the option in $mode and
# the size of its registers in $bits; skip WHAT for a mode that this KVM lacks.
each_mode() {
	for pair in -r16 -s32 -p32 -l64; do
		# shellcheck disable=SC2034 # for the tests
		mode=${pair%??} bits=${pair#??}
		! need_mode "$mode" "$mode: $1" || "$2"
	done
}

# need_command COMMAND WHAT: is it installed? If not, skip the test WHAT.
need_command() {
	command -v "$1" >/dev/null && return
	skip "$2" "$1 is not installed"
	return 1
}

# need_kvm: go on only if there is a /dev/kvm. With REQUIRE_KVM=1 its absence
# is a failure; with REQUIRE_KVM=all the absence of a mode is one, too.
need_kvm() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] && return
	why='no /dev/kvm that can be read and written'
	[ -z "${REQUIRE_KVM:-}" ] || bail_out "$why, and REQUIRE_KVM is set"
	skip_all "$why"
}

# once_a_backend: go on, but of an emulated machine's configurations only in the
# first: what follows does not depend on how KVM uses the CPU, and is slow there.
once_a_backend() {
	case ${BACKEND_PARAMS:-} in
	npt=0 | ept=0 | unrestricted_guest=0)
		skip_all "$BACKEND has this in another configuration" ;;
	esac
}

# need_sanitizer: go on only with the sanitizers' build, in $SANITIZED. Tests
# that run at the same time do not both build it.
need_sanitizer() {
	# shellcheck disable=SC2086 # a command may be several words
	(cd "${TESTS%/*}" && flock tests ${MAKE:-make} -s asan/simple-kvm) \
		>"$T/log" 2>&1 ||
		skip_all "no sanitizer build: $(tail -n 1 "$T/log")"
	# shellcheck disable=SC2034 # for the tests
	SANITIZED=${TESTS%/*}/asan/simple-kvm
}

# shellcheck shell=sh
# tests/lib.sh - what the tests share: running simple-kvm, and printing TAP.
#
# A test sources this file with `. "${0%/*}/lib.sh"' and ends with
# `done_testing'. It has:
#   $SIMPLE_KVM  the program, as an absolute path
#   $GUESTS      the directory of the test guests, built by the Makefile
#   $T           a directory of its own, removed at the end
#
# The line `# backends: yes' or `# backends: no (why)' near the top of a test
# says whether `make test-backends' runs it, where there is only busybox.

TESTS=$(cd "${0%/*}" && pwd)
SIMPLE_KVM=${SIMPLE_KVM:-${TESTS%/*}/simple-kvm}
# shellcheck disable=SC2034 # for the tests
GUESTS=$TESTS/guests
T=$(mktemp -d) || exit 1
trap 'rm -rf "$T"' EXIT
trap 'exit 129' HUP INT TERM
export LC_ALL=C

count=0
failures=0

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

# like WHAT GOT PATTERN: one line of GOT matches the basic regular expression.
like() {
	if printf '%s\n' "$2" | grep -q -e "$3"; then
		result 0 "$1"
	else
		result 1 "$1"
		comment "got:     $2"
		comment "pattern: $3"
	fi
}

# unlike WHAT GOT PATTERN: no line of GOT matches it.
unlike() {
	if printf '%s\n' "$2" | grep -q -e "$3"; then
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

# run ARGUMENT...: run simple-kvm. $status, $out and $err are what came of it.
run() {
	status=0
	"$SIMPLE_KVM" "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	# A trailing X keeps the newlines at the end from being dropped.
	out=$(cat "$T/out"; echo X)
	out=${out%X}
	err=$(cat "$T/err")
}

# Newline, for patterns and expected output.
# shellcheck disable=SC2034 # for the tests
NL='
'

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

# need_kvm: go on only if there is a /dev/kvm. With REQUIRE_KVM=1 its absence
# is a failure; with REQUIRE_KVM=all the absence of a mode is one, too.
need_kvm() {
	[ -r /dev/kvm ] && [ -w /dev/kvm ] && return
	why='no /dev/kvm that can be read and written'
	[ -z "${REQUIRE_KVM:-}" ] || bail_out "$why, and REQUIRE_KVM is set"
	skip_all "$why"
}

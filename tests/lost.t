#!/bin/sh
# What the guest has written is there whatever ends the run; and where it cannot
# be written, to a full disk, a file that may not grow or a pipe that does not
# block, the status is 3, and the message tells the reason.
# backends: no (needs strace and perl, and compiles)
. "${0%/*}/lib.sh"
need_kvm
has_mode -l || skip_all 'this KVM does not have the mode -l'

# lost WHAT REASON: that this is how it ended, in one line.
lost() {
	is "$1: status" "$status" 3
	is "$1: why" "$(cat "$T/err")" \
		"simple-kvm: write to standard output: $2"
}

# ---------------------------------------------------- when KVM fails in the midst

if command -v strace >/dev/null && command -v perl >/dev/null; then
	# The sanitizer's search for leaks does not work under ptrace.
	export ASAN_OPTIONS=detect_leaks=0
	# The number of KVM_RUN's first call among the calls of ioctl.
	first=$(strace -e trace=ioctl "$SIMPLE_KVM" -l 2>&1 >"$T/out" |
		grep '^ioctl' | grep -n 'KVM_RUN' | sed -n '1s/:.*//p')
	# Each of its KVM_RUN calls but the first returns after one byte more.
	for n in 0 1 6 14; do
		status=0
		timeout 20 strace -o "$T/trace" -e trace=ioctl \
			-e inject="ioctl:error=EIO:when=$((first + n))" \
			"$SIMPLE_KVM" -l >"$T/out" 2>"$T/err" || status=$?
		is "KVM_RUN fails after $n bytes: status" "$status" 3
		is "KVM_RUN fails after $n bytes: why" "$(cat "$T/err")" \
			'simple-kvm: KVM_RUN: Input/output error'
		is "KVM_RUN fails after $n bytes: output" "$(cat "$T/out")" \
			"$(echo 'Hello, world!' | head -c $n)"
	done
	# While it writes what it has, to a pipe that is full for a while, ticks
	# come. They do not change why it failed.
	# shellcheck disable=SC2016 # perl's variables
	timeout 20 perl -e 'use Fcntl; pipe R, W; fcntl W, F_SETFL, O_NONBLOCK;
		while (syswrite W, "x") { }
		fcntl W, F_SETFL, 0;
		if (!fork) { open STDOUT, ">&W"; exec @ARGV; }
		close W;
		select undef, undef, undef, 0.3;
		while (<R>) { s/^x+//; print }' \
		strace -o "$T/trace" -e trace=ioctl \
		-e inject="ioctl:error=EIO:when=$((first + 6))" \
		"$SIMPLE_KVM" -l -t 100 >"$T/out" 2>"$T/err"
	is 'KVM_RUN fails, and the output is read late: output' \
		"$(cat "$T/out")" 'Hello,'
	is 'KVM_RUN fails, and the output is read late: why' \
		"$(cat "$T/err")" 'simple-kvm: KVM_RUN: Input/output error'
else
	skip 'KVM_RUN fails' 'needs strace and perl'
fi

# The same with bytes in the ring of --coalesce, which only a KVM_RUN can leave
# there: in this build each one that would succeed has failed. Before that, once,
# it has been interrupted, and the flush with it.
cat >"$T/wrap.c" <<'C'
#include <errno.h>
#include <linux/kvm.h>

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	static int calls;
	int ret;

	if (request == KVM_RUN && !calls++) {
		errno = EINTR;
		return -1;
	}
	ret = __real_ioctl(fd, request, arg);
	if (request == KVM_RUN && ret == 0) {
		errno = EIO;
		ret = -1;
	}
	return ret;
}
C
copy_tree "$T/tree" || exit 1
# shellcheck disable=SC2016 # for that shell
succeeds 'a build whose KVM_RUN fails' sh -c '
	${CC:-cc} -fPIE -c -o "$0/wrap.o" "$0/wrap.c" &&
	${MAKE:-make} -s -C "$0/tree" simple-kvm \
		LDFLAGS="-Wl,--wrap=ioctl $0/wrap.o"' "$T"
program=$SIMPLE_KVM
SIMPLE_KVM=$T/tree/simple-kvm
"$program" -l -c --stats >"$T/out" 2>"$T/err"
if grep -q 'KVM_EXIT_IO' "$T/err"; then
	skip 'bytes in the ring' 'this KVM has no coalesced PIO'
else
	run -l -c
	is 'KVM_RUN fails, bytes in the ring: status' "$status" 3
	is 'KVM_RUN fails, bytes in the ring: output' "$out" "Hello, world!$NL"
	is 'KVM_RUN fails, bytes in the ring: why' "$err" \
		'simple-kvm: KVM_RUN: Input/output error'
	status=0
	"$SIMPLE_KVM" -l -c >/dev/full 2>"$T/err" || status=$?
	lost 'KVM_RUN fails, and so does the output' 'No space left on device'
fi
SIMPLE_KVM=$program

# --------------------------------------------------- when it cannot all be written

# writes BYTES: make a guest of real mode that writes as many: words of four bytes
# by one rep outsl, and the rest by a rep outsb.
writes() {
	# mov $0xe9, %dx; mov $COUNT, %cx; rep outsl; mov $COUNT, %cx; rep outsb; hlt
	# shellcheck disable=SC2059 # the format is the bytes
	printf "\\272\\351\\0$(count $(($1 / 4)))\\146\\363\\157" >"$T/writes.bin"
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$(count $(($1 % 4)))\\363\\156\\364" >>"$T/writes.bin"
}
count() { printf '\\271\\%03o\\%03o' $(($1 % 256)) $(($1 / 256)); }

if [ -c /dev/full ]; then
	# Nothing; little; what may be a buffer's size, and a byte less and more.
	writes 0
	"$SIMPLE_KVM" -r "$T/writes.bin" >/dev/full 2>"$T/err"
	is 'nothing to /dev/full' "$? $(cat "$T/err")" '0 '
	for n in 1 4095 4096 4097 65535 65536 65537 131071 131072 131073; do
		writes $n
		run -r "$T/writes.bin"
		is "the guest writes $n bytes" "$status $(wc -c <"$T/out")" "0 $n"
		status=0
		"$SIMPLE_KVM" -r "$T/writes.bin" >/dev/full 2>"$T/err" ||
			status=$?
		lost "$n bytes to /dev/full" 'No space left on device'
	done
	# However it ends.
	for end in exit64 ud64 nosuch64; do
		status=0
		"$SIMPLE_KVM" -l "$GUESTS/$end.bin" >/dev/full 2>"$T/err" ||
			status=$?
		lost "$end to /dev/full" 'No space left on device'
	done
	status=0
	"$SIMPLE_KVM" -l -t 20 "$GUESTS/prompt64.bin" >/dev/full 2>"$T/err" ||
		status=$?
	lost 'a prompt to /dev/full, at a tick' 'No space left on device'
	for option in --help -h --version; do
		status=0
		"$SIMPLE_KVM" $option >/dev/full 2>"$T/err" || status=$?
		is "$option to /dev/full: status" "$status" 3
	done
	# What nobody can read does not change how it ended.
	status=0
	"$SIMPLE_KVM" -l "$GUESTS/ud64.bin" >"$T/out" 2>/dev/full || status=$?
	is 'a report to /dev/full: status' "$status" 1
	is 'a report to /dev/full: output' "$(cat "$T/out")" before
else
	skip '/dev/full' 'there is none'
fi

# limited BLOCKS ARGUMENT...: print the messages, and the status after them, of a
# run whose stdout is a file that may have so many blocks.
limited() (
	# shellcheck disable=SC3045 # or it is not needed
	ulimit -c 0 2>/dev/null
	ulimit -f "$1"
	shift
	"$SIMPLE_KVM" "$@" >"$T/out"
	echo "status $?"
)
too_large='simple-kvm: write to standard output: File too large
status 3'
is 'ulimit -f 0' "$(limited 0 -l 2>&1)" "$too_large"
is 'ulimit -f 0, at a tick' \
	"$(limited 0 -l -t 20 "$GUESTS/prompt64.bin" 2>&1)" "$too_large"
is 'ulimit -f 1' "$(limited 1 -l "$GUESTS/mebibyte64.bin" 2>&1)" "$too_large"

# non_blocking ROOM ARGUMENT...: with stdout a pipe that does not block, and that
# has room for so many bytes, which nobody reads.
non_blocking() {
	status=0
	# shellcheck disable=SC2016 # perl's variables
	timeout 20 perl -e 'use Fcntl; $room = shift;
		pipe R, W; fcntl R, F_SETFD, 0; fcntl W, F_SETFL, O_NONBLOCK;
		while (syswrite W, "x" x 4096) { }
		sysread R, $_, $room if $room;
		open STDOUT, ">&W"; exec @ARGV' "$@" 2>"$T/err" || status=$?
}
again='Resource temporarily unavailable'
if command -v perl >/dev/null; then
	non_blocking 0 "$SIMPLE_KVM" -l
	lost 'a full pipe that does not block' "$again"
	non_blocking 4096 "$SIMPLE_KVM" -l
	is '...with room: status' "$status" 0
	for n in 0 4096 61440; do
		non_blocking $n "$SIMPLE_KVM" -l "$GUESTS/mebibyte64.bin"
		lost "...with room for $n of a MiB" "$again"
	done
	writes 65536
	non_blocking 61440 "$SIMPLE_KVM" -r "$T/writes.bin"
	lost '...with room for all but a page' "$again"
	non_blocking 0 "$SIMPLE_KVM" -l -t 20 "$GUESTS/prompt64.bin"
	lost '...at a tick' "$again"
	non_blocking 0 "$SIMPLE_KVM" -l -c -t 20 "$GUESTS/prompt64.bin"
	lost '...with --coalesce' "$again"
	non_blocking 0 "$SIMPLE_KVM" -l "$GUESTS/ud64.bin"
	lost '...and a guest that fails' "$again"
else
	skip 'a pipe that does not block' 'needs perl'
fi

done_testing

#!/bin/sh
# A guest that got control of simple-kvm would find a process that can do next
# to nothing: from the first KVM_RUN on, any system call but the few that the
# run loop needs is refused, and the run ends with a line that says so. And
# simple-kvm needs little from its host: no root, no directory to write to, few
# open files, little address space.
# backends: no (needs a ptrace program, and mounts)
. "${0%/*}/lib.sh"
need_kvm
has_mode -l || skip_all 'this KVM does not have the mode -l'
tamper=$TESTS/tamper

# What the filter allows, as tests/tamper prints it: ABI, number, and the values
# that the first two arguments must have. Whoever adds a line here knows why:
# the calls are none (what strace skips), read of stdin, write to stdout and to
# stderr, poll, rt_sigreturn, the ioctls KVM_SET_REGS, KVM_SET_SREGS,
# KVM_SET_GUEST_DEBUG, KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS and KVM_TRANSLATE,
# restart_syscall (poll, after SIGSTOP), clock_gettime, and exit_group.
cat >"$T/allowed" <<'E'
x86-64 -1 * *
x86-64 0 0 *
x86-64 1 0x1 *
x86-64 1 0x2 *
x86-64 7 * *
x86-64 15 * *
x86-64 16 * 0x4048ae9b
x86-64 16 * 0x4090ae82
x86-64 16 * 0x4138ae84
x86-64 16 * 0x8090ae81
x86-64 16 * 0x8138ae83
x86-64 16 * 0xae80
x86-64 16 * 0xc018ae85
x86-64 219 * *
x86-64 228 * *
x86-64 231 * *
E

# tampered CALL ARGUMENT...: run simple-kvm, with that call instead of its first
# write to stdout. $got is what came of it.
tampered() {
	call=$1
	shift
	limit "$tamper" "$call" "$SIMPLE_KVM" "$@" \
		</dev/null >"$T/out" 2>"$T/err"
	got=$(sed -n 's/^tamper: //p' "$T/err")
}

filter() {
	tampered none -l
	is 'nothing changed: it ends well' "$got" 'exit 0'
	is 'nothing changed: its output is there' "$(cat "$T/out")" \
		'Hello, world!'
	# gdb is told of a refusal, too: its packet has "call 102" in it.
	# shellcheck disable=SC2016 # packets' frames
	printf '$c#63' >"$T/packet"
	limit "$tamper" getuid "$SIMPLE_KVM" --gdb -l <"$T/packet" >"$T/out" \
		2>"$T/err"
	like 'refused under gdb: the message' "$(cat "$T/out")" \
		'O[0-9a-f]*63616c6c20313032'
	for pair in openat:257 socket:41 fork:57 clone:56 execve:59 mmap:9 \
		mprotect:10 kill:62 ptrace:101 getuid:102 ioctl-other:16 \
		write-other:1 x32:1073741825 i386:231; do
		name=${pair%:*} number=${pair#*:}
		tampered "$name" -l
		if [ "$name: $got" = 'i386: signal 11' ]; then
			skip "$name" 'this kernel has no such way in'
			continue
		fi
		is "$name: is refused, and ends the run" "$got" \
			"refused${NL}exit 3"
		like "$name: the message" "$(cat "$T/err")" "^simple-kvm: \
refused system call $number: see lock_door()\$"
		# For i386 tamper lets the write be, and so it comes twice.
		is "$name: the output so far" "$(head -n 1 "$T/out")" \
			'Hello, world!'
	done
	# Where the clock is in the kernel only, the time costs a system call.
	tampered no-vdso -l --stats -t 0.2 "$GUESTS/spin64.bin"
	is 'the time from the kernel' "$got" 'exit 124'
	like '...is known' "$(cat "$T/err")" \
		'^simple-kvm: KVM_RUN: [0-9]* exits, [0-9]*\.[0-9]*[1-9]'

	if [ "$(id -u)" != 0 ]; then
		skip 'what the filter allows' 'to read it needs root'
		return
	fi
	tampered filter -l
	echo "$got" | sed '/^exit/d' | sort >"$T/got"
	is 'how many calls the filter allows' "$(wc -l <"$T/got")" \
		"$(wc -l <"$T/allowed")"
	sort "$T/allowed" >"$T/want"
	succeeds '...and which' diff "$T/want" "$T/got"
}
# What is open while the guest runs: of KVM the CPU alone. What this shell has
# open, too, was not opened by it.
mkfifo "$T/fifo"
with_pid "$SIMPLE_KVM" -l "$GUESTS/spin64.bin" >"$T/fifo" 2>"$T/err" &
read -r line <"$T/fifo"
pid=$(cat "$T/pid")
for fd in "/proc/$pid/fd"/*; do
	n=${fd##*/} file=$(readlink "$fd")
	[ "$n" -le 2 ] || [ "$(readlink "/proc/$$/fd/$n")" = "$file" ] ||
		echo "$file"
done >"$T/open"
kill "$pid"
wait $!
is 'open files of a guest that runs' "$line, $(cat "$T/open")" \
	'spinning, anon_inode:kvm-vcpu:0'

if [ -n "$SANITIZER" ]; then
	skip 'the filter' 'the sanitizers need other system calls, too'
else
	filter
fi

# continued: a run that waits for a reader of its output is stopped by SIGSTOP,
# and continued. perl gives it a pipe that is full, and reads it in the end.
continued() {
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e 'use Fcntl; pipe(R, W); fcntl(W, F_SETFL, O_NONBLOCK);
		while (syswrite(W, "x" x 4096)) { }
		fcntl(W, F_SETFL, 0);
		if (!($pid = fork)) { close R; open STDOUT, ">&W"; exec @ARGV; }
		for (1 .. 10) {
			select(undef, undef, undef, 0.05);
			kill "STOP", $pid; waitpid($pid, 2);
			kill "CONT", $pid;
		}
		close W; print while <R>; waitpid($pid, 0);
		exit($? & 127 || $? >> 8)' \
		"$SIMPLE_KVM" -l "$GUESTS/bytes64.bin" \
		</dev/null >"$T/out" 2>"$T/err"
}
if command -v perl >/dev/null; then
	continued
	is 'stopped and continued while it waits: status' "$?" 0
	is 'stopped and continued: its output' \
		"$(tail -c 16640 "$T/out" | cksum)" \
		"$("$SIMPLE_KVM" -l "$GUESTS/bytes64.bin" | cksum)"
else
	skip 'stopped and continued while it waits' 'needs perl'
fi

# What follows runs as a user without rights, in a directory that is read-only,
# with 16 open files and 6 MiB of address space: RAM of 2 MiB, and what the
# program and the C library take. The sanitizers need terabytes.
mkdir "$T/ro"
cat >"$T/ro/limited" <<'E'
ulimit -n 16
ulimit -c 0
[ "$1" = unlimited ] || ulimit -v "$1"
shift
exec ./simple-kvm "$@"
E
cp "$SIMPLE_KVM" "$T/ro/simple-kvm"
cp "$GUESTS/bytes64.bin" "$GUESTS/pfread64.bin" "$GUESTS/spin64.bin" "$T/ro"
space=6144
[ -z "$SANITIZER" ] || space=unlimited

# As root: in mounts of its own, where /dev/kvm is anybody's, and the directory
# is on a file system of its own.
cat >"$T/as_nobody" <<'E'
set -e
device=$(stat -c '0x%t 0x%T' /dev/kvm)
cp -r "$1" "$1.from"
mount -t tmpfs -o mode=755 none "$1"
cp "$1.from"/* "$1"
mknod "$1/kvm" c $device
chmod 666 "$1/kvm"
mount --bind "$1/kvm" /dev/kvm
mount -o remount,ro "$1"
cd "$1"
rm -r "$1.from"
shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \
	--bounding-set=-all "$@"
E
if [ "$(id -u)" = 0 ]; then
	as_nobody() { unshare -m sh "$T/as_nobody" "$T/ro" "$@"; }
else
	chmod 555 "$T/ro"
	as_nobody() (cd "$T/ro" && exec "$@")
fi

# limited SPACE ARGUMENT...: run simple-kvm so.
limited() {
	status=0
	as_nobody sh ./limited "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	err=$(cat "$T/err")
}

if ! as_nobody sh -c 'true </dev/kvm' 2>"$T/err"; then
	skip 'a user without rights' "$(tail -n 1 "$T/err")"
	chmod 755 "$T/ro"
	done_testing
	exit
fi
# shellcheck disable=SC2016 # for that shell
is 'the user is not root, and cannot write' \
	"$(as_nobody sh -c '[ $(id -u) != 0 ] && ! [ -w . ] && echo so')" so
for mode in -r -s -l; do
	need_mode $mode "limited, $mode" || continue
	limited $space $mode
	is "limited, $mode: status" "$status" 0
	is "limited, $mode: output" "$(cat "$T/out")" 'Hello, world!'
done
limited $space -l bytes64.bin
is 'limited, a file: status' "$status" 0
is 'limited, a file: output' "$(wc -c <"$T/out")" 16640
limited $space -l pfread64.bin
is 'limited, a fault: status' "$status" 1
like 'limited, a fault: report' "$err" 'exception 14'
limited $space -l -t 0.2 spin64.bin
is 'limited, a timeout: status' "$status" 124
if [ -z "$SANITIZER" ]; then
	limited $space -l -m 8M
	is 'more RAM than the limit: status' "$status" 3
	like 'more RAM than the limit: message' "$err" '^simple-kvm: mmap of RAM: Cannot allocate'\
' memory$'
fi
chmod 755 "$T/ro"

done_testing

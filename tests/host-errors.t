#!/bin/sh
# No failing system call passes unnoticed: each one that a run makes is failed
# once, by strace, and the run must end with status 3 and the text of the call.
# What people really meet also says what to do.
# backends: no (needs strace)
. "${0%/*}/lib.sh"
need_kvm
command -v strace >/dev/null || skip_all 'strace is not installed'
# The sanitizer's search for leaks does not work under ptrace.
export ASAN_OPTIONS=detect_leaks=0
# Its build has no filter, and so makes no call for it.
case $SIMPLE_KVM in */asan/*) filter= ;; *) filter=yes ;; esac

# calls ARGUMENT...: the calls of such a run, a line each: system call, its
# number among those of that name, and how the message must begin. The loader's
# own are left out: ours begin when stdout is looked at. To do so may fail, and
# so may to ignore a signal, and madvise and seccomp, which a kernel may lack.
calls() {
	set=ioctl,openat,mmap,prctl,rt_sigaction,rt_sigprocmask
	strace -o "$T/calls" -e trace=$set,timer_create,timer_settime \
		"$SIMPLE_KVM" "$@" -t 1000 >/dev/null 2>&1
	awk '{ call = $1; sub(/\(.*/, "", call); n[call]++; name = "" }
		/TCGETS/ { ours = 1 }
		!ours { next }
		/EINTR/ { n[call]--; next } # a tick, or none
		call == "ioctl" && match($0, /KVM_[A-Z0-9_]*/) {
			name = substr($0, RSTART, RLENGTH) ":" }
		/\/dev\/kvm/ { name = "open(\"/dev/kvm\"," }
		/MAP_NORESERVE/ { name = "vm->mem = mmap(NULL, vm->mem_size," }
		/MAP_SHARED, [0-9]/ { name = "vm->kvm_run = mmap(NULL, size," }
		/rt_sigaction.*sa_handler=0x/ && match($0, /SIG[A-Z0-9_]*/) {
			name = substr($0, RSTART, RLENGTH) ","
			name = (name ~ /SYS/ ? "sigaction(" : "signal(") name
			sub(/SIGRT_2/, "SIGRTMIN", name)
			sub(/SIGRT_3/, "TIME_OVER", name) }
		/SIG_UNBLOCK/ { name = "sigprocmask(SIG_UNBLOCK," }
		/timer_create/ { name = "timer_create(CLOCK_MONOTONIC," }
		/timer_settime/ { name = "timer_settime(timer," }
		/NO_NEW_PRIVS/ { name = "prctl(PR_SET_NO_NEW_PRIVS," }
		name { print call, n[call], name }' "$T/calls"
}

# fail CALL NUMBER ERROR ARGUMENT...: run with that one call failing.
fail() {
	inject=$1:error=$3:when=$2
	call=$1
	shift 3
	status=0
	timeout 20 strace -o "$T/trace" -e trace="$call" -e inject="$inject" \
		"$SIMPLE_KVM" "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
}

for guest in -r -s -p -l file; do
	case $guest in
	file) set -- -l "$GUESTS/exit64.bin" ;;
	*) set -- $guest ;;
	esac
	[ $guest = file ] || has_mode $guest && runs=yes || runs=
	calls "$@" >"$T/list"
	while read -r call number name; do
		fail "$call" "$number" EIO "$@" -t 1000
		what="$guest: $name ($call $number) fails"
		if [ "$status" = 3 ] && grep -q \
			"^simple-kvm: $name.* Input/output error\$" "$T/err"
		then
			result 0 "$what"
		else
			result 1 "$what"
			comment "status $status: $(cat "$T/err")"
		fi
	done <"$T/list"

	# What a run does at the least, in its order, or else the list is wrong.
	{
		echo 'open("/dev/kvm",
KVM_GET_API_VERSION:
KVM_CREATE_VM:
KVM_SET_TSS_ADDR:
vm->mem = mmap(NULL, vm->mem_size,
KVM_SET_USER_MEMORY_REGION:
KVM_CREATE_VCPU:
KVM_GET_VCPU_MMAP_SIZE:
vm->kvm_run = mmap(NULL, size,'
		[ $guest != file ] || echo 'KVM_GET_SUPPORTED_CPUID:
KVM_SET_CPUID2:'
		echo 'KVM_GET_SREGS:
KVM_SET_SREGS:
KVM_GET_SREGS:'
		[ -z "$runs" ] || echo 'KVM_SET_REGS:
signal(SIGINT,
signal(SIGTERM,
signal(SIGRTMIN,
signal(TIME_OVER,
sigprocmask(SIG_UNBLOCK,
timer_create(CLOCK_MONOTONIC,
timer_settime(timer,
timer_create(CLOCK_MONOTONIC,
timer_settime(timer,'
		[ -z "$runs" ] || [ -z "$filter" ] || echo 'sigaction(SIGSYS,
prctl(PR_SET_NO_NEW_PRIVS,'
	} >"$T/want"
	awk '$3 != "KVM_RUN:" { sub(/^[^ ]* [^ ]* /, ""); print; next } { exit }' \
		"$T/list" >"$T/got"
	succeeds "$guest: these are all the calls of the set-up" \
		diff "$T/want" "$T/got"
	case $guest$runs in
	fileyes) want=4 ;;
	*yes) want=15 ;;
	*) want=0 ;;
	esac
	is "$guest: and so many times it is run" \
		"$(grep -c 'KVM_RUN:$' "$T/list")" $want
done

# number_of NAME: which of the calls it is.
number_of() {
	awk -v name="$1" 'index($0, name) { print $2; exit }' "$T/list"
}

calls -l >"$T/list"
first=$(number_of KVM_RUN:)
fail ioctl "$first" EINTR -l
is 'KVM_RUN: EINTR, so a signal, is no failure' "$status" 0
fail ioctl "$first" EAGAIN -l
is 'KVM_RUN: EAGAIN is one' "$status $(cat "$T/err")" \
	'3 simple-kvm: KVM_RUN: Resource temporarily unavailable'
fail ioctl $((first + 10)) EIO -l
like 'KVM_RUN fails late: the output so far' "$status $(cat "$T/out")" '^3 He'
timeout 20 strace -o "$T/trace" -e trace=ioctl -e \
	inject="ioctl:error=EIO:when=$((first + 10))" \
	"$SIMPLE_KVM" -l >"$T/both" 2>&1
like '...comes before the message' "$(head -n 1 "$T/both")" '^He.*: KVM_RUN: '
fail madvise 1 EINVAL -l
is 'a kernel without KSM: no failure' "$status" 0
if [ "$filter" ]; then
	fail prctl 2 EINVAL -l
	is 'a kernel without seccomp: no failure' "$status" 0
	is '...but told' "$(head -n 1 "$T/err")" \
		'simple-kvm: the guest is not locked in: seccomp: Invalid argument'
else
	skip 'a kernel without seccomp' 'the sanitizers cannot be locked in'
fi

# remedy CALL NAME ERROR PATTERN: the message tells what to do.
remedy() {
	fail "$1" "$(number_of "$2")" "$3" -l
	is "$2, $3: status" "$status" 3
	like "$2, $3: what failed" "$(head -n 1 "$T/err")" "^simple-kvm: $2"
	like "$2, $3: what to do" "$(sed 1d "$T/err")" "^simple-kvm: $4"
}
remedy openat open ENOENT \
	'load the module kvm_intel or kvm_amd; see the README$'
# shellcheck disable=SC2016 # it stands there so, for the user's shell
remedy openat open EACCES 'join its group: sudo usermod -aG kvm \$USER$'
remedy ioctl KVM_CREATE_VM EBUSY 'another hypervisor has the CPU: stop it$'
fail openat "$(number_of open)" EMFILE -l
is 'other errors: nothing but what failed' "$(wc -l <"$T/err")" 1

# An image is the user's.
fail read "$(strace -e trace=read "$SIMPLE_KVM" -l "$GUESTS/exit64.bin" 2>&1 |
	grep -n '^read(3, "\\350' | sed 's/:.*//')" EIO -l "$GUESTS/exit64.bin"
is 'an image that cannot be read' "$status $(cat "$T/err")" \
	"2 simple-kvm: $GUESTS/exit64.bin: Input/output error"

for version in 11 13; do
	status=0
	strace -o "$T/trace" -e trace=ioctl -e \
		inject="ioctl:retval=$version:when=$(number_of KVM_GET_API)" \
		"$SIMPLE_KVM" -l >"$T/out" 2>"$T/err" || status=$?
	is "KVM_GET_API_VERSION gives $version" "$status $(cat "$T/err")" \
		'3 simple-kvm: KVM_GET_API_VERSION: not the known one'
done

done_testing

#!/bin/sh
# No failing system call passes unnoticed: each one that a run makes is failed
# once, by strace, and the run must end with status 3 and the name of the call.
# What people really meet also says what to do.
# backends: no (needs strace)
. "${0%/*}/lib.sh"
need_kvm
command -v strace >/dev/null || skip_all 'strace is not installed'
# The sanitizer's search for leaks does not work under ptrace.
export ASAN_OPTIONS=detect_leaks=0

# calls MODE: the calls of a run, a line each: system call, its number among
# those of that name, and what the message must call it. The loader's own are
# left out: ours begin when stdout is looked at. madvise is not among them: the
# kernel may lack KSM, and by design that is no error.
calls() {
	strace -o "$T/calls" -e trace=ioctl,openat,mmap,rt_sigaction,setitimer \
		"$SIMPLE_KVM" "$1" -t 1000 >/dev/null 2>&1
	awk '{ call = $1; sub(/\(.*/, "", call); n[call]++ }
		/TCGETS/ { ours = 1 }
		!ours { next }
		call == "ioctl" && match($0, /KVM_[A-Z0-9_]*/) {
			print call, n[call], substr($0, RSTART, RLENGTH) }
		/TCGETS/ { print call, n[call], "isatty" }
		/\/dev\/kvm/ { print call, n[call], "open" }
		/MAP_NORESERVE|MAP_SHARED, [0-9]/ { print call, n[call], call }
		call == "rt_sigaction" {
			print call, n[call], /SIGPIPE/ ? "signal" : "sigaction" }
		call == "setitimer" { print call, n[call], call }' "$T/calls"
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

for mode in -r -s -p -l; do
	calls $mode >"$T/list"
	while read -r call number name; do
		fail "$call" "$number" EIO $mode -t 1000
		what="$mode: $name ($call $number) fails"
		if [ "$status" = 3 ] && grep -q "^simple-kvm: .*$name" "$T/err"
		then
			result 0 "$what"
		else
			result 1 "$what"
			comment "status $status: $(cat "$T/err")"
		fi
	done <"$T/list"
	# Fewer would mean that the list above is not what a run does.
	has_mode $mode && want=30 || want=15
	succeeds "$mode: at least $want calls were failed" \
		[ "$(wc -l <"$T/list")" -ge "$want" ]
done

# A signal is no failure.
calls -l >"$T/list"
run_number=$(awk '$3 == "KVM_RUN" { print $2; exit }' "$T/list")
for error in EINTR EAGAIN; do
	fail ioctl "$run_number" $error -l
	is "KVM_RUN: $error is no failure" "$status" 0
done
fail madvise 1 EINVAL -l
is 'a kernel without KSM: no failure' "$status" 0

# number_of NAME: which of the calls it is.
number_of() { awk -v name="$1" '$3 == name { print $2; exit }' "$T/list"; }

# remedy CALL NAME ERROR PATTERN: the message tells what to do.
remedy() {
	fail "$1" "$(number_of "$2")" "$3" -l
	is "$2, $3: status" "$status" 3
	like "$2, $3: what to do" "$(cat "$T/err")" "$4"
}
remedy openat open ENOENT 'load the module kvm_intel or kvm_amd'
remedy openat open ENXIO 'load the module kvm_intel or kvm_amd'
remedy openat open EACCES 'usermod -aG kvm'
remedy openat open EPERM 'container'
remedy openat open EMFILE 'ulimit -n'
remedy ioctl KVM_GET_API_VERSION ENOTTY 'not a KVM device'
remedy ioctl KVM_CREATE_VM EBUSY 'another hypervisor'
remedy ioctl KVM_CREATE_VM ENOMEM 'free some memory'
remedy ioctl KVM_SET_CPUID2 ENOTTY 'newer kernel'
remedy mmap mmap ENOMEM 'ulimit -v'

# returns NAME VALUE PATTERN: the call succeeds, with that result.
returns() {
	status=0
	strace -o "$T/trace" -e trace=ioctl \
		-e inject="ioctl:retval=$2:when=$(number_of "$1")" \
		"$SIMPLE_KVM" -l >"$T/out" 2>"$T/err" || status=$?
	is "$1 gives $2: status" "$status" 3
	like "$1 gives $2: message" "$(cat "$T/err")" "$3"
}
returns KVM_GET_API_VERSION 11 'KVM_GET_API_VERSION: 11, where 12'
returns KVM_CHECK_EXTENSION 0 'lacks KVM_CAP_IMMEDIATE_EXIT'
returns KVM_GET_VCPU_MMAP_SIZE 8 'KVM_GET_VCPU_MMAP_SIZE: 8'

done_testing

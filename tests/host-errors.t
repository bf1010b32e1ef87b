#!/bin/sh
# No failing system call passes unnoticed: each one that a run makes is failed
# once, by strace, and the run must end with status 3 and the text of the call.
# What people really meet also says what to do.
# backends: no (needs strace)
. "${0%/*}/lib.sh"
need_kvm
command -v strace >/dev/null || skip_all 'strace is not installed'
# The sanitizer's build has no filter, and so makes no call for it.
[ -n "$SANITIZER" ] && filter= || filter=yes

# calls ARGUMENT...: the calls of such a run, a line each: system call, its
# number among those of that name, and how the message must begin. The loader's
# own are left out: ours begin when stdout is looked at. To do so may fail, and
# so may to ignore a signal, and madvise and seccomp, which a kernel may lack.
calls() {
	set=ioctl,openat,mmap,prctl,rt_sigaction,rt_sigprocmask
	traced $set,timer_create,timer_settime '' "$@" -t 1000
	awk '{ call = $1; sub(/\(.*/, "", call); n[call]++; name = "" }
		/TCGETS/ { ours = 1 }
		!ours { next }
		/EINTR/ { n[call]--; next } # a tick, or none
		call == "ioctl" && match($0, /KVM_[A-Z0-9_]*/) {
			name = substr($0, RSTART, RLENGTH) ":" }
		/\/dev\/kvm/ { name = "open(\"/dev/kvm\"," }
		/MAP_NORESERVE/ { name = "mmap of RAM:" }
		/MAP_SHARED, [0-9]/ { name = "mmap of struct kvm_run:" }
		/rt_sigaction.*sa_handler=0x/ {
			name = "sigaction(" (/SIGSYS/ ? "SIGSYS," : "numbers") }
		/SIG_UNBLOCK/ { name = "sigprocmask(SIG_UNBLOCK," }
		/timer_create/ { name = "timer_create(CLOCK_MONOTONIC," }
		/timer_settime/ { name = "timer_settime(timer," }
		/NO_NEW_PRIVS/ { name = "prctl(PR_SET_NO_NEW_PRIVS," }
		name { print call, n[call], name }' "$T/trace"
}

# fail CALL NUMBER ERROR ARGUMENT...: run with that one call failing, and with no
# timer, whose ticks would make more calls.
fail() {
	call=$1 number=$2 error=$3
	shift 3
	capture strace -o "$T/trace" -e trace="$call,timer_settime" \
		-e inject=timer_settime:retval=0 \
		-e inject="$call:error=$error:when=$number" "$SIMPLE_KVM" "$@"
}

# Those of a run with a file are made to fail; FULL=1: those of each mode, too.
for guest in -r -s -p -l file; do
	case $guest in
	file) set -- -l "$GUESTS/exit64.bin" ;;
	*) set -- $guest ;;
	esac
	[ $guest = file ] || has_mode $guest && runs=yes || runs=
	calls "$@" >"$T/list"
	if [ "${FULL:-}" ] || [ $guest = file ]; then
		cp "$T/list" "$T/fail"
	else
		: >"$T/fail"
	fi
	while read -r call number name; do
		fail "$call" "$number" EIO "$@" -t 1000
		what="$guest: $name ($call $number) fails"
		if [ "$status" = 3 ] && grep -q \
			"^simple-kvm: $name.* Input/output error\$" "$T/err"
		then
			result 0 "$what"
		else
			result 1 "$what"
			comment "status $status: $err"
		fi
	done <"$T/fail"

	# What a run does at the least, in its order, or else the list is wrong.
	{
		echo 'open("/dev/kvm",
KVM_GET_API_VERSION:
KVM_CREATE_VM:
KVM_SET_TSS_ADDR:
mmap of RAM:
KVM_SET_USER_MEMORY_REGION:
KVM_CREATE_VCPU:
KVM_GET_VCPU_MMAP_SIZE:
mmap of struct kvm_run:'
		[ $guest != file ] || echo 'KVM_GET_SUPPORTED_CPUID:
KVM_SET_CPUID2:'
		echo 'KVM_GET_SREGS:
KVM_SET_SREGS:
KVM_GET_SREGS:'
		[ -z "$runs" ] || echo 'KVM_SET_REGS:
sigaction(numbers
sigaction(numbers
sigaction(numbers
sigprocmask(SIG_UNBLOCK,
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
limit strace -o "$T/trace" -e trace=ioctl -e \
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
remedy openat open EACCES 'sudo usermod -aG kvm \$USER, and log in again$'
remedy ioctl KVM_CREATE_VM EBUSY 'another hypervisor has the CPU: stop it$'
fail openat "$(number_of open)" EMFILE -l
is 'other errors: nothing but what failed' "$(wc -l <"$T/err")" 1

for version in 11 13; do
	traced ioctl "ioctl:retval=$version:when=$(number_of KVM_GET_API)" -l
	is "KVM_GET_API_VERSION gives $version" "$status $err" \
		'3 simple-kvm: KVM_GET_API_VERSION: not the known one'
done

# A KVM that does not set what it was asked to: from reading the registers back
# on it has these in CR0, CR4 and EFER, each 16 digits from the lowest byte up.
# In struct kvm_sregs there are 224 bytes before CR0, and CR2, CR3 and CR8.
zeroes=$(printf '%0448d' 0) zero=0000000000000000
poke() { echo "@arg3=$zeroes$1$zero${4:-$zero}$2$zero$3"; }
lacks() {
	what=$1 want=$2
	traced ioctl "ioctl:poke_exit=$(poke "$3" "$4" "$5"):when=$back" -l
	is "a KVM that sets $what" "$status $err" "$want"
}
back=$(awk '/KVM_GET_SREGS/ && n++ { print $2; exit }' "$T/list")
cr0=3300058000000000 cr4=2006000000000000 efer=0005000000000000
# lacks_bits CR0 CR4 EFER: what is said when these are not set.
lacks_bits() {
	echo "3 simple-kvm: long mode: this KVM lacks it, for it did not set bits\
 0x$1 of CR0, 0x$2 of CR4, 0x$3 of EFER: try another mode"
}
if strace --help 2>/dev/null | grep -q poke_exit; then
	lacks 'all' "0 simple-kvm: long mode: RAX is 42, memory at 0x400 is 42: \
as expected" $cr0 $cr4 $efer
	lacks 'no CR0.WP' "$(lacks_bits 10000 0 0)" 3300048000000000 $cr4 $efer
	lacks 'no CR4.OSFXSR' "$(lacks_bits 0 200 0)" $cr0 2004000000000000 $efer
	lacks 'no EFER.LMA' "$(lacks_bits 0 0 400)" $cr0 $cr4 0001000000000000
	lacks 'none of it' "$(lacks_bits 80050033 620 500)" $zero $zero $zero
	lacks 'more than was asked for' "$(lacks_bits 0 2000 800)" \
		$cr0 2026000000000000 000d000000000000

	# The names of the bits of CR0, CR4 and EFER, which -v shows: the even
	# ones, then the odd ones. In real mode it makes nothing else of them.
	traced ioctl '' -r -v
	shown=$(call_number ioctl KVM_GET_SREGS 3)
	named() {
		traced ioctl "ioctl:poke_exit=$(poke "$1" "$1" "$1"):when=$shown" \
			-r -v
		sed -n 's/^simple-kvm:   \(CR[04]\|EFER\)  *[0-9a-f]* //p' "$T/err"
	}
	# walk CR3: print how -v shows the way of the entry with this one.
	walk() {
		traced ioctl "ioctl:poke_exit=$(poke $cr0 $cr4 $efer \
			"$1"):when=$shown" -l -v
		sed -n '/: address 0x8000: /,/: address 0x1fffff: /p' "$T/err" |
			sed '1d; $d; s/^simple-kvm: //'
	}
	is 'no entry that is present' "$(walk 0050000000000000)" '  PML4[0] = 0x0'
	is 'no RAM where a table should be' "$(walk 0000200000000000)" \
		'  no RAM for PML4'
	is 'a large page in an upper table' "$(walk 0030000000000000)" \
		'  PML4[0] = 0x4007 PRESENT RW USER
  PDPT[0] = 0x87 PRESENT RW USER PS
  physical address 0x8000'

	is 'names of even bits' "$(named 5555555555555555)" \
		'PE EM ET WP AM CD
VME TSD PSE MCE PCE OSXMMEXCPT LA57 SMXE FSGSBASE OSXSAVE SMEP PKE
SCE LME LMA'
	is 'names of odd bits' "$(named aaaaaaaaaaaaaaaa)" 'MP TS NE NW PG
PVI DE PAE PGE OSFXSR UMIP VMXE PCIDE SMAP
NXE'
else
	skip 'a KVM that lacks a bit' 'needs strace 5.11 or later'
fi

# An image is the user's. What has been read of it is not run when the rest cannot
# be: not for a signal, either, which here would be somebody else's. A file is read
# by pread(), and a pipe by read().
dd if=/dev/zero bs=200000 count=1 2>/dev/null | tr '\0' '\364' >"$T/image"
mkfifo "$T/fifo"
unreadable() {
	call=$1 number=$2 image=$3
	for pair in EIO:'Input/output error' EINTR:'Interrupted system call'; do
		[ "$image" = "$T/image" ] || hand_over "$T/image" "$image" &
		fail "$call" "$number" "${pair%%:*}" -l "$image"
		wait $!
		is "an image that cannot be read, ${pair%%:*} at $call $number" \
			"$status $err" "2 simple-kvm: $image: ${pair#*:}"
	done
}
traced pread64 '' -l "$T/image"
number=$(call_number pread64 '"\364\364')
unreadable pread64 "$number" "$T/image"
# Here the first call says that it has read 1000 bytes, but leaves them zero.
# They are 500 instructions that do no harm.
traced pread64 "pread64:retval=1000:when=$number" -l "$T/image"
is 'what one call has not read the next one does' "$status $err \
$(sed -n 's/.* = \(19.*\)/\1/p' "$T/trace")" '0  199000'
hand_over "$T/image" "$T/fifo" &
traced read '' -l "$T/fifo"
wait $!
for number in $(call_number read '"\364\364') \
	$(call_number read '"\364\364' 2); do
	unreadable read "$number" "$T/fifo"
done

done_testing

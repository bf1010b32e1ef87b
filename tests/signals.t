#!/bin/sh
# Signals mean to simple-kvm what they mean to any program, whatever its parent
# has blocked, ignored or set going; the ticks of its timer lose nothing and hold
# nothing back; and whoever reads its output slowly, no more or not at all can
# neither lose lines nor keep it alive.
# backends: no (needs perl, and guests that spin)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'needs perl'
has_mode -l || skip_all 'this KVM does not have the mode -l'

# perl_test FILE ARGUMENT...: run it. Prints what it prints.
perl_test() {
	file=$1
	shift
	limit perl "$T/$file" "$@" </dev/null
}

# ended SETUP PROGRAM ARGUMENT...: print "exit N" or "signal N", as the program
# ends that is executed after the Perl code SETUP, with its output in $T/out and
# $T/err.
cat >"$T/ended" <<'P'
use POSIX;
my ($dir, $setup) = splice @ARGV, 0, 2;
if (!(my $pid = fork)) {
	open STDOUT, ">", "$dir/out" or die;
	open STDERR, ">", "$dir/err" or die;
	eval $setup;
	die $@ if $@;
	exec @ARGV;
	die;
}
wait;
print $? & 127 ? "signal " . ($? & 127) : "exit " . ($? >> 8);
P
ended() { perl_test ended "$T" "$@"; }

# ------------------------------------------------------------ its parent's will

is "a parent's alarm ends it" \
	"$(ended 'alarm 1' "$SIMPLE_KVM" -l -t 1000 "$GUESTS/spin64.bin")" \
	'signal 14'

# blocked WHICH: Perl code that blocks these.
blocked() { echo "sigprocmask(SIG_BLOCK, POSIX::SigSet->new($1)) or die"; }
for signals in SIGALRM 'SIGRTMIN, SIGRTMIN + 1' \
	'SIGALRM, SIGRTMIN, SIGRTMIN + 1, SIGSYS' \
	'1 .. 31, SIGRTMIN .. SIGRTMAX'; do
	is "$signals blocked: --timeout" "$(ended "$(blocked "$signals")" \
		"$SIMPLE_KVM" -l -t 0.03 "$GUESTS/spin64.bin")" 'exit 124'
done
# shellcheck disable=SC2016 # Perl's variable
is 'all ignored: --timeout' "$(ended '$SIG{$_} = "IGNORE" for keys %SIG' \
	"$SIMPLE_KVM" -l -t 0.03 "$GUESTS/spin64.bin")" 'exit 124'

# SIGSYS says which system call was refused, here the 102nd, getuid().
if [ "$SANITIZER" ]; then
	skip 'SIGSYS blocked' 'the sanitizers cannot be locked in'
else
	ended "$(blocked SIGSYS)" "$TESTS/tamper" getuid "$SIMPLE_KVM" -l \
		>"$T/got"
	like 'SIGSYS blocked: a refused system call' "$(cat "$T/err")" \
		'^simple-kvm: refused system call 102: '
fi

# to_prompt SETUP SIGNALS PROGRAM ARGUMENT...: run the program after the Perl
# code SETUP, read from it until it has said "prompt> ", then send the signals,
# to the process whose id is in $T/pid if there is one. Prints how it ended.
cat >"$T/to_prompt" <<'P'
use POSIX;
my ($dir, $setup, $signals) = splice @ARGV, 0, 3;
pipe R, W or die;
unlink "$dir/pid";
if (!($pid = fork)) {
	open STDOUT, ">&W" or die;
	open STDERR, ">", "$dir/err" or die;
	eval $setup;
	die $@ if $@;
	exec @ARGV;
	die;
}
close W;
while (index($got, "prompt> ") < 0 && sysread R, $got, 4096, length $got) { }
if (open P, "<", "$dir/pid") { chomp($pid = <P>); }
for (split / /, $signals) {
	kill $_, $pid;
	# It has it, or has ended, or it is blocked, before it gets the next one.
	do {
		open S, "<", "/proc/$pid/status" or last;
		$status = join "", <S>;
		($pending, $blocked) =
			$status =~ /^ShdPnd:\s*(\w+)\n.*SigBlk:\s*(\w+)/ms;
	} until $status =~ /^State:\s*Z/m || !(hex($pending) & ~hex $blocked);
}
1 while sysread R, $rest, 4096;
wait;
print "only: $got, " if index($got, "prompt> ") < 0;
print $? & 127 ? "signal " . ($? & 127) : "exit " . ($? >> 8);
P
to_prompt() { perl_test to_prompt "$T" "$@"; }

is 'SIGINT ends it' "$(to_prompt '' INT \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 130'
is 'SIGTERM ends it' "$(to_prompt '' TERM \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 143'
is 'SIGALRM does, as any program, with --timeout, too' "$(to_prompt '' ALRM \
	"$SIMPLE_KVM" -l -t 1000 "$GUESTS/prompt64.bin")" 'signal 14'
# Of two signals the first one counts, unless it is ignored.
is 'SIGINT, ignored by its parent, does not' "$(to_prompt "\$SIG{INT} = 'IGNORE'" \
	'INT TERM' "$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 143'
is 'SIGTERM neither' "$(to_prompt "\$SIG{TERM} = 'IGNORE'" \
	'TERM INT' "$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 130'

is 'SIGUSR1, blocked by its parent, stays so' "$(to_prompt \
	"$(blocked SIGUSR1)" 'USR1 TERM' \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 143'

# ----------------------------------------- output without a newline, by the tick

# Those above have it through a pipe, as stdout; here it is all that is seen.
is 'a prompt through a pipe' "$(to_prompt '' TERM \
	"$SIMPLE_KVM" -r "$GUESTS/prompt16.bin")" 'exit 143'
is '...with --coalesce' "$(to_prompt '' TERM \
	"$SIMPLE_KVM" -l -c "$GUESTS/prompt64.bin")" 'exit 143'
# terminal ARGUMENT: the same on a terminal, whatever the directory is called.
export SIMPLE_KVM GUESTS T
terminal() {
	# shellcheck disable=SC2016 # for the shell that script starts
	to_prompt '' TERM script -qec 'echo $$ >"$T/pid"
		exec "$SIMPLE_KVM" -l'"$1"' "$GUESTS/prompt64.bin"' /dev/null
}
if need_command script 'a prompt on a terminal'; then
	is 'a prompt on a terminal' "$(terminal '')" 'exit 143'
	is '...with --coalesce' "$(terminal c)" 'exit 143'
fi

is '...with the tick blocked by its parent' \
	"$(to_prompt "$(blocked SIGRTMIN)" TERM \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 143'

# --------------------------------------------------------------------- under gdb

# in_gdb WANT SIGNAL PROGRAM ARGUMENT...: be its gdb, which has it continue, waits
# for output with WANT in it, sends the signal, and acknowledges the last packet
# when the program reads that, or has ended. Prints that packet, and both states.
cat >"$T/in_gdb" <<'P'
my ($want, $signal) = splice @ARGV, 0, 2;
pipe IN, TO or die;
pipe FROM, OUT or die;
if (!($pid = fork)) {
	close TO;
	open STDIN, "<&IN" or die;
	open STDOUT, ">&OUT" or die;
	exec @ARGV;
	die;
}
close IN;
close OUT;
syswrite TO, '$c#63';
while (index($got, $want) < 0 && sysread FROM, $got, 4096, length $got) { }
kill $signal, $pid if $signal;
while ($got !~ /\$(W..)#..$/ && sysread FROM, $got, 4096, length $got) { }
print $got =~ /\$(W..)#..$/ ? $1 : "no end";
do {
	open S, "<", "/proc/$pid/status" or die;
	($state) = join("", <S>) =~ /^State:\s*(\w)/m;
} until $state =~ /[SZ]/;
$SIG{PIPE} = "IGNORE";
print $state eq "S" && syswrite(TO, "+") ? ", reads" : ", is gone";
close TO;
wait;
print ", exit ", $? >> 8;
P
is 'under gdb: the last packet can be acknowledged' "$(perl_test in_gdb '' '' \
	"$SIMPLE_KVM" --gdb -l)" 'W00, reads, exit 0'
is 'under gdb: SIGTERM ends it at once' "$(perl_test in_gdb 20# TERM \
	"$SIMPLE_KVM" --gdb -l "$GUESTS/prompt64.bin")" 'W8f, reads, exit 143'

# ------------------------------------------------------------------ who reads it

# full SIGNALS PROGRAM ARGUMENT...: run the program with stdout and stderr one full
# pipe, send it the signals, each as soon as it catches it and has got the one
# before, and print how it ended, without ever reading. It takes a second, so all
# of these run at once.
cat >"$T/full" <<'P'
use Fcntl;
use POSIX;
my $signals = shift;
pipe R, W or die;
fcntl W, F_SETFL, O_NONBLOCK;
while (syswrite W, "x" x 4096) { }
while (syswrite W, "x") { }
fcntl W, F_SETFL, 0;
if (!($pid = fork)) {
	$SIG{INT} = "DEFAULT"; # for what runs in the background ignores it
	open STDOUT, ">&W" or die;
	open STDERR, ">&W" or die;
	exec @ARGV;
	exit 127;
}
for my $signal (split / /, $signals) {
	do {
		select undef, undef, undef, 0.01;
		open S, "<", "/proc/$pid/status" or die;
		$status = join "", <S>;
		($caught) = $status =~ /^SigCgt:\s*(\w+)/m;
	} until hex($caught) >> ($signal - 1) & 1 &&
		$status =~ /^ShdPnd:\s*0+$/m;
	kill $signal, $pid;
}
waitpid $pid, 0;
print $? & 127 ? "signal " . ($? & 127) : "exit " . ($? >> 8);
P
each_full() {
	"$1" 'SIGTERM' 'exit 143' 15 -l "$GUESTS/endless64.bin"
	"$1" 'SIGINT' 'exit 130' 2 -l "$GUESTS/prompt64.bin"
	"$1" 'SIGINT, SIGTERM' 'exit 130' '2 15' -l "$GUESTS/endless64.bin"
	"$1" '--timeout' 'exit 124' '' -l -t 0.2 "$GUESTS/endless64.bin"
	"$1" '--step: SIGTERM' 'exit 143' 15 -l --step "$GUESTS/endless64.bin"
	"$1" '--trace: --timeout' 'exit 124' '' \
		-l --trace -t 0.2 "$GUESTS/endless64.bin"
}
start_full() {
	file="$T/full $1" signals=$3
	shift 3
	perl_test full "$signals" "$SIMPLE_KVM" "$@" >"$file" &
}
end_full() { is "one full pipe, $1" "$(cat "$T/full $1")" "$2"; }
each_full start_full
wait
each_full end_full

# slow NAME PROGRAM ARGUMENT...: print what the program writes to the file with
# that name, STDOUT or STDERR, through a pipe of a page; but read so late that
# two ticks have come while it waits, five times.
cat >"$T/slow" <<'P'
use Fcntl;
my $name = shift;
pipe R, W or die;
fcntl W, 1031, 4096; # F_SETPIPE_SZ
if (!($pid = fork)) {
	open STDOUT, ">", "/dev/null" or die;
	open STDERR, ">", "/dev/null" or die;
	open $name, ">&W" or die;
	exec @ARGV;
	exit 127;
}
close W;
# How often it has gone to sleep by itself: a tick wakes it, and it goes on to
# wait. Nothing when it has ended.
sub sleeps {
	open S, "<", "/proc/$pid/status" or die;
	my $status = join "", <S>;
	return $status =~ /^State:\s*Z/m ? undef :
		$status =~ /^voluntary_ctxt_switches:\s*(\d+)/m && $1;
}
for (1 .. 5) {
	sysread R, $data, 4096;
	print $data;
	$start = sleeps;
	while (defined $start && defined($now = sleeps) && $now < $start + 3) {
		select undef, undef, undef, 0.01;
	}
}
print $data while sysread R, $data, 65536;
wait;
P

# A thousand exits, and 80 KiB that must be more than all buffers in between.
# mov $0xe9, %dx; mov $1000, %cx; rep outsb; hlt
printf '\272\351\0\271\350\3\363\156\364' >"$T/outsb.bin"
# mov $0xe9, %dx; mov $0x5000, %cx; 1: mov $0x8000, %si; outsl; loop 1b; hlt. (The
# clock of a PC's BIOS, which changes, is in low memory.)
printf '\272\351\0\271\0\120\276\0\200\146\157\342\371\364' \
	>"$T/outsl.bin"
perl_test slow STDERR "$SIMPLE_KVM" -r --trace "$T/outsb.bin" >"$T/got"
is '--trace, read late: how many lines' "$(wc -l <"$T/got")" 1001
is '...and which: each exit, whole' "$(awk -v n=0 \
	'$0 !~ "^simple-kvm: exit " (n + 1) ": KVM_EXIT_.*[0-9a-f\"]$" {
	print n + 1 ": " $0; exit } { n++ }' "$T/got")" ''
run -r "$T/outsl.bin"
is 'output, read late: how much' "$(wc -c <"$T/out")" 81920
perl_test slow STDOUT "$SIMPLE_KVM" -r "$T/outsl.bin" >"$T/got"
succeeds '...and all of it' cmp "$T/got" "$T/out"

# first_lines ARGUMENT...: how many of the first two lines of its output and its
# messages come; the reader is gone then, and so must it be.
first_lines() {
	# shellcheck disable=SC2016 # for the other shell
	limit perl -e '$SIG{PIPE} = "DEFAULT"; exec @ARGV' \
		sh -c '"$0" "$@" 2>&1 | head -n 2' "$SIMPLE_KVM" "$@" >"$T/out"
	echo "$? $(wc -l <"$T/out")"
}
printf '\100\353\375' >"$T/loop.bin" # 1: inc %ax; jmp 1b
is '--step into head' "$(first_lines -r --step "$T/loop.bin")" '0 2'
is '--trace into head' "$(first_lines -l --trace "$GUESTS/endless64.bin")" '0 2'
is 'output into head' "$(first_lines -l "$GUESTS/endless64.bin")" '0 2'

# Perl code that makes a pipe that nobody will read from, STDOUT.
closed='pipe R, W; close R; open STDOUT, ">&W" or die'
is 'a closed pipe ends it, by SIGPIPE' "$(ended \
	"\$SIG{PIPE} = 'DEFAULT'; $closed" "$SIMPLE_KVM" -l)" 'signal 13'
is '...while it runs, too' "$(ended "\$SIG{PIPE} = 'DEFAULT'; $closed" \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'signal 13'
is '...unless that is ignored' "$(ended "\$SIG{PIPE} = 'IGNORE'; $closed" \
	"$SIMPLE_KVM" -l)" 'exit 3'
is '...and it says so' "$(cat "$T/err")" \
	'simple-kvm: write to standard output: Broken pipe'

done_testing

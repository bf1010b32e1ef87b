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

# No test may take longer than this, in seconds; it is killed then.
LIMIT=30

# perl_test FILE ARGUMENT...: run it. Prints what it prints.
perl_test() {
	file=$1
	shift
	timeout -s KILL $LIMIT perl "$T/$file" "$@" </dev/null 2>"$T/perl.err"
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
	"$(ended 'alarm 1' "$SIMPLE_KVM" -l "$GUESTS/spin64.bin")" 'signal 14'
is "...with --timeout, too" \
	"$(ended 'alarm 1' "$SIMPLE_KVM" -l -t 25 "$GUESTS/spin64.bin")" \
	'signal 14'

# blocked WHICH: Perl code that blocks these.
blocked() { echo "sigprocmask(SIG_BLOCK, POSIX::SigSet->new($1)) or die"; }
for signals in SIGALRM 'SIGRTMIN, SIGRTMIN + 1' \
	'SIGALRM, SIGRTMIN, SIGRTMIN + 1, SIGSYS' \
	'1 .. 31, SIGRTMIN .. SIGRTMAX'; do
	is "$signals blocked: --timeout" "$(ended "$(blocked "$signals")" \
		"$SIMPLE_KVM" -l -t 0.2 "$GUESTS/spin64.bin")" 'exit 124'
done
# shellcheck disable=SC2016 # Perl's variable
is 'all ignored: --timeout' "$(ended '$SIG{$_} = "IGNORE" for keys %SIG' \
	"$SIMPLE_KVM" -l -t 0.2 "$GUESTS/spin64.bin")" 'exit 124'

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
# If it does not come, the last line says what did.
$SIG{ALRM} = sub { print "only: $got"; kill "KILL", $pid; exit };
alarm 20;
while (index($got, "prompt> ") < 0 && sysread R, $got, 4096, length $got) { }
alarm 0;
if (open P, "<", "$dir/pid") { chomp($target = <P>); }
kill $_, $target || $pid for split / /, $signals;
1 while sysread R, $got, 4096;
waitpid $pid, 0;
print $? & 127 ? "signal " . ($? & 127) : "exit " . ($? >> 8);
P
to_prompt() { perl_test to_prompt "$T" "$@"; }

is 'SIGINT ends it' "$(to_prompt '' INT \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 130'
is 'SIGTERM ends it' "$(to_prompt '' TERM \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 143'
is 'ignored by its parent they do not' \
	"$(to_prompt "\$SIG{INT} = \$SIG{TERM} = 'IGNORE'" 'INT TERM' \
	"$SIMPLE_KVM" -l -t 1 "$GUESTS/prompt64.bin")" 'exit 124'
is '...but the other one does' "$(to_prompt "\$SIG{INT} = 'IGNORE'" 'INT TERM' \
	"$SIMPLE_KVM" -l -t 20 "$GUESTS/prompt64.bin")" 'exit 143'

# ----------------------------------------- output without a newline, by the tick

# Those above have it through a pipe, as stdout; here it is all that is seen.
is 'a prompt through a pipe' "$(to_prompt '' TERM \
	"$SIMPLE_KVM" -r "$GUESTS/prompt16.bin")" 'exit 143'
is '...with --coalesce' "$(to_prompt '' TERM \
	"$SIMPLE_KVM" -l -c "$GUESTS/prompt64.bin")" 'exit 143'
# terminal ARGUMENT...: the same on a terminal.
terminal() {
	to_prompt '' TERM script -qec "echo \$\$ >'$T/pid'; exec '$SIMPLE_KVM' $*" \
		/dev/null
}
if command -v script >/dev/null; then
	is 'a prompt on a terminal' "$(terminal -l "'$GUESTS/prompt64.bin'")" \
		'exit 143'
	is '...with --coalesce' "$(terminal -l -c "'$GUESTS/prompt64.bin'")" \
		'exit 143'
else
	skip 'a prompt on a terminal' 'needs script'
	skip '...with --coalesce' 'needs script'
fi

# ------------------------------------------------------------------ who reads it

# full SIGNAL PROGRAM ARGUMENT...: run the program with stdout and stderr one full
# pipe, send it the signal, if any, as soon as it catches it, and print how it
# ended, without ever reading.
cat >"$T/full" <<'P'
use Fcntl;
use POSIX;
my $signal = shift;
pipe R, W or die;
fcntl W, F_SETFL, O_NONBLOCK;
while (syswrite W, "x" x 4096) { }
while (syswrite W, "x") { }
fcntl W, F_SETFL, 0;
if (!($pid = fork)) {
	open STDOUT, ">&W" or die;
	open STDERR, ">&W" or die;
	exec @ARGV;
	exit 127;
}
$SIG{ALRM} = sub { kill "KILL", $pid; print "never: "; };
alarm 20;
while ($signal && !$caught) {
	open S, "<", "/proc/$pid/status" or die;
	/^SigCgt:\s*(\w+)/ and $caught = hex($1) >> ($signal - 1) & 1 while <S>;
	select undef, undef, undef, 0.01;
}
kill $signal, $pid if $signal;
waitpid $pid, 0;
print $? & 127 ? "signal " . ($? & 127) : "exit " . ($? >> 8);
P
is 'one full pipe: SIGTERM' "$(perl_test full 15 \
	"$SIMPLE_KVM" -l "$GUESTS/endless64.bin")" 'exit 143'
is 'one full pipe: SIGINT' "$(perl_test full 2 \
	"$SIMPLE_KVM" -l "$GUESTS/prompt64.bin")" 'exit 130'
is 'one full pipe: --timeout' "$(perl_test full 0 \
	"$SIMPLE_KVM" -l -t 0.2 "$GUESTS/endless64.bin")" 'exit 124'
is 'one full pipe, --step: SIGTERM' "$(perl_test full 15 \
	"$SIMPLE_KVM" -l --step "$GUESTS/endless64.bin")" 'exit 143'
is 'one full pipe, --trace: --timeout' "$(perl_test full 0 \
	"$SIMPLE_KVM" -l --trace -t 0.2 "$GUESTS/endless64.bin")" 'exit 124'

# slow NAME PROGRAM ARGUMENT...: print what the program writes to the file with
# that name, STDOUT or STDERR, but read as late as to let some ticks pass first,
# again and again.
cat >"$T/slow" <<'P'
my $name = shift;
pipe R, W or die;
if (!fork) {
	open STDOUT, ">", "/dev/null" or die;
	open STDERR, ">", "/dev/null" or die;
	open $name, ">&W" or die;
	exec @ARGV;
	exit 127;
}
close W;
do {
	select undef, undef, undef, 0.1 if $late++ < 10;
	print $data;
} while sysread R, $data, 65536;
wait;
P
perl_test slow STDERR "$SIMPLE_KVM" -l --trace -t 100 "$GUESTS/bytes64.bin" \
	>"$T/got"
is '--trace, read late: how many lines' "$(wc -l <"$T/got")" 16641
is '...and which: each exit, whole' "$(awk -v n=0 \
	'$0 !~ "^simple-kvm: exit " (n + 1) ": KVM_EXIT_.*[0-9a-f\"]$" {
	print n + 1 ": " $0; exit } { n++ }' "$T/got")" ''
"$SIMPLE_KVM" -l "$GUESTS/mebibyte64.bin" >"$T/want"
perl_test slow STDOUT "$SIMPLE_KVM" -l -t 100 "$GUESTS/mebibyte64.bin" >"$T/got"
succeeds 'output, read late: all of it' cmp "$T/got" "$T/want"

# first_lines ARGUMENT...: how many of the first two lines of its output and its
# messages come; the reader is gone then, and so must it be.
first_lines() {
	# shellcheck disable=SC2016 # for the other shell
	timeout -s KILL $LIMIT perl -e '$SIG{PIPE} = "DEFAULT"; exec @ARGV' \
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

# tests/Fuzz.pm - for the tests that run simple-kvm on random input, again and
# again.
package Fuzz;
use strict;

# Seconds after which a run is killed: far more than any needs.
use constant LIMIT => 60;

# Run a command with this file as its standard input, and drop its output; its
# messages go to $file.err. After $stop seconds, if that is not 0, it gets
# SIGTERM. Returns its wait status.
sub run {
	my ($file, $stop, @command) = @_;
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		open STDIN, "<", $file;
		open STDOUT, ">", "/dev/null";
		open STDERR, ">", "$file.err";
		exec @command or die "@command: $!";
	}
	local $SIG{ALRM} = sub {
		kill $stop ? "TERM" : "KILL", $pid;
		$stop = 0;
		alarm LIMIT;
	};
	alarm($stop || LIMIT);
	1 until waitpid($pid, 0) == $pid; # which a signal interrupts
	alarm 0;
	return $?;
}

# Is this a documented end of a run? Any odd status may come from port 0xF4, but
# when 3 comes with a message the host has failed. A report of the sanitizers is
# 100: see tests/lib.sh.
sub documented {
	my ($wait, $errors) = @_;
	my $status = $wait >> 8;
	return ($wait & 127) == 0 && ($status == 0 || $status == 124 ||
		$status % 2) && ($status != 3 || -z $errors);
}

# Make $how{runs} inputs by the function $how{make}, which uses rand(), and run
# each. The function returns an input and a command, of which the word INPUT
# stands for the file that the input is in. Ends this process: with status 0 if
# all ends were documented, or are 2 and so $how{refused}; else it tells the
# first that was not.
sub fuzz {
	my (%how) = @_;
	# Two workers; each makes all inputs, and runs its half of them.
	for my $worker (0, 1) {
		next if fork;
		srand $how{seed};
		my $file = "$how{dir}/input$worker";
		for my $n (1 .. $how{runs}) {
			my ($input, @command) = $how{make}->($n);
			next if $n % 2 != $worker;
			open my $f, ">", $file or die "$file: $!";
			binmode $f;
			print $f $input;
			close $f;
			s/^INPUT$/$file/ for @command;
			my $wait = run($file, $how{stop}, @command);
			next if documented($wait, "$file.err") ||
				$how{refused} && $wait == 2 << 8;
			print "input $n of seed $how{seed}: wait status $wait",
				$wait == 9 ? ", more than " . LIMIT . " s" : "",
				"\n@command\n";
			system "cat", "$file.err";
			system "od", "-Anx", "-tx1z", "-N", "1024", $file;
			exit 1;
		}
		exit 0;
	}
	my $failed = 0;
	for (0, 1) { wait; $failed = 1 if $?; }
	exit $failed;
}

1;

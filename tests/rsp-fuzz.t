#!/bin/sh
# Whatever is sent to --gdb, it ends with a documented status, and without a
# report of the sanitizers. FULL=1 tries 5,000 streams of packets instead of
# 50; SEED says which ones.
# backends: no (needs the sanitizer build, and many runs)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'perl is not installed'
need_sanitizer
runs=${FULL:+5000}
runs=${runs:-50}

# A stream has packets that gdb could send, some of them with a few bytes
# changed, dropped, repeated or added before the checksum is made, or after; and
# now and then random bytes, ^C, or a packet of a great length.
cat >"$T/fuzz.pl" <<'P'
use strict;
use Fuzz;
my ($program, $runs, $seed, $dir, @guests) = @ARGV;
my @numbers = (0, 1, 2, "ff", 400, 800, 801, "8000", "8ffe", "1ffffe", 200000,
	"7fffffffffffffff", "8000000000000000", "ffffffffffffffff",
	"10000000000000000", "-1", "", "fffffffffffff000");
sub hex_bytes { return join "", map { sprintf "%02x", rand 256 } 1 .. $_[0] }
sub n { return $numbers[rand @numbers] }
my @packets = (
	sub { "?" }, sub { "g" }, sub { "s" }, sub { "c" }, sub { "s" },
	sub { "C" . n }, sub { "S" . n }, sub { "G" . hex_bytes(164) },
	sub { "G" . hex_bytes(64) }, sub { "G" . "0" x 128 },
	sub { "G" . hex_bytes(int rand 300) }, sub { "m" . n . "," . n },
	sub { "m" . n . "," . n }, sub { "M" . n . "," . n . ":" },
	sub { my $k = int rand 20; sprintf "M8000,%x:%s", $k, hex_bytes($k) },
	sub { my $k = int rand 2050; sprintf "M%s,%x:%s", n, $k, hex_bytes($k) },
	sub { "M8000,1:cc" }, sub { "qSupported:swbreak+" },
	sub { "qXfer:features:read:target.xml:" . n . "," . n },
	sub { "qRcmd," . hex_bytes(4) }, sub { "QStartNoAckMode" },
	sub { "D" }, sub { "k" }, sub { "vCont;c" }, sub { "Hg0" },
	sub { chr(33 + rand 90) . n }, sub { "m" x rand 5000 });

sub mutate {
	my $text = shift;
	for (0 .. rand 3) {
		my $at = int rand(1 + length $text);
		my $kind = int rand 4;
		substr($text, $at, 1) = chr rand 256 if $kind == 0 &&
			$at < length $text;
		substr($text, $at, 0) = chr rand 256 if $kind == 1;
		$text = substr $text, 0, $at if $kind == 2;
		$text .= substr $text, $at if $kind == 3;
	}
	return $text;
}

sub frame {
	my $text = shift;
	return sprintf "\$%s#%02x", $text, unpack "%8C*", $text;
}

sub stream {
	my $stream = "";
	for (0 .. rand 12) {
		my $text = $packets[rand @packets]->();
		# k and D end it, so they are rare.
		next if $text =~ /^[kD]$/ && rand() < 0.8;
		my $how = rand;
		$text = mutate($text) if $how < 0.2;
		my $packet = frame($text);
		$packet = mutate($packet) if $how > 0.97;
		$stream .= $packet;
		$stream .= "\3" if rand() < 0.1 || $text =~ /^[csCS]/;
		$stream .= join "", map { chr rand 256 } 0 .. rand 20
			if rand() < 0.02;
	}
	return $stream;
}

sub make {
	my ($mode, @image) = split / /, $guests[rand @guests], 2;
	return stream(), $program, "--gdb", $mode, @image;
}
# What it lets run need not end: after two seconds it is stopped.
Fuzz::fuzz(runs => $runs, seed => $seed, dir => $dir, make => \&make,
	stop => 2);
P

set -- -r -s -l "-l $GUESTS/ud64.bin" "-s $GUESTS/spin32.bin" \
	"-r $GUESTS/ownidt16.bin" "-l $GUESTS/ownidt64.bin"
succeeds "$runs streams of seed ${SEED:-1}" perl -I "$TESTS" "$T/fuzz.pl" \
	"$SANITIZED" "$runs" "${SEED:-1}" "$T" "$@"

done_testing

#!/bin/sh
# Whatever a boot sector asks of the BIOS, its disk and its devices, the run ends
# with a documented status, and without a report of the sanitizers. FULL=1 tries
# 1,000 sectors instead of 50; SEED says which ones.
# backends: no (needs the sanitizer build, and hundreds of runs)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'perl is not installed'
need_sanitizer
runs=${FULL:+1000}
runs=${runs:-50}

# A sector loads registers and segments with values at which something ends, and
# calls a service, a few times; or it writes and reads ports, moves its stack,
# enters protected mode, or has just any bytes. Its parameter block may say what
# it likes. What it reads from stdin, and from its disk, is itself.
cat >"$T/boot.pl" <<'P'
use strict;
use Fuzz;
my ($program, $runs, $seed, $dir) = @ARGV;
my @words = (0, 1, 2, 18, 63, 64, 80, 127, 128, 255, 0x400, 0x600, 0x7bff,
	0x7c00, 0x7fff, 0x8000, 0xb800, 0xf000, 0xfff0, 0xfffe, 0xffff, 0x55aa);
my @calls = ([0x10, 0x02], [0x10, 0x03], [0x10, 0x09], [0x10, 0x0a],
	[0x10, 0x0e], [0x10, 0x0f], [0x10, 0x13], [0x11, 0], [0x12, 0],
	[0x13, 0x00], [0x13, 0x02], [0x13, 0x02], [0x13, 0x03], [0x13, 0x08],
	[0x13, 0x41], [0x13, 0x42], [0x13, 0x42], [0x13, 0x42], [0x15, 0x24],
	[0x15, 0x88], [0x15, 0xe8], [0x15, 0xe8], [0x16, 0x00], [0x16, 0x01],
	[0x16, 0x02], [0x1a, 0x00]);
my @ports = (0xe9, 0x3f8 .. 0x3ff, 0x20, 0x21, 0x40, 0x60, 0x61, 0x64, 0x70,
	0x92, 0x3c0, 0x3da, 0x3df);

sub word { return rand() < 0.7 ? $words[rand @words] : int rand 65536 }
sub bytes { return join "", map { chr rand 256 } 1 .. $_[0] }
# MOV of a word to a register by its number: AX CX DX BX SP BP SI DI.
sub mov { return pack "Cv", 0xb8 + $_[0], $_[1] }
# MOV of AX to ES, SS or DS.
sub segment { return mov(0, word()) . "\x8e" . ("\xc0", "\xd0", "\xd8")[rand 3] }

sub service {
	my ($vector, $ah) = @{$calls[rand @calls]};
	my $code = rand() < 0.5 ? segment() : "";
	$code .= mov($_, word()) for grep { rand() < 0.5 } 1, 2, 3, 5, 6, 7;
	# Head 0 of cylinder 0, as most that are read.
	$code .= "\xb6\0" . mov(1, 1 + rand 18) if $ah == 2 && rand() < 0.7;
	$code .= "\x66\xba\x50\x41\x4d\x53" if $ah == 0xe8; # EDX: SMAP
	# The packet of AH 42h is at 0x7d00.
	$code .= "\x31\xc0\x8e\xd8" . mov(6, 0x7d00) if $ah == 0x42;
	$code .= mov(0, $ah << 8 | rand 256) . pack "CC", 0xcd, $vector;
	return $code;
}

my @parts = ((\&service) x 8, (\&segment) x 2,
	sub { return mov(4, word()) },                        # SP
	sub { return pack("CCv", 0x66, 0xbc, word()) . bytes(2) }, # ESP
	sub { return mov(2, $ports[rand @ports]) .            # IN and OUT
		("\xec", "\xed", "\xee", "\xef")[rand 4] },
	sub { return pack "CC", 0xcd, rand 128 },             # INT
	sub { return ("\xfb", "\xfa", "\x9c", "\x9d", "\x60", "\x61", "\xcf",
		"\xf4", "\xeb\xfe")[rand 9] },                # STI to IRET, HLT
	sub { return "\xe8" . pack "v", word() },             # CALL
	sub { return "\xf3" . ("\xa4", "\xaa", "\x6c", "\x6e")[rand 4] }, # REP
	sub { return "\x0f\x20\xc0\x0c" . chr(rand 256) . "\x0f\x22\xc0" }, # CR0
	sub { return bytes(1 + rand 8) });

sub make {
	my $block = rand() < 0.3 ? bytes(60) : "";
	substr($block, 9, 2) = "\0\2" if $block && rand() < 0.7;
	substr($block, 22, 4) = pack "vv", word(), word() if $block;
	my $sector = $block ? "\xeb\x3c" . $block : "";
	$sector .= $parts[rand @parts]->() for 0 .. rand 25;
	$sector .= "\xf4" if rand() < 0.5;
	$sector .= bytes(256 - length $sector) if length $sector < 256;
	# A packet: size, reserved, count, offset, segment, sector.
	substr($sector, 256) = pack "CCvvvQ<", 16, 0, map { word() } 0 .. 3;
	$sector .= bytes(510 - length $sector);
	$sector = substr($sector, 0, 510) . "\x55\xaa";
	$sector .= bytes(rand 5000) if rand() < 0.3;
	my @options = ([], ["-m", "1M"], ["-m", "1M"], ["-m", "1M"],
		["--trace"], ["--step"], ["--coalesce"]);
	return $sector, $program, "-t", "0.05", @{$options[rand @options]},
		"INPUT";
}
Fuzz::fuzz(runs => $runs, seed => $seed, dir => $dir, make => \&make);
P

succeeds "$runs boot sectors of seed ${SEED:-1}" perl -I "$TESTS" \
	"$T/boot.pl" "$SANITIZED" "$runs" "${SEED:-1}" "$T"

done_testing

#!/bin/sh
# Whatever an ELF file says, the run ends with a documented status and without a
# report of the sanitizers. FULL=1 tries 5,000 mutated files instead of 100;
# SEED says which ones.
# backends: no (needs the sanitizer build, and hundreds of runs)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'perl is not installed'
need_sanitizer
runs=${FULL:+5000}
runs=${runs:-100}

# Each file is a good one with some fields of its headers, or some bytes
# anywhere, changed, and now and then cut short or zeroed from somewhere on.
# Fields get values at which arithmetic goes wrong: 0, the largest ones, and
# those near the file's own.
cat >"$T/mutate.pl" <<'P'
use strict;
use Fuzz;
my ($program, $runs, $seed, $dir, @files) = @ARGV;
my @good = map { local (@ARGV, $/) = $_; <> } @files;
# Offset and size of the fields in the header and in the program headers.
my %header = (32 => [[4, 1], [5, 1], [16, 2], [18, 2], [24, 4], [28, 4],
	[42, 2], [44, 2]], 64 => [[4, 1], [5, 1], [16, 2], [18, 2], [24, 8],
	[32, 8], [54, 2], [56, 2]]);
my %segment = (32 => [52, 32, [map { [4 * $_, 4] } 0 .. 7]],
	64 => [64, 56, [[0, 4], map { [8 * $_, 8] } 1 .. 6]]);

sub value {
	my ($size, $old) = @_;
	my @v = (0, 1, 2, 3, 6, $old + 1, $old - 1, $old * 2, 0x8000, 0x7fff,
		0x1ff000, 0x200000, -1, -2, -4096, 1 << 31, (1 << 31) - 1,
		1 << 63, (1 << 63) - 1, int rand 0x100000, length $good[0]);
	return substr(pack("q<", int $v[rand @v]), 0, $size);
}

sub mutate {
	my $elf = $good[rand @good];
	my $bits = ord(substr $elf, 4, 1) == 2 ? 64 : 32;
	for (0 .. rand 3) {
		my ($offset, $size, $twice);
		if (rand() < 0.3) {
			($offset, $size) = @{$header{$bits}[rand @{$header{$bits}}]};
		} elsif (rand() < 0.8) {
			my ($start, $step, $fields) = @{$segment{$bits}};
			my $field = int rand @$fields;
			($offset, $size) = @{$fields->[$field]};
			$offset += $start + $step * int rand 2;
			# The size in the file, and that in memory after it.
			$twice = $field == 4 && rand() < 0.5;
		} else {
			($offset, $size) = (int rand length $elf, 1);
		}
		next if $offset + $size > length $elf;
		my $old = unpack "q<", substr($elf, $offset, $size) . "\0" x 8;
		my $new = value($size, $old);
		substr($elf, $offset, $size) = $new;
		substr($elf, $offset + $size, $size) = $new if $twice;
	}
	my $rest = int rand length $elf;
	substr($elf, $rest) =~ tr/\0-\xff/\0/ if rand() < 0.2;
	$elf = substr $elf, 0, rand length $elf if rand() < 0.1;
	return $elf;
}

sub make { return mutate(), $program, "-t", "0.05", "INPUT" }
Fuzz::fuzz(runs => $runs, seed => $seed, dir => $dir, make => \&make,
	refused => 1);
P

succeeds "$runs mutations of seed ${SEED:-1}" perl -I "$TESTS" \
	"$T/mutate.pl" "$SANITIZED" "$runs" "${SEED:-1}" "$T" \
	"$GUESTS"/regs64.elf "$GUESTS"/ownidt64.elf "$GUESTS"/ownidt32.elf

done_testing

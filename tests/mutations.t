#!/bin/sh
# Whatever an ELF file says, the run ends with a documented status and without a
# report of the sanitizers. MUTATIONS says how many mutated files are tried,
# MUTATIONS_SEED which ones.
# backends: no (needs the sanitizer build, and thousands of runs)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'perl is not installed'
(cd "${TESTS%/*}" && ${MAKE:-make} -s asan/simple-kvm) >"$T/log" 2>&1 ||
	skip_all "no sanitizer build: $(tail -n 1 "$T/log")"
runs=${MUTATIONS:-5000}
seed=${MUTATIONS_SEED:-1}

# Each file is a good one with some fields of its headers, or some bytes
# anywhere, changed, and now and then cut short. Fields get values at which
# arithmetic goes wrong: 0, the largest ones, and those near the file's own.
cat >"$T/mutate.pl" <<'P'
use strict;
use RunImage;
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
		my ($offset, $size);
		if (rand() < 0.3) {
			($offset, $size) = @{$header{$bits}[rand @{$header{$bits}}]};
		} elsif (rand() < 0.8) {
			my ($start, $step, $fields) = @{$segment{$bits}};
			($offset, $size) = @{$fields->[rand @$fields]};
			$offset += $start + $step * int rand 2;
		} else {
			($offset, $size) = (int rand length $elf, 1);
		}
		next if $offset + $size > length $elf;
		my $old = unpack "q<", substr($elf, $offset, $size) . "\0" x 8;
		substr($elf, $offset, $size) = value($size, $old);
	}
	$elf = substr $elf, 0, rand length $elf if rand() < 0.1;
	return $elf;
}

$ENV{ASAN_OPTIONS} = "exitcode=77:detect_leaks=0";
$ENV{UBSAN_OPTIONS} = "exitcode=77";
# Two workers; each makes all mutations and runs its half of them.
for my $worker (0, 1) {
	next if fork;
	srand $seed;
	my $image = "$dir/image$worker";
	for my $n (1 .. $runs) {
		my $elf = mutate;
		next if $n % 2 != $worker;
		my $wait = RunImage::run_image($image, $elf, $program,
			"-t", "0.05");
		my $status = $wait >> 8;
		next if ($wait & 127) == 0 && $status != 77 && ($status <= 2 ||
			$status == 124 || $status % 2);
		rename $image, "$dir/mutation-$n";
		print "mutation $n of seed $seed: wait status $wait\n";
		system "cat $image.err; od -An -tx1 -N 256 $dir/mutation-$n";
		exit 1;
	}
	exit 0;
}
my $failed = 0;
for (0, 1) { wait; $failed = 1 if $?; }
exit $failed;
P

succeeds "$runs mutations of seed $seed" perl -I "$TESTS" \
	"$T/mutate.pl" "${TESTS%/*}/asan/simple-kvm" "$runs" "$seed" "$T" \
	"$GUESTS"/regs64.elf "$GUESTS"/ownidt64.elf "$GUESTS"/ownidt32.elf

done_testing

#!/bin/sh
# Whatever bytes a guest consists of, the run ends in time, with a documented
# status and not by a signal. HOSTILE_RUNS says how many images in each mode,
# HOSTILE_SEED which ones.
# backends: no (thousands of runs are slow on an emulated CPU)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'perl is not installed'
runs=${HOSTILE_RUNS:-2000}
seed=${HOSTILE_SEED:-1}

# Half of the images are random bytes. The others are random instructions of
# those that reach the hypervisor, or break something, between random bytes.
cat >"$T/hostile.pl" <<'P'
use strict;
use RunImage;
my ($program, $mode, $runs, $seed, $image) = @ARGV;
my @pieces = ("\x0f\x0b", "\xcc", "\xf4", "\xfa", "\xfb", "\xee", "\xef",
	"\x66\xef", "\xec", "\xed", "\x66\xed", "\xba\xe9\x00", "\xba\xf8\x03",
	"\xf3\x6e", "\xf3\x6c", "\x66\xf3\x6f", "\xe6\xe9", "\xe7\xe9",
	"\x0f\x01\x18", "\x0f\x01\x10", "\x0f\x22\xc0", "\x0f\x22\xd8",
	"\x0f\x22\xe0", "\x0f\x30", "\x0f\x32", "\x0f\xa2", "\xcf", "\xcb",
	"\xf3\xaa", "\xf3\xa4", "\x8e\xd8", "\x8e\xd0", "\xbc\x00\x00",
	"\x31\xff", "\xb9\xff\xff", "\xea\x00\x00\x00\x00", "\x9b\xdb\xe3");
srand($seed);
for my $n (1 .. $runs) {
	my $bytes = "";
	while (length $bytes < 256) {
		$bytes .= $n % 2 || rand() < 0.3 ? chr(int rand 256) :
			$pieces[int rand @pieces];
	}
	my $wait = RunImage::run_image($image, $bytes, $program, $mode,
		"-t", "0.05");
	my $status = $wait >> 8;
	# Any odd one may come from port 0xF4; 2, and 3 with a message, may not.
	my $good = ($wait & 127) == 0 &&
		($status == 0 || $status == 124 || $status % 2) &&
		($status != 3 || -z "$image.err");
	next if $good;
	print "image $n of seed $seed: wait status $wait\n";
	system "od -An -tx1 $image; cat $image.err";
	exit 1;
}
P

for mode in -r -s -p -l; do
	need_mode "$mode" "$mode: $runs images" || continue
	succeeds "$mode: $runs images of seed $seed" perl -I "$TESTS" \
		"$T/hostile.pl" "$SIMPLE_KVM" "$mode" "$runs" "$seed" "$T/image"
done

done_testing

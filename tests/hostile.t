#!/bin/sh
# Whatever bytes a guest consists of, the run ends in time, with a documented
# status and not by a signal. FULL=1 tries 2,000 images in each mode instead of
# 50; SEED says which ones.
# backends: no (hundreds of runs are slow on an emulated CPU)
. "${0%/*}/lib.sh"
need_kvm
command -v perl >/dev/null || skip_all 'perl is not installed'
runs=${FULL:+2000}
runs=${runs:-50}

# Half of the images are random bytes. The others are random instructions of
# those that reach the hypervisor, or break something, between random bytes.
cat >"$T/hostile.pl" <<'P'
use strict;
use Fuzz;
my ($runs, $seed, $dir, @command) = @ARGV;
my @pieces = ("\x0f\x0b", "\xcc", "\xf4", "\xfa", "\xfb", "\xee", "\xef",
	"\x66\xef", "\xec", "\xed", "\x66\xed", "\xba\xe9\x00", "\xba\xf8\x03",
	"\xf3\x6e", "\xf3\x6c", "\x66\xf3\x6f", "\xe6\xe9", "\xe7\xe9",
	"\x0f\x01\x18", "\x0f\x01\x10", "\x0f\x22\xc0", "\x0f\x22\xd8",
	"\x0f\x22\xe0", "\x0f\x30", "\x0f\x32", "\x0f\xa2", "\xcf", "\xcb",
	"\xf3\xaa", "\xf3\xa4", "\x8e\xd8", "\x8e\xd0", "\xbc\x00\x00",
	"\x31\xff", "\xb9\xff\xff", "\xea\x00\x00\x00\x00", "\x9b\xdb\xe3");
sub image {
	my ($n) = @_;
	my $bytes = "";
	while (length $bytes < 256) {
		$bytes .= $n % 2 || rand() < 0.3 ? chr(int rand 256) :
			$pieces[int rand @pieces];
	}
	return $bytes, @command, "INPUT";
}
Fuzz::fuzz(runs => $runs, seed => $seed, dir => $dir, make => \&image);
P

hostile() {
	succeeds "$mode: $runs images of seed ${SEED:-1}" perl -I "$TESTS" \
		"$T/hostile.pl" "$runs" "${SEED:-1}" "$T" \
		"$SIMPLE_KVM" "$mode" -t 0.05
}
each_mode "$runs images" hostile

done_testing

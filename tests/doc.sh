# shellcheck shell=sh disable=SC2154
# tests/doc.sh - what the tests of the texts share: their blocks, and their
# commands. It wants tests/lib.sh.

# blocks TEXT: each block becomes a file in $T/blocks, numbered in their order.
# What comes after the first word of its fence is the name of the file that the
# block is, or, after "needs", what its commands need.
blocks() {
	mkdir "$T/blocks"
awk -v dir="$T/blocks" '
	/^```$/ && text { close(text); text = ""; next }
	/^```/ {
		kind = substr($1, 4)
		if (!kind) kind = "text"
		if (NF > 1 && $2 != "needs") kind = "file"
		text = sprintf("%s/%03d-%s", dir, ++n, kind)
		print kind == "file" ? $2 : "" >(text ".name")
		sub(/^[^ ]*( needs)?/, "")
		print kind == "file" ? "" : $0 >(text ".needs")
		printf "" >text
		next
	}
	text { print >text }' "$1"
}

# at_least WHAT N FILE: there are as many lines, so that finding nothing is no
# success.
at_least() {
	n=$(grep -c . "$3") || true
	is "$1: at least $2 are found" "$([ "$n" -ge "$2" ] && echo yes)" yes
}

# steady: standard input without what differs between one machine, or one run,
# and another.
steady() {
	sed -e 's/, RIP 0x[0-9a-f]*/, RIP/' -e 's/[0-9]*\.[0-9]\{6\} s/N s/g' \
		-e 's/\(at address\) .* \((the image):\).*/\1 \2/'
}

# shown WANT GOT: the output is what is shown, where a line [...] stands for any
# lines.
cat >"$T/shown.pl" <<'P'
use strict;
sub text { local (@ARGV, $/) = @_; return <> // "" }
my ($want, $got) = map { text $_ } @ARGV;
my $pattern = join "(?:.*\\n)*?", map quotemeta,
	split /^\[\.\.\.\]\n/m, $want, -1;
exit 0 if $got =~ /\A$pattern\z/;
print "got:\n${got}shown:\n$want";
exit 1;
P
shown() { perl "$T/shown.pl" "$@"; }

# console FILE: run its commands, each after "$ ", with the lines that a
# backslash continues, and compare what they print.
console() {
	rm -f "$T"/step-*
	awk -v dir="$T" '
		/^\$ / {
			step = sprintf("%s/step-%02d", dir, ++n)
			printf "" >(step ".want")
			$0 = substr($0, 3)
			command = 1
		}
		command { print >step; command = /\\$/; next }
		step { print >(step ".want") }' "$1"
	for step in "$T"/step-??; do
		timeout 60 sh "$step" >"$step.got" 2>&1 </dev/null
		steady <"$step.got" >"$step.steady"
		steady <"$step.want" >"$T/want"
		succeeds "\$ $(tr -s '\\\n ' ' ' <"$step")" \
			shown "$T/want" "$step.steady"
	done
}

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

# has_functions N FILE: at least N names are in the file, a line each, and all are
# functions of simple-kvm.c, or macros that look like some.
has_functions() {
	at_least 'functions' "$1" "$2"
	while read -r function; do
		succeeds "$function() exists" grep -q \
			-e "^[a-z].*[ *]$function(.*[^;]\$" \
			-e "^#define $function(" "${TESTS%/*}/simple-kvm.c"
	done <"$2"
}

# has_statuses FILE: the numbers in the file, a line each, are statuses of
# simple-kvm.c.
has_statuses() {
	at_least 'statuses' 5 "$1"
	while read -r number; do
		succeeds "status $number" grep -q "STATUS_[A-Z]* = $number," \
			"${TESTS%/*}/simple-kvm.c"
	done <"$1"
}

# links_lead N TEXT: the text, a path in the tree, has at least N links to files,
# and these are there.
links_lead() {
	grep -o '](\.*[/a-zA-Z][^):]*)' "${TESTS%/*}/$2" | tr -d '()]' |
		sort -u >"$T/files"
	at_least "$2: links to files" "$1" "$T/files"
	while read -r file; do
		file=$(dirname "$2")/${file%%#*}
		succeeds "$2: link to $file" test -e "${TESTS%/*}/$file"
	done <"$T/files"
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
		limit sh "$step" >"$step.got" 2>&1 </dev/null
		steady <"$step.got" >"$step.steady"
		steady <"$step.want" >"$T/want"
		succeeds "\$ $(tr -s '\\\n ' ' ' <"$step")" \
			shown "$T/want" "$step.steady"
	done
}

#!/bin/sh
# What the README shows is so: its files and its change of simple-kvm.c, taken
# from it and put into a copy of the tree, its commands run there in order, and
# their output compared with what it shows; and what it names is there.
# backends: no (needs a compiler)
. "${0%/*}/lib.sh"
need_kvm

# This make is not to know of the one that runs the tests.
unset MAKEFLAGS MFLAGS MAKELEVEL MODE RAM
has_mode -p && has_p=1 || has_p=
readme=${TESTS%/*}/README.md
src=$T/src
copy_tree "$src"
cd "$src" || exit 1
# The README speaks of ./simple-kvm; SANITIZE=1 tests another.
make -s >"$T/log" 2>&1 || bail_out "make: $(cat "$T/log")"

# One directory for each block, in their order: its kind, its name, its text.
mkdir "$T/blocks"
awk -v dir="$T/blocks" '
	/^<!-- file: .* -->$/ { name = $3; kind = "file"; next }
	/^<!-- mode: .* -->$/ { name = $3; next }
	/^<!-- from: .* -->$/ { name = $3; kind = "from"; next }
	/^```/ && !text {
		if (!kind) kind = substr($0, 4)
		if (!kind) kind = "text"
		text = sprintf("%s/%03d-%s", dir, ++n, kind)
		print name >(text ".name")
		printf "" >text
		next
	}
	/^```$/ { close(text); text = kind = name = ""; next }
	text { print >text }' "$readme"

# Apply a diff to a file: each hunk's lines are found there, wherever it is.
cat >"$T/apply.pl" <<'P'
use strict;
my ($diff, $name) = @ARGV;
sub text { local (@ARGV, $/) = @_; return scalar <> }
my $source = text $name;
my (undef, @hunks) = split /^@@.*\n/m, text $diff;
for my $hunk (@hunks) {
	my ($old, $new) = ("", "");
	for (split /^/, $hunk) {
		$old .= substr $_, 1 if /^[ -]/;
		$new .= substr $_, 1 if /^[ +]/;
	}
	$source =~ s/\Q$old\E/$new/ or die "not found:\n$old";
}
open my $f, ">", $name or die "$name: $!";
print $f $source;
P

# steady: standard input without what differs between one machine, or one run,
# and another. A line [...] stands for any lines.
steady() {
	sed -e '/^simple-kvm:   RFLAGS/d' -e '/^simple-kvm: KSM:/d' \
		-e 's/, RIP 0x[0-9a-f]*:/, RIP:/' \
		-e 's/[0-9]*\.[0-9]\{6\} s/N s/g' \
		-e 's/peak RSS: [0-9]*/peak RSS: N/'
}

# shown WANT GOT: the output is what is shown.
shown() {
	if ! grep -q '^\[\.\.\.\]$' "$1"; then
		diff -u "$1" "$2"
		return
	fi
	# What is before the [...] begins the output, and what is behind it ends it.
	sed '/^\[\.\.\.\]$/,$d' "$1" >"$T/begin"
	sed '1,/^\[\.\.\.\]$/d' "$1" >"$T/end"
	head -n "$(wc -l <"$T/begin")" "$2" | diff -u "$T/begin" - &&
		tail -n "$(wc -l <"$T/end")" "$2" | diff -u "$T/end" -
}

# console FILE: run its commands, each behind "$ ", and compare what they print.
console() {
	rm -f "$T"/step-*
	awk -v dir="$T" '/^\$ / {
			step = sprintf("%s/step-%02d", dir, ++n)
			print substr($0, 3) >step
			printf "" >(step ".want")
			next
		}
		step { print >(step ".want") }' "$1"
	for step in "$T"/step-??; do
		sh "$step" >"$step.got" 2>&1 </dev/null
		steady <"$step.got" >"$step.steady"
		steady <"$step.want" >"$T/want"
		succeeds "\$ $(cat "$step")" shown "$T/want" "$step.steady"
	done
}

for block in "$T"/blocks/*; do
	case $block in
	*.name) continue ;;
	*-file) cp "$block" "$(cat "$block.name")" ;;
	*-from)
		while IFS= read -r line; do
			succeeds "quoted: ${line#"${line%%[![:space:]]*}"}" \
				grep -qxF -e "$line" "$(cat "$block.name")"
		done <"$block" ;;
	*-diff) succeeds 'the change of simple-kvm.c applies' \
		perl "$T/apply.pl" "$block" simple-kvm.c ;;
	*-console)
		if [ "$(cat "$block.name")" = -p ] && [ -z "$has_p" ]; then
			skip "$(sed -n 's/^\$ //p' "$block")" 'no -p here'
		else
			console "$block"
		fi ;;
	esac
done

# The output of the first command of all, which needs no copy.
run --long
like 'the built-in guest prints what is shown' "$(cat "$readme")" \
	"^    $(head -n 1 "$T/out")\$"
like '...and so does the verdict' "$(cat "$readme")" "^    $err\$"

# Every option of --help is in the README, and the other way round.
"$SIMPLE_KVM" --help | grep -o -e '--[a-z][a-z]*' | sort -u >"$T/help"
grep -o -e '`--[a-z][a-z]*' -e ', `--[a-z]*' "$readme" | grep -o -e '--[a-z]*' |
	sort -u >"$T/named"
is "--help and the README tell of the same options" \
	"$(cat "$T/named")" "$(cat "$T/help")"

# Every function that the README names is there.
# shellcheck disable=SC2016 # backquotes of Markdown
grep -o '`[a-z_]*()`' "$readme" | tr -d '`()' | sort -u >"$T/functions"
while read -r function; do
	succeeds "$function() exists" grep -q "[ *]$function(.*[^;]\$" simple-kvm.c
done <"$T/functions"

# Links within the README lead somewhere, and so do those to files.
grep -o '](#[^)]*)' "$readme" | tr -d '()#]' | sort -u >"$T/anchors"
sed -n 's/^##* //p' "$readme" | tr '[:upper:]' '[:lower:]' |
	sed 's/[^a-z0-9 -]//g; s/ /-/g' >"$T/headings"
is 'links to headings' "$(grep -vxFf "$T/headings" "$T/anchors")" ''
grep -o '](\.*[a-zA-Z][^):]*)' "$readme" | tr -d '()]' | sort -u >"$T/files"
while read -r file; do
	succeeds "link to $file" test -e "${TESTS%/*}/${file%%#*}"
done <"$T/files"

done_testing

#!/bin/sh
# What doc/walkthrough.md and its pictures tell is so: the lines of C that it
# quotes are in simple-kvm.c, in that order; the calls of the flowchart are those
# of a run, in that order; each function, exit and constant is in the source; the
# bits that it explains are those that are set; and its commands print what it
# shows.
# backends: no (needs the source)
. "${0%/*}/lib.sh"
. "$TESTS/doc.sh"
need_kvm

top=${TESTS%/*}
doc=$top/doc
text=$doc/walkthrough.md
source=$top/simple-kvm.c
blocks "$text"

# Each quoted line, one after the other: a line between them may be left out.
ls "$T"/blocks/*-c >"$T/quotes"
at_least 'quotes' 8 "$T/quotes"
while read -r quote; do
	awk 'NR == FNR { line[++n] = $0; next }
		at < n && $0 == line[at + 1] { at++ }
		END { if (at < n) print line[at + 1] }' \
		"$quote" "$source" >"$T/missing"
	is "in the source, in this order: $(head -n 1 "$quote" | tr -s '\t ' ' ')" \
		"$(cat "$T/missing")" ''
done <"$T/quotes"

# The flowchart's calls. -v ends where the machine is shown.
run -s -v
sed -n 's/^simple-kvm: \(.*\) = [0-9a-fx]*$/\1/p' "$T/err" |
	grep -e '^[a-z]' -e '^KVM_' | sed 's/, .*)$/)/' >"$T/calls"
echo KVM_RUN >>"$T/calls"
sed -n 's/.*class="call"[^>]*>\([^<]*\)<.*/\1/p' "$doc/flow.svg" |
	sed '/^KVM_RUN$/q' >"$T/drawn"
at_least 'calls of the flowchart' 14 "$T/drawn"
is 'the calls of the flowchart' "$(cat "$T/drawn")" "$(cat "$T/calls")"

# What it does about each reason is in the loop, or next to it.
sed -n 's/.*class="call"[^>]*>\([^<]*\)<.*/\1/p' "$doc/flow.svg" |
	sed '1,/^KVM_RUN$/d' >"$T/reasons"
at_least 'reasons to stop' 4 "$T/reasons"
while read -r reason; do
	succeeds "reason: $reason" grep -q -e "case $reason:" \
		-e "^	$reason:" -e "!= $reason)" "$source"
done <"$T/reasons"
sed -n 's/.*>status \([0-9]*\)<.*/\1/p; s/.*class="end"[^>]*>\([0-9]*\)[ +N]*<.*/\1/p' \
	"$doc/flow.svg" | sort -u >"$T/statuses"
has_statuses "$T/statuses"

# Functions, and names in capital letters.
# shellcheck disable=SC2016 # backquotes of Markdown
grep -o '`[a-z_]*()`' "$text" | tr -d '`()' >"$T/functions"
sed -n 's/.*class="function"[^>]*>\([a-z_]*\)().*/\1/p' "$doc"/*.svg \
	>>"$T/functions"
sort -u -o "$T/functions" "$T/functions"
has_functions 20 "$T/functions"
sed 's/<[^>]*>//g' "$text" "$doc/flow.svg" "$doc/output.svg" "$doc/memory.svg" |
	grep -o -w -e '[A-Z][A-Z0-9]*_[A-Z0-9_]*' | sort -u |
	grep -vx PROT_EXEC >"$T/names"
at_least 'constants' 20 "$T/names"
while read -r name; do
	succeeds "$name is in the source" grep -qw "$name" "$source"
done <"$T/names"
unlike 'RAM is not for executing' "$(cat "$source")" PROT_EXEC
# shellcheck disable=SC2016 # backquotes of Markdown
grep -o '`\(vm\|run\|modes\|ports\|[a-z]*64\)\(->[a-z_]*\|\[\]\)`' "$text" |
	tr -d '`' | sort -u >"$T/fields"
at_least 'fields and arrays' 2 "$T/fields"
while read -r field; do
	succeeds "$field is in the source" grep -qF -e "$field" "$source"
done <"$T/fields"

# The tables of bits have those that long mode sets: no more, and no fewer.
run -l -v
for register in CR0 CR4 EFER; do
	set="$(sed -n "s/^simple-kvm:   $register *[0-9a-f]* *//p" "$T/err" |
		tr ' ' '\n' | sort)"
	told=$(sed -n "s/^| $register\.\([A-Z]*\) |.*/\1/p" "$text" | sort)
	is "bits of $register" "$told" "$set"
done
told=$(sed -n '/^| in an entry/,/^$/s/^| \([A-Z]*\) |.*/\1/p' "$text" | tr '\n' ' ')
set=$(sed -n 's/^simple-kvm:   PD\[0\] = 0x[0-9a-f]* //p' "$T/err" | head -n 1)
is 'bits of an entry' "$told" "$set "

# The registers of a mode are what is shown.
for mode in s l; do
	run -$mode -v
	row="| \`-$mode\` |"
	for register in CR0 CR4 EFER; do
		bits=$(sed -n "s/^simple-kvm:   $register *[0-9a-f]* *//p" "$T/err")
		row="$row ${bits:-0} |"
	done
	succeeds "mode: $row" grep -qF -e "$row" "$text"
done

# The commands. They speak of ./simple-kvm; SANITIZE=1 tests another.
mkdir "$T/run" || exit
ln -s "$SIMPLE_KVM" "$T/run/simple-kvm"
cd "$T/run" || exit
for block in "$T"/blocks/*-console; do
	console "$block"
done

# Its first exercise: without PS, -v shows the way to where it ends.
copy_tree "$T/tree" || exit 1
sed 's/ | flags | PDE64_PS;/ | flags;/' "$source" >"$T/tree/simple-kvm.c"
(
	unset MAKEFLAGS MFLAGS MAKELEVEL
	limit make -s -C "$T/tree" simple-kvm CFLAGS=-O0 >"$T/log" 2>&1
)
if need_mode -l 'without PS'; then
	capture "$T/tree/simple-kvm" -l -v
	is 'without PS' "$(sed '/: address 0x1fffff: /,$d' "$T/err" |
		sed -n 's/^simple-kvm:   \(P[DT]\)/\1/p')" \
		"PDPT[0] = 0x4007 PRESENT RW USER
PD[0] = 0x7 PRESENT RW USER
PT[8] = 0x0"
	like 'without PS: it dies' "$err" '(8): triple fault'
fi

links_lead 5 doc/walkthrough.md

done_testing

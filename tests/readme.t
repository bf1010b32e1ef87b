#!/bin/sh
# What the README shows is so: its files and its change of simple-kvm.c, taken
# from it and put into a copy of the tree, its commands run there in order, and
# their output compared with what it shows; and what it and its pictures name is
# there.
# backends: no (needs a compiler)
. "${0%/*}/lib.sh"
. "$TESTS/doc.sh"
need_kvm

# This make is not to know of the one that runs the tests, and may be quick.
unset MAKEFLAGS MFLAGS MAKELEVEL MODE RAM FLOAT OBJS GUEST_CFLAGS
export CFLAGS=-O0
readme=${TESTS%/*}/README.md
src=$T/src
copy_tree "$src"
cd "$src" || exit 1
# The README speaks of ./simple-kvm; SANITIZE=1 tests another.
make -s >"$T/log" 2>&1 || bail_out "make: $(cat "$T/log")"

blocks "$readme"

# A session of gdb: its command, after "$ ", those that it is given, each after
# "(gdb) ", and what is shown of it. Addresses differ from one compiler to
# another, and so do lines that are empty.
session() {
	eval "set -- $(sed -n 's/^\$ gdb //p' "$block")"
	sed -n 's/^(gdb) //p' "$block" >"$T/gdb"
	at_least 'commands to gdb' 3 "$T/gdb"
	while IFS= read -r command; do
		set -- "$@" -ex "$command"
	done <"$T/gdb"
	make -s "$1" GUEST_CFLAGS=-Og >"$T/log" 2>&1
	limit gdb -nx -q -batch "$@" >"$T/raw-got" 2>&1 </dev/null
	for which in "$block" "$T/raw-got"; do
		grep -v -e '^(gdb)' -e '^\$ ' -e '^$' "$which" |
			sed 's/0x[0-9a-f]*/ADDRESS/g' >"$T/session.${which##*-}"
	done
	succeeds 'a session of gdb' diff -u "$T/session.gdb" \
		"$T/session.got"
}

# The change of simple-kvm.c. Whoever has made it already, or has lines of their
# own just there, does not see it fail for that.

# Apply a diff to a file: where the hunk's lines are; or else where a line of
# your own separates them, before the first one below the new ones. Exits with 3
# if there is any such hunk.
cat >"$T/apply.pl" <<'P'
use strict;
my ($diff, $name) = @ARGV;
sub text { local (@ARGV, $/) = @_; return scalar <> }
my ($source, $own) = (text($name), 0);
my (undef, @hunks) = split /^@@.*\n/m, text $diff;
for my $hunk (@hunks) {
	my @lines = split /^/, $hunk;
	my $old = join "", map { substr $_, 1 } grep { /^[ -]/ } @lines;
	my $new = join "", map { substr $_, 1 } grep { /^[ +]/ } @lines;
	next if $source =~ s/\Q$old\E/$new/;
	my ($above, $added, $below) = $hunk =~ /\A((?: .*\n)+)((?:\+.*\n)+) (.*\n)/
		or die "neither there nor an addition:\n$hunk";
	$above =~ s/^ //mg;
	$added =~ s/^\+//mg;
	$source =~ s/(\Q$above\E(?:.*\n)*?)(?=\Q$below\E)/$1$added/
		or die "not found:\n$old";
	$own = 3;
}
open my $f, ">", $name or die "$name: $!";
print $f $source;
exit $own;
P

# change NAME: test that it applies, and apply it. Afterwards $changed says so.
change() {
	changed=
	sed -n 's/^+static.* \([a-z_]*\)(.*/\1/p' "$1" >"$T/added"
	if grep -qFf "$T/added" simple-kvm.c; then
		skip 'the change of simple-kvm.c' 'it has such functions already'
		return
	fi
	own=0
	cp simple-kvm.c "$T/before.c"
	perl "$T/apply.pl" "$1" simple-kvm.c 2>"$T/log" || own=$?
	for tool in 'git apply' 'patch -s -p1 --fuzz=0 -i'; do
		if ! command -v "${tool%% *}" >/dev/null; then
			skip "the change applies with $tool" 'it is not installed'
		elif [ "$own" = 3 ]; then
			skip "the change applies with $tool" \
				'simple-kvm.c has lines of your own there'
		else
			mkdir -p "$T/other"
			cp "$T/before.c" "$T/other/simple-kvm.c"
			# shellcheck disable=SC2016 # that shell's variables
			succeeds "the change applies with $tool" \
				env GIT_CEILING_DIRECTORIES="$T" sh -c \
				'cd "$1" && $2 "$3" && cmp simple-kvm.c "$4"' - \
				"$T/other" "$tool" "$src/$1" "$src/simple-kvm.c"
		fi
	done
	# With no change of yours it is at the lines that it says.
	if git -C "${TESTS%/*}" diff --quiet HEAD -- simple-kvm.c 2>/dev/null; then
		awk 'NR == FNR { source[NR] = $0; next }
			at && source[at] != substr($0, 2) { print "not at line " at }
			{ at = /^@@/ ? substr($2, 2) + 0 : 0 }' \
			"$T/before.c" "$1" >"$T/log"
		is 'the change is at the lines that it says' "$(cat "$T/log")" ''
	fi
	case $own in
	0 | 3)
		result 0 'the change of simple-kvm.c has its place'
		changed=1 ;;
	*)
		result 1 'the change of simple-kvm.c has its place'
		comment "$(cat "$T/log")" ;;
	esac
}

# lacks WORD...: is one of them missing? It is the change, or a tool.
lacks() {
	for missing; do
		case $missing in
		change) [ "$changed" ] || return 0 ;;
		*) command -v "$missing" >/dev/null || return 0 ;;
		esac
	done
	return 1
}

changed=
: >"$T/commands"
for block in "$T"/blocks/*; do
	name=$(cat "$block.name" 2>/dev/null)
	case $block in
	*.name | *.needs) continue ;;
	*-file)
		cp "$block" "$name"
		case $name in *.diff) change "$name" ;; esac ;;
	*-gdb)
		if lacks gdb; then
			skip 'a session of gdb' 'there is no gdb'
		else
			session
		fi ;;
	*-console)
		grep '^\$ ' "$block" >>"$T/commands"
		# shellcheck disable=SC2046 # its words
		if lacks $(cat "$block.needs"); then
			skip "$(grep '^\$ ' "$block" | tail -n 1)" \
				"there is no $missing"
		else
			console "$block"
		fi ;;
	esac
done
at_least 'commands' 10 "$T/commands"
(cd "$T/blocks" && ls) >"$T/names"
for least in 6-file 6-console 1-gdb; do
	grep "${least#*-}\$" "$T/names" >"$T/kind"
	at_least "blocks of the kind ${least#*-}" "${least%-*}" "$T/kind"
done

# The recipe for gcc goes with the other options that are named.
grep -l '^\$ gcc .*-nostdlib' "$T"/blocks/*-console >"$T/recipes"
at_least 'recipes for gcc' 1 "$T/recipes"
recipe=$(cat "$T/recipes")
for change in 's/-O2/& -m32 -fno-pic/' 's/-Ttext=/-n,&/' \
	's/-Ttext=[^ ]*/-Ttext-segment=0x8000/' \
	's/,-Ttext=[^ ]*/ -T guest.ld/' \
	's/,-Ttext=[^ ]*//; s/simple-kvm/& -m 5M/'; do
	sed "$change" "$recipe" >"$T/recipe"
	! cmp -s "$recipe" "$T/recipe" || result 1 "the recipe has $change"
	console "$T/recipe"
done

# What a hypercall says that makes a system call.
if [ "$changed" ]; then
	sed 's/^\tprintf("exit %llu: .*/\tfopen("x", "re");/' \
		simple-kvm.c >"$T/fopen.c"
	cp "$T/fopen.c" simple-kvm.c
	make -s simple-kvm >"$T/log" 2>&1 || comment "$(cat "$T/log")"
	# shellcheck disable=SC2016 # backquotes of Markdown
	limit ./simple-kvm --long calls.bin 2>&1 | tail -n 1 |
		sed 's/.*/`&`/' >"$T/refusal"
	succeeds "the README has: $(cat "$T/refusal")" \
		grep -qFf "$T/refusal" "$readme"
else
	skip 'the message about a forbidden system call' 'there is no change'
fi

# The output of the first command of all, which needs no copy.
run --long
for line in "$(cat "$T/out")" "$err"; do
	succeeds "the README has: $line" grep -qxF "    $line" "$readme"
done

# Every option of --help is in the README, and the other way round. (--usage has
# them all, in its own way.)
"$SIMPLE_KVM" --help | grep -o -e '^ *-[a-zA-Z?],' -e '--[a-z][a-z]*' |
	tr -d ' ,' | sort -u >"$T/help"
at_least 'options' 20 "$T/help"
# shellcheck disable=SC2016 # backquotes of Markdown
sed -n '/^## Reference/,/^## /s/^| \(`-[^|]*\).*/\1/p' "$readme" |
	grep -o -e '`-[a-zA-Z?]`' -e '`--[a-z]*' | tr -d '`' | sort -u |
	grep -vx -e -h >"$T/named"
is '--help and the README tell of the same options' \
	"$(cat "$T/named")" "$(cat "$T/help")"
awk '/^\.It Fl/ {
	for (i = 3; i <= NF && $i != "Ns"; i++)
		if ($i != "," && $i != "Fl")
			print "-" $i
}' "${TESTS%/*}/simple-kvm.1" | tr -d '\\&' | sort -u | grep -vx -e -h >"$T/named"
is '...and so does the manual page' "$(cat "$T/named")" "$(cat "$T/help")"
"$SIMPLE_KVM" --usage >"$T/usage"
while read -r option; do
	case $option in
	--*) like "--usage names $option" "$(cat "$T/usage")" "\\[${option}[]=]" ;;
	esac
done <"$T/help"
run -h
is '-h is as --help' "$out" "$("$SIMPLE_KVM" --help)$NL"

# The messages about a guest's death: each is said, or is in the source, as for
# some it takes a certain KVM.
cp simple-kvm.c "$T/said"
# dies ARGUMENT... <IMAGE: note what is said of a guest.
dies() {
	cat >"$T/image"
	run "$@" "$T/image"
	cat "$T/err" >>"$T/said"
}
printf '\270\0\011\315\041' | dies -r           # mov $0x0900, %ax; int $0x21
printf '\373\364' | dies -r                     # sti; hlt
printf '\353\376' | dies -l                     # jmp to itself
printf '\364' | dies                            # hlt, in a mode that is a guess
printf '\344\177' | dies -r                     # in $0x7f, %al
printf '\270\1\0\0\0\243\0\0\0\100' | dies -s   # mov $1, %eax; mov %eax, 1G
printf '\220\353\375' | dies -l -t 0.1          # nop, and jmp to that
printf '\061\300\377\320' | dies -l              # xor %eax, %eax; call *%rax
printf '\303' | dies -l                         # ret
printf '\351\373\177\037\0' | dies -s         # jmp 0x200000
# shellcheck disable=SC2016 # backquotes of Markdown
sed -n '/^| message/,/^$/s/^| `\([^`]*\)`.*/\1/p' "$readme" >"$T/messages"
at_least 'messages' 7 "$T/messages"
while IFS= read -r message; do
	succeeds "message: $message" grep -qF -e "$message" "$T/said"
done <"$T/messages"

# access OPCODE PORT: run a guest that does so: mov $PORT, %dx; OPCODE; hlt.
access() {
	printf '%b' "\\0272\\0$(printf '%o' $(($2 & 255)))" \
		"\\0$(printf '%o' $(($2 >> 8)))\\0$1\\0364" >"$T/image"
	run -r "$T/image"
}

# The ports that are not there, unless they are of your own.
sed -n '/^| device/,/^$/p' "$readme" | grep '| not there' | cut -d '|' -f 3 |
	grep -o '0x[0-9A-F]*' >"$T/absent"
at_least 'absent ports' 3 "$T/absent"
while read -r port; do
	if grep -qi "{ $port," simple-kvm.c; then
		skip "no port $port" 'simple-kvm.c has a row for it'
		continue
	fi
	access 356 "$port" # out %al, (%dx)
	like "no port $port" "$err" \
		"port 0x$(printf %x "$((port))"), which is not there\$"
	is "no port $port: status" "$status" 1
done <"$T/absent"

# The ports that are there, as far as an access of one byte can tell.
sed -n '/^| port/,/^$/s/^| 0xEE.*//; s/^| \(0x[^|]*\) | \([a-z, ]*\).*/\1 \2/p' \
	"$readme" | sed 's/, 1 byte.*//' >"$T/ports"
at_least 'ports' 8 "$T/ports"
is 'no port is both there and not' \
	"$(grep -o '0x[0-9A-F]*' "$T/ports" | grep -xFf "$T/absent")" ''
while IFS= read -r row; do
	for port in $(echo "$row" | grep -o '0x[0-9A-F]*'); do
		case $row in *out*)
			access 356 "$port"
			unlike "OUT to port $port" "$err" 'not there' ;;
		esac
		case $row in *in*)
			access 354 "$port"
			unlike "IN from port $port" "$err" 'not there' ;;
		esac
	done
done <"$T/ports"

# The memory map is that of the source.
doc=${TESTS%/*}/doc
sed -n 's/.*class="address".*>\(0x[0-9a-f]*\)<.*/\1/p' "$doc/memory-map.svg" |
	sort >"$T/map"
sed -n '/^enum layout {/,/REAL_STUBS/s/.* = \([0-9a-fx]*\),.*/\1/p' simple-kvm.c |
	sed 's/^0$/0x0/; /^0x10000$/d; /^0x46c$/d' | sort >"$T/layout"
echo 0xffff0 >>"$T/layout"
sort -o "$T/layout" "$T/layout"
at_least 'addresses of the memory map' 14 "$T/map"
is 'the addresses of the memory map' "$(cat "$T/map")" "$(cat "$T/layout")"
for address in REAL_END:0x10000 TICKS:0x46c RESET:0xffff0 MOST_RAM:0xc0000000; do
	like "the source has $address" "$(cat simple-kvm.c)" \
		"^	${address%:*} = ${address#*:},"
done

# The walk through the page tables is the second that is told of: of the last byte.
run -l -v -m 3G
sed -n 's/^simple-kvm: *\(address\|[A-Z0-9]*\[\)/\1/p' "$T/err" | tail -n 4 |
	grep -o '0x[0-9a-f]*\|\[[0-9]*' | tr -d '[' >"$T/walk"
at_least 'numbers of a walk' 8 "$T/walk"
while read -r number; do
	succeeds "page walk: $number" grep -q ">$number<" "$doc/page-walk.svg"
done <"$T/walk"

# The statuses are those of the source.
sed -n '/^| status/,/^$/s/^| \([0-9][0-9]*\) .*/\1/p' "$readme" >"$T/statuses"
has_statuses "$T/statuses"

# Every function that the README names is there.
# shellcheck disable=SC2016 # backquotes of Markdown
grep -o '`[a-z_]*()`' "$readme" | tr -d '`()' | sort -u |
	grep -vx printf >"$T/functions"
has_functions 6 "$T/functions"
succeeds 'printf() exists' grep -q '[ *]printf(.*[^;]$' simple-kvm.c

# Links lead somewhere: within the README, and to files, from each of ours.
grep -o '](#[^)]*)' "$readme" | tr -d '()#]' | sort -u >"$T/anchors"
at_least 'links to headings' 2 "$T/anchors"
sed -n 's/^##* //p' "$readme" | tr '[:upper:]' '[:lower:]' |
	sed 's/[^a-z0-9 -]//g; s/ /-/g' >"$T/headings"
is 'links to headings' "$(grep -vxFf "$T/headings" "$T/anchors")" ''
links_lead 5 README.md
links_lead 1 tests/bench/README.md
links_lead 1 tests/backends/README.md

done_testing

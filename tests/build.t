#!/bin/sh
# It builds from a fresh clone, with gcc and clang, without a warning, with
# little to read and with nothing left for git to show, whatever the directory
# is called; a change rebuilds what it touches, `make install' nothing, and
# `make clean' takes away what make made; the guests are free of what a
# distribution's compiler adds on its own.
# backends: no (needs a compiler)
#
# shellcheck disable=SC2086 # $make and $args may be several words
. "${0%/*}/lib.sh"

# This make is not to know of the one that runs the tests.
unset MAKEFLAGS MFLAGS MAKELEVEL MODE RAM FLOAT OBJS V CFLAGS CPPFLAGS LDFLAGS
unset GUEST_CFLAGS DESTDIR PREFIX
make=${MAKE:-make}
cc=${CC:-cc}
src="$T/it's a \"tree\""
copy_tree "$src"
cd "$src" || exit 1
[ -w /dev/kvm ] && kvm=y || kvm=

# built ARGUMENT...: make is quiet on stderr, and the result runs.
built() {
	what=$1
	shift
	if ! $make "$@" >"$T/log" 2>"$T/warnings"; then
		result 1 "$what: builds"
		comment "$(cat "$T/warnings")"
		return
	fi
	is "$what: no warning" "$(cat "$T/warnings")" ''
	./simple-kvm --version >"$T/version"
	succeeds "$what: runs" grep -q '^simple-kvm' "$T/version"
}

# files: what is in the directory, git's own aside.
files() { find . -name .git -prune -o -type f -print | sort; }

# ------------------------------------------------------------- a fresh clone

files >"$T/clone"
built 'a clean build, four jobs' -j4
is 'a clean build: its last line' "$(tail -n 1 "$T/log")" \
	'Next: make run, make test or make help'
is 'a clean build: a line for each file' "$(sed '$d' "$T/log" | sort)" \
	"$(printf '%s\t%s\n' CC simple-kvm.o AS guest16.o CC guest32.o \
		CC guest64.o LD guest16.elf LD guest32.elf LD guest64.elf OBJCOPY guest16.bin \
		OBJCOPY guest32.bin OBJCOPY guest64.bin AS images.o LD simple-kvm |
		sort)"
if git --version >/dev/null 2>&1; then
	git init -q . && git add . &&
		git -c user.name=t -c user.email=t@t commit -qm t
	is 'git shows nothing' "$(git status --porcelain)" ''
	rm -rf .git
else
	skip 'git shows nothing' 'needs git'
fi

if [ -e "$($cc -print-file-name=rcrt1.o)" ] &&
	[ -e "$($cc -print-file-name=libc.a)" ]; then
	unlike 'a static program needs no interpreter' \
		"$(readelf -l simple-kvm)" INTERP
else
	skip 'a static program needs no interpreter' 'no libc.a'
fi
like 'no executable stack' "$(readelf -lW simple-kvm)" 'GNU_STACK.* RW  '
like 'position-independent' "$(readelf -hW simple-kvm)" 'Type: *DYN'
like 'relocated data is read-only...' "$(readelf -lW simple-kvm)" GNU_RELRO
like '...all of it, at once' "$(readelf -dW simple-kvm)" 'FLAGS_1.*NOW.*PIE'
like 'stack protector' "$(nm simple-kvm.o)" ' U __stack_chk_fail'
like '_FORTIFY_SOURCE' "$(nm simple-kvm.o)" ' U __fprintf_chk$'
like 'the images are read-only' "$(nm simple-kvm)" ' R guest64$'

# ------------------------------------------------------ built again, and when

# makes WHAT WANT COMMAND...: it says that it does this, and ends well.
makes() {
	what=$1 want=$2
	shift 2
	"$@" >"$T/log" 2>&1
	is "$what" "$? $(cat "$T/log")" "0 $want"
}
again="CC	simple-kvm.o${NL}LD	simple-kvm"
next="${NL}Next: make run, make test or make help"
makes 'what is up to date is not built again' "${next#?}" $make
makes '...and make -s says nothing' '' $make -s
makes "what is for a guest of one's own changes none of the built-in ones" \
	"${next#?}" $make MODE=32 RAM=1G FLOAT=1 OBJS=nosuch.o
touch guest.ld
makes 'a linker script that changes: the guest is linked again' \
	"LD	guest64.elf${NL}OBJCOPY	guest64.bin" $make guest64.bin
$make -s
$make guest64 >"$T/log" 2>&1
is 'a guest is no program' "$?" 2
# Files that are called as what is no file.
touch install uninstall
for goal in install uninstall; do
	unlike "a file that is called $goal" "$($make -n $goal \
		DESTDIR="$T/none")" 'up to date\|[Nn]othing to be done'
done
rm install uninstall

$make install CFLAGS=-O0 CC="$cc -v" DESTDIR="$T/d'st" PREFIX='/o p' \
	>"$T/log" 2>&1
unlike 'make install: compiles nothing, whatever the flags' \
	"$(cat "$T/log")" '^CC\|^LD'
succeeds 'make install: the program is there' \
	"$T/d'st/o p/bin/simple-kvm" --version
succeeds 'make install: and its manual page' \
	cmp simple-kvm.1 "$T/d'st/o p/share/man/man1/simple-kvm.1"
succeeds 'make uninstall' $make -s uninstall DESTDIR="$T/d'st" PREFIX='/o p'
is '...removes them' "$(find "$T/d'st" -type f)" ''

# other ARGUMENT...: make, with other flags: those of a dynamic program, as where
# libc.a is missing, that valgrind can look at.
other() {
	$make STATIC= CPPFLAGS=-DSANITIZE CFLAGS="-O0 -g -DQ='(a b'" "$@"
}
makes 'other flags, with quotes: built again' "$again$next" other
makes 'the same flags: not built again' "${next#?}" other
like 'a dynamic program names its interpreter' "$(readelf -l simple-kvm)" INTERP
if [ ! "$kvm" ] || ! command -v valgrind >/dev/null; then
	skip 'no error that valgrind sees' 'needs KVM and valgrind'
else
	# A report, of what is at the very end of RAM: movw $0x0b0f, 0x1ffffe,
	# which is UD2, and which its frame overwrites; mov $0x1ffffe, %eax;
	# jmp *%rax
	printf '\146\307\004\045\376\377\037\0\017\013' >ud2
	printf '\270\376\377\037\0\377\340' >>ud2
	limit valgrind -q --leak-check=full --error-exitcode=9 ./simple-kvm -l \
		ud2 2>"$T/log"
	like 'no error that valgrind sees' "$? $(grep ' address ' "$T/log")" \
		'^1 .* 0x1ffffe (.*): 00 00 (not mapped .*)$'
	rm ud2
fi
like 'V=1 shows the command' "$($make V=1 -W guest16.s guest16.o)" \
	'^as .*-o guest16\.o guest16\.s$'
# Again as it was, but for the header, which all guests in C include.
$make -s guest64.bin
cp guest64.bin "$T/before"
sed 's/0xE9/0xEA/' guest.h >"$T/x" && cp "$T/x" guest.h
other -s
is 'a header change rebuilds the guests' \
	"$(cmp -s guest64.bin "$T/before" && echo same)" ''
sed 's/0xEA/0xE9/' guest.h >"$T/x" && cp "$T/x" guest.h

# A header that is gone, and that nothing includes any more; the same for what a
# source in assembly includes, which is looked at when it changes.
echo '#include "guest.h"' >gone.h
printf '#include "gone.h"\nint main(void) { return 0; }\n' >header.c
printf '\t.include "part.inc"\n' >parts.s
printf '\thlt\n' >part.inc
$make -s header.bin && $make -s parts.bin
printf '\tnop\n\thlt\n' >part.inc
$make -s parts.bin
is 'a part of a source in assembly changes' "$(wc -c <parts.bin)" 2
sed 's/gone/guest/' header.c >"$T/x" && cp "$T/x" header.c
printf '\thlt\n' >parts.s
rm gone.h part.inc
makes 'a header that is gone' '' $make -s header.bin
makes '...and a part' '' $make -s parts.bin
is '...which is gone, indeed' "$(wc -c <parts.bin)" 1
rm header.* parts.*
# An archive among the objects is no makefile.
printf '\t.globl f\nf:\tret\n' >f.s
printf '#include "guest.h"\nvoid f(void);\nint main(void) { f(); return 0; }\n' \
	>uses.c
$make -s f.bin && ar rc libff.a f.o
makes 'OBJS=libff.a' '' $make -s uses.bin OBJS=libff.a
rm f.* uses.* libff.a
# make -n changes nothing, not even its own notes.
$make -s guest64.bin
files >"$T/files"
$make -n guest64.bin V=1 GUEST_CFLAGS=-O3 >"$T/log" 2>&1
like 'make -n shows the command' "$(cat "$T/log")" '-O3'
is 'make -n writes nothing' "$(files)" "$(cat "$T/files")"
is '...so nothing is built again' \
	"$($make guest64.bin 2>&1 | grep -v 'is up to date')" ''

# A built-in guest that leaves something else is found out.
if [ "$kvm" ]; then
	rm -f simple-kvm
	like 'make run' "$(other -s run 2>&1)" '^simple-kvm: long mode: .*expected$'
	makes 'other LDFLAGS: built again' "$again$next" other LDFLAGS=-Wl,-O1
	tested=$SIMPLE_KVM
	sed 's/halt(42)/halt(41)/' guest64.c >"$T/x" && cp "$T/x" guest64.c
	sed 's/memval = 42/memval = 43/' guest32.c >"$T/x" && cp "$T/x" guest32.c
	other -s LDFLAGS=-Wl,-O1
	SIMPLE_KVM=./simple-kvm
	run -l
	is 'a wrong accumulator: status' "$status" 1
	is 'a wrong accumulator: verdict' "$err" 'simple-kvm: long mode: RAX is 41,'\
' memory at 0x400 is 42: wrong, 42 was expected in both'
	run -s
	is 'a wrong word in memory: status' "$status" 1
	like 'a wrong word in memory: verdict' "$err" 'EAX is 42.*is 43: wrong'
	SIMPLE_KVM=$tested
	sed 's/halt(41)/halt(42)/' guest64.c >"$T/x" && cp "$T/x" guest64.c
	sed 's/memval = 43/memval = 42/' guest32.c >"$T/x" && cp "$T/x" guest32.c
else
	skip 'a guest with a wrong result' 'no KVM'
fi

# ------------------------------------------------------------ other compilers

# The compiler that the first build did not have.
case $($cc --version) in *clang*) other=gcc ;; *) other=clang ;; esac
if command -v $other >/dev/null; then
	built "$other" CC=$other CFLAGS=-O0
else
	skip "$other" 'not installed'
fi

# One that compiles for another machine, as far as it says.
for args in "CC=$cc -U__x86_64__" CFLAGS=-m32; do
	$make "$args" >"$T/log" 2>&1
	is "$args: stops" "$?" 2
	is "$args: with a line" "$(grep -c . "$T/log")" 1
	like "$args: that says why" "$(cat "$T/log")" \
		'\*\*\* simple-kvm is for x86-64, and ".*" compiles for another'
done

# -------------------------------------------------------------------- guests

# They do not change with what compilers do by default elsewhere.
rm -f guest32.bin guest64.bin
$make -s guest32.bin guest64.bin
mv guest32.bin guest64.bin "$T"
$make -s CC="$cc -fPIE -fstack-protector-all -fcf-protection=full \
	-ftree-vectorize -fasynchronous-unwind-tables -D_FORTIFY_SOURCE=2" \
	CFLAGS='-O3 -march=native -fsanitize=undefined' guest32.bin guest64.bin
for g in guest32 guest64; do
	succeeds "$g: no distribution's defaults" cmp $g.bin "$T/$g.bin"
	unlike "$g: nothing of code that may be anywhere" "$(nm $g.elf)" \
		'_GLOBAL_OFFSET_TABLE_\|get_pc_thunk'
done

# A guest for each mode, of one's own.
cat >mine.c <<'G'
#include "guest.h"
int main(void) { print(WORD); halt(sizeof(void *)); }
G
for mode in 16 32 64; do
	$make -s mine.bin MODE=$mode \
		GUEST_CFLAGS="-Os -DWORD='\"(it\\047s mine\\n\"'"
	case $mode in 16) o=-r ;; 32) o=-s ;; 64) o=-l ;; esac
	[ "$kvm" ] || { skip "make mine.bin MODE=$mode" 'no KVM'; continue; }
	run $o mine.bin
	is "make mine.bin MODE=$mode" "$out" "(it's mine$NL"
done
# A compiler of the 16-bit mode makes 32-bit offsets: the limit must hold.
printf '\t.fill 40000, 1, 0x90\n\thlt\n' >large.s
succeeds 'a large image for protected mode' $make large.bin MODE=32
# From 0x8000 on, with a page for the stack, it takes 71.1 KiB.
succeeds 'RAM that just suffices' $make large.bin MODE=32 RAM=76K
for args in 'MODE=16' 'MODE=32 RAM=40K' 'MODE=32 RAM=75K'; do
	$make large.bin $args >"$T/log" 2>&1
	is "too large for $args: refused" "$?" 2
	like '...with the reason' "$(cat "$T/log")" 'does not fit into its RAM'
done
for args in nosuch.bin nosuch.elf nosuch.debug; do
	$make $args >"$T/log" 2>&1
	is "$args: refused" "$?" 2
	like '...with the reason' "$(cat "$T/log")" \
		'\*\*\* there is no nosuch\.c or nosuch\.s'
done
$make large.bin OBJS=nosuch.o >"$T/log" 2>&1
is 'OBJS=nosuch.o: refused' "$?" 2
like '...with the reason' "$(cat "$T/log")" "No rule .* 'nosuch.o'"
$make mine.bin MODE=63 >"$T/log" 2>&1
like 'MODE=63: refused' "$(cat "$T/log")" 'MODE is 16, 32 or 64'
for ram in 1G 3G 1M 3072M 1048576; do
	$make -s mine.bin RAM=$ram GUEST_CFLAGS=-DWORD='\"\"'
	is "RAM=$ram" "$?" 0
	[ $ram != 1G ] || like 'RAM=1G: all but a page of it can be used' \
		"$(nm mine.elf)" '^0*3ffff000 . ram_end$'
done
for ram in 64 4G 1g 2T M1 1MM; do
	$make mine.bin RAM=$ram GUEST_CFLAGS=-DWORD='\"\"' >"$T/log" 2>&1
	is "RAM=$ram: refused" "$?" 2
	like '...with the reason' "$(cat "$T/log")" \
		'RAM= takes 1M to 3G\|\*\*\* RAM is a number, or one with K, M or G'
done
$make -s mine.bin GUEST_CFLAGS="-O2 -flto -DWORD='\"\"'"
like '-flto: the code is there' "$(nm mine.elf)" ' T main$'
printf '\t.text\n\tnop\n\t.globl _start\n_start:\thlt\n' >late.s
$make late.bin >"$T/log" 2>&1
like 'a _start that is not first: refused' "$(cat "$T/log")" \
	'_start must come first'

# make test, where there is a /dev/null, but no /dev/kvm.
printf '#!/bin/sh\necho "1..0 # SKIP"\n' >"$T/skipped.t"
cat >"$T/no-kvm" <<'E'
mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 &&
	: >/dev/null || exit 77
exec "$@"
E
tested=$(unshare -m sh "$T/no-kvm" $make -s test TEST_GUESTS= CFLAGS=-O0 \
	TESTS="$T/skipped.t" 2>"$T/log")
if [ "$?" = 77 ] || grep -q '^unshare: ' "$T/log"; then
	skip 'make test without /dev/kvm' 'it takes root, and mounts'
else
	like 'make test without /dev/kvm' "$(echo "$tested" | tail -n 1)" \
		'^Next to nothing was tried: '
fi

# ------------------------------------------------------------- and gone again

$make -s tests/guests/spin.elf tests/guests/spin16.bin
for file in kernel.bin mykernel.elf other.o other.d asan/notes; do
	mkdir -p asan
	echo 'not from make' >$file
	echo ./$file >>"$T/clone"
done
# The same goes for a file whose source is there, if make did not make it.
printf '%s\n' ./kernel.c ./mine.c ./large.s ./late.s >>"$T/clone"
cp mine.c kernel.c
$make -s clean
sort "$T/clone" >"$T/want"
is 'make clean removes all that make made, and nothing else' \
	"$(files | diff "$T/want" -)" ''
like 'make help tells of the tests' "$($make help)" '^make test '

done_testing

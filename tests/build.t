#!/bin/sh
# It builds from a fresh clone, with gcc and clang, without a warning and with
# nothing left for git to show; a change rebuilds what it touches; the guests
# are free of what a distribution's compiler adds on its own.
# backends: no (needs a compiler)
#
# shellcheck disable=SC2086 # $make and $args may be several words
. "${0%/*}/lib.sh"

# This make is not to know of the one that runs the tests.
unset MAKEFLAGS MFLAGS MAKELEVEL MODE RAM
make=${MAKE:-make}
src=$T/src
copy_tree "$src"
cd "$src" || exit 1

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

built 'a clean build, four jobs' -j4
if git --version >/dev/null 2>&1; then
	git init -q . && git add . &&
		git -c user.name=t -c user.email=t@t commit -qm t
	$make -s >/dev/null
	is 'git shows nothing' "$(git status --porcelain)" ''
else
	skip 'git shows nothing' 'needs git'
fi

$make >"$T/log"
unlike 'what is up to date is not built again' "$(cat "$T/log")" \
	'simple-kvm\.c\|guest64\.c'
cp guest64.bin "$T/before"
sed 's/Hello/HELLO/' guest64.c >"$T/x" && cp "$T/x" guest64.c
sed 's/0xE9/0xEA/' guest.h >"$T/x" && cp "$T/x" guest.h
$make -s
is 'a header change rebuilds the guests' \
	"$(cmp -s guest64.bin "$T/before" && echo same)" ''
$make -s clean
sed 's/0xEA/0xE9/' guest.h >"$T/x" && cp "$T/x" guest.h
sed 's/HELLO/Hello/' guest64.c >"$T/x" && cp "$T/x" guest64.c

built 'a dynamic program, where libc.a is missing' STATIC=
like '...names its interpreter' "$(readelf -l simple-kvm)" INTERP
# valgrind looks at the dynamic program: it needs the C library's symbols. And it
# makes system calls of its own, as the sanitizers do.
if [ ! -w /dev/kvm ] || ! command -v valgrind >/dev/null; then
	skip 'no error that valgrind sees' 'needs KVM and valgrind'
else
	$make -s STATIC= CPPFLAGS=-DSANITIZE
	for mode in -r -s -l; do
		succeeds "no error that valgrind sees, $mode" valgrind -q \
			--leak-check=full --error-exitcode=9 ./simple-kvm $mode
	done
fi
if [ -e "$(${CC:-cc} -print-file-name=rcrt1.o)" ] &&
	[ -e "$(${CC:-cc} -print-file-name=libc.a)" ]; then
	built 'a static program, where libc.a is there'
	unlike '...needs no interpreter' "$(readelf -l simple-kvm)" INTERP
else
	skip 'a static program' 'no libc.a'
fi
unlike 'no executable stack' "$(readelf -lW simple-kvm)" 'GNU_STACK.*RWE'
like 'position-independent' "$(readelf -hW simple-kvm)" 'Type: *DYN'
like 'relocated data is read-only...' "$(readelf -lW simple-kvm)" GNU_RELRO
like '...all of it, at once' "$(readelf -dW simple-kvm)" 'FLAGS_1.*NOW.*PIE'
like 'stack protector' "$(nm simple-kvm.o)" ' U __stack_chk_fail'
like '_FORTIFY_SOURCE' "$(nm simple-kvm.o)" ' U __fprintf_chk$'
like 'the images are read-only' "$(nm simple-kvm)" ' R guest64$'

# The guests do not change with what compilers do by default elsewhere.
cp guest32.bin guest64.bin "$T"
$make -s CC="${CC:-cc} -fPIE -fstack-protector-all -fcf-protection=full \
	-ftree-vectorize -fasynchronous-unwind-tables -D_FORTIFY_SOURCE=2" \
	CFLAGS='-O3 -march=native -fsanitize=undefined' guest32.bin guest64.bin
for g in guest32 guest64; do
	succeeds "$g: no distribution's defaults" cmp $g.bin "$T/$g.bin"
done

for cc in gcc clang; do
	if command -v $cc >/dev/null; then
		built "$cc with warnings as errors" CC=$cc CFLAGS='-O2 -Werror' \
			GUEST_CFLAGS='-O2 -Werror'
	else
		skip "$cc" 'not installed'
	fi
done

# A guest for each mode, of one's own.
cat >mine.c <<'G'
#include "guest.h"
int main(void) { print("mine\n"); halt(sizeof(void *)); }
G
for mode in 16 32 64; do
	$make -s mine.bin MODE=$mode
	case $mode in 16) o=-r ;; 32) o=-s ;; 64) o=-l ;; esac
	run $o mine.bin
	[ -e /dev/kvm ] || { skip "make mine.bin MODE=$mode" 'no KVM'; continue; }
	is "make mine.bin MODE=$mode" "$out" "mine$NL"
done
# A compiler of the 16-bit mode makes 32-bit offsets: the limit must hold.
printf '\t.fill 40000, 1, 0x90\n\thlt\n' >large.s
succeeds 'a large image for protected mode' $make large.bin MODE=32
for args in 'MODE=16' 'MODE=32 RAM=40K'; do
	$make large.bin $args >"$T/log" 2>&1
	is "too large for $args: refused" "$?" 2
	like '...with the reason' "$(cat "$T/log")" 'does not fit into its RAM'
done
printf '\t.text\n\tnop\n\t.globl _start\n_start:\thlt\n' >late.s
$make late.bin >"$T/log" 2>&1
like 'a _start that is not first: refused' "$(cat "$T/log")" \
	'_start must come first'

# A built-in guest that leaves something else is found out.
if [ -e /dev/kvm ]; then
	sed 's/halt(42)/halt(41)/' guest64.c >"$T/x" && cp "$T/x" guest64.c
	sed 's/memval = 42/memval = 43/' guest32.c >"$T/x" && cp "$T/x" guest32.c
	$make -s
	# shellcheck disable=SC2034 # for run
	SIMPLE_KVM=./simple-kvm
	run -l
	is 'a wrong accumulator: status' "$status" 1
	is 'a wrong accumulator: verdict' "$err" 'simple-kvm: long mode: RAX is 41,'\
' memory at 0x400 is 42: wrong, 42 was expected in both'
	run -s
	is 'a wrong word in memory: status' "$status" 1
	like 'a wrong word in memory: verdict' "$err" 'EAX is 42.*is 43: wrong'
else
	skip 'a guest with a wrong result' 'no KVM'
fi

succeeds 'make install' $make -s install DESTDIR="$T/dest" PREFIX=/opt
succeeds '...puts the program there' "$T/dest/opt/bin/simple-kvm" --version
succeeds 'make uninstall' $make -s uninstall DESTDIR="$T/dest" PREFIX=/opt
is '...removes it' "$(find "$T/dest" -type f)" ''
like 'make help tells of the tests' "$($make help)" '^make test '
$make -s clean
rm -f mine.c large.s late.s
is 'make clean leaves nothing' "$(git status --porcelain --ignored \
	2>/dev/null | grep -v '^ M')" ''

done_testing

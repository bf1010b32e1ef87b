#!/bin/sh
# Whoever adds a hypercall to simple-kvm.c needs one function and one row of the
# table of ports. The function may printf(), allocate a little, and read and
# write the guest's memory by the guest's addresses; what it must not do is told.
# FULL=1 tries this in a dynamic program, too.
# backends: no (compiles)
. "${0%/*}/lib.sh"
need_kvm
has_mode -l || skip_all 'this KVM does not have the mode -l'
case $SIMPLE_KVM in */asan/*) sanitizer=yes ;; *) sanitizer= ;; esac
make=${MAKE:-make}

# A handler for each port.
cat >"$T/handlers" <<'C'
/* Print the byte. */
static void say_out(struct vm *vm, u8 *data, u32 size)
{
	printf("[%u]", data[0]);
}

/* Make a system call that nothing in the run loop needs. */
static void getpid_out(struct vm *vm, u8 *data, u32 size)
{
	printf("before ");
	printf("%ld after\n", syscall(SYS_getpid));
}

/* Use memory, and give it back. */
static void malloc_out(struct vm *vm, u8 *data, u32 size)
{
	char *pieces[10];

	for (int i = 0; i < 10; i++) {
		pieces[i] = malloc(1000);
		if (!pieces[i])
			abort();
		memset(pieces[i], '0' + i, 1000);
	}
	for (int i = 0; i < 10; i++) {
		printf("%.2s", pieces[i]);
		free(pieces[i]);
	}
}

/* In the console's place: print a copy of the byte. */
static void copy_out(struct vm *vm, u8 *data, u32 size)
{
	u8 *copy = malloc(size);

	memcpy(copy, data, size);
	console_out(vm, copy, size);
	free(copy);
}

/* Read from where the value points to. */
static void read_out(struct vm *vm, u8 *data, u32 size)
{
	char text[8];
	size_t n = read_guest(vm, little_endian(data, size), text, sizeof(text));

	printf("%zu:%.*s\n", n, (int)n, text);
}

/* Write there. */
static void write_out(struct vm *vm, u8 *data, u32 size)
{
	const char text[] = "12345678";

	printf("%zu\n", write_guest(vm, little_endian(data, size), text, 8));
}

/* Read much, from where the value points to. */
static void large_out(struct vm *vm, u8 *data, u32 size)
{
	static u8 bytes[5 * 4096];
	size_t n = read_guest(vm, little_endian(data, size), bytes, sizeof(bytes));

	printf("%zu\n", n);
}

/* Print more than any buffer has room for. */
static void much_out(struct vm *vm, u8 *data, u32 size)
{
	for (int i = 0; i < 4096; i++)
		printf("%063d\n", i);
}

/* Write at once. */
static void flush_out(struct vm *vm, u8 *data, u32 size)
{
	printf("[%u]", data[0]);
	fflush(stdout);
}

/* Print much, and then give a reader time to take what could be written. */
static void late_out(struct vm *vm, u8 *data, u32 size)
{
	double end;

	much_out(vm, data, size);
	for (end = now() + 0.1; now() < end;)
		;
}

C
cat >"$T/rows" <<'C'
	{ 0x40, 1, KVM_EXIT_IO_OUT, 1, say_out },
	{ 0x41, 1, KVM_EXIT_IO_OUT, 1, getpid_out },
	{ 0x42, 1, KVM_EXIT_IO_OUT, 1, malloc_out },
	{ 0xE9, 1, KVM_EXIT_IO_OUT, 1, copy_out },
	{ 0x43, 1, KVM_EXIT_IO_OUT, 4, read_out },
	{ 0x44, 1, KVM_EXIT_IO_OUT, 4, write_out },
	{ 0x45, 1, KVM_EXIT_IO_OUT, 4, large_out },
	{ 0x46, 1, KVM_EXIT_IO_OUT, 1, much_out },
	{ 0x47, 1, KVM_EXIT_IO_OUT, 1, late_out },
	{ 0x48, 1, KVM_EXIT_IO_OUT, 1, flush_out },
C

# build NAME ARGUMENT...: build the program so, and make it $SIMPLE_KVM. Anything
# that the compiler says is a failure.
copy_tree "$T/tree" || exit 1
awk -v dir="$T" '/^static const struct port \{$/ {
		while ((getline line <(dir "/handlers")) > 0) print line }
	{ print }
	/^\} ports\[\] = \{$/ {
		while ((getline line <(dir "/rows")) > 0) print line }' \
	"$T/tree/simple-kvm.c" >"$T/patched.c"
mv "$T/patched.c" "$T/tree/simple-kvm.c"
is 'a function and a row for each' "$(grep -c 'say_out\>\|write_out\>' \
	"$T/tree/simple-kvm.c")" 4
build() {
	what=$1
	shift
	$make -s -C "$T/tree" "$@" >"$T/log" 2>&1
	is "$what: is built, without a word" "$? $(cat "$T/log")" '0 '
	SIMPLE_KVM=$T/tree/simple-kvm
	case " $* " in *asan/*) SIMPLE_KVM=$T/tree/asan/simple-kvm ;; esac
}

# flat OCTAL ARGUMENT...: run these bytes as a guest, within a limit.
flat() {
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$1" >"$T/flat.bin"
	shift
	run -t 20 "$@" "$T/flat.bin"
}

# What goes for every build of it. The machine code means the same in all modes:
# mov $BYTE, %al is 260 BYTE, out %al, $PORT is 346 PORT, hlt is 364.
hypercalls() {
	a_b_newline='\260a\346\351\346\100\260b\346\351\346\100\260\012\346\351\346\100\364'
	# shellcheck disable=SC2059 # the format is the bytes
	printf '\260a\346\351\346\100\260b\346\351\346\100\364' >"$T/gdb.bin"
	for args in -r -l '-r -c' '-l -c'; do
		has_mode "${args%% *}" || continue
		# shellcheck disable=SC2086 # options
		flat "$a_b_newline" $args
		is "$1, $args: printf() keeps its place" "$out" "a[97]b[98]${NL}[10]"
		is "$1, $args: ...status" "$status" 0
	done
	flat '\260a\346\351\346\100\017\013' -l
	is "$1: printf() before a fault: status" "$status" 1
	is "$1: printf() before a fault" "$out" 'a[97]'
	printf '\346\100\346\100\220\353\375' >"$T/flat.bin" # ...nop; jmp
	status=0
	limit "$SIMPLE_KVM" -l -t 0.2 "$T/flat.bin" >"$T/both" 2>&1 ||
		status=$?
	is "$1: printf() before a timeout: status" "$status" 124
	like "$1: printf() comes before a message" "$(head -n 1 "$T/both")" \
		'^\[0\]\[0\]simple-kvm: the guest stopped'
	# To gdb it goes as a packet, in its order: c is "continue", and W00 the end.
	# shellcheck disable=SC2016 # packets' frames
	printf '$c#63' >"$T/packet"
	limit "$SIMPLE_KVM" --gdb -l "$T/gdb.bin" <"$T/packet" >"$T/out" 2>"$T/err"
	is "$1: printf() under gdb: status" "$?" 0
	# shellcheck disable=SC2016 # packets' frames
	is "$1: printf() under gdb" "$(cat "$T/out")" \
		'+$O615b39375d625b39385d#2b$W00#b7'
	flat '\346\106\364' -l
	is "$1: much by printf()" "$(awk '$0 == NR - 1 && length == 63' "$T/out" |
		wc -l)" 4096

	flat '\260x\346\351\346\102\260y\346\351\364' -l
	is "$1: malloc(): status" "$status" 0
	is "$1: malloc(): output" "$out" 'x00112233445566778899y'
	# Without a file there was less to allocate before.
	run -l
	is "$1: malloc() in a built-in guest: status" "$status" 0
	is "$1: malloc() in a built-in guest: output" "$out" "Hello, world!$NL"

	if [ -n "$sanitizer" ]; then
		skip "$1: a system call" 'the sanitizers need others, too'
	else
		flat '\260x\346\351\346\101\260y\346\351\364' -l
		is "$1: a system call that is refused: status" "$status" 3
		is "$1: ...is not made, and what came before is there" "$out" \
			'xbefore '
		like "$1: ...is named, and who refused it" "$err" \
			'^simple-kvm: refused system call 39: see lock_door()'
		is "$1: ...in one line" "$(wc -l <"$T/err")" 1
	fi

	run -l -t 20 "$GUESTS/translate64.bin"
	is "$1: the guest's memory: status" "$status" 0
	is "$1: the guest's memory" "$out" '8:abcdefgh
4:ijkl
0:
4:mnop
0:
8
4
0
123456781234'
	# In real mode, without paging: mov $0x1ffffc, %eax; the same with 0x200000;
	# each followed by out %eax, $0x44; out %eax, $0x43.
	both='\146\347\104\146\347\103'
	flat '\146\270\374\377\037\0'$both'\146\270\0\0\040\0'$both'\364' -r
	is "$1: the end of RAM in real mode" "$out" "4${NL}4:1234${NL}0${NL}0:$NL"
	# mov $ADDRESS, %eax; out %eax, $0x45; hlt
	flat '\270\001\320\037\0\347\105\364' -l
	is "$1: many pages, to the end of RAM" "$out" "12287$NL"
	flat '\270\001\200\0\0\347\105\364' -l
	is "$1: many pages" "$out" "20480$NL"
}

if [ -n "$sanitizer" ]; then
	build 'the sanitizers' asan/simple-kvm
	hypercalls 'the sanitizers'
	done_testing
	exit
fi
if [ "${FULL:-}" ]; then
	build 'a dynamic program' simple-kvm STATIC= CFLAGS=-O0
	hypercalls 'dynamic'
fi
# As it is by default: static, if there is what that takes.
build 'the default' simple-kvm CFLAGS=-O0
hypercalls 'default'

if command -v strace >/dev/null; then
	limit strace -o "$T/trace" -e trace=ioctl \
		"$SIMPLE_KVM" -l "$T/flat.bin" \
		>/dev/null 2>"$T/err"
	# From 0x8001 on, 5 * 4096 bytes are on 6 pages.
	is 'one KVM_TRANSLATE a page' "$(grep -c 'KVM_TRANSLATE\|0xc018ae85' \
		"$T/trace")" 6
else
	skip 'one KVM_TRANSLATE a page' 'needs strace'
fi

# What a handler could not print is not lost in silence, though it does not look:
# neither on a full device nor in a full pipe that does not block. And why is told
# as it was then: the last guest goes on, until a tick makes KVM_RUN fail.
printf '\346\106\364' >"$T/much.bin"
printf '\346\100\364' >"$T/little.bin"
printf '\346\110\220\353\375' >"$T/flushed.bin"
for guest in much little flushed; do
	status=0
	limit "$SIMPLE_KVM" -l "$T/$guest.bin" >/dev/full 2>"$T/err" ||
		status=$?
	is "$guest by printf() to /dev/full: status" "$status" 3
	is "$guest by printf() to /dev/full: why" "$(cat "$T/err")" \
		'simple-kvm: write to standard output: No space left on device'
	if ! command -v perl >/dev/null; then
		skip "$guest by printf() to a full pipe" 'needs perl'
		continue
	fi
	status=0
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e 'use Fcntl; pipe(R, W); fcntl(W, F_SETFL, O_NONBLOCK);
		while (syswrite(W, "x")) { }
		open(STDOUT, ">&W"); fcntl(R, F_SETFD, 0); exec(@ARGV)' \
		"$SIMPLE_KVM" -l "$T/$guest.bin" 2>"$T/err" || status=$?
	is "$guest by printf() to a full pipe: status" "$status" 3
	is "$guest by printf() to a full pipe: why" "$(cat "$T/err")" \
		'simple-kvm: write to standard output: Resource temporarily unavailable'
done

# Where something could not be written, what comes after it does not make it good,
# nor that there is room again. Prints the status and how many bytes came.
printf '\346\107\364' >"$T/late.bin"
late() {
	# shellcheck disable=SC2016 # perl's variables
	limit perl -e 'use Fcntl; pipe R, W; fcntl W, F_SETFL, O_NONBLOCK;
		if (!fork) { open STDOUT, ">&W"; exec @ARGV; }
		close W; $bytes += $n while $n = sysread R, $_, 4096;
		wait; print $? >> 8, " ", $bytes' \
		"$SIMPLE_KVM" -l "$T/late.bin" 2>"$T/err"
}
if command -v perl >/dev/null; then
	got=$(late)
	case $got,$(cat "$T/err") in
	'3 '*,*': write to standard output: '*) got='0 262144' ;;
	esac
	is 'printf() to a pipe that is read late: status 3, or all of it' \
		"$got" '0 262144'
else
	skip 'printf() to a pipe that is read late' 'needs perl'
fi

done_testing

#!/bin/sh
# Every field of an ELF file that tells what to load, where and how to start it
# is checked, to the last value that is right and the first that is wrong; and
# each refusal has its own message, word by word.
# backends: no (loading is the same everywhere: images.t runs ELF files there)
. "${0%/*}/lib.sh"
need_kvm

# bytes SIZE:VALUE...: print these numbers, the lowest byte first.
bytes() {
	format=
	for number; do
		left=${number%%:*} value=${number#*:}
		while [ "$left" -gt 0 ]; do
			format="$format\\$((value >> 6 & 3))$((value >> 3 & 7))"
			format=$format$((value & 7))
			value=$((value >> 8)) left=$((left - 1))
		done
	done
	# shellcheck disable=SC2059 # the format is the bytes
	printf "$format"
}

# program_header TYPE OFFSET VIRTUAL PHYSICAL FILESZ MEMSZ.
program_header() {
	if [ $class = 64 ]; then
		bytes "4:$1" 4:5 "8:$2" "8:$3" "8:$4" "8:$5" "8:$6" 8:1
	else
		bytes "4:$1" "4:$2" "4:$3" "4:$4" "4:$5" "4:$6" 4:5 4:1
	fi
}

# elf FIELD=VALUE...: make $T/elf, a file of this class that prints k and halts
# (mov $'k', %al; out %al, $0xe9; hlt), in which these fields are otherwise. Its
# first segment is the code; the second is empty, and so may be anywhere. After
# the code there are three bytes more, which no segment has. code is a format.
elf() {
	case $class in
	64) e_machine=62 e_phoff=64 e_phentsize=56 ;;
	32) e_machine=3 e_phoff=52 e_phentsize=32 ;;
	esac
	word=$((class / 8)) ei_class=$((class / 32)) e_type=2 e_entry=$((0x8000)) e_phnum=2
	p_vaddr=$((0x66666666)) p2_vaddr=$p_vaddr out_is=k
	p_type=1 p_offset=$code_at p_paddr=$((0x8000)) p_filesz=5 p_memsz=5
	p2_type=1 p2_offset=-1 p2_paddr=0 p2_filesz=1 p2_memsz=0
	code='\260k\346\351\364XXX'
	for field; do
		eval "$field"
	done
	{
		printf '\177ELF'
		bytes 1:$ei_class 1:1 1:1 9:0
		bytes 2:$e_type 2:"$e_machine" 4:1 $word:$e_entry \
			$word:"$e_phoff" $word:0 4:0 2:0 2:"$e_phentsize" \
			2:$e_phnum 2:0 2:0 2:0
		program_header $p_type "$p_offset" "$p_vaddr" $p_paddr $p_filesz \
			$p_memsz
		program_header $p2_type $p2_offset "$p2_vaddr" $p2_paddr $p2_filesz \
			$p2_memsz
		# shellcheck disable=SC2059 # the format is the bytes
		printf "$code"
	} >"$T/elf"
}

# is_refused WHAT MESSAGE: $T/elf is, in $mode.
is_refused() {
	# shellcheck disable=SC2086 # $mode is several words, or none
	run $mode "$T/elf"
	is "$class-bit${mode:+, }$mode: $1" "$status $err" \
		"2 simple-kvm: $T/elf: $2"
}

# refused WHAT MESSAGE FIELD=VALUE...: a file with these fields is.
refused() {
	what=$1 message=$2
	shift 2
	elf "$@"
	is_refused "$what" "$message"
}

# loads WHAT FIELD=VALUE...: a file with these fields runs, or would if this KVM
# had the mode.
loads() {
	what=$1
	shift
	elf "$@"
	# shellcheck disable=SC2086
	run $mode "$T/elf"
	case $mode:$status$err in
	-p*:3*': this KVM lacks it, '*) result 0 "$class-bit, $mode: $what" ;;
	*) is "$class-bit${mode:+, }$mode: $what: runs" "$status $out$err" "0 $out_is" ;;
	esac
}

machine='it is for another machine than x86'
linked='it is no program: link it, with -no-pie'
headers='its headers are truncated'
segment='a segment is truncated'
link='link it with -n, or -Ttext-segment=0x8000'
below="0x7000: $link"

# the_file: what tells whether it can run, and whether it is all there.
the_file() {
	mode=
	loads 'as it should be'
	for type in 0 1 3 4 258; do
		refused "e_type $type" "$linked" e_type=$type
	done
	for wrong in $((65 - e_machine)) $((e_machine + 256)); do
		refused "e_machine $wrong" "$machine" e_machine="$wrong"
	done
	for wrong in $((e_phentsize - 1)) $((e_phentsize + 1)); do
		refused "e_phentsize $wrong" "$headers" e_phentsize="$wrong"
	done
	# The file ends where more program headers could begin.
	end=$((code_at + 8))
	refused 'e_phoff: the end, and none is there' \
		'its entry, 0x8000, is in no segment' e_phoff=$end e_phnum=0
	refused 'e_phoff: beyond the end' "$headers" \
		e_phoff=$((end + class / 8)) e_phnum=0
	refused 'e_phoff: one is beyond the end' "$headers" e_phoff=$end e_phnum=1
	refused 'e_phoff: the largest' "$headers" e_phoff=-8
	refused 'e_phnum: one too many' "$headers" e_phnum=3
	refused 'e_phnum: the largest' "$headers" e_phnum=65535
	refused 'e_phnum: none' 'its entry, 0x8000, is in no segment' e_phnum=0

	elf
	cp "$T/elf" "$T/whole"
	head -c 5 "$T/whole" >"$T/elf"
	is_refused '5 bytes' "$machine" # for there is none
	for size in 63 64 $((code_at - 1)); do
		head -c "$size" "$T/whole" >"$T/elf"
		is_refused "$size bytes" "$headers"
	done
	for size in "$code_at" $((code_at + 4)); do
		head -c "$size" "$T/whole" >"$T/elf"
		is_refused "$size bytes" "$segment"
	done
	head -c $((code_at + 5)) "$T/whole" >"$T/elf"
	run "$T/elf"
	is "$class-bit: all of the segment, and nothing else" "$status $out" '0 k'
}

# map LINES ADDRESS: these of the memory map that -v has shown.
map() { grep -A "$1" -e "--- $2" "$T/err" | sed 's/^simple-kvm:  *//'; }

# the_segments: where they are in the file, and how much of them.
the_segments() {
	mode=
	loads 'p_type: another, with no sense in it' p2_type=6 p2_memsz=1
	refused 'p_type: no segment to load' \
		'its entry, 0x8000, is in no segment' p_type=6
	loads 'p_filesz: to the end of the file' p_filesz=8 p_memsz=8
	refused 'p_filesz: beyond the end' "$segment" p_filesz=9 p_memsz=9
	refused 'p_filesz: the largest' "$segment" p_filesz=-1 p_memsz=-1
	refused 'p_filesz: more than p_memsz' "$segment" p_filesz=6
	at=$((0x9000))
	loads 'p_offset: nothing from the end' \
		p2_offset=$end p2_paddr=$at p2_filesz=0 p2_memsz=1
	refused 'p_offset: nothing from beyond the end' "$segment" \
		p2_offset=$((end + 1)) p2_paddr=$at p2_filesz=0 p2_memsz=1
	refused 'p_offset: with p_filesz it overflows' "$segment" \
		p2_offset=-1 p2_paddr=$at p2_filesz=2 p2_memsz=2
	loads 'two segments' p2_offset="$code_at" p2_paddr=$at p2_filesz=5 p2_memsz=5
	loads 'two segments, entered in the second' e_entry=$at p_filesz=0 \
		p2_offset="$code_at" p2_paddr=$at p2_filesz=5 p2_memsz=5
	for entry in $at $((0x8000)); do
		loads "the upper segment first, entered at $entry" \
			e_entry="$entry" p_paddr=$at p_memsz=16 \
			p2_offset="$code_at" p2_paddr=$((0x8000)) p2_filesz=5 \
			p2_memsz=5
	done
	run -v "$T/elf"
	is "$class-bit: ...the image is both, and what is between" \
		"$(map 4 0x9010)" '+--- 0x9010
|    the image
+--- 0x8000
|    RAM below the image
+--- 0x7000'

	elf p_paddr=$at e_entry=$at
	run -v "$T/elf"
	is "$class-bit: what is below a segment is not the image" \
		"$(map 4 0x9005)" '+--- 0x9005
|    the image
+--- 0x9000
|    RAM below the image
+--- 0x7000'
	[ "$class" = 32 ] || like "$class-bit: the way of its entry" "$err" \
		'^simple-kvm: address 0x9000: CR3 '

	# This prints the byte at 0x8010, where the file goes on with an X:
	# mov 0x8010, %al; out %al, $0xe9; hlt.
	case $class in
	64) load='\212\005\012\0\0\0' ;;
	32) load='\240\020\200\0\0\220' ;;
	esac
	elf code="'$load\\346\\351\\364-------X'" p_filesz=16 p_memsz=17
	run "$T/elf"
	is "$class-bit: what the file does not have of a segment is zero" \
		"$status $(tr '\0' 0 <"$T/out")" '0 0'
}

# the_places: where they are in memory, for RAM of 2 MiB.
the_places() {
	for address in 0 $((0x6fff)); do
		refused "p_paddr $address" \
			"it begins at $(printf 0x%x "$address"), below $below" \
			p_paddr="$address"
	done
	loads 'p_paddr: right above the tables' \
		p_paddr=$((0x7000)) e_entry=$((0x7000))
	at=$((0x1feffb))
	loads 'p_paddr: up to the stack' p_paddr=$at e_entry=$at
	beyond=', beyond 0x1ff000: try -m'
	refused 'p_paddr: a byte more' "it ends at 0x1ff001$beyond 3M" \
		p_paddr=$((at + 1))
	refused 'p_paddr: in the stack' "it ends at 0x1ff005$beyond 3M" \
		p_paddr=$((at + 5))
	refused 'p_paddr: all that 3 MiB have' "it ends at 0x2ff000$beyond 3M" \
		p_paddr=$((0x2feffb))
	refused 'p_paddr: a byte more than that' "it ends at 0x2ff001$beyond 4M" \
		p_paddr=$((0x2feffc))
	loads 'p_memsz: up to the stack' p_memsz=$((0x1f7000))
	refused 'p_memsz: a byte more' "it ends at 0x1ff001$beyond 3M" \
		p_memsz=$((0x1f7001))
	refused 'two that do not fit: what would do for both' \
		"it ends at 0x408000$beyond 5M" p_memsz=$((0x400000)) \
		p2_offset=0 p2_paddr=$((0x200000)) p2_memsz=1
	refused 'p_paddr: up to the stack in 3 GiB' \
		"it ends at 0xbffff000$beyond 3072M" p_paddr=$((0xbfffeffb))
	refused 'p_paddr: a byte more than that' \
		'it ends at 0xbffff001, beyond 3 GiB' p_paddr=$((0xbfffeffc))
	ones=ffffffff
	[ $class = 32 ] || ones=$ones$ones
	[ $class = 32 ] && most=100000004 || most=$ones
	refused 'p_paddr: the largest' "it ends at 0x$most, beyond 3 GiB" p_paddr=-1
	[ $class = 32 ] && most=100007fff || most=$ones
	refused 'p_memsz: the largest' "it ends at 0x$most, beyond 3 GiB" p_memsz=-1
	at=$((0xbfffeffb)) fewer=$mode
	mode="$fewer -m 3G"
	loads 'p_paddr: up to the stack' p_paddr=$at e_entry=$at
	refused 'p_paddr: a byte more' \
		'it ends at 0xbffff001, beyond 3 GiB' p_paddr=$((at + 1))
	mode=$fewer
}

# the_entry: where it may be.
the_entry() {
	mode=
	for entry in $((0x7fff)) $((0x8005)) $((0x80000000)); do
		refused "e_entry $entry" \
			"its entry, $(printf 0x%x "$entry"), is in no segment" \
			e_entry="$entry"
	done
	elf e_entry=$((0x8004)) # the HLT
	run "$T/elf"
	is "$class-bit: e_entry: the last byte: runs" "$status $out$err" '0 '
	elf code="'\\017\\013XXXXXX'" # ud2
	run "$T/elf"
	is "$class-bit: its mode is no guess" "$(head -n 1 "$T/err")" \
		'simple-kvm: the guest failed: exception 6, #UD invalid opcode'
}

for class in 64 32; do
	[ $class = 64 ] && code_at=176 || code_at=116
	the_file
	the_segments
	the_entry
done
class=64 code_at=176
mode=-l
the_places
mode=-r
refused 'not in this mode' 'a 64-bit file cannot run in real mode'
for mode in -s -p; do
	loads 'in a 32-bit mode'
done
mode=
refused 'an e_entry that 32 bits do not hold' \
	'its entry, 0x100008000, is in no segment' e_entry=$((0x100008000))
# What is not said to be of 64 bits is taken as one of 32.
refused 'an EI_CLASS that is none' "$machine" ei_class=3
class=32 code_at=116
for mode in -s -p; do
	the_places
done
mode=-l
refused 'not in this mode' 'a 32-bit file cannot run in long mode'

# Real mode has no tables, and ends below its stubs, whatever its RAM. CS reaches
# 64 KiB.
for mode in -r '-r -m 3G'; do
	loads 'as it should be'
	refused 'p_paddr: the result' "it begins at 0x4ff, below 0x500: $link" \
		p_paddr=$((0x4ff))
	loads 'p_paddr: above it' p_paddr=$((0x500)) e_entry=$((0x500))
	loads 'p_paddr: up to 64 KiB' p_paddr=$((0xfffb)) e_entry=$((0xfffb))
	loads 'e_entry: the last that CS reaches' p_offset=$((code_at + 4)) \
		p_filesz=1 p_memsz=1 p_paddr=$((0xffff)) e_entry=$((0xffff)) \
		'code="XXXX\\364"' 'out_is='
	refused 'e_entry: one more' 'its entry, 0x10000, is in no segment' \
		p_paddr=$((0x10000)) e_entry=$((0x10000))
	loads 'p_memsz: up to the stubs' p_memsz=$((0xf0000 - 0x8000))
	refused 'p_memsz: a byte more' \
		'it ends at 0xf0001, beyond real mode: try -s' \
		p_memsz=$((0xf0001 - 0x8000))
done

# The stack of real mode is below the entry; where that is within the first 4
# KiB, it is where a BIOS has it: mov %sp, %ax; out %ax, $0xe9; hlt.
mode=-r
sp='code="\\211\\340\\347\\351\\364"'
for entry in 0x500 0xfff 0x1000; do
	elf "$sp" p_paddr=$((entry)) e_entry=$((entry))
	run $mode "$T/elf"
	case $entry in
	0x1000) want=0010 ;;
	*) want=007c ;;
	esac
	is "real mode: the stack, entered at $entry" \
		"$(od -An -tx1 "$T/out" | tr -d ' ')" $want
done

# the_virtual_entry: a virtual address leads to the physical one of its segment, of
# the first if there are several; others are physical.
the_virtual_entry() {
	mode=$1
	loads "$1: e_entry: virtual" p_vaddr=$((0xc0008000)) \
		e_entry=$((0xc0008000))
	loads "$1: e_entry: in the first of two" p_vaddr=$((0xc0008000)) \
		e_entry=$((0xc0008000)) p2_vaddr=$((0xc0007000)) \
		p2_paddr=$((0x9000)) p2_filesz=0 p2_memsz=$((0x2000)) \
		p2_offset=0
	refused "$1: e_entry: virtual, and beyond it" \
		'its entry, 0xc0008005, is in no segment' \
		p_vaddr=$((0xc0008000)) e_entry=$((0xc0008005))
}
class=32 code_at=116
the_virtual_entry -s
class=64 code_at=176
the_virtual_entry -l

# A 64-bit file with a Multiboot header has 32-bit code, unless it is of version 2
# and has a tag for another entry. The header comes after the code.
class=64 code_at=176
start='\260k\346\351\364XXX'
one='\2\260\255\033\0\0\0\0\376\117\122\344'
two='\326\120\122\350\0\0\0\0\030\0\0\0\022\257\255\027\0\0\0\0\010\0\0\0'
entry='\326\120\122\350\0\0\0\0\044\0\0\0\6\257\255\027\3\0\0\0\014\0\0\0'
entry=$entry'\0\200\0\0\0\0\0\0\0\0\0\0\010\0\0\0'
request='\326\120\122\350\0\0\0\0\050\0\0\0\2\257\255\027\1\0\0\0\020\0\0\0'
request=$request'\3\0\0\0\014\0\0\0\0\0\0\0\010\0\0\0'
optional='\326\120\122\350\0\0\0\0\044\0\0\0\6\257\255\027\3\0\1\0\014\0\0\0'
optional=$optional'\0\200\0\0\0\0\0\0\0\0\0\0\010\0\0\0'
# efer WHAT WANT CODE [MODE]: EFER's bits, as a file with this code is set up.
efer() {
	elf code="'$3$(printf '%056d' 0 | tr 0 X)'"
	# shellcheck disable=SC2086 # none or one
	run ${4:-} -v "$T/elf"
	is "$1" "$status $out $(sed -n 's/^simple-kvm:   EFER *0* *//p' "$T/err")" \
		"0 k $2"
}
efer 'a 64-bit file without a header' '500 LME LMA' "$start"
efer 'a 64-bit file with a Multiboot header' '' "$start$one"
efer 'a 64-bit file with one of version 2' '' "$start$two"
efer '...and with an entry in it' '500 LME LMA' "$start$entry"
efer '...which need not be known' '500 LME LMA' "$start$optional"
efer '...and with a request for tags, which looks like an entry' '' \
	"$start$request"
efer '...and with what is no tag after it' '' \
	"$start$two\3\0\0\0\014\0\0\0\0\200\0\0"
efer 'a 64-bit file with a Multiboot header, -l' '500 LME LMA' "$start$one" -l

# An image above the screen of a PC does not hide it: movl $0x0778, 0xb8000; hlt
class=32 code_at=116
elf code="'\\307\\5\\0\\200\\13\\0\\170\\7\\0\\0\\364'" p_filesz=11 p_memsz=11 \
	p_paddr=$((0x100000)) e_entry=$((0x100000))
run "$T/elf"
is 'the screen below an image' "$status $err" '0 simple-kvm: |x'

# What does not begin as an ELF file does is a flat image. Its first instruction,
# 7f 44, jumps to 0x8046, in p_flags, which are not looked at: a HLT.
class=64 code_at=176
for magic in '\177DLF' '\177EMF' '\177ELG'; do
	elf
	# shellcheck disable=SC2059
	printf "$magic" | dd of="$T/elf" conv=notrunc 2>/dev/null
	printf '\364\364' | dd of="$T/elf" bs=1 seek=70 conv=notrunc 2>/dev/null
	[ "$magic" = '\177DLF' ] ||
		printf '\364' | dd of="$T/elf" bs=1 seek=71 conv=notrunc 2>/dev/null
	run "$T/elf"
	is "$magic: a flat image" "$status $err" \
		'0 simple-kvm: no output: real mode was a guess; try -s, -p or -l'
done
# A file of nothing else is one, too: gdb, which is not there, would start it.
printf '\177ELF' >"$T/elf"
run --gdb "$T/elf"
is 'four bytes: a flat image' "$status $err" '129 '

# It may have much that is not loaded. From a pipe that is no more than what RAM
# has, and 64 MiB.
mode=-l most=$((66 << 20))
elf
printf X | dd of="$T/elf" bs=1 seek=$((most + 1)) conv=notrunc 2>/dev/null
run -l "$T/elf"
is 'much that is not loaded' "$status $out$err" '0 k'
for size in $most $((most + 1)); do
	status=0
	head -c "$size" "$T/elf" |
		limit "$SIMPLE_KVM" -l /dev/stdin >"$T/out" 2>&1 || status=$?
	echo "$status $(cat "$T/out")"
done >"$T/got"
is '...from a pipe, and a byte more' "$(cat "$T/got")" \
	"0 k${NL}2 simple-kvm: /dev/stdin: it does not fit: see --memory"

done_testing

#!/bin/sh
# simple-kvm asks little of its host: it builds with the headers of older kernels,
# takes no more memory for an image than the guest could have room for, and reads
# of an exit only what KVM has filled in for such a one.
# backends: no (compiles)
. "${0%/*}/lib.sh"
make=${MAKE:-make}

# ------------------------------------------------------------------------ headers

# What <linux/kvm.h> has got since Linux 5.10 and has a name in struct kvm_run is
# not there in a copy of it.
header=$(echo '#include <linux/kvm.h>' | ${CC:-cc} -E -x c - 2>"$T/log" |
	sed -n 's/^# [0-9]* "\(\/.*linux\/kvm\.h\)".*/\1/p' | sed -n 1p)
copy_tree "$T/tree" || exit 1
mkdir -p "$T/include/linux"
sed 's/^\t*} \(emulation_failure\|notify\|tdx\|memory_fault\);$/} since_\1;/' \
	"$header" >"$T/include/linux/kvm.h"
succeeds 'the header was found' grep -q 'struct kvm_run {' \
	"$T/include/linux/kvm.h"
# shellcheck disable=SC2086 # a command may be several words
succeeds 'it builds with the header of Linux 5.10' limit $make -C "$T/tree" \
	simple-kvm.o CPPFLAGS="-I$T/include" CFLAGS='-O0 -Werror'
like '...of which it took the copy' "$(cat "$T/tree/simple-kvm.d")" \
	"$T/include/linux/kvm.h"

# ------------------------------------------------------------------------- memory

# limited KIB ARGUMENT...: run it with so much address space, and so much in a
# file: what a pipe brings is copied to one, which is in memory.
limited() {
	status=0
	(
		# shellcheck disable=SC3045 # dash and busybox have it
		ulimit -v "$1"
		ulimit -f $(($1 * 2)) # blocks of 512 bytes
		shift
		limit "$SIMPLE_KVM" "$@"
	) >"$T/out" 2>"$T/err" || status=$?
	echo "$status" >"$T/status"
}
# refused WHAT: that is how it ended, for what the image is.
refused() {
	is "$1: status" "$(cat "$T/status")" 2
	like "$1: why" "$(cat "$T/err")" \
		'^simple-kvm: .*: it does not fit: see --memory$'
}
if [ "$SANITIZER" ]; then
	skip 'images without end' 'the sanitizers need terabytes'
else
	# As much as RAM, and 64 MiB: an ELF file may have parts that are not
	# loaded, but not without end.
	limited 69632 /dev/zero
	refused '/dev/zero'
	limited 69632 -r /dev/zero
	refused '-r /dev/zero'
	limited 69632 -l /dev/zero
	refused '-l /dev/zero'
	limited 135168 -l -m 64M /dev/zero
	refused '-l -m 64M /dev/zero'
	for class in 1 2; do
		# shellcheck disable=SC2059 # the format is the bytes
		{ printf "\\177ELF\\$class" && cat /dev/zero; } 2>/dev/null |
			limited 69632 -m 2M /dev/stdin
		refused "ELF of class $class, and no end"
	done
fi

# -------------------------------------------------------------------------- exits

need_kvm

# no_data MODE GUEST: --trace shows the address of its last exit, for there is no
# RAM, and no bytes after it, as it would for I/O.
no_data() {
	run "$1" -t 20 --trace "$GUESTS/$2.bin"
	is "--trace $1 $2: status" "$status" 1
	like "--trace $1 $2: its last exit" \
		"$(grep '^simple-kvm: exit [0-9]*: ' "$T/err" | tail -n 1)" \
		"^simple-kvm: exit [0-9]*: KVM_EXIT_MMIO, RIP 0x[0-9a-f]*: $3\$"
}
for mode in -s -p; do
	need_mode $mode "--trace $mode" || continue
	[ $mode = -p ] ||
		no_data $mode pfread32 'a 1-byte read from address 0x40000000'
	no_data $mode pastram32 \
		'a 4-byte write of 0x12345678 to address 0x200010'
done
if need_mode -l '--trace -l mmio64'; then
	no_data -l mmio64 \
		'an* 8-byte write of 0x8000000000000000 to address 0x40000000'
fi
for mode in -r -s -l; do
	run $mode --trace
	like "--trace $mode: nor for a HLT" "$err" \
		'^simple-kvm: exit 15: KVM_EXIT_HLT, RIP 0x[0-9a-f]*$'
done

done_testing

# shellcheck shell=bash
# tests/backends/kernel.sh - the kernel that the emulated machines boot, and its
# KVM modules. Sourced by run.
#
# The distribution's package is downloaded and unpacked, not installed. What is
# needed of it stays in $CACHE; to have a newer kernel, remove that directory.

# Kernels known to do, as in linux-image-FLAVOUR: Debian's for virtual machines
# (small, LZ4, KVM without SEV), and Ubuntu's.
FLAVOURS='cloud-amd64 virtual'

# get_kernel: set KERNEL to a directory that holds vmlinuz, modules/*.ko, and
# order, the names of the modules in an order to load them in. The cache comes
# first, so that most runs need neither network nor package index. Dies when
# there is nothing to be had.
get_kernel() {
	local flavour package
	for flavour in $FLAVOURS; do
		[ -s "$CACHE/current-$flavour" ] || continue
		read -r package <"$CACHE/current-$flavour"
		KERNEL=$CACHE/$package
		[ ! -s "$KERNEL/order" ] || return 0
	done
	for flavour in $FLAVOURS; do
		package=$(depends "linux-image-$flavour" linux-image)
		[ -z "$package" ] || break
	done
	[ -n "$package" ] || die "apt knows none of these kernels, for" \
		"linux-image-...: $FLAVOURS; run apt-get update"
	KERNEL=$CACHE/$package
	fetch_kernel "$package"
	echo "$package" >"$CACHE/current-$flavour"
}

# depends PACKAGE PREFIX: print the first package that PACKAGE depends on and
# whose name is PREFIX-VERSION.
depends() {
	apt-cache depends "$1" 2>/dev/null |
		sed -n "s/^ *Depends: \($2-[0-9].*\)/\1/p" | head -n 1
}

# fetch_kernel PACKAGE: fill $KERNEL from that package. Dies when it cannot.
fetch_kernel() {
	local tmp=$WORK/kernel new=$WORK/kernel/new deb m
	mkdir -p "$new/modules"
	say "downloading $1"
	# apt-get checks packages against the signed index. Ubuntu has most of
	# the modules in a package of their own.
	# shellcheck disable=SC2046 # none or one
	(cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download \
		"$1" $(depends "$1" linux-modules)) >&2 ||
		die "cannot download $1: run apt-get update, and try again"
	for deb in "$tmp"/*.deb; do
		dpkg -x "$deb" "$tmp" || die "cannot unpack $deb"
	done
	cp "$tmp"/boot/vmlinuz-* "$new/vmlinuz" || die "$1 has no kernel"
	for m in kvm-amd kvm-intel; do take_module $m; done
	# Modules load faster without debug data, BTF and the signature.
	# _ftrace_eval_map makes the kernel rescan all trace events on loading.
	for m in "$new"/modules/*.ko; do
		objcopy --strip-debug -R .BTF -R _ftrace_eval_map \
			-R .rela_ftrace_eval_map "$m" ||
			die "objcopy failed on $m"
	done
	rm -rf "$KERNEL" "$KERNEL.new"
	cp -r "$new" "$KERNEL.new" || die "cannot write $KERNEL"
	mv "$KERNEL.new" "$KERNEL" || die "cannot write $KERNEL"
	rm -rf "$tmp"
}

# take_module NAME: for fetch_kernel, take a module from the unpacked package,
# after those it depends on. Dies when it is not there.
take_module() {
	local name=${1//_/-} file ko dep
	ko=$new/modules/$name.ko
	[ ! -e "$ko" ] || return 0
	file=$(find "$tmp" \( -name "$name.ko*" -o -name "${name//-/_}.ko*" \) \
		-print -quit)
	case $file in
	'') die "the kernel package has no module $name" ;;
	*.xz) xz -dc "$file" >"$ko" ;;
	*.zst) zstd -qdc "$file" >"$ko" ;;
	*.gz) gzip -dc "$file" >"$ko" ;;
	*) cp "$file" "$ko" ;;
	esac || die "cannot unpack $file"
	for dep in $(tr '\0' '\n' <"$ko" | sed -n 's/^depends=//p' | tr , ' ')
	do
		take_module "$dep"
	done
	echo "$name" >>"$new/order"
}

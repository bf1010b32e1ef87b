# shellcheck shell=bash
# tests/backends/vmx.sh - a PC with Intel's VMX, by Bochs. Sourced by run.
#
# A guest of KVM that loops with interrupts off stops the whole PC: Bochs takes
# no interrupt as a VM exit then. Tests must not run such a guest here.

BIOS=/usr/share/bochs/BIOS-bochs-latest
VGABIOS=/usr/share/vgabios/vgabios-stdvga.bin
ISOLINUX=/usr/lib/ISOLINUX/isolinux.bin
LDLINUX=/usr/lib/syslinux/modules/bios/ldlinux.c32

# vmx_needs: what must be installed.
vmx_needs() {
	need bochs-bin bochs
	compgen -G '/usr/lib/*/bochs/plugins/libbx_term_gui.so' >/dev/null ||
		missing+=(bochs-term)
	need $BIOS bochsbios
	need $VGABIOS vgabios
	need $ISOLINUX isolinux
	need $LDLINUX syslinux-common
	need xorriso xorriso
	need script bsdutils
}

# vmx_machine KARGS: as svm_machine. Dies if it cannot make the CD.
vmx_machine() {
	# Bochs cannot load a kernel itself: isolinux does, from a CD.
	cat >isolinux.cfg <<-EOT
	DEFAULT linux
	PROMPT 0
	LABEL linux
	 KERNEL /vmlinuz
	 INITRD /initrd
	 APPEND $1
	EOT
	xorriso -as mkisofs -quiet -o cd.iso -b isolinux.bin -c boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table -graft-points \
		/isolinux.bin=$ISOLINUX /ldlinux.c32=$LDLINUX \
		/isolinux.cfg=isolinux.cfg /vmlinuz="$KERNEL/vmlinuz" \
		/initrd=../../initrd >emulator.log 2>&1 ||
		die "xorriso failed: $(tail -n 3 emulator.log)"
	# Haswell has EPT, unrestricted guests and VPID. Newer models tell the
	# frequency of the TSC by CPUID, and Bochs does not keep to it: the
	# clock would be some 70 times too slow.
	# The clock takes `ips' instructions for a second; Bochs executes some 25
	# to 35 million in a real one. With sync=none nothing else counts, and
	# idle time passes at once.
	# The screen's timer keeps to that clock, too: with the host's, Bochs 2.7
	# was seen to have no more timer interrupts after some 425 real seconds.
	# Power-off is a panic of Bochs, hence action=fatal, which ends it.
	cat >bochsrc <<-EOT
	config_interface: textconfig
	display_library: term
	romimage: file=$BIOS
	vgaromimage: file=$VGABIOS
	megs: 512
	cpu: model=corei7_haswell_4770, ips=50000000, reset_on_triple_fault=0
	ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
	ata0-master: type=cdrom, path=cd.iso, status=inserted
	boot: cdrom
	clock: sync=none
	vga: extension=vbe, update_freq=5, realtime=0
	log: emulator.log
	panic: action=fatal
	error: action=report
	info: action=ignore
	debug: action=ignore
	speaker: enabled=1, mode=none
	com1: enabled=1, mode=file, dev=console.log
	com2: enabled=1, mode=file, dev=serial.log
	EOT
	# Debian's Bochs stops in its debugger at once: `c' goes on.
	echo c >debugger
	# The display wants a terminal, and script makes one.
	TERM=xterm exec timeout -k 5 7200 \
		script -qec 'exec bochs-bin -q -f bochsrc -rc debugger' \
		/dev/null </dev/null >screen.log 2>&1
}

# shellcheck shell=bash
# tests/backends/svm.sh - a PC with AMD's SVM, by QEMU's TCG. Sourced by run.
#
# QEMU 7.2's SVM has no breakpoints for KVM_SET_GUEST_DEBUG to set, neither of
# software nor of hardware; single-stepping works.

# svm_needs: what must be installed.
svm_needs() { need qemu-system-x86_64 qemu-system-x86; }

# svm_machine KARGS: become the emulator, which ends when the machine is off, or
# with status 124 when the time is over. Serial ports: console.log, serial.log.
svm_machine() {
	# The model `max' has all that TCG can emulate: SVM with nested paging.
	# -nodefaults -nic none: no network card, no display, no disk.
	# -no-reboot: a panic (panic=-1 reboots) ends QEMU.
	exec timeout -k 5 7200 qemu-system-x86_64 \
		-no-user-config -nodefaults -display none -nic none -no-reboot \
		-machine pc -accel tcg -cpu max,vendor=AuthenticAMD -m 512 \
		-serial file:console.log -serial file:serial.log \
		-kernel "$KERNEL/vmlinuz" -initrd ../../initrd -append "$1" \
		</dev/null >emulator.log 2>&1
}

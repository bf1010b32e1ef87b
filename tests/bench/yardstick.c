/*
 * yardstick.c - for the bench: what simple-kvm --long cannot be faster than.
 *
 * It makes the same machine with the same calls, runs the same guest, and does
 * nothing else: no options, no messages, no stdio, no ports, no reports. Every
 * byte that the guest writes is taken for output. What it runs, and how:
 *
 *	yardstick               the built-in guest; writes its output at the end
 *	yardstick large         the same, with 3 GiB of RAM
 *	yardstick bare IMAGE    a flat image; drops its output
 *	yardstick flush IMAGE   a flat image; writes each byte at once
 *
 * Failures show in the exit status alone: it is 0 if, and only if, the guest
 * halted with 42 in RAX and in memory, and the output could be written.
 */
#include <asm/processor-flags.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* As in simple-kvm.c: guest physical memory, and the bits that headers lack. */
enum layout {
	RESULT = 0x400,
	GDT = 0x500,
	STUBS = 0x600,
	IDT = 0x1000,
	PML4 = 0x2000,
	PDPT = 0x3000,
	PD = 0x4000,
	IMAGE = 0x8000,
};
enum { PRESENT = 1, RW = 2, USER = 4, PS = 128, LME = 1 << 8, LMA = 1 << 10 };

extern const uint8_t guest64[], guest64_end[];

/* A program that runs once needs no heap for these. */
static uint64_t cpuid[(sizeof(struct kvm_cpuid2) +
		       256 * sizeof(struct kvm_cpuid_entry2)) /
		      sizeof(uint64_t)];
static uint8_t output[1 << 16];

static int kvm, vm, vcpu;
static struct kvm_run *run;
static uint8_t *mem;
static uint64_t ram = 2 << 20;

static void create(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = ram };
	struct kvm_cpuid2 *supported = (void *)cpuid;
	int size;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION ||
	    !ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT))
		_exit(3);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);

	mem = mmap(NULL, ram, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	madvise(mem, ram, MADV_MERGEABLE);
	region.userspace_addr = (unsigned long)mem;
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);

	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu,
		   0);
	if (mem == MAP_FAILED || run == MAP_FAILED)
		_exit(3);

	supported->nent = 256;
	ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported);
	ioctl(vcpu, KVM_SET_CPUID2, supported);
}

/* Build the tables and set the registers, as setup_long() and others do. */
static void enter_long_mode(void)
{
	const uint64_t flags = PRESENT | RW | USER;
	static const uint64_t gdt[3] = { 0, 0xaf9b000000ffff,
					 0xcf93000000ffff };
	static const uint8_t stub[4] = { 0xf4, 0xeb, 0xfd, 0x90 };
	struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = 0x08,
		.type = 11,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = 1,
	};
	struct kvm_segment data = code;
	struct kvm_regs regs = {
		.rip = IMAGE,
		.rsp = ram,
		.rflags = X86_EFLAGS_FIXED,
	};
	uint64_t *pml4 = (void *)(mem + PML4);
	uint64_t *pdpt = (void *)(mem + PDPT), *pd = (void *)(mem + PD);
	struct kvm_sregs sregs;

	data.selector = 0x10;
	data.type = 3;
	data.l = 0;
	data.db = 1;
	ioctl(vcpu, KVM_GET_SREGS, &sregs);
	memcpy(mem + GDT, gdt, sizeof(gdt));
	for (unsigned v = 0; v < 32; v++) {
		uint64_t gate = (STUBS + v * 4) | 0x8e0000080000;

		memcpy(mem + STUBS + v * 4, stub, sizeof(stub));
		memcpy(mem + IDT + v * 16, &gate, sizeof(gate));
	}
	*pml4 = PDPT | flags;
	for (uint64_t i = 0; i << 30 < ram; i++)
		pdpt[i] = (PD + i * 4096) | flags;
	for (uint64_t i = 0; i << 21 < ram; i++)
		pd[i] = i << 21 | flags | PS;

	sregs.gdt.base = GDT;
	sregs.gdt.limit = sizeof(gdt) - 1;
	sregs.idt.base = IDT;
	sregs.idt.limit = 32 * 16 - 1;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE |
		    X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
	sregs.cr3 = PML4;
	sregs.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	sregs.efer = LME | LMA;
	ioctl(vcpu, KVM_SET_SREGS, &sregs);
	ioctl(vcpu, KVM_GET_SREGS, &sregs); /* simple-kvm: did the mode take? */
	ioctl(vcpu, KVM_SET_REGS, &regs);
}

/* The three loops. The first exit that is not for I/O ends each. */
static size_t run_and_collect(void)
{
	size_t used = 0;

	while (ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO)
		output[used++ % sizeof(output)] =
			((uint8_t *)run)[run->io.data_offset];
	return used;
}

static void run_bare(void)
{
	while (ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO)
		;
}

static void run_and_flush(void)
{
	while (ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO)
		if (write(1, (uint8_t *)run + run->io.data_offset, 1) != 1)
			_exit(3);
}

int main(int argc, char *argv[])
{
	struct kvm_regs regs;
	uint64_t result;

	if (argc == 2)
		ram = 3ull << 30;
	create();
	if (argc < 3)
		memcpy(mem + IMAGE, guest64, (size_t)(guest64_end - guest64));
	else if (read(open(argv[2], O_RDONLY), mem + IMAGE, 4096) <= 0)
		_exit(2);
	enter_long_mode();
	if (argc < 3) {
		size_t used = run_and_collect();

		if (write(1, output, used) != (ssize_t)used)
			_exit(3);
	} else if (argv[1][0] == 'b') {
		run_bare();
	} else {
		run_and_flush();
	}
	ioctl(vcpu, KVM_GET_REGS, &regs);
	memcpy(&result, mem + RESULT, sizeof(result));
	_exit(run->exit_reason != KVM_EXIT_HLT || regs.rax != 42 ||
	      result != 42);
}

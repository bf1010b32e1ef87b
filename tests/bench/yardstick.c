/*
 * yardstick.c - for the bench: the floor, the least that runs a 64-bit guest.
 *
 * It makes the calls without which there is no guest in long mode, and no
 * others: no options, no messages, no stdio, no checks beforehand, no exception
 * handlers, no report. Every byte that the guest writes is taken for output. It
 * is no model for a hypervisor, but what one can be measured with.
 *
 *	yardstick               the built-in guest; writes its output at the end
 *	yardstick madvise       the same, and offers its RAM to KSM for merging
 *	yardstick bare IMAGE    a flat image; drops its output
 *	yardstick flush IMAGE   a flat image; writes each byte at once
 *	yardstick ring IMAGE    a flat image; KVM collects its output in a ring,
 *	                        which is dropped when it is full
 *	yardstick read FILE     no guest: the file is read into memory
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
#include <sys/stat.h>
#include <unistd.h>

/* Guest physical memory, as in simple-kvm.c. */
enum layout {
	RESULT = 0x400,
	PML4 = 0x2000,
	PDPT = 0x3000,
	PD = 0x4000,
	IMAGE = 0x8000,
	RAM_SIZE = 0x200000, /* what one entry of a page directory maps */
};

/* The bits that headers lack, and what KVM shares of a vCPU. */
enum { PRESENT = 1, RW = 2, USER = 4, PS = 128, LME = 1 << 8, LMA = 1 << 10 };
enum { RUN_SIZE = 3 * 4096 }; /* struct kvm_run, a page of I/O data, the ring */

_Static_assert(sizeof(struct kvm_run) <= 4096, "kvm_run is one page");

extern const uint8_t guest64[], guest64_end[];

static uint8_t output[1 << 16];

static int vm, vcpu;
static struct kvm_run *run;
static struct kvm_coalesced_mmio_ring *ring;
static uint8_t *mem;

/* Make a machine with its RAM, which is offered to KSM if merge is set. */
static void create_vm(int merge)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		_exit(3);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	mem = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED ||
	    (merge && madvise(mem, RAM_SIZE, MADV_MERGEABLE)))
		_exit(3);
	region.userspace_addr = (unsigned long)mem;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		_exit(3);
}

/* Make its CPU. */
static void create_vcpu(void)
{
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		_exit(3);
}

/* Fill the image's place from a file, or with the built-in guest if NULL. */
static void load(const char *image)
{
	if (!image)
		memcpy(mem + IMAGE, guest64, (size_t)(guest64_end - guest64));
	else if (read(open(image, O_RDONLY), mem + IMAGE, 4096) <= 0)
		_exit(2);
}

/* Page tables that map all RAM to itself, as one large page. */
static void build_tables(void)
{
	*(uint64_t *)(mem + PML4) = PDPT | PRESENT | RW | USER;
	*(uint64_t *)(mem + PDPT) = PD | PRESENT | RW | USER;
	*(uint64_t *)(mem + PD) = 0 | PRESENT | RW | USER | PS;
}

/*
 * Flat segments of long mode. There is no GDT: the segment registers are full
 * without one, and no guest of the bench loads any.
 */
static void set_segments(struct kvm_sregs *sregs)
{
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

	data.selector = 0x10;
	data.type = 3;
	data.l = 0;
	data.db = 1;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
}

/* Put the CPU into long mode, at the image's first byte. */
static void enter_long_mode(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = IMAGE,
		.rsp = RAM_SIZE,
		.rflags = X86_EFLAGS_FIXED,
	};

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		_exit(3);
	set_segments(&sregs);
	sregs.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE |
		    X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
	sregs.cr3 = PML4;
	sregs.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	sregs.efer = LME | LMA;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) ||
	    ioctl(vcpu, KVM_SET_REGS, &regs))
		_exit(3);
}

/* Let the guest run up to its next exit. Returns whether it is for I/O. */
static int run_to_io(void)
{
	return ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO;
}

/* The three loops. This one collects the output, and writes it at the end. */
static void run_and_collect(void)
{
	size_t used = 0;

	while (run_to_io() && used < sizeof(output))
		output[used++] = ((uint8_t *)run)[run->io.data_offset];
	if (write(1, output, used) != (ssize_t)used)
		_exit(3);
}

/* This one drops it. */
static void run_bare(void)
{
	while (run_to_io())
		;
}

/* And this one writes each byte when it comes. */
static void run_and_flush(void)
{
	while (run_to_io())
		if (write(1, (uint8_t *)run + run->io.data_offset, 1) != 1)
			_exit(3);
}

/* Have KVM collect what goes to port 0xE9. Ends with 3 if it cannot. */
static void open_ring(void)
{
	struct kvm_coalesced_mmio_zone zone = { 0xE9, 1, { .pio = 1 } };

	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO) != 2 ||
	    !ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) ||
	    ioctl(vm, KVM_REGISTER_COALESCED_MMIO, &zone))
		_exit(3);
	ring = (void *)((uint8_t *)run + 2 * 4096);
}

/* The loop for that: an exit for I/O means that the ring is full. */
static void run_ring(void)
{
	while (run_to_io())
		ring->first = ring->last;
}

/* Read a file into memory of its size. */
static void read_file(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	size_t size, done = 0;
	ssize_t n = 1;

	if (fstat(fd, &st))
		_exit(2);
	size = (size_t)st.st_size;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		_exit(3);
	for (; done < size && n > 0; done += (size_t)n)
		n = read(fd, mem + done, size - done);
	_exit(done == size ? 0 : 2);
}

/* Whether the guest failed to halt with 42 in RAX and in memory. */
static int wrong(void)
{
	struct kvm_regs regs;

	return ioctl(vcpu, KVM_GET_REGS, &regs) ||
	       run->exit_reason != KVM_EXIT_HLT || regs.rax != 42 ||
	       *(uint64_t *)(mem + RESULT) != 42;
}

int main(int argc, char *argv[])
{
	if (argc > 2 && !strcmp(argv[1], "read"))
		read_file(argv[2]);
	create_vm(argc == 2);
	create_vcpu();
	if (argc > 2 && !strcmp(argv[1], "ring"))
		open_ring();
	load(argc < 3 ? NULL : argv[2]);
	build_tables();
	enter_long_mode();
	if (argc < 3)
		run_and_collect();
	else if (!strcmp(argv[1], "bare"))
		run_bare();
	else if (!strcmp(argv[1], "ring"))
		run_ring();
	else
		run_and_flush();
	_exit(wrong());
}

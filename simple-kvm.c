/*
 * simple-kvm.c - a minimal hypervisor on Linux's KVM API, made to be read.
 *
 * It opens /dev/kvm, gives a virtual machine some RAM, puts its one virtual CPU
 * into real, protected, paged or long mode, and runs a small guest that prints
 * through an I/O port. When the guest halts, it checks what the guest left in
 * the accumulator and in memory.
 *
 * How to read it: from top to bottom. Nothing is used before it was explained,
 * and main(), the last function, sums up the rest. The chapters:
 *
 *	 1. What this is: the statuses, the memory map
 *	 2. x86: descriptors, page-table entries, bits and their names
 *	 3. Output: the guest's bytes, collected and written
 *	 4. The virtual machine: /dev/kvm, RAM, the vCPU
 *	 5. Modes: tables in guest memory, registers
 *	 6. Images: built-in, or from a file
 *	 7. Ports: what the guest's I/O instructions reach
 *	 8. Reports: exits by name
 *	 9. The run loop
 *	10. The verdict and the command line
 *
 * "SDM" stands for Intel's Software Developer's Manual, volume 3 unless another
 * is named, and "KVM API" for Documentation/virt/kvm/api.rst in Linux's source.
 */
#define _GNU_SOURCE
#include <asm/processor-flags.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define VERSION "0.1"

/* ====================================================================== 1 ===
 * What this is: the statuses, the memory map
 *
 * Whatever fails ends the process at once, through err(3) or errx(3), with one
 * of these statuses and a message that begins with "simple-kvm: ". So no
 * function below has to hand an error on, and each can be read straight down.
 */
enum status {
	STATUS_OK = 0,    /* the guest halted, with the right result */
	STATUS_GUEST = 1, /* the guest failed */
	STATUS_USAGE = 2, /* a bad option or a bad image */
	STATUS_HOST = 3,  /* KVM or the host failed, or lacks the mode */
};

/*
 * Guest physical memory. It begins at address 0, and simple-kvm fills the part
 * below the image before the guest starts:
 *
 *	0x00400   result: the built-in guests store 42 here
 *	0x00500   GDT: null, code (selector 0x08), data (selector 0x10)
 *	0x02000   PML4 (long mode) or page directory (32-bit paging)
 *	0x03000   PDPT
 *	0x04000   page directories, one for each GiB, at most three
 *	0x07000   the stack of real mode, down from 0x8000
 *	0x08000   the guest's image, entered at its first byte
 *	  ...
 *	  top     the stack of the other modes, down from the end of RAM
 */
enum layout {
	RESULT = 0x400,
	GDT = 0x500,
	PML4 = 0x2000,
	PDPT = 0x3000,
	PD = 0x4000,
	REAL_STACK = 0x8000,
	IMAGE = 0x8000,
	REAL_END = 0x10000,  /* 64 KiB: what a 16-bit offset reaches */
	RAM_SIZE = 0x200000, /* 2 MiB: one large page of long mode */
	STACK_ROOM = 0x1000, /* what an image leaves below the end of RAM */
};

/* ====================================================================== 2 ===
 * x86: descriptors, page-table entries, bits and their names
 *
 * The names of bits come from <asm/processor-flags.h>. Here are the few that it
 * lacks, and how a segment descriptor is encoded.
 */

/* Page-table entries, 32-bit ones as well: SDM 4.3, table 4-4; 4.5, 4-17. */
#define PDE64_PRESENT (1u << 0)
#define PDE64_RW      (1u << 1) /* writable */
#define PDE64_USER    (1u << 2) /* accessible in ring 3, too */
#define PDE64_PS      (1u << 7) /* maps a page of 2 or 4 MiB, not a table */

/* The extended feature enable register, a model-specific one: SDM 2.2.1. */
#define EFER_LME (1u << 8)  /* long mode enable: what software asks for */
#define EFER_LMA (1u << 10) /* long mode active: LME, and paging is on */

/* The types of segments, both accessed already: SDM 3.4.5.1, table 3-1. */
enum segment_type {
	SEGMENT_DATA = 3,  /* read, write */
	SEGMENT_CODE = 11, /* execute, read */
};

/*
 * A segment from 0 to 4 GiB for 32-bit code or data in ring 0, in KVM's form:
 * the selector and the hidden part of a segment register (SDM 3.4.3).
 */
static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff, /* in bytes, whatever G says */
		.selector = selector,
		.type = type,
		.present = 1,
		.dpl = 0,
		.db = 1, /* 32-bit operands and addresses */
		.s = 1,  /* code or data, not a system segment */
		.g = 1,  /* the descriptor's limit counts pages of 4 KiB */
	};
}

/*
 * The same segment as the eight bytes that the CPU reads from the GDT when code
 * loads the selector (SDM 3.4.5, figure 3-8).
 */
static uint64_t descriptor(const struct kvm_segment *seg)
{
	uint64_t limit = seg->g ? seg->limit >> 12 : seg->limit;

	return (limit & 0xffff) | (seg->base & 0xffffff) << 16 |
	       (uint64_t)seg->type << 40 | (uint64_t)seg->s << 44 |
	       (uint64_t)seg->dpl << 45 | (uint64_t)seg->present << 47 |
	       (limit >> 16 & 0xf) << 48 | (uint64_t)seg->l << 53 |
	       (uint64_t)seg->db << 54 | (uint64_t)seg->g << 55 |
	       (seg->base >> 24 & 0xff) << 56;
}

/* One bit of a register, by the name that the manual gives it. */
struct bit {
	uint64_t mask;
	const char *name;
};

#define CR0(bit)  X86_CR0_##bit, #bit
#define CR4(bit)  X86_CR4_##bit, #bit
#define EFER(bit) EFER_##bit, #bit

static const struct bit cr0_bits[] = {
	{ CR0(PE) }, { CR0(MP) }, { CR0(EM) }, { CR0(TS) },
	{ CR0(ET) }, { CR0(NE) }, { CR0(WP) }, { CR0(AM) },
	{ CR0(NW) }, { CR0(CD) }, { CR0(PG) }, { 0, NULL },
};
static const struct bit cr4_bits[] = {
	{ CR4(PSE) },        { CR4(PAE) }, { CR4(OSFXSR) },
	{ CR4(OSXMMEXCPT) }, { 0, NULL },
};
static const struct bit efer_bits[] = {
	{ EFER(LME) },
	{ EFER(LMA) },
	{ 0, NULL },
};

/*
 * The name of the first of the bits that is set in value; "a bit without a
 * name" when the table has none for it.
 */
static const char *bit_name(const struct bit *bits, uint64_t value)
{
	while (bits->name && !(bits->mask & value))
		bits++;
	return bits->name ? bits->name : "a bit without a name";
}

/* ====================================================================== 3 ===
 * Output: the guest's bytes, collected and written
 *
 * A guest hands over its output a byte at a time. To write each byte at once
 * would cost a system call each time, on top of the VM exit. So they wait in a
 * buffer: until a newline when a person watches, until the buffer is full
 * otherwise, and in any case until simple-kvm has something to say itself.
 */
struct console {
	bool tty;    /* stdout is a terminal */
	size_t used; /* how many of the bytes wait to be written */
	uint8_t bytes[1 << 16];
};

/*
 * Get ready to collect output; the buffer itself stays untouched, to cost no
 * memory until it is used. A closed stdout ends with STATUS_HOST: the next file
 * opened would get its number, and then the guest's output.
 */
static void console_init(struct console *console)
{
	console->used = 0;
	console->tty = isatty(STDOUT_FILENO);
	if (!console->tty && errno == EBADF)
		err(STATUS_HOST, "standard output");
	/* A reader that went away shall be an error of write() like others. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		err(STATUS_HOST, "signal SIGPIPE");
}

/* Wait until stdout, which somebody made non-blocking, takes bytes again. */
static void console_wait(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };

	if (poll(&out, 1, -1) < 0 && errno != EINTR)
		err(STATUS_HOST, "poll standard output");
}

/* Write all that waits. What cannot be written ends with STATUS_HOST. */
static void console_flush(struct console *console)
{
	const uint8_t *next = console->bytes;

	while (console->used > 0) {
		ssize_t n = write(STDOUT_FILENO, next, console->used);

		if (n >= 0) {
			next += n;
			console->used -= (size_t)n;
		} else if (errno == EAGAIN) {
			console_wait();
		} else if (errno != EINTR) {
			err(STATUS_HOST, "write to standard output");
		}
	}
}

/* Take len bytes of output from the guest. */
static void console_put(struct console *console, const uint8_t *data,
			size_t len)
{
	bool line = console->tty && memchr(data, '\n', len);

	while (len > 0) {
		size_t room = sizeof(console->bytes) - console->used;
		size_t n = len < room ? len : room;

		memcpy(console->bytes + console->used, data, n);
		console->used += n;
		data += n;
		len -= n;
		if (console->used == sizeof(console->bytes))
			console_flush(console);
	}
	if (line)
		console_flush(console);
}

/* ====================================================================== 4 ===
 * The virtual machine: /dev/kvm, RAM, the vCPU
 *
 * KVM is driven by ioctls on three kinds of file: /dev/kvm stands for KVM
 * itself, KVM_CREATE_VM gives a file that stands for a virtual machine, and
 * KVM_CREATE_VCPU one for a virtual CPU in it. The guest's physical memory is
 * memory of this process: what the guest finds at guest physical address A is
 * what we find at vm->mem + A.
 */
struct vcpu {
	int fd;
	struct kvm_run *kvm_run; /* shared with KVM: why KVM_RUN returned */
};

struct vm {
	int sys_fd;        /* /dev/kvm */
	int fd;            /* the virtual machine */
	uint8_t *mem;      /* guest physical address 0 */
	uint64_t mem_size; /* in bytes, a multiple of 4096 */
	struct vcpu vcpu;
	struct console console;
	bool stopped; /* the guest asked to end the run... */
	int status;   /* ...with this exit status */
};

/*
 * An ioctl that has to succeed. Returns what it returned, which for some is a
 * file descriptor or a size; an error ends with STATUS_HOST and its name.
 */
#define KVM(fd, request, arg) \
	kvm_ioctl(fd, request, #request, (unsigned long)(arg))

static int kvm_ioctl(int fd, unsigned long request, const char *name,
		     unsigned long arg)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		err(STATUS_HOST, "%s", name);
	return ret;
}

/*
 * Open /dev/kvm and see that it speaks the API that we do: the version has been
 * 12 since Linux 2.6.22, and the KVM API tells us to refuse any other.
 */
static void open_kvm(struct vm *vm)
{
	int version;

	vm->sys_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->sys_fd < 0)
		err(STATUS_HOST, "open /dev/kvm");
	version = KVM(vm->sys_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		errx(STATUS_HOST, "KVM_GET_API_VERSION: %d, where %d is needed",
		     version, KVM_API_VERSION);
}

/*
 * Give the machine mem_size bytes of RAM, all zero, at guest physical address
 * 0.
 */
static void create_ram(struct vm *vm, uint64_t mem_size)
{
	struct kvm_userspace_memory_region region = {
		.slot = 0,
		.guest_phys_addr = 0,
		.memory_size = mem_size,
	};

	/*
	 * PRIVATE and ANONYMOUS: pages of our own, zeroed, of no file.
	 * NORESERVE: a page takes memory, or swap space, only once it is
	 * touched, so a large guest costs no more than what it uses.
	 */
	vm->mem_size = mem_size;
	vm->mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->mem == MAP_FAILED)
		err(STATUS_HOST, "mmap %llu bytes of guest RAM",
		    (unsigned long long)mem_size);

	/*
	 * Let the kernel share pages that are the same in several guests. This
	 * is a favour to the host, so it is no error when the kernel is built
	 * without KSM, the part that does it.
	 */
	(void)madvise(vm->mem, mem_size, MADV_MERGEABLE);

	region.userspace_addr = (uintptr_t)vm->mem;
	KVM(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/*
 * Let the guest see the CPUID of the host, as far as KVM can virtualise it.
 * How many entries that takes is not known before: KVM says E2BIG to too few.
 */
static void copy_cpuid(struct vm *vm)
{
	struct kvm_cpuid2 *cpuid = NULL;
	uint32_t nent = 64;

	for (;;) {
		cpuid = realloc(cpuid, sizeof(*cpuid) +
					       nent * sizeof(*cpuid->entries));
		if (!cpuid)
			err(STATUS_HOST, "realloc");
		*cpuid = (struct kvm_cpuid2){ .nent = nent };
		if (!ioctl(vm->sys_fd, KVM_GET_SUPPORTED_CPUID, cpuid))
			break;
		if (errno != E2BIG)
			err(STATUS_HOST, "KVM_GET_SUPPORTED_CPUID");
		nent *= 2;
	}
	KVM(vm->vcpu.fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

/*
 * Create the virtual CPU, and map the struct kvm_run through which KVM tells
 * why the CPU stopped. The CPU is in its reset state afterwards (SDM 9.1.1).
 */
static void create_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpu;
	int size = KVM(vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if ((size_t)size < sizeof(*vcpu->kvm_run))
		errx(STATUS_HOST, "KVM_GET_VCPU_MMAP_SIZE: %d is too small",
		     size);
	vcpu->fd = KVM(vm->fd, KVM_CREATE_VCPU, 0);
	vcpu->kvm_run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
			     MAP_SHARED, vcpu->fd, 0);
	if (vcpu->kvm_run == MAP_FAILED)
		err(STATUS_HOST, "mmap struct kvm_run");
	copy_cpuid(vm);
}

/* Make a machine with one CPU and mem_size bytes of RAM. */
static void create_vm(struct vm *vm, uint64_t mem_size)
{
	vm->stopped = false;
	open_kvm(vm);
	vm->fd = KVM(vm->sys_fd, KVM_CREATE_VM, 0);
	/*
	 * Intel CPUs that cannot run real mode as a guest run it as a virtual
	 * 8086 task, and KVM puts the three pages which that takes here: just
	 * below the BIOS of a PC, and above all RAM that we may have.
	 */
	KVM(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	create_ram(vm, mem_size);
	create_vcpu(vm);
}

/* ====================================================================== 5 ===
 * Modes: tables in guest memory, registers
 *
 * A PC starts in real mode, and its boot code climbs to long mode step by step.
 * KVM lets us skip the climb: build the tables in guest memory, then set the
 * registers to what they would be at the end of it. Each function below starts
 * from the CPU's reset state in sregs and changes what its mode needs.
 */

/* Real mode: the segment registers at 0, so that an offset is an address. */
static void setup_real(struct vm *vm, struct kvm_sregs *sregs)
{
	(void)vm;
	/* The reset state, for fetching the BIOS: selector f000, base ffff0000.
	 */
	sregs->cs.selector = 0;
	sregs->cs.base = 0;
}

/*
 * Protected mode (SDM 9.9.1): a GDT with one code and one data segment, each
 * all of the 4 GiB, and the segment registers as if loaded from it.
 */
static void setup_protected(struct vm *vm, struct kvm_sregs *sregs)
{
	struct kvm_segment code = flat_segment(0x08, SEGMENT_CODE);
	struct kvm_segment data = flat_segment(0x10, SEGMENT_DATA);
	uint64_t *gdt = (void *)(vm->mem + GDT);

	gdt[0] = 0; /* never used: selector 0 means "no segment" */
	gdt[1] = descriptor(&code);
	gdt[2] = descriptor(&data);
	sregs->gdt.base = GDT;
	sregs->gdt.limit = 3 * sizeof(*gdt) - 1;

	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	/*
	 * PE: protected mode. ET: fixed to 1. NE: x87 errors are exceptions,
	 * and not interrupts of a controller that is not there.
	 */
	sregs->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
}

/* What both kinds of paging add to CR0, and where the top table is. */
static void enable_paging(struct kvm_sregs *sregs)
{
	/*
	 * PG: paging. WP: read-only pages are so for ring 0, too. MP and AM
	 * change nothing until a guest sets CR0.TS or RFLAGS.AC; kernels have
	 * them on.
	 */
	sregs->cr0 |= X86_CR0_PG | X86_CR0_WP | X86_CR0_MP | X86_CR0_AM;
	sregs->cr3 = PML4;
}

/*
 * 32-bit paging with pages of 4 MiB (SDM 4.3): bits 31..22 of an address choose
 * an entry of the one page directory, the other 22 are the offset in the page.
 *
 *	CR3 -> page directory [0] -> 0x000000 .. 0x3fffff
 *			      [1] -> 0x400000 .. 0x7fffff   and so on
 *
 * The last page may reach beyond the end of RAM: there is nothing behind it.
 */
static void setup_paged(struct vm *vm, struct kvm_sregs *sregs)
{
	uint32_t *pd = (void *)(vm->mem + PML4);

	setup_protected(vm, sregs);
	for (uint32_t i = 0; (uint64_t)i << 22 < vm->mem_size; i++)
		pd[i] = i << 22 | PDE64_PRESENT | PDE64_RW | PDE64_USER |
			PDE64_PS;
	enable_paging(sregs);
	sregs->cr4 = X86_CR4_PSE; /* page-size extensions: heed PDE64_PS */
}

/*
 * Long mode, the 64-bit one, with pages of 2 MiB (SDM 4.5): bits 47..39 of an
 * address choose an entry of the PML4, bits 38..30 one of the PDPT, bits 29..21
 * one of a page directory, and the other 21 are the offset in the page.
 *
 *	CR3 -> pml4 [0] -> pdpt [0] -> pd [0] -> 0x000000 .. 0x1fffff
 *					  [1] -> 0x200000 .. 0x3fffff
 *				[1] -> pd + 512, for the second GiB, and so on
 *
 * The page directories lie one behind the other, so that one index reaches all.
 */
static void setup_long(struct vm *vm, struct kvm_sregs *sregs)
{
	const uint64_t flags = PDE64_PRESENT | PDE64_RW | PDE64_USER;
	uint64_t *pml4 = (void *)(vm->mem + PML4);
	uint64_t *pdpt = (void *)(vm->mem + PDPT);
	uint64_t *pd = (void *)(vm->mem + PD);
	uint64_t *gdt = (void *)(vm->mem + GDT);

	setup_protected(vm, sregs);
	pml4[0] = PDPT | flags;
	for (uint64_t i = 0; i << 30 < vm->mem_size; i++)
		pdpt[i] = (PD + i * 4096) | flags;
	for (uint64_t i = 0; i << 21 < vm->mem_size; i++)
		pd[i] = i << 21 | flags | PDE64_PS;
	enable_paging(sregs);

	/* PAE: entries of 64 bits. The others: SSE, which compilers use. */
	sregs->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	sregs->efer = EFER_LME | EFER_LMA;
	/* L makes code 64-bit, and then D must be 0 (SDM 5.2.1). */
	sregs->cs.l = 1;
	sregs->cs.db = 0;
	gdt[1] = descriptor(&sregs->cs);
}

/* The built-in guests, linked in as bytes: see %.img.o in the Makefile. */
extern const uint8_t guest16[], guest16_end[];
extern const uint8_t guest32[], guest32_end[];
extern const uint8_t guest64[], guest64_end[];

/* A mode of the CPU, and all that differs from mode to mode. */
struct mode {
	const char *name;
	int option;               /* on the command line */
	const uint8_t *image;     /* the built-in guest... */
	const uint8_t *image_end; /* ...and the byte behind it */
	size_t width;             /* of the result, in bytes */
	const char *accumulator;  /* the register of that width */
	void (*setup)(struct vm *vm, struct kvm_sregs *sregs);
};

static const struct mode modes[] = {
	{ "real mode", 'r', guest16, guest16_end, 2, "AX", setup_real },
	{ "protected mode", 's', guest32, guest32_end, 4, "EAX",
	  setup_protected },
	{ "32-bit paging", 'p', guest32, guest32_end, 4, "EAX", setup_paged },
	{ "long mode", 'l', guest64, guest64_end, 8, "RAX", setup_long },
};

/* The mode of an option letter; NULL when it is no mode's. */
static const struct mode *find_mode(int option)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (modes[i].option == option)
			return &modes[i];
	return NULL;
}

/*
 * End with STATUS_HOST, and the name of the bit, if a register that makes the
 * mode is not as it was set.
 */
static void check_register(const struct mode *mode, const char *name,
			   const struct bit *bits, uint64_t want, uint64_t got)
{
	if (want != got)
		errx(STATUS_HOST,
		     "%s: this KVM does not have it, for it did not set %s.%s "
		     "as asked; try another mode, or a host with kvm_intel or "
		     "kvm_amd",
		     mode->name, name, bit_name(bits, want ^ got));
}

/*
 * KVM_SET_SREGS may succeed without doing all that it was asked (kvm-pvm has no
 * 32-bit paging, and clears CR0.PG). A guest would die of that in ways hard to
 * understand, so read the registers back.
 */
static void check_mode(struct vm *vm, const struct mode *mode,
		       const struct kvm_sregs *want)
{
	struct kvm_sregs got;

	KVM(vm->vcpu.fd, KVM_GET_SREGS, &got);
	check_register(mode, "CR0", cr0_bits, want->cr0, got.cr0);
	check_register(mode, "CR4", cr4_bits, want->cr4, got.cr4);
	check_register(mode, "EFER", efer_bits, want->efer, got.efer);
}

/* Put the CPU into a mode, about to execute the instruction at entry. */
static void enter_mode(struct vm *vm, const struct mode *mode, uint64_t entry)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = entry,
		.rflags = X86_EFLAGS_FIXED, /* and IF clear: no interrupts */
	};

	KVM(vm->vcpu.fd, KVM_GET_SREGS, &sregs);
	mode->setup(vm, &sregs);
	KVM(vm->vcpu.fd, KVM_SET_SREGS, &sregs);
	check_mode(vm, mode, &sregs);

	regs.rsp = sregs.cr0 & X86_CR0_PE ? vm->mem_size : REAL_STACK;
	KVM(vm->vcpu.fd, KVM_SET_REGS, &regs);
}

/* ====================================================================== 6 ===
 * Images: built-in, or from a file
 *
 * An image is copied to guest physical address 0x8000 and entered at its first
 * byte. It must leave room for the stack above it; in real mode the stack is
 * below, but a 16-bit offset reaches no further than 64 KiB.
 */

/* How many bytes an image may have in this mode. */
static size_t image_limit(const struct vm *vm, const struct mode *mode)
{
	uint64_t end =
		mode->option == 'r' ? REAL_END : vm->mem_size - STACK_ROOM;

	return end - IMAGE;
}

/* Copy the mode's built-in guest into guest memory. */
static void load_builtin(struct vm *vm, const struct mode *mode)
{
	size_t size = (size_t)(mode->image_end - mode->image);

	memcpy(vm->mem + IMAGE, mode->image, size); /* guest.ld saw it fit */
}

/*
 * Read a file into guest memory. One that cannot be read, is empty or does not
 * fit ends with STATUS_USAGE.
 */
static void load_file(struct vm *vm, const struct mode *mode, const char *path)
{
	size_t limit = image_limit(vm, mode), size = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		err(STATUS_USAGE, "%s", path);
	/* A byte more than fits, to see that there is one more. */
	while (size <= limit &&
	       (n = read(fd, vm->mem + IMAGE + size, limit + 1 - size)) != 0) {
		if (n > 0)
			size += (size_t)n;
		else if (errno != EINTR)
			err(STATUS_USAGE, "%s", path);
	}
	if (size == 0)
		errx(STATUS_USAGE, "%s: the file is empty", path);
	if (size > limit)
		errx(STATUS_USAGE,
		     "%s: too large: an image for %s has at most %zu bytes",
		     path, mode->name, limit);
	close(fd);
}

/* ====================================================================== 7 ===
 * Ports: what the guest's I/O instructions reach
 *
 * IN and OUT leave the guest (KVM_EXIT_IO). KVM has put the bytes that an OUT
 * wrote into the shared kvm_run, and takes what an IN reads from there. To add
 * a hypercall, write a function and give it a row in the table.
 */

/* Take the bytes, lowest first, as output. */
static void console_out(struct vm *vm, uint8_t *data, size_t len)
{
	console_put(&vm->console, data, len);
}

/* "The console is here", as the port says it in Bochs and QEMU. */
static void console_in(struct vm *vm, uint8_t *data, size_t len)
{
	(void)vm;
	memset(data, 0xE9, len);
}

/* Stop, with the exit status that QEMU's isa-debug-exit makes of the value. */
static void exit_out(struct vm *vm, uint8_t *data, size_t len)
{
	(void)len;
	vm->stopped = true;
	vm->status = (data[0] << 1 | 1) & 0xff;
}

/* The line status of a serial port that can always take another byte. */
static void serial_status_in(struct vm *vm, uint8_t *data, size_t len)
{
	(void)vm;
	memset(data, 0x60, len); /* transmitter empty, and its register */
}

/* An access to a port, and the function that handles it. */
struct port {
	uint16_t port;
	uint8_t direction; /* KVM_EXIT_IO_OUT or KVM_EXIT_IO_IN */
	uint8_t widest;    /* the most bytes that an access may have */
	void (*handle)(struct vm *vm, uint8_t *data, size_t len);
};

static const struct port ports[] = {
	{ 0xE9, KVM_EXIT_IO_OUT, 4, console_out },
	{ 0xE9, KVM_EXIT_IO_IN, 4, console_in },
	{ 0xF4, KVM_EXIT_IO_OUT, 4, exit_out },
	{ 0x3F8, KVM_EXIT_IO_OUT, 1, console_out }, /* COM1 */
	{ 0x3FD, KVM_EXIT_IO_IN, 1, serial_status_in },
};

/*
 * Handle the I/O exit that kvm_run describes: count elements of size bytes
 * each, one behind the other at data_offset, all for one port. (REP OUTS gives
 * a count above 1.) Returns false when there is no such port.
 */
static bool handle_io(struct vm *vm)
{
	struct kvm_run *run = vm->vcpu.kvm_run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (size_t i = 0; i < sizeof(ports) / sizeof(*ports); i++) {
		const struct port *p = &ports[i];

		if (p->port == run->io.port &&
		    p->direction == run->io.direction &&
		    p->widest >= run->io.size) {
			p->handle(vm, data,
				  (size_t)run->io.size * run->io.count);
			return true;
		}
	}
	return false;
}

/* ====================================================================== 8 ===
 * Reports: exits by name
 */
#define EXIT(name, meaning) [KVM_EXIT_##name] = { "KVM_EXIT_" #name, meaning }

static const struct {
	const char *name;
	const char *meaning;
} exits[] = {
	EXIT(UNKNOWN, "for a reason of the hardware that KVM does not know"),
	EXIT(EXCEPTION, "an exception that KVM does not handle"),
	EXIT(IO, "an access to a port"),
	EXIT(HYPERCALL, "a hypercall that KVM leaves to user space"),
	EXIT(DEBUG, "a debug event"),
	EXIT(HLT, "the guest halted"),
	EXIT(MMIO, "an access to memory where there is none"),
	EXIT(IRQ_WINDOW_OPEN, "an interrupt could be delivered"),
	EXIT(SHUTDOWN,
	     "a triple fault: an exception that could not be handled, "
	     "nor the failure to handle it"),
	EXIT(FAIL_ENTRY, "the CPU refused to enter the guest in this state"),
	EXIT(INTR, "an interrupt of the host"),
	EXIT(SET_TPR, "a change of the task priority register"),
	EXIT(TPR_ACCESS, "an access to the task priority register"),
	EXIT(NMI, "a non-maskable interrupt of the host"),
	EXIT(INTERNAL_ERROR, "KVM could not go on"),
	EXIT(SYSTEM_EVENT, "a request to reset or power off"),
	EXIT(IOAPIC_EOI, "the end of an interrupt"),
	EXIT(HYPERV, "a call to Hyper-V"),
	EXIT(X86_RDMSR, "a read of a model-specific register"),
	EXIT(X86_WRMSR, "a write to a model-specific register"),
	EXIT(DIRTY_RING_FULL, "the ring of written pages is full"),
	EXIT(AP_RESET_HOLD, "a CPU that waits to be started"),
	EXIT(X86_BUS_LOCK, "a locked access across two cache lines"),
	EXIT(XEN, "a call to Xen"),
};

/* Say that the guest made an access to a port that is not there. */
static void report_io(const struct kvm_run *run, uint64_t rip)
{
	uint32_t value = 0;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;

	memcpy(&value, (const uint8_t *)run + run->io.data_offset,
	       out && run->io.size <= sizeof(value) ? run->io.size : 0);
	if (out)
		warnx("no such port: the guest wrote 0x%x (%u bytes) to port "
		      "0x%x, at RIP 0x%llx",
		      value, run->io.size, run->io.port,
		      (unsigned long long)rip);
	else
		warnx("no such port: the guest read %u bytes from port 0x%x, "
		      "at RIP 0x%llx",
		      run->io.size, run->io.port, (unsigned long long)rip);
}

/* Say why the guest failed. Returns the status for that. */
static int report_exit(struct vm *vm)
{
	const struct kvm_run *run = vm->vcpu.kvm_run;
	uint32_t reason = run->exit_reason;
	struct kvm_regs regs;

	console_flush(&vm->console);
	KVM(vm->vcpu.fd, KVM_GET_REGS, &regs);
	if (reason == KVM_EXIT_IO)
		report_io(run, regs.rip);
	else if (reason < sizeof(exits) / sizeof(*exits) && exits[reason].name)
		warnx("the guest failed, at RIP 0x%llx: %s (%s)",
		      (unsigned long long)regs.rip, exits[reason].meaning,
		      exits[reason].name);
	else
		warnx("the guest failed, at RIP 0x%llx: KVM exit reason %u, "
		      "which has no name here",
		      (unsigned long long)regs.rip, reason);
	return STATUS_GUEST;
}

/* ====================================================================== 9 ===
 * The run loop
 *
 * KVM_RUN lets the CPU execute the guest until the guest does something that
 * the hypervisor has to handle; then the reason is in kvm_run. We handle it,
 * and run on.
 */

/* Run the guest to its end. Returns STATUS_OK when it halted. */
static int run_vm(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpu;

	for (;;) {
		/* Only after success does exit_reason mean something. */
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			console_flush(&vm->console);
			err(STATUS_HOST, "KVM_RUN");
		}
		switch (vcpu->kvm_run->exit_reason) {
		case KVM_EXIT_IO:
			if (!handle_io(vm))
				return report_exit(vm);
			if (vm->stopped)
				return vm->status;
			break;
		case KVM_EXIT_HLT:
			return STATUS_OK;
		default:
			return report_exit(vm);
		}
	}
}

/* ===================================================================== 10 ===
 * The verdict and the command line
 */

/*
 * A built-in guest has halted: see whether 42 is where it should be, and say
 * so. Returns the exit status for that.
 */
static int check(struct vm *vm, const struct mode *mode)
{
	struct kvm_regs regs;
	uint64_t rax = 0, memval = 0;
	bool right;

	KVM(vm->vcpu.fd, KVM_GET_REGS, &regs);
	/* As many bytes of each as the mode's guest writes. */
	memcpy(&rax, &regs.rax, mode->width);
	memcpy(&memval, vm->mem + RESULT, mode->width);
	right = rax == 42 && memval == 42;
	warnx("%s: %s is %llu, memory at 0x%x is %llu: %s", mode->name,
	      mode->accumulator, (unsigned long long)rax, RESULT,
	      (unsigned long long)memval,
	      right ? "as expected" : "wrong, 42 was expected in both");
	return right ? STATUS_OK : STATUS_GUEST;
}

#define USAGE "usage: simple-kvm [-r | -s | -p | -l] [IMAGE]"

static const char help[] = USAGE
	"\n"
	"Run a small guest in a virtual machine, and print what it writes to\n"
	"port 0xE9.\n"
	"\n"
	"  -r, --real       in real mode, which is the default\n"
	"  -s, --protected  in protected mode\n"
	"  -p, --paged      in protected mode with 32-bit paging\n"
	"  -l, --long       in long mode, the 64-bit one\n"
	"  -h, --help       print this help\n"
	"  -V, --version    print the version\n"
	"\n"
	"IMAGE is a flat file, loaded and entered at address 0x8000. Without "
	"one\n"
	"the mode's built-in guest runs, which must leave 42 in RAX and at "
	"0x400.\n"
	"\n"
	"Exit status: 0 the guest halted, with the right result if it is a "
	"built-in\n"
	"one; 1 the guest failed; 2 bad option or image; 3 KVM or the host "
	"failed;\n"
	"(v << 1) | 1 the guest wrote v to port 0xF4.\n";

static const struct option long_options[] = {
	{ "real", no_argument, NULL, 'r' },
	{ "protected", no_argument, NULL, 's' },
	{ "paged", no_argument, NULL, 'p' },
	{ "long", no_argument, NULL, 'l' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* What the command line asks for. */
struct options {
	const struct mode *mode;
	const char *image; /* a file; NULL: the mode's built-in guest */
};

/* End with what is wrong with the command line, and how it should be. */
static void __attribute__((noreturn)) usage(const char *wrong)
{
	if (wrong)
		warnx("%s", wrong);
	warnx(USAGE);
	errx(STATUS_USAGE, "try 'simple-kvm --help'");
}

/* Print a text that was asked for, and end. */
static void __attribute__((noreturn)) print_and_exit(const char *text)
{
	if (fputs(text, stdout) == EOF || fflush(stdout) == EOF)
		err(STATUS_HOST, "write to standard output");
	exit(STATUS_OK);
}

/* Read the command line; does not return when it is wrong. */
static struct options parse_options(int argc, char *argv[])
{
	struct options opts = { 0 };
	int c;

	argv[0] = program_invocation_short_name; /* as err() begins a line */
	while ((c = getopt_long(argc, argv, "rsplhV", long_options, NULL)) !=
	       -1) {
		const struct mode *mode = find_mode(c);

		if (c == 'h')
			print_and_exit(help);
		if (c == 'V')
			print_and_exit("simple-kvm " VERSION "\n");
		if (!mode)
			usage(NULL); /* getopt_long has said what is wrong */
		if (opts.mode && opts.mode != mode)
			usage("only one mode can be chosen");
		opts.mode = mode;
	}
	if (!opts.mode)
		opts.mode = find_mode('r');
	if (argc - optind > 1)
		usage("only one image can be run");
	opts.image = argv[optind]; /* argv[argc] is NULL */
	return opts;
}

int main(int argc, char *argv[])
{
	struct options opts = parse_options(argc, argv);
	struct vm vm;
	int status;

	console_init(&vm.console);
	create_vm(&vm, RAM_SIZE);
	if (opts.image)
		load_file(&vm, opts.mode, opts.image);
	else
		load_builtin(&vm, opts.mode);
	enter_mode(&vm, opts.mode, IMAGE);
	status = run_vm(&vm);
	console_flush(&vm.console);
	if (status == STATUS_OK && !opts.image)
		status = check(&vm, opts.mode);
	return status;
}

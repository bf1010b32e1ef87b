/*
 * simple-kvm.c - a minimal hypervisor on Linux's KVM API, made to be read.
 *
 * It opens /dev/kvm, gives a virtual machine some RAM, puts its one virtual CPU
 * into real, protected, paged or long mode, and runs a small guest that prints
 * through an I/O port. When the guest halts, it checks what the guest left in
 * the accumulator and in memory.
 *
 * How to read it: from top to bottom. Little is used before it was explained,
 * and main(), the last function, sums up the rest. The chapters with a star are
 * the course: how a virtual machine is made and run. The others make it
 * pleasant to use, and can wait for a second reading.
 *
 *   *	 1. What this is: statuses, the memory map
 *   *	 2. x86: descriptors, page-table entries, names of bits
 *   *	 3. Words: the guest's to stdout, ours to stderr
 *   *	 4. The virtual machine: /dev/kvm, RAM, the vCPU, guest memory
 *   *	 5. Modes: tables in guest memory, registers
 *	 6. Images: built-in, flat file, ELF file
 *   *	 7. Ports: what the guest's I/O instructions reach
 *	 8. Why it died: exceptions, exits, registers
 *	 9. Watching it run: --verbose, --trace, --step, --stats
 *   *	10. The run loop, its timer and signals, and the locked door
 *	11. gdb
 *   *	12. The verdict and the command line
 *
 * "SDM" stands for Intel's Software Developer's Manual, volume 3 unless another
 * is named, and "KVM API" for Documentation/virt/kvm/api.rst in Linux's source.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <asm/processor-flags.h>
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The kernel's integers, by the short names it has for them. */
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

/* A handler has the parameters of its kind, and may not need them all. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* ====================================================================== 1 ===
 * What this is: statuses, the memory map
 *
 * Whatever fails ends the process at once, through err(3) or errx(3), with one
 * of these statuses and a message that begins with "simple-kvm: ". So no
 * function below has to hand an error on, and each can be read straight down.
 */
enum status {
	STATUS_OK = 0,        /* the guest halted, with the right result */
	STATUS_GUEST = 1,     /* the guest failed */
	STATUS_USAGE = 2,     /* a bad option or a bad image */
	STATUS_HOST = 3,      /* KVM or the host failed, or lacks the mode */
	STATUS_TIMEOUT = 124, /* --timeout ran out: as timeout(1) has it */
	STATUS_SIGNAL = 128, /* plus the number of the signal that stopped us */
};

/* The signal of --timeout; SIGINT and SIGTERM end a run as well. */
#define TIME_OVER (SIGRTMIN + 1)

/* The exit status of a run that a signal has ended. */
static int stop_status(int number)
{
	return number == TIME_OVER ? STATUS_TIMEOUT : STATUS_SIGNAL + number;
}

/* Guest physical memory begins at address 0. What we put where, and why: */
enum layout {
	IVT = 0,               /* the CPU's own place for it in real mode */
	RESULT = 0x400,        /* the built-in guests store 42 here */
	GDT = 0x500,           /* null, code (0x08), data (0x10) */
	FREE = 0x600,          /* boot sectors copy themselves here */
	STUBS = 0xc00,         /* 4 bytes for each of 256 vectors */
	IDT = 0x1000,          /* 256 gates: in long mode just one page */
	PML4 = 0x2000,         /* in 32-bit paging the page directory */
	PDPT = 0x3000,         /* long mode's tables take a page each */
	PD = 0x4000,           /* one for each GiB of RAM, at most three */
	REAL_STACK = 0x7000,   /* down from the image; elsewhere free */
	IMAGE = 0x8000,        /* flat images: above all that is ours */
	REAL_END = 0x10000,    /* what a 16-bit offset reaches */
	STACK_ROOM = 0x1000,   /* what an image leaves below the end of RAM */
	RAM_SIZE = 0x200000,   /* by default: a large page of long mode */
	MOST_RAM = 0xc0000000, /* 3 GiB: PCs have devices above */
};

/*
 * The same as a table for the reports, whatever the mode makes of it: each
 * region reaches to where the next one starts. load_image() knows where those
 * do that have a number. A region that starts above the next is hidden by it.
 */
enum { ROW_IMAGE = 9, ROW_ABOVE, ROW_END, ROWS };
static const struct region {
	u64 start;
	const char *name;
} memory_map[ROWS] = {
	{ IVT, "the interrupt vectors of real mode" },
	{ RESULT, "the result" },
	{ GDT, "the GDT" },
	{ FREE, "free memory below the tables" },
	{ STUBS, "the exception stubs" },
	{ IDT, "the IDT" },
	{ PML4, "the page tables" },
	{ REAL_STACK, "the stack of real mode" },
	{ IMAGE, "RAM below the image" },
	[ROW_IMAGE] = { 0, "the image" },
	[ROW_ABOVE] = { 0, "RAM above the image, and the stack" },
	[ROW_END] = { 0, "beyond the end of RAM" },
};

/* ====================================================================== 2 ===
 * x86: descriptors, page-table entries, names of bits
 *
 * The names of bits come from <asm/processor-flags.h>. Here are the few that it
 * lacks, and how a segment is described to the CPU.
 */

/* Page-table entries: SDM "32-Bit Paging" and "4-Level Paging". */
#define PAGE_SIZE     4096
#define PDE64_PRESENT (1u << 0)
#define PDE64_RW      (1u << 1) /* writable */
#define PDE64_USER    (1u << 2) /* accessible in ring 3, too */
#define PDE64_PS      (1u << 7) /* maps a page of 2 or 4 MiB, not a table */

/* The extended feature enable register, a model-specific one: SDM 2.2.1. */
#define EFER_LME (1u << 8)  /* long mode enable: what software asks for */
#define EFER_LMA (1u << 10) /* long mode active: LME, and paging is on */

/*
 * Segment descriptors, as they stand in the GDT (SDM 3.4.5, figure 3-8): base
 * 0, limit 0xfffff, which G (bit 55) makes count pages, so from 0 to 4 GiB;
 * present (bit 47), ring 0 (bits 46..45), not the system's (bit 44). Bits
 * 43..40 are the type: 11 is code, 3 is data that can be written. Bit 54 (D)
 * makes it 32-bit, bit 53 (L) 64-bit code. L and D exclude each other.
 */
#define CODE16 0x00009b000000ffffull /* real mode's: 64 KiB, D clear */
#define CODE32 0x00cf9b000000ffffull
#define CODE64 0x00af9b000000ffffull
#define DATA   0x00cf93000000ffffull

/*
 * The segment register that results when a selector is loaded: the descriptor,
 * taken apart into the register's hidden part (SDM 3.4.3).
 */
static struct kvm_segment segment(u16 selector, u64 desc)
{
	u32 limit = (u32)((desc & 0xffff) | (desc >> 32 & 0xf0000));

	return (struct kvm_segment){
		.selector = selector,
		.base = (desc >> 16 & 0xffffff) | (desc >> 56 << 24),
		.limit = desc >> 55 & 1 ? limit << 12 | 0xfff : limit,
		.type = desc >> 40 & 0xf,
		.s = desc >> 44 & 1,
		.dpl = desc >> 45 & 3,
		.present = desc >> 47 & 1,
		.l = desc >> 53 & 1,
		.db = desc >> 54 & 1,
		.g = desc >> 55 & 1,
	};
}

/*
 * A gate of the IDT, but for its offset, of which bits 15..0 go here (SDM "IDT
 * Descriptors"): present (bit 47), an interrupt gate (0xe), selector 0x08.
 */
#define GATE 0x00008e0000080000ull

/* The names of registers' bits, from bit 0 up; a dot where there is none. */
static const char rflags_bits[] =
	"CF . PF . AF . ZF SF TF IF DF OF . . NT . RF VM AC VIF VIP ID";
static const char cr0_bits[] =
	"PE MP EM TS ET NE . . . . . . . . . . WP . AM . . . . . . . . . . "
	"NW CD PG";
static const char cr4_bits[] =
	"VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP LA57 VMXE "
	"SMXE . FSGSBASE PCIDE OSXSAVE . SMEP SMAP PKE";
static const char efer_bits[] = "SCE . . . . . . . LME . LMA NXE";
static const char entry_bits[] = "PRESENT RW USER PWT PCD A D PS G";

/* The first bytes of something, at most 8, as the number that they are. */
static u64 number(const void *bytes, size_t size)
{
	u64 value = 0;

	memcpy(&value, bytes, size);
	return value;
}

/* ====================================================================== 3 ===
 * Words: the guest's to stdout, ours to stderr
 *
 * A guest hands over its output a byte at a time. To write each byte at once
 * would cost a system call each time, on top of the VM exit, so it waits in
 * stdio's buffer: until a newline on a terminal, until the buffer is full
 * elsewhere, and in any case until we have something to say ourselves, or
 * until the next tick of chapter 10.
 *
 * stdio drops what it could not write, and is content afterwards. So ferror()
 * tells what fflush() may not, and lost output never ends in status 0.
 */

/* Write all output that waits. If any is lost, ends with STATUS_HOST. */
static void flush_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	warn("write to standard output");
	_exit(STATUS_HOST); /* and not exit(), which would come here again */
}

/*
 * Give stdout and stderr their buffers: static ones, since glibc would get
 * itself some when it is too late for system calls. However the process ends,
 * stdout is flushed, and its errors are seen.
 */
static void open_output(void)
{
	static char out[1 << 16], error[BUFSIZ];

	setvbuf(stdout, out, isatty(1) ? _IOLBF : _IOFBF, sizeof(out));
	setvbuf(stderr, error, _IOLBF, sizeof(error));
	/* A file that may not grow is an error of write(), not our death. */
	signal(SIGXFSZ, SIG_IGN);
	atexit(flush_output);
}

/*
 * say() begins a line on stderr, after all output so far, as printf() would
 * print; more() goes on with it. Its "\n" is what writes it, in one piece.
 */
#define more(...) fprintf(stderr, __VA_ARGS__)
#define say(...) \
	(flush_output(), more("%s: ", program_invocation_short_name), \
	 more(__VA_ARGS__))

/* Go on with the names of the bits that are set, each after prefix. */
static void more_bits(const char *prefix, const char *names, u64 value)
{
	for (; *names; value >>= 1) {
		int len = (int)strcspn(names, " ");

		if (value & 1 && *names != '.')
			more("%s%.*s", prefix, len, names);
		names += len + (names[len] == ' ');
	}
}

/* ====================================================================== 4 ===
 * The virtual machine: /dev/kvm, RAM, the vCPU, guest memory
 *
 * KVM is driven by ioctls on three kinds of file: /dev/kvm stands for KVM
 * itself, KVM_CREATE_VM gives a file that stands for a virtual machine, and
 * KVM_CREATE_VCPU one for a virtual CPU in it. The guest's physical memory is
 * memory of this process: what the guest finds at guest physical address A is
 * what we find at vm->mem + A.
 */
struct vm {
	/* What the command line asks for. */
	const struct mode *mode; /* NULL: none was chosen */
	const char *path;        /* of the image; NULL: a built-in guest */
	u64 mem_size;            /* of RAM in bytes, a multiple of 4096 */
	u64 timeout;             /* in nanoseconds; 0: none */
	bool coalesce, trace, step, stats, gdb, guessed; /* ...the mode */

	/* The machine. */
	int sys_fd, fd, vcpu_fd; /* /dev/kvm, the machine, its CPU */
	u8 *mem;                 /* guest physical address 0 */
	struct kvm_run *kvm_run; /* shared with KVM: why the CPU stopped */
	struct kvm_coalesced_mmio_ring *ring; /* of --coalesce, or NULL */
	u8 *image;         /* the guest's program, as it is in its file... */
	size_t image_size; /* ...its size in bytes... */
	unsigned elf;      /* ...and 64 or 32 for an ELF file's class, or 0 */
	struct region map[ROWS];

	/* The run. */
	struct kvm_regs regs; /* as get_registers() found them last */
	struct kvm_sregs sregs;
	u8 com1[8];             /* what the guest left in COM1's registers */
	int status;             /* that the guest asked to end with, or -1 */
	double start, run_time; /* for --stats, in seconds */
	u64 exited, exits[64];  /* exits so far, in all and by reason */
};

/* The exits that a guest may come to, without the KVM_EXIT_ that all have. */
/* clang-format off */
static const char exit_names[64][16] = {
	[KVM_EXIT_UNKNOWN] = "UNKNOWN", [KVM_EXIT_IO] = "IO",
	[KVM_EXIT_DEBUG] = "DEBUG", [KVM_EXIT_HLT] = "HLT",
	[KVM_EXIT_MMIO] = "MMIO", [KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
	[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
	[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
};
/* clang-format on */

/* --verbose: tell each step of the set-up. */
static bool verbose;

/* Nanoseconds in a second, and in a tick: the longest that output waits. */
enum { NS = 1000000000, TICK = NS / 50 };

/* Seconds on a clock that nobody sets. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/*
 * End with STATUS_HOST and a message that says which call failed, why (by
 * errno), and what to do about it if it is what people really meet.
 */
static void __attribute__((noreturn)) host_error(const char *call)
{
	int error = errno;

	warn("%s", call);
	if (error == ENOENT)
		warnx("load the module kvm_intel or kvm_amd; see the README");
	if (error == EACCES)
		warnx("sudo usermod -aG kvm $USER, and log in again");
	if (error == EBUSY)
		warnx("another hypervisor has the CPU: stop it");
	exit(STATUS_HOST);
}

/*
 * A call that has to succeed. Returns what it returned, which may be a file
 * descriptor, a size or an address; an error is a host_error() with its text.
 */
#define MUST(call)            must(#call, (long)(call))
#define KVM(fd, request, arg) must(#request, ioctl(fd, request, arg))

static long must(const char *call, long ret)
{
	if (ret == -1)
		host_error(call);
	if (verbose)
		say(ret >> 32 ? "%s = 0x%lx\n" : "%s = %ld\n", call, ret);
	return ret;
}

/* Give the machine its RAM, all zero, from guest physical address 0 on. */
static void create_ram(struct vm *vm)
{
	struct kvm_userspace_memory_region ram = { .memory_size =
							   vm->mem_size };

	/*
	 * PRIVATE and ANONYMOUS: pages of our own, zeroed, of no file.
	 * A page of it takes memory only once it is touched, so a large guest
	 * costs no more than what it uses. NORESERVE: do not count all of it
	 * as memory that is promised, and so refuse more than there is.
	 */
	MUST(vm->mem =
		     mmap(NULL, vm->mem_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	/*
	 * Let the kernel share pages that are the same in several guests. This
	 * is a favour to the host, so it is no error when the kernel is built
	 * without KSM, the part that does it.
	 */
	madvise(vm->mem, vm->mem_size, MADV_MERGEABLE);

	ram.userspace_addr = (unsigned long)vm->mem;
	KVM(vm->fd, KVM_SET_USER_MEMORY_REGION, &ram);
}

/*
 * Let the guest see the CPUID of the host, as far as KVM can virtualise it, but
 * without VMX and SVM: no guest here needs to be a hypervisor, and that is the
 * largest part of KVM that a guest could attack. KVM keeps at most 256 entries,
 * and says E2BIG to an array that is too small.
 */
static void copy_cpuid(struct vm *vm)
{
	static struct {
		u32 nent, padding; /* as in struct kvm_cpuid2 */
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = { .nent = 256 };
	struct kvm_cpuid_entry2 *e = cpuid.entries;

	KVM(vm->sys_fd, KVM_GET_SUPPORTED_CPUID, &cpuid);
	for (; e < cpuid.entries + cpuid.nent; e++)
		if (e->function == 1)
			e->ecx &= ~(1u << 5); /* VMX */
		else if (e->function == 0x80000001)
			e->ecx &= ~(1u << 2); /* SVM */
	KVM(vm->vcpu_fd, KVM_SET_CPUID2, &cpuid);
}

/*
 * --coalesce: let KVM collect what the guest writes to port 0xE9, in a ring
 * that lies in a page after kvm_run, instead of leaving the guest for each
 * byte (KVM API, 4.116). A KVM that cannot is no error: the output is the same.
 */
static void coalesce_console(struct vm *vm)
{
	struct kvm_coalesced_mmio_zone zone = { 0xE9, 1, { .pio = 1 } };
	long page = KVM(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);

	if (!page || !KVM(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO))
		return;
	KVM(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	vm->ring = (void *)((u8 *)vm->kvm_run + page * PAGE_SIZE);
}

/*
 * Make a machine with one CPU, and RAM as the options say. The version of the
 * API has been 12 since Linux 2.6.22, and its documentation tells us to refuse
 * any other. (All else that we need is in Linux 4.11.) The CPU is as after
 * a reset (SDM "Processor State After Reset"), and KVM tells through its struct
 * kvm_run why it stopped.
 */
static void create_vm(struct vm *vm)
{
	size_t size;

	vm->sys_fd = (int)MUST(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	if (KVM(vm->sys_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		errx(STATUS_HOST, "KVM_GET_API_VERSION: not the known one");
	vm->fd = (int)KVM(vm->sys_fd, KVM_CREATE_VM, 0);
	/*
	 * Intel CPUs that cannot run real mode as a guest run it as a virtual
	 * 8086 task, and KVM puts the three pages which that takes here: just
	 * below the BIOS of a PC, and above all RAM that we may have.
	 */
	KVM(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	create_ram(vm);
	vm->vcpu_fd = (int)KVM(vm->fd, KVM_CREATE_VCPU, 0);
	size = (size_t)KVM(vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	MUST(vm->kvm_run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
				vm->vcpu_fd, 0));
	/* The built-in guests do without, for the two calls are slow. */
	if (vm->path)
		copy_cpuid(vm);
	/* --trace and --step show every exit, so they switch this off. */
	if (vm->coalesce && !vm->trace && !vm->step)
		coalesce_console(vm);
	/* The CPU's file keeps the machine alive, and is all that we need. */
	close(vm->sys_fd);
	close(vm->fd);
}

/*
 * From guest virtual to host virtual address, the way the guest's own page
 * tables go if it has paging. Returns where we find what is at a linear address
 * of the guest's, valid to the end of its page; NULL if no RAM is there. This
 * takes microseconds: call it once a page, not once a byte.
 */
static u8 *translate(struct vm *vm, u64 linear)
{
	struct kvm_translation tr = { .linear_address = linear };

	KVM(vm->vcpu_fd, KVM_TRANSLATE, &tr);
	if (!tr.valid || tr.physical_address >= vm->mem_size)
		return NULL;
	return vm->mem + tr.physical_address;
}

/*
 * Copy len bytes from a linear address of the guest's, or to it. Returns how
 * many: fewer where there is no RAM.
 */
#define read_guest(vm, linear, to, len) \
	copy_guest(vm, linear, (u8 *)(to), len, false)
#define write_guest(vm, linear, from, len) \
	copy_guest(vm, linear, (u8 *)(from), len, true)

static size_t copy_guest(struct vm *vm, u64 linear, u8 *data, size_t len,
			 bool write)
{
	size_t done = 0, n;

	for (; done < len; done += n, data += n) {
		u8 *host = translate(vm, linear + done);

		if (!host)
			break;
		n = PAGE_SIZE - (linear + done) % PAGE_SIZE; /* to its end */
		if (n > len - done)
			n = len - done;
		memcpy(write ? host : data, write ? data : host, n);
	}
	return done;
}

/* ====================================================================== 5 ===
 * Modes: tables in guest memory, registers
 *
 * A PC starts in real mode, and its boot code climbs to long mode step by step.
 * KVM lets us skip the climb: build the tables in guest memory, then set the
 * registers to what they would be at the end of it. What these are is data, a
 * row for each mode; enter_mode() makes it true.
 */

/* The built-in guests, linked in as bytes: see images.o in the Makefile. */
extern const u8 guest16[], guest16_end[];
extern const u8 guest32[], guest32_end[];
extern const u8 guest64[], guest64_end[];

struct mode {
	int option;                  /* on the command line */
	unsigned bits;               /* of a register */
	const char *name, *rax;      /* the latter is what it calls RAX */
	const u8 *guest, *guest_end; /* the built-in guest */
	void (*map)(struct vm *vm);  /* builds page tables; NULL: none */
	u64 code;                    /* CS's descriptor */
	u64 cr0, cr4, efer;
};

/*
 * 32-bit paging with pages of 4 MiB (SDM "32-Bit Paging"): bits 31..22 of an
 * address choose an entry of the one page directory, and the other 22 are the
 * offset in the page.
 *
 *	CR3 -> page directory [0] -> 0x000000 .. 0x3fffff
 *			      [1] -> 0x400000 .. 0x7fffff   and so on
 *
 * The last page may reach beyond the end of RAM, where nothing is.
 */
static void map_paged(struct vm *vm)
{
	u32 *pd = (void *)(vm->mem + PML4);

	for (u32 i = 0; (u64)i << 22 < vm->mem_size; i++)
		pd[i] = i << 22 | PDE64_PRESENT | PDE64_RW | PDE64_USER |
			PDE64_PS;
}

/*
 * Long mode, the 64-bit one, with pages of 2 MiB (SDM "4-Level Paging"): bits
 * 47..39 of an address choose an entry of the PML4, bits 38..30 one of the
 * PDPT, bits 29..21 one of a page directory, and the other 21 are the offset.
 *
 *	CR3 -> pml4 [0] -> pdpt [0] -> pd [0] -> 0x000000 .. 0x1fffff
 *					  [1] -> 0x200000 .. 0x3fffff
 *				[1] -> pd + 512, for the second GiB, and so on
 *
 * The page directories lie in a row, so that one index reaches all.
 */
static void map_long(struct vm *vm)
{
	const u64 flags = PDE64_PRESENT | PDE64_RW | PDE64_USER;
	u64 *pml4 = (void *)(vm->mem + PML4);
	u64 *pdpt = (void *)(vm->mem + PDPT);
	u64 *pd = (void *)(vm->mem + PD);

	pml4[0] = PDPT | flags;
	for (u64 i = 0; i << 30 < vm->mem_size; i++)
		pdpt[i] = (PD + i * PAGE_SIZE) | flags;
	for (u64 i = 0; i << 21 < vm->mem_size; i++)
		pd[i] = i << 21 | flags | PDE64_PS;
}

/*
 * CR0 (SDM 2.5). PE: protected mode. ET: fixed to 1. NE: x87 errors are
 * exceptions, and not interrupts of a controller that is not there. PG: paging.
 * WP: read-only pages are so for ring 0, too. MP and AM change nothing until a
 * guest sets CR0.TS, or RFLAGS.AC in ring 3; kernels have them on.
 */
#define CR0_PROTECTED (X86_CR0_PE | X86_CR0_ET | X86_CR0_NE)
#define CR0_PAGED \
	(CR0_PROTECTED | X86_CR0_PG | X86_CR0_WP | X86_CR0_MP | X86_CR0_AM)

/*
 * CR4 (SDM 2.5). PSE: heed PDE64_PS in 32-bit paging. PAE: entries of 64 bits,
 * which long mode has. The others allow SSE, which compilers use in 64-bit
 * code. In real mode CR0 stays as it is after a reset. (When no mode is chosen,
 * the first three rows are for flat images, 32-bit and 64-bit ELF files.)
 */
/* clang-format off */
static const struct mode modes[] = {
	{ 'r', 16, "real mode", "AX", guest16, guest16_end, NULL,
	  CODE16, 0, 0, 0 },
	{ 's', 32, "protected mode", "EAX", guest32, guest32_end, NULL,
	  CODE32, CR0_PROTECTED, 0, 0 },
	{ 'l', 64, "long mode", "RAX", guest64, guest64_end, map_long,
	  CODE64, CR0_PAGED,
	  X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT,
	  EFER_LME | EFER_LMA },
	{ 'p', 32, "32-bit paging", "EAX", guest32, guest32_end, map_paged,
	  CODE32, CR0_PAGED, X86_CR4_PSE, 0 },
};
/* clang-format on */

/*
 * Where exceptions lead: vector v to the stub at STUBS + 4 * v, whose OUT is an
 * exit. Where it comes from tells which exception it was, and the frame that
 * the CPU has pushed tells the rest: chapter 8. Without a handler an exception
 * would become a double, then a triple fault, which tells nothing.
 */
#define STUB 0xfcebeee6u /* e6 ee: out %al, $0xee; eb fc: jmp back to it */

/* The size of an entry of the IDT, or of the IVT, by the CPU's mode. */
static u32 gate_size(const struct kvm_sregs *sregs)
{
	if (!(sregs->cr0 & X86_CR0_PE))
		return 4;
	return sregs->efer & EFER_LMA ? 16 : 8;
}

/*
 * Write the stubs, and the table that leads there: in real mode segment 0 and
 * an offset for each vector, else gates. The upper halves of long mode's gates
 * are zero, as all RAM is at first.
 */
static void build_idt(struct vm *vm, struct kvm_sregs *sregs)
{
	u32 size = gate_size(sregs);
	u64 base = size == 4 ? IVT : IDT, gates = size == 4 ? 0 : GATE;
	u32 *stubs = (void *)(vm->mem + STUBS);

	for (u32 v = 0; v < 256; v++) {
		u64 gate = gates | (STUBS + 4 * v);

		stubs[v] = STUB;
		memcpy(vm->mem + base + v * size, &gate, size == 4 ? 4 : 8);
	}
	sregs->idt.base = base;
	sregs->idt.limit = (u16)(256 * size - 1);
}

/*
 * A GDT with one code and one data segment, and the segment registers as if
 * loaded from it. Selector 0 means "no segment", so its entry is never used.
 */
static void build_gdt(struct vm *vm, struct kvm_sregs *sregs)
{
	const u64 gdt[] = { 0, vm->mode->code, DATA };

	memcpy(vm->mem + GDT, gdt, sizeof(gdt));
	sregs->gdt.base = GDT;
	sregs->gdt.limit = sizeof(gdt) - 1;
	sregs->cs = segment(0x08, gdt[1]);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss =
		segment(0x10, gdt[2]);
}

/*
 * KVM_SET_SREGS may succeed without doing all that it was asked (kvm-pvm has no
 * 32-bit paging, and clears CR0.PG). A guest would die of that in ways hard to
 * understand, so read the registers back, and end with STATUS_HOST and the
 * names of the bits that are not as they were set.
 */
static void check_mode(struct vm *vm, const struct kvm_sregs *want)
{
	struct kvm_sregs got;

	KVM(vm->vcpu_fd, KVM_GET_SREGS, &got);
	if (got.cr0 == want->cr0 && got.cr4 == want->cr4 &&
	    got.efer == want->efer)
		return;
	say("%s: this KVM lacks it, for it did not set", vm->mode->name);
	more_bits(" CR0.", cr0_bits, got.cr0 ^ want->cr0);
	more_bits(" CR4.", cr4_bits, got.cr4 ^ want->cr4);
	more_bits(" EFER.", efer_bits, got.efer ^ want->efer);
	more(" as asked: try another mode, or kvm_intel or kvm_amd\n");
	exit(STATUS_HOST);
}

/* Have KVM_RUN return also for debugging: after steps, or at breakpoints. */
static void set_debug(struct vm *vm, u32 control)
{
	struct kvm_guest_debug debug = { .control = control };

	debug.control |= KVM_GUESTDBG_ENABLE;
	KVM(vm->vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

/*
 * Put the CPU into its mode, about to execute the instruction at entry; with
 * --step KVM_RUN will return after each one.
 */
static void enter_mode(struct vm *vm, u64 entry)
{
	const struct mode *mode = vm->mode;
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = entry,
		.rsp = mode->bits > 16 ? vm->mem_size : IMAGE,
		.rflags = X86_EFLAGS_FIXED, /* and IF clear: no interrupts */
	};

	KVM(vm->vcpu_fd, KVM_GET_SREGS, &sregs);
	/* After a reset CS is the BIOS's: selector f000, base ffff0000. */
	sregs.cs = segment(0, mode->code);
	if (mode->bits > 16) {
		sregs.cr0 = mode->cr0;
		sregs.cr4 = mode->cr4;
		sregs.efer = mode->efer;
		build_gdt(vm, &sregs);
	}
	if (mode->map) {
		mode->map(vm);
		sregs.cr3 = PML4;
	}
	build_idt(vm, &sregs);
	KVM(vm->vcpu_fd, KVM_SET_SREGS, &sregs);
	check_mode(vm, &sregs);
	KVM(vm->vcpu_fd, KVM_SET_REGS, &regs);
	if (vm->step)
		set_debug(vm, KVM_GUESTDBG_SINGLESTEP);
}

/* ====================================================================== 6 ===
 * Images: built-in, flat file, ELF file
 *
 * A flat image is copied to guest physical address 0x8000 and entered at its
 * first byte. An ELF file says itself which of its parts belong where, and
 * where it wants to be entered. Either must keep off the tables, and off the
 * stack of at least 4 KiB at the end of RAM; in real mode the stack is below
 * the image, but a 16-bit offset reaches no further than 64 KiB.
 *
 * A file may say anything, so its numbers are checked before they are used, and
 * in a way that cannot overflow: whether a + b <= c, as a <= c && b <= c - a.
 */

/* End with STATUS_USAGE and a message about the image. */
#define bad_image(vm, format, ...) \
	errx(STATUS_USAGE, "%s: " format, (vm)->path, ##__VA_ARGS__)

/* Where the image must end. With no mode yet a flat one is for real mode. */
static u64 image_limit(const struct vm *vm)
{
	bool real = vm->mode ? vm->mode->bits == 16 : !vm->elf;

	return real ? REAL_END : vm->mem_size - STACK_ROOM;
}

/* End because size bytes at an address go beyond it, and say what would do. */
static void too_large(const struct vm *vm, u64 address, u64 size)
{
	u64 end = image_limit(vm), most = MOST_RAM - STACK_ROOM;
	u64 ram = (address + size + STACK_ROOM + 0xfffff) >> 20; /* in MiB */

	if (end == REAL_END || address > most || size > most - address)
		bad_image(vm, "%llu bytes at 0x%llx, beyond %s", size, address,
			  end == REAL_END ? "real mode: try -s, -l" : "3 GiB");
	bad_image(vm, "%llu bytes at 0x%llx, RAM ends at 0x%llx: -m %lluM %s",
		  size, address, vm->mem_size, ram,
		  address > end ? "would do, or link lower (--build-id=none?)"
				: "would do");
}

/*
 * Read the image's file to its end; it may be a pipe. Ends when it is larger
 * than what can be loaded. For an ELF file that is a guess: it may have debug
 * information that is not loaded, but not more than 64 MiB of it.
 */
static void read_image(struct vm *vm)
{
	FILE *file = fopen(vm->path, "re");
	struct stat st = { 0 };
	size_t room = 0; /* a multiple of BUFSIZ, as what was read before */

	while (file && !feof(file) && !ferror(file)) {
		if (vm->image_size == room)
			vm->image = realloc(vm->image, room += room + BUFSIZ);
		if (!vm->image)
			host_error("realloc");
		vm->image_size +=
			fread(vm->image + vm->image_size, 1, BUFSIZ, file);
		if (vm->image_size > EI_CLASS &&
		    !memcmp(vm->image, ELFMAG, SELFMAG))
			vm->elf = vm->image[EI_CLASS] == ELFCLASS64 ? 64 : 32;
		if (vm->image_size <= (vm->elf ? vm->mem_size + (64 << 20)
					       : image_limit(vm) - IMAGE))
			continue;
		if (!fstat(fileno(file), &st) && st.st_size)
			too_large(vm, IMAGE, (u64)st.st_size);
		bad_image(vm, "it does not fit below 0x%llx: see --memory",
			  image_limit(vm));
	}
	if (!file || ferror(file))
		err(STATUS_USAGE, "%s", vm->path);
	if (vm->image_size == 0)
		bad_image(vm, "the file is empty");
	fclose(file);
}

/*
 * Get the image: the file that was named, or else the mode's built-in guest.
 * Choose the mode if none is: an ELF file's class says it, and everything else
 * runs in real mode.
 */
static void choose_image(struct vm *vm)
{
	if (vm->path)
		read_image(vm);
	vm->guessed = !vm->mode && !vm->elf;
	if (!vm->mode)
		vm->mode = &modes[vm->elf / 32]; /* row 0, 1 or 2 */
	if (!vm->path) {
		vm->image = (u8 *)vm->mode->guest; /* only read */
		vm->image_size = (size_t)(vm->mode->guest_end - vm->image);
	}
}

/*
 * Copy size bytes at an offset in the image to a guest physical address, where
 * they have room for more; the rest of it stays zero, as all RAM is at first.
 * Ends with STATUS_USAGE if they are not there, or do not fit in there.
 */
static void load_part(struct vm *vm, u64 address, u64 room, u64 offset,
		      u64 size)
{
	struct region *image = &vm->map[ROW_IMAGE], *above = image + 1;
	u64 start = vm->mode->bits == 16 ? IMAGE : REAL_STACK;
	u64 end = image_limit(vm);

	if (size > room || offset > vm->image_size ||
	    size > vm->image_size - offset)
		bad_image(vm, "a segment is truncated");
	if (address < start)
		bad_image(
			vm,
			"its address 0x%llx is below 0x%llx, the tables' end: "
			"link it with ld -n, or -Ttext-segment=0x10000",
			address, start);
	if (address > end || room > end - address)
		too_large(vm, address, room);
	memcpy(vm->mem + address, vm->image + offset, size);
	if (address < image->start)
		image->start = address;
	if (address + room > above->start)
		above->start = address + room;
}

/* A field of an ELF structure (Ehdr or Phdr), of whichever class it is. */
#define ELF(vm, type, p, field) \
	((vm)->elf == 64 ? ((const Elf64_##type *)(p))->field \
			 : ((const Elf32_##type *)(p))->field)

/*
 * See that an ELF file is a program for this CPU in this mode, and that its
 * program headers are all there, where they can be read.
 */
static void check_elf(const struct vm *vm)
{
	const u8 *eh = vm->image;
	bool is64 = vm->elf == 64;
	u64 offset = ELF(vm, Ehdr, eh, e_phoff);
	u64 size = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (ELF(vm, Ehdr, eh, e_machine) != (is64 ? EM_X86_64 : EM_386))
		bad_image(vm, "it is for another machine than x86");
	if (is64 != (vm->mode->bits == 64))
		bad_image(vm, "a %u-bit file cannot run in %s", vm->elf,
			  vm->mode->name);
	if (ELF(vm, Ehdr, eh, e_type) == ET_DYN)
		bad_image(vm, "it is a (static) PIE: link it with -no-pie");
	if (ELF(vm, Ehdr, eh, e_type) != ET_EXEC)
		bad_image(vm, "it is not a linked program");
	if (ELF(vm, Ehdr, eh, e_phentsize) != size || offset % (vm->elf / 8) ||
	    offset > vm->image_size ||
	    ELF(vm, Ehdr, eh, e_phnum) * size > vm->image_size - offset)
		bad_image(vm, "its program headers are truncated");
}

/* Put the image into guest memory. Returns the address to enter it at. */
static u64 load_image(struct vm *vm)
{
	const u8 *eh = vm->image, *ph = eh;
	u64 entry, count;

	memcpy(vm->map, memory_map, sizeof(vm->map));
	vm->map[ROW_IMAGE].start = vm->map[ROW_END].start = vm->mem_size;
	if (!vm->elf) {
		load_part(vm, IMAGE, vm->image_size, 0, vm->image_size);
		return IMAGE;
	}
	if (vm->image_size < sizeof(Elf64_Ehdr))
		bad_image(vm, "its ELF header is truncated");
	check_elf(vm);
	entry = ELF(vm, Ehdr, eh, e_entry);
	count = ELF(vm, Ehdr, eh, e_phnum);
	ph += ELF(vm, Ehdr, eh, e_phoff);
	for (; count > 0; count--, ph += ELF(vm, Ehdr, eh, e_phentsize))
		if (ELF(vm, Phdr, ph, p_type) == PT_LOAD &&
		    ELF(vm, Phdr, ph, p_memsz) > 0)
			load_part(vm, ELF(vm, Phdr, ph, p_paddr),
				  ELF(vm, Phdr, ph, p_memsz),
				  ELF(vm, Phdr, ph, p_offset),
				  ELF(vm, Phdr, ph, p_filesz));
	if (entry < vm->map[ROW_IMAGE].start ||
	    entry >= vm->map[ROW_ABOVE].start)
		bad_image(vm, "its entry, 0x%llx, is in no segment", entry);
	return entry;
}

/* ====================================================================== 7 ===
 * Ports: what the guest's I/O instructions reach
 *
 * IN and OUT leave the guest (KVM_EXIT_IO). KVM has put the bytes that an OUT
 * wrote into the shared kvm_run, and takes what an IN reads from there. To add
 * a hypercall, write a function and give it a row in the table. It gets the 1,
 * 2 or 4 bytes of one access, to read them or to fill them. If its row has
 * several ports, vm->kvm_run->io.port says which it was. It may call printf():
 * what it prints appears in order with the guest's own output. read_guest() and
 * write_guest() reach what a pointer of the guest's points to.
 */

/* Take the bytes, lowest first, as output. */
static void console_out(struct vm *vm, u8 *data, u32 size)
{
	for (u32 i = 0; i < size; i++) /* unlocked: there is one thread */
		if (putchar_unlocked(data[i]) == EOF)
			flush_output(); /* which ends with the error */
}

/* "The console is here", as the port says it in Bochs and QEMU. */
static void console_in(struct vm *vm, u8 *data, u32 size)
{
	memset(data, 0xE9, size);
}

/* Stop, with the exit status that QEMU's isa-debug-exit makes of the value. */
static void exit_out(struct vm *vm, u8 *data, u32 size)
{
	vm->status = (data[0] << 1 | 1) & 0xff;
}

/* Boot code writes to port 0x80 to pass some time. */
static void delay_out(struct vm *vm, u8 *data, u32 size)
{
}

/*
 * The registers of COM1, a serial port. What is written to the first is output,
 * unless bit 7 of the line control makes it the divisor latch, or bit 4 of the
 * modem control loops it back. Each keeps what is written, and gives it back:
 * so drivers find that the port works. Its transmitter is always empty.
 */
enum { COM1 = 0x3F8, LINE_CONTROL = 3, MODEM_CONTROL, LINE_STATUS };

static void serial_out(struct vm *vm, u8 *data, u32 size)
{
	u32 reg = vm->kvm_run->io.port - COM1;

	vm->com1[reg] = data[0];
	if (reg == 0 && !(vm->com1[LINE_CONTROL] & 0x80) &&
	    !(vm->com1[MODEM_CONTROL] & 0x10))
		console_out(vm, data, size);
}

static void serial_in(struct vm *vm, u8 *data, u32 size)
{
	u32 reg = vm->kvm_run->io.port - COM1;

	data[0] = reg == LINE_STATUS ? 0x60 : vm->com1[reg];
}

/* What handles an access. */
static const struct port {
	u16 port, count; /* the first, and how many there are in a row */
	u8 direction;    /* KVM_EXIT_IO_OUT or KVM_EXIT_IO_IN */
	u8 widest;       /* the most bytes that an access may have */
	void (*handle)(struct vm *vm, u8 *data, u32 size);
} ports[] = {
	{ 0xE9, 1, KVM_EXIT_IO_OUT, 4, console_out },
	{ 0xE9, 1, KVM_EXIT_IO_IN, 4, console_in },
	{ 0xF4, 1, KVM_EXIT_IO_OUT, 4, exit_out },
	{ 0x80, 1, KVM_EXIT_IO_OUT, 4, delay_out },
	{ COM1, 5, KVM_EXIT_IO_OUT, 1, serial_out },
	{ COM1 + 6, 2, KVM_EXIT_IO_OUT, 1, serial_out },
	{ COM1, 8, KVM_EXIT_IO_IN, 1, serial_in },
};

/*
 * Handle an I/O exit: count elements of size bytes each, in a row at
 * data_offset, all for one port. (REP INS gives a count above 1.) Returns false
 * when there is no such port.
 */
static bool handle_io(struct vm *vm)
{
	struct kvm_run *run = vm->kvm_run;
	u8 *data = (u8 *)run + run->io.data_offset;
	const struct port *p = ports, *end = ports + ARRAY_SIZE(ports);

	while (p < end &&
	       (run->io.port < p->port || run->io.port >= p->port + p->count ||
		run->io.direction != p->direction || run->io.size > p->widest))
		p++;
	for (u32 i = 0; p < end && i < run->io.count; i++)
		p->handle(vm, data + i * run->io.size, run->io.size);
	if (ferror_unlocked(stdout))
		flush_output(); /* says why, as long as errno knows it */
	return p < end;
}

/*
 * Take what the ring of --coalesce has. Its indices are shared with the kernel:
 * one that is not within the page, which has room for so many entries, is not
 * used.
 */
static void drain_ring(struct vm *vm)
{
	struct kvm_coalesced_mmio_ring *ring = vm->ring;

	while (ring && ring->first < KVM_COALESCED_MMIO_MAX &&
	       ring->first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
		console_out(vm, ring->coalesced_mmio[ring->first].data, 1);
		__atomic_store_n(&ring->first,
				 (ring->first + 1) % KVM_COALESCED_MMIO_MAX,
				 __ATOMIC_RELEASE);
	}
}

/* ====================================================================== 8 ===
 * Why it died: exceptions, exits, registers
 *
 * When a guest ends otherwise than it should, its author wants to know what
 * happened, where, and how things stood. Here is all that tells it, on stderr.
 */

/* Have KVM copy the registers out. */
static void get_registers(struct vm *vm)
{
	KVM(vm->vcpu_fd, KVM_GET_REGS, &vm->regs);
	KVM(vm->vcpu_fd, KVM_GET_SREGS, &vm->sregs);
}

/* The linear address of the instruction that RIP points to. */
static u64 code_address(const struct vm *vm)
{
	u32 address = (u32)(vm->sregs.cs.base + vm->regs.rip);

	return vm->sregs.cs.l ? vm->regs.rip : address;
}

/* The linear address of the top of the stack. */
static u64 stack_top(const struct vm *vm)
{
	u64 rsp = vm->regs.rsp, base = vm->sregs.ss.base;

	if (vm->sregs.cs.l)
		return rsp;
	return (u32)(base + (vm->sregs.ss.db ? (u32)rsp : (u16)rsp));
}

/*
 * What the memory map has where a linear address leads, or at the address
 * itself if it leads nowhere.
 */
static const char *region_name(struct vm *vm, u64 linear)
{
	u8 *host = translate(vm, linear);
	u64 address = host ? (u64)(host - vm->mem) : linear;
	int i = ROWS;

	while (vm->map[--i].start > address)
		;
	return vm->map[i].name;
}

/* The registers of struct kvm_regs, and the segments of struct kvm_sregs. */
/* clang-format off */
static const char reg_names[18][7] = {
	"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RSP", "RBP", "R8", "R9",
	"R10", "R11", "R12", "R13", "R14", "R15", "RIP", "RFLAGS",
};
static const char segment_names[8][4] = {
	"CS", "DS", "ES", "FS", "GS", "SS", "TR", "LDT",
};
/* clang-format on */

/* Print a register, and the names of its bits that are set. */
static void print_register(const char *name, u64 value, const char *bits)
{
	say("  %-6s %016llx", name, value);
	more_bits(" ", bits, value);
	more("\n");
}

/* Print all registers. */
static void print_registers(const struct vm *vm)
{
	const struct kvm_sregs *s = &vm->sregs;
	const struct kvm_segment *seg = &s->cs; /* cs to ldt, in a row */
	const u64 *regs = &vm->regs.rax;        /* rax to rip, in a row */

	for (int i = 0; i < 17; i += 3) {
		say("  %-3s %016llx", reg_names[i], regs[i]);
		for (int j = i + 1; j < i + 3 && j < 17; j++)
			more("  %-3s %016llx", reg_names[j], regs[j]);
		more("\n");
	}
	print_register("RFLAGS", vm->regs.rflags, rflags_bits);
	for (int i = 0; i < 8; i++)
		say("  %-3s %04x base %08llx limit %08x type %-2u dpl %u%s%s\n",
		    segment_names[i], seg[i].selector, seg[i].base,
		    seg[i].limit, seg[i].type, seg[i].dpl,
		    seg[i].l ? " 64-bit" : "", seg[i].db ? " 32-bit" : "");
	say("  GDT base %08llx limit %04x  IDT base %08llx limit %04x\n",
	    s->gdt.base, s->gdt.limit, s->idt.base, s->idt.limit);
	print_register("CR0", s->cr0, cr0_bits);
	say("  CR2    %016llx  CR3 %016llx\n", s->cr2, s->cr3);
	print_register("CR4", s->cr4, cr4_bits);
	print_register("EFER", s->efer, efer_bits);
}

/* Print where the CPU is, its registers and the top of its stack. */
static void print_state(struct vm *vm)
{
	u64 rip = code_address(vm), sp = stack_top(vm);
	size_t word = vm->sregs.cs.l ? 8 : vm->sregs.cs.db ? 4 : 2;
	u8 bytes[64];
	size_t n = read_guest(vm, rip, bytes, 15); /* the longest instruction */

	say("at address 0x%llx (%s):", rip, region_name(vm, rip));
	for (size_t i = 0; i < n; i++)
		more(" %02x", bytes[i]);
	more("\n");
	print_registers(vm);
	n = read_guest(vm, sp, bytes, 8 * word);
	say("  stack, from 0x%llx up:", sp);
	for (size_t i = 0; i + word <= n; i += word)
		more(" %0*llx", (int)word * 2, number(bytes + i, word));
	more("%s\n", n < 8 * word ? " (no more RAM)" : "");
}

/*
 * The exceptions, as the manual names them (SDM "Exception and Interrupt
 * Vectors").
 */
/* clang-format off */
static const char *const exceptions[] = {
	"#DE divide error", "#DB debug exception", "NMI interrupt",
	"#BP breakpoint (a trap: RIP is after the instruction)",
	"#OF overflow (a trap: RIP is after the instruction)",
	"#BR BOUND range exceeded", "#UD invalid opcode",
	"#NM device not available", "#DF double fault",
	"coprocessor segment overrun", "#TS invalid TSS",
	"#NP segment not present", "#SS stack-segment fault",
	"#GP general protection", "#PF page fault", "reserved",
	"#MF x87 floating-point error", "#AC alignment check",
	"#MC machine check", "#XM SIMD floating-point exception",
	"#VE virtualization exception", "#CP control protection exception",
};
/* clang-format on */

/*
 * Go on with what an exception's error code says (SDM "Error Code"; for #PF
 * "Page-Fault Exceptions").
 */
static void more_error_code(u32 vector, u64 error)
{
	const char *bits =
		vector == PF_VECTOR ? ". . USER RESERVED FETCH" : "EXT IDT LDT";

	more(", error code 0x%llx", error);
	if (vector == PF_VECTOR)
		more(": %s a page that %s", error & 2 ? "write to" : "read of",
		     error & 1 ? "forbids it" : "is not present");
	else
		more(error & 2 ? ": vector 0x%llx" : ": selector 0x%llx",
		     error & 2 ? error >> 3 : error & 0xfff8);
	more_bits(" ", bits, error);
}

/* Does a vector lead to its stub still, or has the guest taken it over? */
static bool leads_to_stub(const struct vm *vm, u64 vector)
{
	u64 base = vm->sregs.cr0 & X86_CR0_PE ? IDT : IVT;
	u64 gate = base + vector * gate_size(&vm->sregs);

	return vm->sregs.idt.base == base &&
	       number(vm->mem + gate, 2) == STUBS + 4 * vector;
}

/*
 * The vector whose stub the CPU is in, or -1. RIP is at the OUT, or after it
 * under kvm-pvm, and so within the stub's four bytes in any case.
 */
static int find_vector(const struct vm *vm)
{
	u64 vector = (code_address(vm) - STUBS) / 4;

	if (vm->kvm_run->exit_reason != KVM_EXIT_IO || vector >= 256 ||
	    vm->kvm_run->io.port != 0xee || !leads_to_stub(vm, vector))
		return -1;
	return (int)vector;
}

/* The vector of the INT n at a linear address; -1 if there is none. */
static int int_at(struct vm *vm, u64 linear)
{
	u8 code[2] = { 0 };

	read_guest(vm, linear, code, 2);
	return code[0] == 0xcd ? code[1] : -1;
}

/* Go on with an INT n if nothing handles it. Returns false if there is none. */
static bool more_int(const struct vm *vm, const char *prefix, int vector)
{
	if (vector < 0 || !leads_to_stub(vm, (u64)vector))
		return false;
	more("%sINT 0x%02x, and %s", prefix, vector,
	     vm->sregs.cr0 & X86_CR0_PE ? "nothing handles it"
					: "there is no BIOS");
	return true;
}

/*
 * The segment that a selector means: in real mode code at 16 times the
 * selector, else what the GDT has there.
 */
static struct kvm_segment find_segment(struct vm *vm, u64 selector)
{
	u64 desc = CODE16 | (selector & 0xffff) << (16 + 4);
	u64 entry = vm->sregs.gdt.base + (selector & 0xfff8);

	if (vm->sregs.cr0 & X86_CR0_PE)
		read_guest(vm, entry, &desc, 8);
	return segment((u16)selector, desc);
}

/*
 * The CPU is in the stub of a vector: put vm->regs and vm->sregs back to where
 * the exception happened, as IRET would, by the frame that it has pushed (SDM
 * "Exception- or Interrupt-Handler Procedures", "64-Bit Mode Stack Frame", and
 * for real mode "Interrupt and Exception Handling"):
 *
 *	SP ->	[error code]	for some exceptions, but not by INT n
 *		RIP, CS, RFLAGS
 *		[RSP, SS]	from another ring, or in long mode
 *
 * Returns whether it was an INT n, which the code before RIP tells. Sets
 * *error_code if there is one.
 */
static bool unwind(struct vm *vm, int vector, u64 *error_code)
{
	u64 word = gate_size(&vm->sregs) / 2; /* by the gate, not by CS */
	u64 frame[6] = { 0 }, *f = frame;
	bool by_int;

	for (int i = 0; i < 6; i++, vm->regs.rsp += word)
		read_guest(vm, stack_top(vm), &frame[i], word);
	by_int = int_at(vm, find_segment(vm, f[1]).base + f[0] - 2) == vector;
	/* #DF, #TS to #PF, #AC and #CP: bits 8, 10 to 14, 17 and 21. */
	if (!by_int && word > 2 && vector < 32 && 0x227d00 >> vector & 1)
		*error_code = *f++;
	vm->regs.rip = f[0];
	vm->sregs.cs = find_segment(vm, f[1]);
	/* What single-stepping sets is KVM's, and not the guest's. */
	vm->regs.rflags = f[2] & ~(vm->step ? X86_EFLAGS_TF : 0);
	vm->regs.rsp -= (u64)(frame + 3 - f) * word;
	if (word == 2)
		vm->regs.rsp &= 0xffff;
	if (word == 8 || (word == 4 && f[1] & 3)) {
		vm->regs.rsp = f[3];
		vm->sregs.ss = find_segment(vm, f[4]);
	}
	return by_int;
}

/* Go on with which exception a vector is, after having unwound it. */
static void more_exception(struct vm *vm, u32 vector)
{
	u64 error_code = 0;

	if (unwind(vm, (int)vector, &error_code)) {
		more_int(vm, "", (int)vector);
		return;
	}
	more("exception %u, %s", vector,
	     vector < ARRAY_SIZE(exceptions) ? exceptions[vector] : "reserved");
	if (vector == PF_VECTOR || error_code)
		more_error_code(vector, error_code);
	if (vector == PF_VECTOR)
		more("; CR2 is 0x%llx (%s)", vm->sregs.cr2,
		     region_name(vm, vm->sregs.cr2));
}

/* Go on with an access. Returns its data; NULL if the exit is not for one. */
static const u8 *more_access(const struct kvm_run *run)
{
	bool io = run->exit_reason == KVM_EXIT_IO;
	bool write = io ? run->io.direction : run->mmio.is_write;
	u32 size = io ? run->io.size : run->mmio.len;
	const u8 *data =
		io ? (const u8 *)run + run->io.data_offset : run->mmio.data;

	if (!io && run->exit_reason != KVM_EXIT_MMIO)
		return NULL;
	more(write ? ": a %u-byte write of 0x%llx to" : ": a %u-byte read from",
	     size, write ? number(data, size) : 0);
	more(" %s 0x%llx", io ? "port" : "address",
	     io ? run->io.port : run->mmio.phys_addr);
	return data;
}

/* Go on with an exit that nothing handles. */
static void more_exit(const struct kvm_run *run)
{
	more("KVM_EXIT_%s (%u)", exit_names[run->exit_reason % 64],
	     run->exit_reason);
	if (more_access(run))
		more(", which is not there");
	if (run->exit_reason == KVM_EXIT_SHUTDOWN)
		more(": triple fault, an exception while the double fault's "
		     "handler was entered (this may show a reset CPU)");
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		more(": the CPU refuses to run in this state, reason 0x%llx",
		     run->fail_entry.hardware_entry_failure_reason);
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		more(run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
			     ? ": KVM cannot emulate an instruction (SSE? "
			       "try -mgeneral-regs-only. INT? not on kvm-pvm)"
			     : ": KVM gave up, suberror %u",
		     run->internal.suberror);
}

/*
 * The guest has stopped: by this signal, or at an exit that nothing handles if
 * it is 0. Leaves the registers in vm->regs and vm->sregs. Returns STATUS_OK if
 * it halted; else says why it stopped and how things stood, and returns the
 * status for that. kvm-pvm gives up at some INTs, and tries others again and
 * again, without ever saying so.
 */
static int report(struct vm *vm, int signal)
{
	u32 reason = vm->kvm_run->exit_reason;

	get_registers(vm);
	if (!signal && reason == KVM_EXIT_HLT)
		return STATUS_OK;
	say("the guest %s: ", signal ? "stopped" : "failed");
	if (signal) /* strsignal() may want to make a system call */
		more(signal == TIME_OVER ? "its time is over (--timeout)"
		     : signal == SIGINT  ? "Interrupt"
					 : "Terminated");
	else if (find_vector(vm) >= 0)
		more_exception(vm, (u32)find_vector(vm));
	else if (reason != KVM_EXIT_INTERNAL_ERROR ||
		 !more_int(vm, "", int_at(vm, code_address(vm))))
		more_exit(vm->kvm_run);
	if (signal)
		more_int(vm, ": ", int_at(vm, code_address(vm)));
	more(vm->guessed ? " (real mode was a guess: -s, -p, -l?)\n" : "\n");
	if (!vm->gdb) /* which would ask itself */
		print_state(vm);
	return signal ? stop_status(signal) : STATUS_GUEST;
}

/* ====================================================================== 9 ===
 * Watching it run: --verbose, --trace, --step, --stats
 *
 * What the options show of a run that goes well.
 */

/* --verbose: draw the memory map, the end of RAM on top. */
static void show_map(const struct vm *vm)
{
	u64 end = vm->mem_size;

	for (int i = ROW_END - 1; i >= 0; i--) {
		if (vm->map[i].start >= end)
			continue;
		say("  +--- 0x%llx\n", end);
		say("  |    %s\n", vm->map[i].name);
		end = vm->map[i].start;
	}
	say("  +--- 0x0\n");
}

/*
 * --verbose: print the way of an address through the page tables, as the CPU
 * walks them: in each an index, which is a part of the address, leads to an
 * entry, which leads to the next one, until PS says that it is a page.
 */
static void show_walk(const struct vm *vm, u64 address)
{
	static const char names[][5] = { "PD", "PDPT", "PML4" };
	bool lma = vm->sregs.efer & EFER_LMA;
	int level = lma ? 2 : 0, shift = lma ? 39 : 22, bits = lma ? 9 : 10;
	u64 entry = vm->sregs.cr3, size = lma ? 8 : 4;

	say("address 0x%llx: CR3 = 0x%llx\n", address, entry);
	for (; !(entry & PDE64_PS); level--, shift -= bits) {
		u64 index = address >> shift & ((1u << bits) - 1);
		u64 table = entry & ~0xfffull;

		entry = number(vm->mem + table + index * size, size);
		say("  %s[%llu] = 0x%llx", names[level], index, entry);
		more_bits(" ", entry_bits, entry & 0xfff);
		more("\n");
	}
	size = 1ull << (shift + bits); /* of the page */
	say("  physical address 0x%llx\n",
	    (entry & ~(size - 1)) + address % size);
}

/* --verbose: show what has been set up, from guest memory and from KVM. */
static void show_machine(struct vm *vm)
{
	get_registers(vm);
	show_map(vm);
	for (u64 i = 0; vm->mode->bits > 16 && i < vm->sregs.gdt.limit; i += 8)
		say("GDT: selector 0x%02llx = %016llx\n", i,
		    number(vm->mem + GDT + i, 8));
	if (vm->mode->map) {
		show_walk(vm, vm->regs.rip);
		show_walk(vm, vm->mem_size - 1);
	}
	print_registers(vm);
}

/*
 * --trace: print the exit, which has been handled: an IN has its data. Of that
 * the first bytes are shown, as characters or as \xNN.
 */
static void print_exit(const struct vm *vm)
{
	const struct kvm_run *run = vm->kvm_run;
	u32 len = run->io.size * run->io.count;
	struct kvm_regs regs;
	const u8 *data;

	KVM(vm->vcpu_fd, KVM_GET_REGS, &regs);
	say("exit %llu: KVM_EXIT_%s, RIP 0x%llx", vm->exited,
	    exit_names[run->exit_reason % 64], regs.rip);
	data = more_access(run);
	if (run->exit_reason == KVM_EXIT_IO) {
		more(", count %u: \"", run->io.count);
		for (u32 i = 0; i < len && i < 16; i++)
			more(data[i] < ' ' || data[i] > '~' ? "\\x%02x" : "%c",
			     data[i]);
		more(len > 16 ? "\"..." : "\"");
	}
	more("\n");
}

/*
 * --step: print the registers that have changed since the last time, and the
 * instruction that comes next; nothing if none has. Leaves the registers in
 * vm->regs. Returns whether that is a HLT in ring 0, where the run has to end:
 * some KVMs step over it, and would not tell of it.
 */
static bool print_step(struct vm *vm)
{
	struct kvm_regs old = vm->regs;
	const u64 *before = &old.rax, *after = &vm->regs.rax;
	u8 code[8] = { 0 };
	size_t n;

	get_registers(vm);
	n = read_guest(vm, code_address(vm), code, sizeof(code));
	if (memcmp(&old, &vm->regs, sizeof(old)) != 0) {
		say("step:");
		for (int i = 0; i < 18; i++)
			if (after[i] != before[i])
				more(" %s=%llx", reg_names[i], after[i]);
		more("; next:");
		for (size_t i = 0; i < n; i++)
			more(" %02x", code[i]);
		more("\n");
	}
	return code[0] == 0xf4 && vm->sregs.ss.dpl == 0;
}

/* --stats: print what the run has cost. */
static void print_stats(const struct vm *vm)
{
	say("KVM_RUN: %llu exits, %.6f s; outside of it: %.6f s\n", vm->exited,
	    vm->run_time, now() - vm->start - vm->run_time);
	for (u32 i = 0; i < 64; i++)
		if (vm->exits[i])
			say("KVM_EXIT_%s: %llu\n", exit_names[i], vm->exits[i]);
}

/* ===================================================================== 10 ===
 * The run loop, its timer and signals, and the locked door
 *
 * KVM_RUN lets the CPU execute the guest until the guest does something that
 * the hypervisor has to handle; then the reason is in kvm_run. We handle it,
 * and run on.
 *
 * A guest that does nothing of the kind is only interrupted by a signal. One
 * that arrives while the guest runs makes KVM_RUN fail with EINTR. One that
 * arrives before that would be lost, so the handler sets immediate_exit, which
 * makes the next KVM_RUN fail in the same way (KVM API, 5, "immediate_exit").
 *
 * Two timers send signals that nobody else does, SIGRTMIN for a tick and
 * TIME_OVER, so that those which this process was started with, like SIGALRM,
 * mean what they mean to any program.
 */

/*
 * The signal that ends the run, 0 until there is one; how many ticks there have
 * been since; and which CPU to interrupt.
 */
static volatile sig_atomic_t stop_signal, overtime;
static struct kvm_run *signal_run;

/*
 * Remember the first signal that ends the run, and interrupt the guest. A
 * second later the run is still not over, because nobody reads its output: end
 * it here, with the status that is due.
 */
static void handle_signal(int number)
{
	if (number != SIGRTMIN && !stop_signal)
		stop_signal = number;
	if (number == SIGRTMIN && stop_signal && ++overtime > NS / TICK)
		_exit(stop_status(stop_signal));
	signal_run->immediate_exit = 1;
}

/* Send a signal after so many nanoseconds, and after each interval; 0: none. */
static void start_timer(int number, u64 ns, long interval)
{
	struct sigevent event = { .sigev_signo = number };
	struct itimerspec spec = { { 0, interval },
				   { (time_t)(ns / NS), (long)(ns % NS) } };
	timer_t timer;

	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(timer_settime(timer, 0, &spec, NULL));
}

/*
 * From here on SIGINT and SIGTERM end the run with a report, unless our parent
 * ignored them, and so does the end of --timeout. Our own signals are
 * unblocked, whatever mask our parent left. signal(3) sets SA_RESTART: a signal
 * cuts no write() short. KVM_RUN fails with EINTR all the same.
 */
static void catch_signals(struct vm *vm)
{
	sigset_t ours = { 0 }; /* none yet */

	signal_run = vm->kvm_run;
	if (MUST(signal(SIGINT, handle_signal)) == (long)SIG_IGN)
		signal(SIGINT, SIG_IGN);
	if (MUST(signal(SIGTERM, handle_signal)) == (long)SIG_IGN)
		signal(SIGTERM, SIG_IGN);
	MUST(signal(SIGRTMIN, handle_signal));
	MUST(signal(TIME_OVER, handle_signal));
	sigaddset(&ours, SIGRTMIN);
	sigaddset(&ours, TIME_OVER);
	sigaddset(&ours, SIGSYS);
	MUST(sigprocmask(SIG_UNBLOCK, &ours, NULL));
	start_timer(SIGRTMIN, TICK, TICK);
	if (vm->timeout)
		start_timer(TIME_OVER, vm->timeout, 0);
}

/*
 * Should a guest ever get control of this process, through a mistake in KVM or
 * here, it finds that the process can do next to nothing: from lock_door()
 * on the kernel refuses any system call but the few that are listed there.
 *
 * The list is a program for a small machine in the kernel, which runs it at
 * each system call (Documentation/userspace-api/seccomp_filter.rst in Linux's
 * source). LOAD loads a field of struct seccomp_data, an argument's low half;
 * IF_EQUAL compares it, and skips as many instructions as it says for either
 * case. What is refused sends SIGSYS, and is not made.
 */
#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, then, other) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, other)
#define ALLOW(value) \
	IF_EQUAL(value, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

/* A system call was refused: say which, and end. */
static void handle_refusal(int number, siginfo_t *info, void *context)
{
	fflush(stdout);
	warnx("refused system call %d: see lock_door()", info->si_syscall);
	_exit(STATUS_HOST);
}

/*
 * Install the filter. The numbers mean these calls only on the 64-bit way into
 * the kernel; those of x32 have another bit, and equal none here. A kernel
 * without seccomp is no error, but is told.
 */
static void install_filter(bool gdb_too)
{
	struct sock_filter code[] = {
		LOAD(arch),
		IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
		REFUSE,
		LOAD(nr),
		IF_EQUAL(SYS_ioctl, 0, 16),
		LOAD(args[1]),
		ALLOW(KVM_RUN), /* first: it is made again and again */
		ALLOW(KVM_GET_REGS),
		ALLOW(KVM_GET_SREGS),
		ALLOW(KVM_TRANSLATE),
		ALLOW(gdb_too ? KVM_SET_REGS : KVM_RUN),
		ALLOW(gdb_too ? KVM_SET_SREGS : KVM_RUN),
		ALLOW(gdb_too ? KVM_SET_GUEST_DEBUG : KVM_RUN),
		REFUSE,
		IF_EQUAL(SYS_write, 0, 6),
		LOAD(args[0]),
		ALLOW(STDOUT_FILENO),
		ALLOW(STDERR_FILENO),
		REFUSE,
		ALLOW(SYS_rt_sigreturn), /* the way back from a handler */
		ALLOW(SYS_exit_group),
		ALLOW(SYS_clock_gettime), /* now(), if the kernel must help */
		ALLOW(-1u), /* no call: how strace -e inject skips one */
		ALLOW(gdb_too ? SYS_poll : -1u),
		IF_EQUAL(gdb_too ? SYS_read : -1u, 0, 4),
		LOAD(args[0]),
		ALLOW(STDIN_FILENO),
		REFUSE,
		REFUSE,
	};
	const struct sock_fprog program = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		warn("the guest is not locked in: seccomp");
}

/*
 * From here on only the calls of the filter can be made. A refused one is named
 * by handle_refusal(): 14 or 20 mostly means that glibc was about to report a
 * memory error.
 */
static void lock_door(bool gdb_too)
{
	const struct sigaction action = { .sa_sigaction = handle_refusal,
					  .sa_flags = SA_SIGINFO };

#ifdef SANITIZE /* sanitizers map memory, and even start a process */
	return;
#endif
	MUST(sigaction(SIGSYS, &action, NULL));
	/* The kernel wants the promise that no setuid program will be run. */
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	install_filter(gdb_too);
}

/*
 * KVM_RUN, counted, and timed for --stats; the loop below and that of chapter
 * 11 both use it. Returns true when the guest has exited, and only then
 * exit_reason means something; false on a signal.
 */
static bool run_vcpu(struct vm *vm)
{
	double before = vm->stats ? now() : 0;
	int ret = ioctl(vm->vcpu_fd, KVM_RUN, 0), error = errno;

	drain_ring(vm); /* what came before the exit, before the exit */
	if (vm->stats)
		vm->run_time += now() - before;
	if (ret < 0 && error == EINTR)
		return false;
	if (ret < 0) {
		flush_output();
		errno = error;
		host_error("KVM_RUN");
	}
	vm->exited++;
	vm->exits[vm->kvm_run->exit_reason % 64]++;
	return true;
}

/*
 * Run the guest to its end. Returns the exit status for that, which is
 * STATUS_OK when it halted.
 */
static int run_guest(struct vm *vm)
{
	struct kvm_run *run = vm->kvm_run;
	bool io;

	while (vm->status < 0) {
		if (vm->step && !run->immediate_exit && print_step(vm))
			return STATUS_OK;
		if (!run_vcpu(vm)) {
			/* In this order, or a signal could be missed. */
			run->immediate_exit = 0;
			flush_output();
			if (stop_signal)
				return report(vm, stop_signal);
			continue;
		}
		io = run->exit_reason == KVM_EXIT_IO && handle_io(vm);
		if (vm->trace)
			print_exit(vm);
		if (!io && !(vm->step && run->exit_reason == KVM_EXIT_DEBUG))
			return report(vm, 0);
		/* To step, let KVM_RUN complete the I/O, and nothing more. */
		if (io && vm->step)
			run->immediate_exit = 1;
	}
	return vm->status;
}

/* ===================================================================== 11 ===
 * gdb
 *
 * gdb can start a program, and debug by its stdin and stdout:
 *
 *	gdb hello.elf -ex 'target remote | ./simple-kvm --gdb hello.elf'
 *
 * It sends packets, $TEXT#XX: XX is the sum of TEXT's bytes in hex. We answer
 * in the same form, with an empty text to what we do not know; then gdb does
 * without it. So it puts INT3 instructions into guest memory for breakpoints.
 * While the guest runs, gdb shows what we send as output, and sends nothing but
 * a byte 3 for ^C. See "Remote Serial Protocol" in gdb's manual.
 */
enum { PACKET = 4096, PART = PACKET / 2, CTRL_C = 3 };

static struct {
	FILE *wire;                                 /* what was stdout */
	char packet[PACKET + 1], reply[PACKET + 2]; /* their texts */
	bool no_ack, interrupt; /* wants no + for a packet; has sent ^C */
	int signal;             /* why the guest has stopped */
} gdb = { .signal = SIGTRAP };

/* The sum of a text's bytes. */
static u8 checksum(const char *text)
{
	u8 sum = 0;

	while (*text)
		sum += (u8)*text++;
	return sum;
}

/* Frame a text, and send it. */
static void send_packet(const char *text)
{
	fprintf(gdb.wire, "$%s#%02x", text, checksum(text));
}

/* Make a reply of at most PART bytes in hex. */
static const char *hex(const char *prefix, const void *data, size_t size)
{
	char *p = stpcpy(gdb.reply, prefix);

	for (const u8 *byte = data; size > 0; size--)
		p += sprintf(p, "%02x", *byte++);
	return gdb.reply;
}

/*
 * Take size bytes in hex; data may be where they are. Returns false, and leaves
 * data alone, if they are not just these.
 */
static bool unhex(const char *text, u8 *data, size_t size)
{
	if (size > PART || text[strspn(text, "0123456789abcdefABCDEF")] ||
	    strlen(text) != 2 * size)
		return false;
	for (; size > 0; size--, text += 2)
		*data++ =
			(u8)strtoul((char[]){ text[0], text[1], 0 }, NULL, 16);
	return true;
}

/*
 * See whether gdb sends a ^C, or has gone. (A file that ends has not.) The +
 * for our packets are dropped, lest they fill the wire; a packet is left.
 */
static void poll_input(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	int c;

	do {
		poll(&in, 1, 0);
		c = in.revents & POLLIN ? getchar() : EOF;
		gdb.interrupt |= c == CTRL_C || in.revents & POLLHUP;
	} while (c == '+' || c == CTRL_C);
	ungetc(c, stdin); /* which does nothing with EOF */
}

/*
 * Wait for a packet. A ^C here has come too late for a step that is over, and
 * is for the next one. Returns false when gdb has gone, or sends nonsense.
 */
static bool read_packet(void)
{
	char sum[3], *p = gdb.packet;
	int c;

	while ((c = getchar()) != '$' && c != EOF)
		gdb.interrupt |= c == CTRL_C;
	while ((c = getchar()) != '#' && c != EOF && p < gdb.packet + PACKET)
		*p++ = (char)c;
	*p = 0;
	if (c != '#' || !fgets(sum, sizeof(sum), stdin) ||
	    strtoul(sum, NULL, 16) != checksum(gdb.packet))
		return false;
	if (!gdb.no_ack)
		putc('+', gdb.wire);
	return true;
}

/* What is written to stdout: have gdb print it. */
static ssize_t write_output(void *cookie, const char *data, size_t size)
{
	for (size_t done = 0, n; done < size; done += n) {
		n = size - done < PART ? size - done : PART;
		poll_input();
		send_packet(hex("O", data + done, n));
	}
	return ferror(gdb.wire) ? 0 : (ssize_t)size;
}

/*
 * Have gdb print something of ours as well. It would do so with stderr, but may
 * not read that for a long time, and let it fill.
 */
static void print_in_gdb(const struct vm *vm, void (*print)(const struct vm *))
{
	FILE *saved = stderr;

	stderr = stdout;
	print(vm);
	stderr = saved;
	flush_output();
}

/*
 * Make stdin and stdout the wire, on which each byte that waits can be polled;
 * and give the guest another stdout. Ends with STATUS_USAGE if this cannot be.
 */
static void open_gdb(const struct vm *vm)
{
	const cookie_io_functions_t functions = { .write = write_output };

	if (vm->step || vm->timeout || isatty(0) || isatty(1))
		errx(STATUS_USAGE,
		     "--gdb is not for terminals, --step or --timeout: type\n"
		     "gdb %s -ex 'target remote | %s --gdb -%c %s'",
		     vm->elf ? vm->path : "", program_invocation_name,
		     vm->mode->option, vm->path ? vm->path : "");
	gdb.wire = stdout;
	setvbuf(gdb.wire, NULL, _IONBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	stdout = fopencookie(NULL, "w", functions);
	open_output(); /* for the new one */
}

/*
 * Copy the registers out for gdb, or in. The letters are their order: a for RAX
 * and so on, as struct kvm_regs has them, and then for CS as struct kvm_sregs
 * has it. Returns their size in bytes; 0, if a segment is to change.
 */
static size_t copy_registers(struct vm *vm, u8 *data, bool in)
{
	bool is64 = vm->mode->bits == 64;
	const char *order = is64 ? "abcdefhgijklmnopqr" : "acdbghefqr";

	for (size_t size; *order; order++, data += size) {
		void *reg = &vm->regs.rax + (*order - 'a');

		size = is64 && *order != 'r' ? 8 : 4; /* r is RFLAGS */
		memcpy(in ? reg : data, in ? data : reg, size);
	}
	for (order = "afbcde"; *order; order++, data += 4) {
		u32 selector = (&vm->sregs.cs + (*order - 'a'))->selector;

		if (in && number(data, 4) != selector)
			return 0;
		memcpy(data, &selector, 4);
	}
	return is64 ? 17 * 8 + 7 * 4 : 16 * 4;
}

/* m and M, from the address on: read memory, as far as it goes, or write it. */
static const char *access_memory(struct vm *vm, char *p, bool write)
{
	u8 *data = (u8 *)gdb.packet; /* p has been read when this is written */
	u64 address = strtoull(p, &p, 16);
	size_t size = *p == ',' ? strtoull(p + 1, &p, 16) : 0;

	if (!write)
		size = read_guest(vm, address, data, size < PART ? size : PART);
	else if (*p != ':' || !unhex(p + 1, data, size) ||
		 write_guest(vm, address, data, size) != size)
		return "E01";
	return write ? "OK" : size ? hex("", data, size) : "E01";
}

/*
 * The guest has left KVM_RUN, and cannot just go on. Returns the signal that it
 * would be of a program. It has a status if it has halted, and is put back to
 * where an exception was. A breakpoint's INT3 is an exit of its own, or under
 * kvm-pvm an internal error, or an exception; in any case RIP is then after it.
 */
static int find_signal(struct vm *vm)
{
	struct kvm_run *run = vm->kvm_run;
	u32 reason = run->exit_reason;
	int v, signal = SIGTRAP;
	u64 code = 0, unused;

	get_registers(vm);
	read_guest(vm, code_address(vm), &code, 1);
	v = find_vector(vm);
	if (v == DB_VECTOR || v == BP_VECTOR) {
		unwind(vm, v, &unused);
	} else if (code == 0xcc && (reason == KVM_EXIT_INTERNAL_ERROR ||
				    (reason == KVM_EXIT_DEBUG &&
				     run->debug.arch.exception == BP_VECTOR))) {
		vm->regs.rip++;
	} else if (reason != KVM_EXIT_DEBUG) {
		signal = v == UD_VECTOR ? SIGILL : SIGSEGV;
		if (v == DE_VECTOR || v == MF_VECTOR || v == XM_VECTOR)
			signal = SIGFPE;
		if (report(vm, 0) == STATUS_OK)
			vm->status = STATUS_OK;
	}
	if (v >= 0) { /* let KVM complete the stub's OUT first */
		run->immediate_exit = 1;
		run_vcpu(vm);
		KVM(vm->vcpu_fd, KVM_SET_SREGS, &vm->sregs);
	}
	KVM(vm->vcpu_fd, KVM_SET_REGS, &vm->regs);
	return signal;
}

/*
 * Run the guest until it stops, or one instruction of it. Returns the signal,
 * but if it has a status now, that is its end.
 */
static int run_in_gdb(struct vm *vm, bool step)
{
	struct kvm_run *run = vm->kvm_run;
	bool io, done = false;
	u8 code = 0;

	/* Some KVMs step over a HLT, and would not tell of it. */
	read_guest(vm, code_address(vm), &code, 1);
	if (step && code == 0xf4 && vm->sregs.ss.dpl == 0)
		vm->status = STATUS_OK;
	while (vm->status < 0) {
		/* Complete the I/O, if there was any, and nothing more. */
		if (done || gdb.interrupt)
			run->immediate_exit = 1;
		if (run_vcpu(vm)) {
			io = run->exit_reason == KVM_EXIT_IO && handle_io(vm);
			if (vm->trace)
				print_in_gdb(vm, print_exit);
			if (!io)
				return find_signal(vm);
			done = step;
			continue;
		}
		run->immediate_exit = 0; /* in this order, as in run_guest() */
		flush_output();
		poll_input();
		if (stop_signal)
			vm->status = report(vm, stop_signal);
		if (done || gdb.interrupt)
			break;
	}
	return gdb.interrupt ? SIGINT : SIGTRAP;
}

/* Tell how the guest stopped (S), ended (W), or was ended (X). */
static const char *stopped(char how, int code)
{
	flush_output();
	sprintf(gdb.reply, "%c%02x", how, (u8)code);
	return gdb.reply;
}

/*
 * c and s, continue and step; C and S with a signal. There is nothing in the
 * guest to take one, so it ends, as a program without a handler does.
 */
static const char *resume(struct vm *vm, const char *p)
{
	bool step = *p == 's' || *p == 'S';

	if (strtoul(p + 1, NULL, 16) != 0) {
		vm->status = STATUS_GUEST;
		return stopped('X', gdb.signal);
	}
	set_debug(vm, KVM_GUESTDBG_USE_SW_BP |
			      (step ? KVM_GUESTDBG_SINGLESTEP : 0));
	gdb.signal = run_in_gdb(vm, step);
	gdb.interrupt &= gdb.signal != SIGINT;
	return vm->status < 0 ? stopped('S', gdb.signal)
			      : stopped('W', vm->status);
}

/* Returns the reply to a packet. */
static const char *answer(struct vm *vm, char *p)
{
	static const char *const xml[] = {
		"l<target><architecture>i8086</architecture></target>",
		"l<target><architecture>i386</architecture></target>",
		"l<target><architecture>i386:x86-64</architecture></target>",
	};
	u8 *data = (u8 *)gdb.reply;
	size_t size;

	get_registers(vm);
	size = copy_registers(vm, data, false);
	if (*p == '?')
		return stopped('S', gdb.signal);
	if (*p == 'g')
		return hex("", memcpy(p, data, size), size);
	if (*p == 'G' &&
	    (!unhex(p + 1, data, size) || !copy_registers(vm, data, true)))
		return "E01";
	if (*p == 'm' || *p == 'M')
		return access_memory(vm, p + 1, *p == 'M');
	if (*p == 'C' || *p == 'S' || !strcmp(p, "c") || !strcmp(p, "s"))
		return resume(vm, p);
	if (!strncmp(p, "qSupported", 10))
		return "PacketSize=1000;QStartNoAckMode+;qXfer:features:read+";
	if (!strncmp(p, "qXfer:features:read:target.xml:0,", 33))
		return xml[vm->mode->bits / 32];
	if (*p == 'G')
		KVM(vm->vcpu_fd, KVM_SET_REGS, &vm->regs);
	else if (*p == 'D') /* detach: as if gdb had gone */
		vm->status = STATUS_SIGNAL + SIGHUP;
	else if (!strcmp(p, "QStartNoAckMode"))
		gdb.no_ack = true;
	else if (!strncmp(p, "qRcmd,", 6)) /* `monitor' and any word */
		print_in_gdb(vm, print_registers);
	else
		return "";
	return "OK";
}

/*
 * Serve gdb until the guest ends, or gdb goes. Returns the exit status: in the
 * latter case as if a terminal had gone.
 */
static int serve_gdb(struct vm *vm)
{
	while (vm->status < 0 && read_packet() && *gdb.packet != 'k')
		send_packet(answer(vm, gdb.packet));
	while (!gdb.no_ack && getchar() != EOF)
		; /* gdb would complain if its last + had no reader */
	return vm->status < 0 ? STATUS_SIGNAL + SIGHUP : vm->status;
}

/* ===================================================================== 12 ===
 * The verdict and the command line
 */

/*
 * A built-in guest has halted: see whether 42 is where it should be, and say
 * so. Returns the exit status for that.
 */
static int check(struct vm *vm)
{
	size_t size = vm->mode->bits / 8; /* what the mode's guest writes */
	u64 rax = number(&vm->regs.rax, size);
	u64 memval = number(vm->mem + RESULT, size);
	bool right = rax == 42 && memval == 42;

	say("%s: %s is %llu, memory at 0x%x is %llu: %s\n", vm->mode->name,
	    vm->mode->rax, rax, RESULT, memval,
	    right ? "as expected" : "wrong, 42 was expected in both");
	return right ? STATUS_OK : STATUS_GUEST;
}

/* A guest has halted without a word: say the likeliest cause, if any. */
static void explain_halt(const struct vm *vm)
{
	if (vm->regs.rflags & X86_EFLAGS_IF)
		say("the guest waits for an interrupt: none ever comes\n");
	else if (vm->image_size == 512 && number(vm->image + 510, 2) == 0xaa55)
		say("no output: boot sectors want address 0x7c00 and a BIOS\n");
	else if (vm->guessed)
		say("no output: real mode was a guess; try -s, -p or -l\n");
}

/* A time in seconds, with a fraction if one likes; returns nanoseconds. */
static u64 parse_seconds(const char *text, struct argp_state *state)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds > 0 && seconds <= 1e9))
		argp_error(state, "--timeout takes seconds above 0, like 0.5");
	return (u64)(seconds * 1e9) + 1; /* never 0 */
}

/* A size that RAM can have, in bytes, or with suffix K, M or G. */
static u64 parse_size(const char *text, struct argp_state *state)
{
	char *end;
	u64 size = strtoull(text, &end, 10); /* the largest if it overflows */
	const char *suffix = *end ? strchr("KMG", *end) : NULL;

	if (suffix && end++ && size <= MOST_RAM)
		size <<= 10 * (suffix - "KMG" + 1);
	if (*end || size < 1 << 20 || size > MOST_RAM || size % PAGE_SIZE)
		argp_error(state, "--memory takes 1M to 3G, a multiple of 4K");
	return size;
}

/*
 * Options without a letter, by numbers that are no character's. A new option
 * takes a row in the table, a line in parse_option(), and a field of struct vm.
 */
enum { TRACE = 256, STEP, STATS, GDB };

static const struct argp_option options[] = {
	{ "real", 'r', NULL, 0, "Real mode: the default of flat images", 0 },
	{ "protected", 's', NULL, 0, "Protected mode", 0 },
	{ "paged", 'p', NULL, 0, "Protected mode with 32-bit paging", 0 },
	{ "long", 'l', NULL, 0, "Long mode, the 64-bit one", 0 },
	{ "memory", 'm', "SIZE", 0, "Guest RAM: 1M to 3G; else 2M", 1 },
	{ "timeout", 't', "SEC", 0, "Stop the guest after SEC seconds", 1 },
	{ "coalesce", 'c', NULL, 0, "Let KVM collect output in batches", 1 },
	{ "verbose", 'v', NULL, 0, "Tell what is set up, and how", 1 },
	{ "trace", TRACE, NULL, 0, "Print every VM exit", 1 },
	{ "step", STEP, NULL, 0, "Print every instruction", 1 },
	{ "stats", STATS, NULL, 0, "Print counts and times at the end", 1 },
	{ "gdb", GDB, NULL, 0, "Serve gdb on stdin and stdout", 1 },
	{ NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0 }, /* as --help */
	{ 0 },
};

/* For argp(3): take one option or argument, whose key this is. */
static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct vm *vm = state->input;
	const struct mode *mode = modes, *end = modes + ARRAY_SIZE(modes);
	bool *flag = key == 'c'     ? &vm->coalesce
		     : key == 'v'   ? &verbose
		     : key == TRACE ? &vm->trace
		     : key == STEP  ? &vm->step
		     : key == STATS ? &vm->stats
		     : key == GDB   ? &vm->gdb
				    : NULL;

	while (mode < end && mode->option != key)
		mode++;
	if (flag)
		*flag = true;
	else if (key == 'm')
		vm->mem_size = parse_size(arg, state);
	else if (key == 't')
		vm->timeout = parse_seconds(arg, state);
	else if (key == 'h')
		argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
	else if (key == ARGP_KEY_ARG && !vm->path)
		vm->path = arg;
	else if (mode == end)
		return ARGP_ERR_UNKNOWN;
	else if (vm->mode && vm->mode != mode)
		argp_error(state, "only one mode can be chosen");
	else
		vm->mode = mode;
	return 0;
}

const char *argp_program_version = "simple-kvm 0.2";

static const struct argp argp = {
	.options = options,
	.parser = parse_option,
	.args_doc = "[IMAGE]",
	.doc = "Run a tiny guest in a virtual machine, and print its output.\v"
	       "IMAGE is an ELF file, which runs in protected or long mode by "
	       "its class, or a flat one, which is loaded and entered at "
	       "0x8000. Without IMAGE the mode's built-in guest runs.\n\n"
	       "Exit status: 0 halted; 1 failed; 2 bad option or image; 3 host "
	       "failed; 124 timeout; 128 + N signal N; 2v + 1 v to port 0xF4.",
};

/* Set up a machine, run the guest in it, and judge what came of it. */
int main(int argc, char *argv[])
{
	static struct vm vm = { .mem_size = RAM_SIZE, .status = -1 };
	int status;

	open_output();
	argp_err_exit_status = STATUS_USAGE;
	argv[0] = program_invocation_short_name; /* as err() begins a line */
	argp_parse(&argp, argc, argv, 0, NULL, &vm);
	vm.start = now();

	choose_image(&vm);
	if (vm.gdb)
		open_gdb(&vm);
	create_vm(&vm);
	enter_mode(&vm, load_image(&vm));
	if (verbose)
		show_machine(&vm);
	verbose = false; /* the set-up ends here */

	catch_signals(&vm);
	lock_door(vm.gdb);
	status = vm.gdb ? serve_gdb(&vm) : run_guest(&vm);
	if (status == STATUS_OK && !vm.path)
		status = check(&vm);
	else if (status == STATUS_OK && !vm.exits[KVM_EXIT_IO] && !vm.ring)
		explain_halt(&vm);
	if (vm.stats)
		print_stats(&vm);
	return status;
}

/*
 * simple-kvm.c - a minimal hypervisor on Linux's KVM API, made to be read.
 *
 * It opens /dev/kvm, gives a virtual machine some RAM, and puts its one virtual
 * CPU into real mode, protected mode (with or without paging) or long mode.
 * Then it runs a small program there, the guest, which prints through an I/O
 * port. A guest is built in for each mode. When that one halts, simple-kvm
 * checks that 42 is in the accumulator and in memory.
 *
 * The file has two parts. The first one is the course. It is a whole
 * hypervisor, to be read from top to bottom. It ends with main(), which is a
 * summary of it: have a look at that first, if you like.
 *
 *	 1. What this is: statuses, the memory map, what comes after main()
 *	 2. x86: page-table entries, segment descriptors
 *	 3. Output: the guest's to stdout, ours to stderr
 *	 4. The virtual machine: /dev/kvm, RAM, the vCPU, the guest's memory
 *	 5. Modes: tables in guest memory, registers
 *	 6. The image: a built-in guest, or a file
 *	 7. Ports: what the guest's IN and OUT reach
 *	 8. The run: the loop around KVM_RUN, the verdict, main()
 *
 * The second part makes it pleasant to use. Each of its chapters stands alone,
 * and can wait until you want to know. The first part calls some of it, and
 * says there what to expect.
 *
 *	 9. Signals and the tick
 *	10. The command line
 *	11. ELF files
 *	12. Why a guest died: exceptions, exits, registers
 *	13. What boot sectors call: BIOS services, the disk, input, the screen
 *	14. Watching it run: --verbose, --trace, --step, --stats
 *	15. Output in batches: --coalesce
 *	16. The locked door: no more system calls but those of a short list
 *	17. gdb
 *
 * "SDM" stands for Intel's Software Developer's Manual, volume 3 unless another
 * is named, and "KVM API" for Documentation/virt/kvm/api.rst in Linux's source.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <asm/processor-flags.h>
#include <ctype.h>
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

/* The kernel's integers, by the short names that it has for them. */
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

/* ====================================================================== 1 ===
 * What this is: statuses, the memory map, what comes after main()
 *
 * Some words first. The hypervisor, this process, is the host. KVM, a part of
 * Linux, lets the CPU execute the guest's instructions directly, until one of
 * them needs the hypervisor: printing a byte, for example. Then the CPU leaves
 * the guest. That is a VM exit. The hypervisor does what is to be done, and
 * lets the guest run on.
 *
 * If anything fails on the host, the process ends at once, with a message that
 * begins with "simple-kvm: ", and with one of these statuses. So no function
 * hands such an error on to its caller, and each can be read straight down.
 * That the guest has failed is no such error: it is what we are here to tell.
 */
enum status {
	STATUS_OK = 0,        /* the guest halted; a built-in one left 42 */
	STATUS_GUEST = 1,     /* the guest failed */
	STATUS_USAGE = 2,     /* a bad option or a bad image */
	STATUS_HOST = 3,      /* KVM or the host failed, or lacks the mode */
	STATUS_TIMEOUT = 124, /* --timeout ran out; timeout(1) has this, too */
	STATUS_SIGNAL = 128, /* plus the number of the signal that stopped us */
};

/*
 * The guest's physical memory, from address 0 up: what lies where, and why. In
 * real mode all from 0x500 to 0xf0000 is free for the guest. The other modes
 * have their tables there. (doc/memory-map.svg is a drawing of this.)
 */
enum layout {
	IVT = 0,              /* real mode's interrupt vectors */
	RESULT = 0x400,       /* the built-in guests store 42 here */
	TICKS = 0x46c,        /* a PC's clock, in real mode */
	GDT = 0x500,          /* null, code (0x08), data (0x10) */
	FREE = 0x600,         /* tells a Multiboot kernel what RAM it has */
	STUBS = 0xc00,        /* an exception handler of 4 bytes a vector */
	IDT = 0x1000,         /* 256 gates; in long mode exactly one page */
	PML4 = 0x2000,        /* CR3 points here; -p: its page directory */
	PDPT = 0x3000,        /* long mode's tables take a page each */
	PD = 0x4000,          /* one for each GiB of RAM, at most three */
	TABLES_END = 0x7000,  /* ELF files may begin here */
	BOOT = 0x7c00,        /* a boot sector, as a BIOS loads it */
	IMAGE = 0x8000,       /* other flat images: after our tables */
	REAL_END = 0x10000,   /* real mode executes nothing above, if CS is 0 */
	SCREEN = 0xb8000,     /* a PC's text screen: here it is plain RAM */
	REAL_STUBS = 0xf0000, /* real mode's stubs, where a PC has its BIOS */
	RESET = 0xffff0,      /* a jump to here starts a PC again */

	/* And sizes, in bytes. */
	RAM_SIZE = 0x200000,   /* by default: 2 MiB, a large page */
	MOST_RAM = 0xc0000000, /* 3 GiB: above, a PC has its devices, and KVM */
	STACK_ROOM = 0x1000,   /* between an image and the end of RAM */
	SECTOR = 512,          /* of a disk */
};

/*
 * The functions of the second part that are called in the first, by the number
 * of the chapter. Those for an option do nothing unless the option was given.
 */
struct vm;
/* clang-format off */
static double now(void);                         /*  9: a clock, in seconds */
static void catch_signals(struct vm *vm);        /*  9: ^C, --timeout, ticks */
static void parse_options(struct vm *vm, int argc, char *argv[]); /* 10 */
static u64 load_elf(struct vm *vm);              /* 11: returns its entry */
static u64 copy_pipe(struct vm *vm);             /* 11: returns its size */
static void build_idt(struct vm *vm, struct kvm_sregs *sregs); /* 12: stubs */
static void report(struct vm *vm, int status);   /* 12: why it died; status */
static void explain_halt(struct vm *vm);         /* 12: what a HLT may mean */
static unsigned code_bits(const struct vm *vm);  /* 13: 64, 32; 0: flat */
static bool is_boot_sector(const struct vm *vm); /* 13: does it end in 55 AA? */
static void set_boot_registers(struct vm *vm, struct kvm_regs *regs); /* 13 */
static void serial_port(struct vm *vm, u8 *data, u32 size); /* 13: COM1 */
static void ignore(struct vm *vm, u8 *data, u32 size); /* 13: other devices */
static bool serve_bios(struct vm *vm);           /* 13: was it a BIOS call? */
static void handle_tick(struct vm *vm);          /* 13: an end without HLT? */
static void show_screen(const struct vm *vm);    /* 13: what is on it */
static void show_machine(struct vm *vm);         /* 14: --verbose */
static void show_exit(struct vm *vm);            /* 14: --trace */
static bool show_step(struct vm *vm);            /* 14: --step; is it HLT? */
static void show_stats(struct vm *vm);           /* 14: --stats */
static void coalesce_console(struct vm *vm);     /* 15: --coalesce */
static void drain_ring(struct vm *vm);           /* 15: what KVM collected */
static void lock_door(void);                     /* 16: hardly any more calls */
static void open_gdb(struct vm *vm);             /* 17: --gdb */
static void serve_gdb(struct vm *vm);            /* 17: a run as gdb wants it */
/* clang-format on */

/* ====================================================================== 2 ===
 * x86: page-table entries, segment descriptors
 *
 * The bits of control registers have names in <asm/processor-flags.h>. That has
 * none for the bits of EFER and of page-table entries, so here they are. Then
 * comes how a segment is described to the CPU.
 */

/* Entries of all page tables: SDM "32-Bit Paging" and "4-Level Paging". */
#define PAGE_SIZE     4096
#define PDE64_PRESENT (1u << 0)
#define PDE64_RW      (1u << 1) /* writable */
#define PDE64_USER    (1u << 2) /* a guest may use it in ring 3, too */
#define PDE64_PS      (1u << 7) /* points to a large page, not to a table */

/*
 * The extended feature enable register (SDM 2.2.1). Software sets LME, "long
 * mode enable". When it then switches paging on, the CPU itself sets LMA, "long
 * mode active". KVM_SET_SREGS does not execute these steps, so it wants both.
 */
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

/*
 * A segment descriptor, as it stands in the GDT (SDM 3.4.5, figure 3-8):
 *
 *	63    56  55  54  53  52  51   48  47  46 45  44  43  40  39    32
 *	+-------+---+---+---+---+--------+---+------+---+-------+--------+
 *	|base   | G | D | L | - |limit   | P | DPL  | S | type  |base    |
 *	| 31..24|   |   |   |   |  19..16|   |      |   |       |  23..16|
 *	+-------+---+---+---+---+--------+---+------+---+-------+--------+
 *	31                             16 15                             0
 *	+--------------------------------+-------------------------------+
 *	|base 15..0                      |limit 15..0                    |
 *	+--------------------------------+-------------------------------+
 *
 *	G: the limit counts pages of 4 KiB      P: the segment is present
 *	D: 32-bit code, or a 32-bit stack       DPL: its ring, 0 to 3
 *	L: 64-bit code, and then not D          S: it is for code or data
 *	type: 0xb is code that can be read, 0x3 is data that can be written.
 *	Both have the bit "accessed", which a CPU sets when it loads them.
 *
 * All of ours begin at 0. Those of the 32- and 64-bit modes have the limit
 * 0xfffff, in pages: that is 4 GiB.
 */
#define CODE16 0x00009b000000ffffull /* real mode's: 64 KiB, no G, no D */
#define CODE32 0x00cf9b000000ffffull
#define CODE64 0x00af9b000000ffffull
#define DATA   0x00cf93000000ffffull

/*
 * The segment register that results when a selector is loaded. The CPU takes
 * the descriptor apart, and keeps its fields in the hidden part of the register
 * (SDM 3.4.3). KVM has the fields apart, too.
 */
static struct kvm_segment segment(u16 selector, u64 desc)
{
	u32 limit = (u32)((desc & 0xffff) | (desc >> 32 & 0xf0000));

	return (struct kvm_segment){
		.selector = selector,
		.base = (desc >> 16 & 0xffffff) | (desc >> 56 << 24),
		.limit = (desc >> 55 & 1) ? (limit << 12 | 0xfff) : limit,
		.type = desc >> 40 & 0xf,
		.s = desc >> 44 & 1,
		.dpl = desc >> 45 & 3,
		.present = desc >> 47 & 1,
		.l = desc >> 53 & 1,
		.db = desc >> 54 & 1,
		.g = desc >> 55 & 1,
	};
}

/* ====================================================================== 3 ===
 * Output: the guest's to stdout, ours to stderr
 *
 * A guest hands over its output a byte at a time, with a VM exit for each. To
 * write each byte at once would take a system call, too. So the bytes wait in
 * stdio's buffer. They are written when the buffer is full, at a newline if
 * stdout is a terminal, before we say anything ourselves, and 50 times a second
 * (see chapter 9).
 *
 * stdio drops what it could not write, and says so only once. So we ask
 * ferror() as well: lost output never ends in status 0.
 */

/* Write all output that waits. If any is lost, end with STATUS_HOST. */
static void flush_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	warn("write to standard output");
	_exit(STATUS_HOST); /* and not exit(), which would come here again */
}

/*
 * Give stdout and stderr their buffers. Without these, glibc would allocate
 * some at the first use, and then the door is locked (chapter 16): the system
 * calls for it are forbidden. exit() flushes stdout, and sees errors.
 */
static void open_output(void)
{
	static char out[1 << 16], error[BUFSIZ];

	setvbuf(stdout, out, isatty(1) ? _IOLBF : _IOFBF, sizeof(out));
	setvbuf(stderr, error, _IOLBF, sizeof(error));
	/* Where a file may not grow, let write() fail, and tell it. */
	signal(SIGXFSZ, SIG_IGN);
	atexit(flush_output);
}

/*
 * say() begins a line on stderr, after all output so far. more() goes on with
 * the line. Both take what printf() takes. The line is written as a whole when
 * it is given its "\n".
 */
#define more(...) fprintf(stderr, __VA_ARGS__)
#define say(...) \
	(flush_output(), more("%s: ", program_invocation_short_name), \
	 more(__VA_ARGS__))

/* ====================================================================== 4 ===
 * The virtual machine: /dev/kvm, RAM, the vCPU, the guest's memory
 *
 * KVM is driven by ioctls on three kinds of file. /dev/kvm stands for KVM
 * itself. KVM_CREATE_VM gives a file that stands for a virtual machine, and
 * KVM_CREATE_VCPU one that stands for a virtual CPU in it.
 *
 * The guest's physical memory is memory of this process: what the guest finds
 * at guest physical address A is what we find at vm->mem + A.
 */

/* What vm->on[] has: an option's letter, or from 256 on if it has no letter. */
enum { COALESCE = 'c', VERBOSE = 'v', TRACE = 256, STEP, STATS, GDB, OPTIONS };

/* In place of a byte of stdin: none has been read yet, or none is left. */
enum { NO_INPUT = -1, NO_MORE = -2 };

struct vm {
	/* What the command line asks for. */
	const struct mode *mode; /* NULL: not chosen yet */
	const char *path;        /* of the image; NULL: a built-in guest */
	u64 mem_size;            /* of RAM in bytes, a multiple of 4096 */
	double timeout;          /* in seconds; 0: none */
	bool on[OPTIONS];        /* which of the options above were given */

	/* The machine. */
	int sys_fd, fd, vcpu_fd; /* /dev/kvm, the machine, its CPU */
	u8 *mem;                 /* guest physical address 0 */
	struct kvm_run *kvm_run; /* shared with KVM: why the CPU stopped */
	struct kvm_coalesced_mmio_ring *ring; /* of --coalesce, or NULL */

	/* The image. */
	const u8 *image; /* all bytes of its file, or the built-in guest */
	u64 image_size;  /* how many these are */
	int image_fd;    /* the file: it is read from there into RAM */
	unsigned elf;    /* 64 or 32: an ELF file's class; or 0 */
	bool guessed;    /* neither the user nor the image says the mode */
	bool boot;       /* it is a boot sector */
	u64 start, end;  /* where it is in the guest's memory */

	/* The run. */
	int status;             /* to end with; below 0 while it goes on */
	u64 exited, exits[64];  /* VM exits so far: all; those of each reason */
	u64 collected;          /* bytes of output that KVM collected */
	double began, run_time; /* for --stats, in seconds */
	u8 com1[8], pulse, row; /* registers of COM1, state of other devices */
	int input;              /* the byte of stdin that waits */
	const char *why;        /* how it ended, if it was not by HLT */

	/* What get_registers() of chapter 12 found. */
	struct kvm_regs regs, shown; /* the guest's; what --step showed */
	struct kvm_sregs sregs;
	int vector;     /* of the exception that stopped it, or -1 */
	bool by_int;    /* it was not an exception, but an INT n */
	u64 error_code; /* the exception's, or 0 */

	struct gdb *gdb; /* of chapter 17 */
};

/* --verbose: print each call of the set-up. (These calls know of no vm.) */
static bool verbose;

/*
 * End with STATUS_HOST, and a message that says which call failed and why (by
 * errno). If it is an error that people really meet, say what to do, too.
 */
static void __attribute__((noreturn)) host_error(const char *call)
{
	int error = errno;

	flush_output();
	errno = error;
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
 * A system call has returned: end with host_error() if it has failed. Returns
 * what it returned, such as a file descriptor, a size or an address.
 */
static long check_call(const char *call, long ret)
{
	if (ret == -1)
		host_error(call);
	if (verbose) /* an address in hexadecimal */
		say(ret >> 32 ? "%s = 0x%lx\n" : "%s = %ld\n", call, ret);
	return ret;
}

/* Make a system call, or an ioctl of KVM's, whose text names it in messages. */
#define MUST(call)            check_call(#call, call)
#define KVM(fd, request, arg) check_call(#request, ioctl(fd, request, arg))

/* Give the machine its RAM, all zero, from guest physical address 0 on. */
static void create_ram(struct vm *vm)
{
	struct kvm_userspace_memory_region ram = { .guest_phys_addr = 0 };

	/*
	 * PRIVATE and ANONYMOUS: pages of our own, zeroed, of no file. A page
	 * takes memory only once it is touched. So a guest with much RAM costs
	 * no more than what it uses. NORESERVE: the kernel need not promise
	 * memory for all of it now; there may not be so much.
	 */
	vm->mem = mmap(NULL, vm->mem_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check_call("mmap of RAM", (long)vm->mem);
	/*
	 * If several guests have pages with the same bytes, the kernel may keep
	 * one copy of them. This is a favour to the host. KSM, the part that
	 * does it, may be missing from the kernel: that is no error.
	 */
	madvise(vm->mem, vm->mem_size, MADV_MERGEABLE);

	ram.memory_size = vm->mem_size;
	ram.userspace_addr = (unsigned long)vm->mem;
	KVM(vm->fd, KVM_SET_USER_MEMORY_REGION, &ram);
}

/*
 * Let the guest see what the host's CPU can do, as far as KVM can virtualise
 * it: the CPUID instruction tells it. VMX (of Intel) and SVM (of AMD) are left
 * out. They are for hypervisors, which no guest here is, and to emulate them is
 * the largest part of KVM that a guest could attack. KVM has at most 256
 * entries. If the array were too small, it would say E2BIG.
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
 * Give the machine its one CPU, number 0, in the state after a reset (SDM
 * "Processor State After Reset"). KVM shares some pages with us that belong to
 * it. They begin with a struct kvm_run, in which KVM says why the CPU stopped.
 * The bytes of an IN or OUT come after that.
 */
static void create_vcpu(struct vm *vm)
{
	size_t size;

	vm->vcpu_fd = (int)KVM(vm->fd, KVM_CREATE_VCPU, 0);
	size = (size_t)KVM(vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->kvm_run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			   vm->vcpu_fd, 0);
	check_call("mmap of struct kvm_run", (long)vm->kvm_run);
	/* The built-in guests do not ask, and the two calls are slow. */
	if (vm->path)
		copy_cpuid(vm);
}

/*
 * Make a machine with RAM and a CPU. KVM's API has been at version 12 since
 * Linux 2.6.22, and its documentation tells us to refuse any other. (All else
 * that we need is there since Linux 4.11.)
 */
static void create_vm(struct vm *vm)
{
	vm->sys_fd = (int)MUST(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	if (KVM(vm->sys_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		errx(STATUS_HOST, "KVM_GET_API_VERSION: not the known one");
	vm->fd = (int)KVM(vm->sys_fd, KVM_CREATE_VM, 0);
	/*
	 * On older Intel CPUs KVM runs a guest's real mode as a virtual 8086
	 * task. It keeps that task's state in three pages of the guest's
	 * address space. They may be anywhere outside of RAM: this is just
	 * below the last 256 KiB of 4 GiB, where a PC has its BIOS.
	 */
	KVM(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	create_ram(vm);
	create_vcpu(vm);
	coalesce_console(vm);
	/* The CPU's file keeps the machine alive, and is all that we need. */
	close(vm->sys_fd);
	close(vm->fd);
}

/* The number that so many bytes make, 8 at most, the lowest one first. */
static u64 little_endian(const void *bytes, size_t size)
{
	u64 value = 0;

	memcpy(&value, bytes, size);
	return value;
}

#define NOT_MAPPED (~0ull)

/*
 * Translate a linear address, one that the guest uses, into a guest physical
 * one. That takes the guest's page tables, if it has paging. Returns NOT_MAPPED
 * if they lead nowhere. KVM_TRANSLATE does not look at bits 63..48, which must
 * all be equal to bit 47 (SDM volume 1, 3.3.7.1: canonical addresses).
 */
static u64 physical_address(struct vm *vm, u64 linear)
{
	struct kvm_translation tr = { .linear_address = linear };
	u64 top = linear >> 47; /* 17 bits */
	bool canonical = top == 0 || top == 0x1ffff;

	KVM(vm->vcpu_fd, KVM_TRANSLATE, &tr);
	return tr.valid && canonical ? tr.physical_address : NOT_MAPPED;
}

/*
 * Returns a pointer to what is at a linear address of the guest: from a guest
 * virtual to a host virtual address. The pointer is good up to the end of its
 * page of 4 KiB. It is NULL if there is no RAM. A call takes microseconds, so
 * make one for each page, and not for each byte.
 */
static u8 *translate(struct vm *vm, u64 linear)
{
	u64 address = physical_address(vm, linear);

	return address < vm->mem_size ? vm->mem + address : NULL;
}

/* For the next two functions: copy from the guest, or to it. */
static size_t copy_guest(struct vm *vm, u64 linear, u8 *data, size_t len,
			 bool write)
{
	u8 *guest = NULL;
	size_t done;

	for (done = 0; done < len; done++, guest++) {
		if (done == 0 || (linear + done) % PAGE_SIZE == 0)
			guest = translate(vm, linear + done);
		if (!guest)
			break;
		if (write)
			*guest = data[done];
		else
			data[done] = *guest;
	}
	return done;
}

/*
 * Copy len bytes from a linear address of the guest, or to one. Returns how
 * many were copied: fewer than len if there is no RAM for the rest.
 */
static size_t read_guest(struct vm *vm, u64 linear, void *to, size_t len)
{
	return copy_guest(vm, linear, to, len, false);
}

static size_t write_guest(struct vm *vm, u64 linear, const void *from,
			  size_t len)
{
	return copy_guest(vm, linear, (u8 *)from, len, true);
}

/* ====================================================================== 5 ===
 * Modes: tables in guest memory, registers
 *
 * A PC starts in real mode, and its boot code climbs to long mode step by step.
 * KVM lets us skip the climb. We build the tables in guest memory, and set the
 * registers to what they would be after it. Each mode is a row of values in the
 * table modes[]. enter_mode() puts a CPU into the mode of a row.
 */

/*
 * The built-in guests: their bytes, and the end of these. The linker knows the
 * symbols as addresses (see images.o in the Makefile). In C the name of an
 * array stands for its address. A pointer's would be a variable that has one.
 */
extern const u8 guest16[], guest16_end[];
extern const u8 guest32[], guest32_end[];
extern const u8 guest64[], guest64_end[];

struct mode {
	int option;                  /* its letter on the command line */
	unsigned bits;               /* of a register */
	const char *name, *rax;      /* the mode's; and RAX's in this mode */
	const u8 *guest, *guest_end; /* the built-in guest */
	void (*map)(struct vm *vm);  /* builds page tables; NULL: none */
	u64 code;                    /* CS's descriptor */
	u64 cr0, cr4, efer;
};

/*
 * 32-bit paging with pages of 4 MiB (SDM "32-Bit Paging"). Bits 31..22 of an
 * address choose an entry of the one page directory. The other 22 bits are the
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
 * Long mode, the 64-bit one, with pages of 2 MiB (SDM "4-Level Paging"). Bits
 * 47..39 of an address choose an entry of the PML4, bits 38..30 one of the
 * PDPT, and bits 29..21 one of a page directory. The other 21 bits are the
 * offset in the page.
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
 * CR0 (SDM 2.5). PE: protected mode. ET: always 1. NE: errors of the x87 are
 * exceptions, and not interrupts of a controller that is not there. PG: paging.
 * WP: ring 0 cannot write to read-only pages either. MP and AM change nothing
 * until a guest sets CR0.TS, or RFLAGS.AC in ring 3. Kernels have them on. In
 * real mode CR0 stays as a reset leaves it.
 */
#define CR0_PROTECTED (X86_CR0_PE | X86_CR0_ET | X86_CR0_NE)
#define CR0_PAGED \
	(CR0_PROTECTED | X86_CR0_PG | X86_CR0_WP | X86_CR0_MP | X86_CR0_AM)

/*
 * CR4 (SDM 2.5). PSE: PDE64_PS counts in 32-bit paging. PAE: entries have 64
 * bits, as long mode wants them. OSFXSR and OSXMMEXCPT: SSE may be used, as
 * compilers do in 64-bit code.
 *
 * If nobody chooses a mode, open_image() takes one of the first three rows:
 * real mode unless the image is an ELF file.
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
 * Build a GDT with one code and one data segment, and set the segment registers
 * as if they had been loaded from it. Selector 0 means "no segment": its entry
 * is never used.
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
 * KVM_SET_SREGS may succeed without doing all that it was asked for. (kvm-pvm,
 * a KVM for machines whose CPU does not help it, has no 32-bit paging, and
 * clears CR0.PG.) A guest would soon die of that, and its report would not say
 * why. So read the registers back. If they are not as they were set, end with
 * STATUS_HOST, and a message that has the bits which differ.
 */
static void check_mode(struct vm *vm, const struct kvm_sregs *want)
{
	struct kvm_sregs got;

	KVM(vm->vcpu_fd, KVM_GET_SREGS, &got);
	if (got.cr0 == want->cr0 && got.cr4 == want->cr4 &&
	    got.efer == want->efer)
		return;
	errx(STATUS_HOST,
	     "%s: this KVM lacks it, for it did not set bits 0x%llx "
	     "of CR0, 0x%llx of CR4, 0x%llx of EFER: try another mode",
	     vm->mode->name, got.cr0 ^ want->cr0, got.cr4 ^ want->cr4,
	     got.efer ^ want->efer);
}

/* Put the CPU into its mode, about to execute the instruction at entry. */
static void enter_mode(struct vm *vm, u64 entry)
{
	const struct mode *mode = vm->mode;
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = entry,
		.rsp = mode->bits > 16 ? vm->mem_size : entry,
		.rflags = X86_EFLAGS_FIXED, /* bit 1; IF, interrupts, is off */
	};

	KVM(vm->vcpu_fd, KVM_GET_SREGS, &sregs);
	/* For real mode. A reset leaves CS at the BIOS: base ffff0000. */
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
	set_boot_registers(vm, &regs);
	KVM(vm->vcpu_fd, KVM_SET_SREGS, &sregs);
	check_mode(vm, &sregs);
	KVM(vm->vcpu_fd, KVM_SET_REGS, &regs);
}

/* ====================================================================== 6 ===
 * The image: a built-in guest, or a file
 *
 * A flat image is read to guest physical address 0x8000, and entered at its
 * first byte. It must leave room for the stack: at least 4 KiB at the end of
 * RAM. In real mode the stack is below the entry instead, and an image may
 * reach up to the stubs at 0xf0000 (see chapter 12). ELF files and boot sectors
 * say themselves where they belong.
 */

/* End with STATUS_USAGE and a message about the image. */
#define bad_image(vm, format, ...) \
	errx(STATUS_USAGE, "%s: " format, (vm)->path, ##__VA_ARGS__)

/*
 * Read size bytes, from an offset in the image's file on, to a guest physical
 * address. Ends with STATUS_USAGE if they cannot be read.
 */
static void read_image(struct vm *vm, u64 address, u64 size, u64 offset)
{
	ssize_t n;

	/* One pread() reads 2 GiB at most. */
	for (u64 done = 0; done < size; done += (u64)n) {
		errno = EIO; /* unless it says another: the file is shorter */
		n = pread(vm->image_fd, vm->mem + address + done, size - done,
			  (off_t)(offset + done));
		if (n <= 0)
			err(STATUS_USAGE, "%s", vm->path);
	}
}

/*
 * Open the image's file, if one was named, and map it, to look at its bytes. If
 * nobody chose a mode, choose it: 64- or 32-bit code, as an ELF file says, or
 * else real mode. Ends with STATUS_USAGE if there is no file, or nothing in it.
 */
static void open_image(struct vm *vm)
{
	struct stat st;

	if (vm->path) {
		vm->image_fd = open(vm->path, O_RDONLY | O_CLOEXEC);
		if (vm->image_fd < 0)
			err(STATUS_USAGE, "%s", vm->path);
		fstat(vm->image_fd, &st);
		vm->image_size = (u64)st.st_size;
		if (!S_ISREG(st.st_mode) || st.st_size == 0)
			vm->image_size = copy_pipe(vm);
		vm->image = mmap(NULL, vm->image_size, PROT_READ, MAP_PRIVATE,
				 vm->image_fd, 0);
		if (vm->image == MAP_FAILED)
			err(STATUS_USAGE, "%s", vm->path);
		if (vm->image_size > EI_CLASS &&
		    !memcmp(vm->image, ELFMAG, SELFMAG))
			vm->elf = vm->image[EI_CLASS] == ELFCLASS64 ? 64 : 32;
	}
	vm->guessed = !vm->mode && !vm->elf;
	if (!vm->mode)
		vm->mode = &modes[code_bits(vm) / 32]; /* row 0, 1 or 2 */
	vm->boot = is_boot_sector(vm);
	vm->guessed &= !vm->boot;
	if (!vm->path) {
		vm->image = vm->mode->guest;
		vm->image_size = (u64)(vm->mode->guest_end - vm->image);
	}
}

/*
 * The image is to lie in guest memory from start up to end. If it cannot, end
 * with STATUS_USAGE, and a message that says what would help.
 */
static void place_image(struct vm *vm, u64 start, u64 end)
{
	bool real = vm->mode->bits == 16;
	u64 least = real ? GDT : TABLES_END; /* real mode has no GDT */
	u64 most = real ? REAL_STUBS : vm->mem_size - STACK_ROOM;

	vm->start = start;
	vm->end = end;
	if (start < least)
		bad_image(vm,
			  "it begins at 0x%llx, below 0x%llx: link it "
			  "with -n, or -Ttext-segment=0x8000",
			  start, least);
	if (end <= most)
		return;
	if (real)
		bad_image(vm, "it ends at 0x%llx, beyond real mode: try -s",
			  end);
	if (end > MOST_RAM - STACK_ROOM)
		bad_image(vm, "it ends at 0x%llx, beyond 3 GiB", end);
	bad_image(vm, "it ends at 0x%llx, beyond 0x%llx: try -m %lluM", end,
		  most, (end + STACK_ROOM + 0xfffff) >> 20);
}

/*
 * Put the image into guest memory. Returns the address to enter it at. If it is
 * a boot sector, its file is a disk: only the first sector is loaded. The guest
 * itself reads the others, by calls of the BIOS.
 */
static u64 load_image(struct vm *vm)
{
	u64 entry = vm->boot ? BOOT : IMAGE;
	u64 size = vm->boot ? SECTOR : vm->image_size;

	if (vm->elf)
		return load_elf(vm);
	place_image(vm, entry, entry + size);
	if (vm->path) {
		read_image(vm, entry, size, 0);
		close(vm->image_fd);
	} else {
		memcpy(vm->mem + entry, vm->image, size);
	}
	return entry;
}

/* ====================================================================== 7 ===
 * Ports: what the guest's IN and OUT reach
 *
 * An IN or OUT leads to a VM exit (KVM_EXIT_IO). The bytes of an OUT are in the
 * pages that KVM shares with us: KVM has put them there. We put those of an IN
 * into the same place. The guest gets them when KVM_RUN is called again.
 *
 * An IN or OUT to a port of our own is a hypercall: a call of the hypervisor.
 * To add one, write a function, and give it a row in the table below, with a
 * port that has none yet. The function gets the 1, 2 or 4 bytes of one access,
 * to read them or to fill them. If its row has several ports,
 * vm->kvm_run->io.port says which it is. It may call printf(): what it prints
 * keeps its place in the guest's output. If a number is an address in the
 * guest, read_guest() and write_guest() reach what is there.
 */

/* Take the bytes, lowest first, as output. */
static void console_out(struct vm *vm, u8 *data, u32 size)
{
	for (u32 i = 0; i < size; i++) /* unlocked: there is one thread */
		if (putchar_unlocked(data[i]) == EOF)
			flush_output(); /* which ends with the error */
}

/* An IN gives 0xE9, as in Bochs and QEMU: "the console is here". */
static void console_in(struct vm *vm, u8 *data, u32 size)
{
	memset(data, 0xE9, size);
}

/* Stop, with the exit status that QEMU's isa-debug-exit makes of the value. */
static void exit_out(struct vm *vm, u8 *data, u32 size)
{
	vm->status = (data[0] << 1 | 1) & 0xff;
}

enum { BOTH = 2, COM1 = 0x3F8 }; /* BOTH: neither KVM_EXIT_IO_IN nor _OUT */

/* What handles an access. The devices of a PC are in chapter 13. */
/* clang-format off */
static const struct port {
	u16 first, count; /* the first port, and how many in a row */
	u8 direction;     /* KVM_EXIT_IO_OUT, KVM_EXIT_IO_IN, or BOTH */
	u8 size;          /* the most bytes that an access may have */
	void (*handle)(struct vm *vm, u8 *data, u32 size);
} ports[] = {
	{ 0xE9, 1, KVM_EXIT_IO_OUT, 4, console_out },
	{ 0xE9, 1, KVM_EXIT_IO_IN, 4, console_in },
	{ 0xF4, 1, KVM_EXIT_IO_OUT, 4, exit_out },
	{ COM1, 8, BOTH, 1, serial_port },
	{ 0x80, 1, KVM_EXIT_IO_OUT, 4, ignore }, /* a way to wait a moment */
	{ 0x20, 2, BOTH, 4, ignore }, { 0xA0, 2, BOTH, 4, ignore }, /* PIC */
	{ 0x60, 2, BOTH, 4, ignore }, { 0x64, 1, BOTH, 4, ignore }, /* keys */
	{ 0x40, 4, BOTH, 4, ignore }, { 0x70, 2, BOTH, 4, ignore }, /* clocks */
	{ 0x92, 1, BOTH, 4, ignore }, /* A20 */
	{ 0x3C0, 32, BOTH, 4, ignore }, /* VGA */
};
/* clang-format on */

/* The row for the access that struct kvm_run tells of; NULL: there is none. */
static const struct port *find_port(const struct kvm_run *run)
{
	for (const struct port *p = ports; p < ports + ARRAY_SIZE(ports); p++) {
		bool port = run->io.port >= p->first &&
			    run->io.port < p->first + p->count;
		bool direction = p->direction == BOTH ||
				 p->direction == run->io.direction;

		if (port && direction && run->io.size <= p->size)
			return p;
	}
	return NULL;
}

/*
 * The guest has left for an IN or OUT. Its bytes are data_offset bytes after
 * the begin of struct kvm_run: count elements of size bytes in a row, all for
 * one port. (REP INS gives a count above 1.) Returns false if the table has no
 * row for the port.
 */
static bool handle_io(struct vm *vm)
{
	struct kvm_run *run = vm->kvm_run;
	const struct port *port = find_port(run);
	u8 *data = (u8 *)run + run->io.data_offset;

	for (u32 i = 0; port && i < run->io.count; i++) {
		port->handle(vm, data, run->io.size);
		data += run->io.size;
	}
	if (ferror_unlocked(stdout))
		flush_output(); /* says why, as long as errno knows it */
	return port != NULL;
}

/* ====================================================================== 8 ===
 * The run: the loop around KVM_RUN, the verdict, main()
 *
 * KVM_RUN lets the CPU execute the guest, until something comes up that the
 * hypervisor has to handle. Then it returns, and exit_reason in struct kvm_run
 * says what it was. We handle that, and call KVM_RUN again.
 *
 * A guest that does nothing of the kind is only interrupted by a signal. Then
 * KVM_RUN fails with EINTR. But if the signal arrives just before KVM_RUN,
 * there is nothing to interrupt, and the guest would start all the same. So the
 * handlers of chapter 9 set immediate_exit in struct kvm_run. That makes the
 * next KVM_RUN fail in the same way (KVM API, 5, "immediate_exit").
 */

/* Set by a signal that stops the run: the exit status for that. Else 0. */
static volatile sig_atomic_t stopped;

/*
 * Run the guest. Returns true after a VM exit: only then exit_reason means
 * something. Returns false after a signal. If that is to stop the run, stopped
 * is set: look at it before the next call.
 */
static bool run_vcpu(struct vm *vm)
{
	struct kvm_run *run = vm->kvm_run;
	double before = vm->on[STATS] ? now() : 0;
	int ret = ioctl(vm->vcpu_fd, KVM_RUN, 0), error = errno;

	if (vm->on[STATS])
		vm->run_time += now() - before;
	drain_ring(vm); /* output that is older than the exit */
	if (ret == 0) {
		vm->exited++;
		vm->exits[run->exit_reason % ARRAY_SIZE(vm->exits)]++;
		return true;
	}
	errno = error;
	if (error != EINTR)
		host_error("KVM_RUN");
	run->immediate_exit = 0; /* a later signal will set it again */
	flush_output();
	return false;
}

/*
 * The guest has exited: do what it left for. Sets vm->status if that was to
 * end. Returns false if nothing here can handle it.
 */
static bool handle_exit(struct vm *vm)
{
	bool handled;

	switch (vm->kvm_run->exit_reason) {
	case KVM_EXIT_IO: /* IN or OUT; a call of the BIOS is one, too */
		handled = handle_io(vm) || serve_bios(vm);
		break;
	case KVM_EXIT_HLT: /* the end: nothing here could wake the CPU */
		vm->status = STATUS_OK;
		handled = true;
		break;
	case KVM_EXIT_DEBUG: /* one instruction, and --step asked for that */
		handled = vm->on[STEP];
		break;
	default: /* what no guest should do: MMIO, a triple fault and so on */
		handled = false;
	}
	show_exit(vm);
	return handled;
}

/*
 * A built-in guest has halted: see whether 42 is where it should be, and say
 * so. Returns the exit status for that.
 */
static int check_result(struct vm *vm)
{
	size_t size = vm->mode->bits / 8; /* what the mode's guest writes */
	u64 memval = little_endian(vm->mem + RESULT, size);
	struct kvm_regs regs;
	u64 rax;
	bool right;

	KVM(vm->vcpu_fd, KVM_GET_REGS, &regs);
	rax = little_endian(&regs.rax, size);
	right = rax == 42 && memval == 42;
	say("%s: %s is %llu, memory at 0x%x is %llu: %s\n", vm->mode->name,
	    vm->mode->rax, rax, RESULT, memval,
	    right ? "as expected" : "wrong, 42 was expected in both");
	return right ? STATUS_OK : STATUS_GUEST;
}

/* The run is over: tell its outcome, and make vm->status the exit status. */
static void end_run(struct vm *vm)
{
	if (vm->status < 0)
		report(vm, stopped);
	else if (vm->status == STATUS_OK && vm->path)
		explain_halt(vm);
	else if (vm->status == STATUS_OK)
		vm->status = check_result(vm);
	show_screen(vm);
	show_stats(vm);
	flush_output();
}

/* Run the guest to its end. Sets vm->status to the exit status. */
static void run_guest(struct vm *vm)
{
	do {
		if (show_step(vm))
			break;
		if (!run_vcpu(vm))
			handle_tick(vm);
		else if (!handle_exit(vm))
			report(vm, STATUS_GUEST);
	} while (vm->status < 0 && !stopped);
	end_run(vm);
}

/* Set up a machine, run the guest in it, and return the exit status. */
int main(int argc, char *argv[])
{
	static struct vm vm = { .mem_size = RAM_SIZE,
				.status = -1,
				.input = NO_INPUT };

	open_output();
	parse_options(&vm, argc, argv);
	open_image(&vm);
	open_gdb(&vm);
	create_vm(&vm);
	enter_mode(&vm, load_image(&vm));
	show_machine(&vm);

	catch_signals(&vm);
	lock_door();
	if (vm.on[GDB])
		serve_gdb(&vm);
	else
		run_guest(&vm);
	return vm.status;
}

/* ====================================================================== 9 ===
 * Signals and the tick
 *
 * A timer of our own sends SIGRTMIN every 20 ms, from the start of the run. At
 * such a tick output that waits is written, and the clock is compared with
 * --timeout. Nobody else sends this signal. So SIGALRM and others mean what
 * they mean to any program.
 *
 * The handler only remembers, and sets immediate_exit. What there is to do is
 * done by run_vcpu() and its caller.
 */
enum { TICK = 20000000, TICKS_A_SECOND = 1000000000 / TICK }; /* in ns */

/* For the handler: the CPU, when --timeout is over (0: never), and... */
static struct kvm_run *signal_run;
static double deadline;
static volatile sig_atomic_t overtime; /* ...ticks since stopped was set. */

/* Seconds on a clock that nobody sets. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/*
 * Interrupt the guest, and remember the status of the first signal that ends
 * the run. If the run is still not over a second later, nobody reads its
 * output. Then end it here, with the status that is due.
 */
static void handle_signal(int number)
{
	bool tick = number == SIGRTMIN;

	if (stopped && tick && ++overtime > TICKS_A_SECOND)
		_exit(stopped);
	if (!stopped && !tick)
		stopped = STATUS_SIGNAL + number;
	if (!stopped && deadline > 0 && now() >= deadline)
		stopped = STATUS_TIMEOUT;
	signal_run->immediate_exit = 1;
}

/*
 * From here on SIGINT, SIGTERM and the end of --timeout end the run with a
 * report, unless our parent ignored the signal. SA_RESTART: a signal cuts no
 * write() short. KVM_RUN fails with EINTR all the same. Our own signals are
 * unblocked, whatever mask our parent left.
 */
static void catch_signals(struct vm *vm)
{
	const struct sigaction action = { .sa_handler = handle_signal,
					  .sa_flags = SA_RESTART };
	const struct itimerspec every = { { 0, TICK }, { 0, TICK } };
	struct sigevent event = { .sigev_signo = SIGRTMIN };
	const int numbers[] = { SIGINT, SIGTERM, SIGRTMIN };
	struct sigaction old;
	sigset_t ours = { 0 }; /* none yet */
	timer_t timer;

	signal_run = vm->kvm_run;
	deadline = vm->timeout > 0 ? now() + vm->timeout : 0;
	for (int i = 0; i < 3; i++) {
		MUST(sigaction(numbers[i], &action, &old));
		if (old.sa_handler == SIG_IGN && numbers[i] != SIGRTMIN)
			MUST(sigaction(numbers[i], &old, NULL));
	}
	sigaddset(&ours, SIGRTMIN);
	sigaddset(&ours, SIGSYS); /* of the locked door */
	MUST(sigprocmask(SIG_UNBLOCK, &ours, NULL));
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(timer_settime(timer, 0, &every, NULL));
}

/*
 * An IN, an OUT or an access to memory that has left the guest is completed by
 * the next KVM_RUN, which may change registers for that. So this comes before
 * they are set, or shown: complete it, and let the guest do nothing more.
 */
static void complete_io(struct vm *vm)
{
	vm->kvm_run->immediate_exit = 1;
	while (ioctl(vm->vcpu_fd, KVM_RUN, 0) == 0)
		; /* an access to two pages is two exits */
	vm->kvm_run->immediate_exit = 0;
}

/* ===================================================================== 10 ===
 * The command line
 *
 * argp(3), a part of glibc, makes --help out of the table, and the messages
 * about what is wrong.
 */

/* A time in seconds, which may have a fraction. */
static double parse_seconds(const char *text, struct argp_state *state)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds > 0 && seconds <= 1e9))
		argp_error(state, "--timeout takes seconds above 0, like 0.5");
	return seconds;
}

/* A size that RAM can have, in bytes, or with suffix K, M or G. */
static u64 parse_size(const char *text, struct argp_state *state)
{
	char *end;
	u64 size = strtoull(text, &end, 10); /* the largest if it overflows */
	const char *suffix = *end ? strchr("KMG", *end) : NULL;

	if (suffix && end++ && size <= MOST_RAM)
		size <<= 10 * (suffix - "KMG" + 1);
	/* strtoull() takes -1 for the largest number. */
	if (*end || strchr(text, '-') || size < 1 << 20 || size > MOST_RAM ||
	    size % PAGE_SIZE)
		argp_error(state, "--memory takes 1M to 3G, a multiple of 4K");
	return size;
}

/* A new option without a value is a row here and an enumerator in chapter 4. */
static const struct argp_option options[] = {
	{ "real", 'r', NULL, 0, "Real mode: the default of flat images", 0 },
	{ "protected", 's', NULL, 0, "Protected mode", 0 },
	{ "paged", 'p', NULL, 0, "Protected mode with 32-bit paging", 0 },
	{ "long", 'l', NULL, 0, "Long mode, the 64-bit one", 0 },
	{ "memory", 'm', "SIZE", 0, "Guest RAM: 1M to 3G; else 2M", 1 },
	{ "timeout", 't', "SEC", 0, "Stop the guest after SEC seconds", 1 },
	{ "coalesce", COALESCE, NULL, 0, "Let KVM collect output", 1 },
	{ "verbose", VERBOSE, NULL, 0, "Tell what is set up, and how", 1 },
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

	while (mode < end && mode->option != key)
		mode++;
	if (mode < end && vm->mode && vm->mode != mode)
		argp_error(state, "only one mode can be chosen");
	else if (mode < end)
		vm->mode = mode;
	else if (key == ARGP_KEY_ARG && !vm->path)
		vm->path = arg;
	else if (key == 'm')
		vm->mem_size = parse_size(arg, state);
	else if (key == 't')
		vm->timeout = parse_seconds(arg, state);
	else if (key == 'h')
		argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
	else if (key > 0 && key < OPTIONS)
		vm->on[key] = true;
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

const char *argp_program_version = "simple-kvm 0.3";

static const struct argp argp = {
	.options = options,
	.parser = parse_option,
	.args_doc = "[IMAGE]",
	.doc = "Run a tiny guest in a virtual machine, and print its output.\v"
	       "IMAGE is an ELF file, whose class says the mode, a boot sector "
	       "or flat, for 0x8000. Without it a built-in guest runs.\n\n"
	       "Exit status: 0 halted; 1 failed; 2 bad option or image; 3 host "
	       "failed; 124 timeout; 128 + N signal N; 2v + 1 v to port 0xF4.",
};

/* Take the command line. Ends with STATUS_USAGE if it makes no sense. */
static void parse_options(struct vm *vm, int argc, char *argv[])
{
	argp_err_exit_status = STATUS_USAGE;
	argv[0] = program_invocation_short_name; /* as err() begins a line */
	argp_parse(&argp, argc, argv, 0, NULL, vm);
	verbose = vm->on[VERBOSE];
	vm->began = now();
}

/* ===================================================================== 11 ===
 * ELF files, and images from pipes
 *
 * An ELF file says itself which of its parts, or segments, belong where in
 * memory, and where it wants to be entered. It may say anything, so its numbers
 * are checked before they are used, and in a way that cannot overflow: whether
 * a + b <= c, as a <= c && b <= c - a.
 */

/* A header of the file, ehdr, or that of a segment, phdr. */
union header {
	Elf32_Ehdr elf32_ehdr;
	Elf64_Ehdr elf64_ehdr;
	Elf32_Phdr elf32_phdr;
	Elf64_Phdr elf64_phdr;
} __attribute__((packed)); /* the file may have it anywhere */

/* A field of one, by the class of the file. */
#define FIELD(vm, p, header, field) \
	((vm)->elf == 64 ? (p)->elf64_##header.field \
			 : (p)->elf32_##header.field)

/*
 * See that the file is a program for this CPU in this mode, and that the
 * headers of its segments are all there. Ends with STATUS_USAGE if not.
 */
static void check_elf(const struct vm *vm, const union header *file)
{
	bool is64 = vm->elf == 64;
	u64 offset = FIELD(vm, file, ehdr, e_phoff);
	u64 size = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (FIELD(vm, file, ehdr, e_machine) != (is64 ? EM_X86_64 : EM_386))
		bad_image(vm, "it is for another machine than x86");
	if (is64 ? vm->mode->bits == 16 : vm->mode->bits == 64)
		bad_image(vm, "a %u-bit file cannot run in %s", vm->elf,
			  vm->mode->name);
	if (FIELD(vm, file, ehdr, e_type) != ET_EXEC)
		bad_image(vm, "it is no program: link it, with -no-pie");
	if (FIELD(vm, file, ehdr, e_phentsize) != size ||
	    offset > vm->image_size ||
	    FIELD(vm, file, ehdr, e_phnum) * size > vm->image_size - offset)
		bad_image(vm, "its headers are truncated");
}

/*
 * Load a segment to its physical address, and widen the image by it, unless
 * there is nothing to load of it. What the file does not have of it stays zero,
 * as all RAM is at first. Where there is no RAM nothing is loaded:
 * place_image() will see it. Returns the physical address of a virtual one in
 * it, or else that one itself.
 */
static u64 load_segment(struct vm *vm, const union header *segment, u64 virtual)
{
	u64 offset_of = virtual - FIELD(vm, segment, phdr, p_vaddr);
	u64 start = FIELD(vm, segment, phdr, p_paddr), end;
	u64 in_file = FIELD(vm, segment, phdr, p_filesz);
	u64 size = FIELD(vm, segment, phdr, p_memsz);
	u64 offset = FIELD(vm, segment, phdr, p_offset);

	if (FIELD(vm, segment, phdr, p_type) != PT_LOAD || size == 0)
		return virtual;
	if (in_file > size || offset > vm->image_size ||
	    in_file > vm->image_size - offset)
		bad_image(vm, "a segment is truncated");
	if (__builtin_add_overflow(start, size, &end))
		end = -1ull;
	if (end <= vm->mem_size)
		read_image(vm, start, in_file, offset);
	vm->start = start < vm->start ? start : vm->start;
	vm->end = end > vm->end ? end : vm->end;
	return offset_of < size ? start + offset_of : virtual;
}

/*
 * Load an ELF file. Returns the physical address to enter it at. What the file
 * says is a virtual one, if it is in a segment: a kernel in the higher half is
 * entered before it has page tables.
 */
static u64 load_elf(struct vm *vm)
{
	const union header *file = (const void *)vm->image;
	const u8 *segment = vm->image;
	const u64 virtual = FIELD(vm, file, ehdr, e_entry);
	u64 entry = virtual, physical;

	check_elf(vm, file);
	segment += FIELD(vm, file, ehdr, e_phoff);
	vm->start = -1ull; /* and vm->end is 0: there is no image yet */
	for (unsigned i = 0; i < FIELD(vm, file, ehdr, e_phnum); i++) {
		physical = load_segment(vm, (const void *)segment, virtual);
		entry = entry == virtual ? physical : entry;
		segment += FIELD(vm, file, ehdr, e_phentsize);
	}
	place_image(vm, vm->start, vm->end);
	if (entry < vm->start || entry >= vm->end ||
	    (vm->mode->bits == 16 && entry >= REAL_END))
		bad_image(vm, "its entry, 0x%llx, is in no segment", entry);
	close(vm->image_fd);
	return entry;
}

/*
 * The image cannot be read more than once, for it is a pipe, say. Put a copy in
 * the place of its file. Returns the size in bytes. That is no more than RAM
 * has, and 64 MiB besides: an ELF file may have so much debug information,
 * which is not loaded. Ends with STATUS_USAGE if there is more, or nothing.
 */
static u64 copy_pipe(struct vm *vm)
{
	static u8 buffer[1 << 16];
	int copy = (int)MUST(memfd_create("image", MFD_CLOEXEC));
	u64 size = 0;
	ssize_t n;

	while ((n = read(vm->image_fd, buffer, sizeof(buffer))) > 0) {
		size += (u64)n;
		if (size > vm->mem_size + (64 << 20))
			bad_image(vm, "it does not fit: see --memory");
		if (write(copy, buffer, (size_t)n) != n)
			host_error("write");
	}
	if (n < 0)
		err(STATUS_USAGE, "%s", vm->path);
	if (size == 0)
		bad_image(vm, "the file is empty");
	vm->image_fd = copy;
	return size;
}

/* ===================================================================== 12 ===
 * Why it died: exceptions, exits, registers
 *
 * When a guest ends otherwise than it should, its author wants to know what
 * happened, where, and how things stood. All that tells it is here, and goes to
 * stderr.
 *
 * An exception is told by an exit of its own. Vector v leads to the stub at
 * STUBS + 4 * v (or REAL_STUBS), whose OUT leaves the guest. RIP tells which
 * stub it was. The frame that the CPU has pushed tells where the exception
 * happened. Without a handler it would become a double, then a triple fault,
 * which tells nothing.
 */
#define STUB      0xfcebeee6u /* e6 ee: out %al, $0xee; eb fc: jmp back to it */
#define STUB_PORT 0xEE

/*
 * A gate of the IDT, but for its offset, of which bits 15..0 go here (SDM "IDT
 * Descriptors"): present (bit 47), an interrupt gate (0xe), selector 0x08.
 */
#define GATE 0x00008e0000080000ull

/* The size of an entry of the IDT, or of the IVT, by the CPU's mode. */
static u32 gate_size(const struct kvm_sregs *sregs)
{
	return sregs->efer & EFER_LMA ? 16 : sregs->cr0 & X86_CR0_PE ? 8 : 4;
}

/*
 * Write the stubs, and the table that leads there: in real mode a segment and
 * an offset for each vector, else gates. The upper halves of long mode's gates
 * are zero, as all RAM is at first.
 */
static void build_idt(struct vm *vm, struct kvm_sregs *sregs)
{
	u32 size = gate_size(sregs), stub = STUB;
	bool real = size == 4;
	u64 base = real ? IVT : IDT, stubs = real ? REAL_STUBS : STUBS;

	for (u64 v = 0; v < 256; v++) {
		u64 gate = real ? stubs << 12 | 4 * v : GATE | (stubs + 4 * v);

		memcpy(vm->mem + stubs + 4 * v, &stub, 4);
		memcpy(vm->mem + base + v * size, &gate, real ? 4 : 8);
	}
	if (real) /* cli; hlt: what jumps to the BIOS wants to boot again */
		memcpy(vm->mem + RESET, "\xfa\xf4", 2);
	sregs->idt.base = base;
	sregs->idt.limit = (u16)(256 * size - 1);
}

/*
 * The linear address of an offset in a segment. While 64-bit code runs there
 * are no bases; otherwise linear addresses have 32 bits.
 */
static u64 linear(bool is64, const struct kvm_segment *segment, u64 offset)
{
	return is64 ? offset : (u32)(segment->base + offset);
}

/* The linear address of the instruction that RIP points to. */
static u64 code_address(const struct vm *vm)
{
	return linear(vm->sregs.cs.l, &vm->sregs.cs, vm->regs.rip);
}

/* The bits of RSP that are the stack pointer, by the code and the stack. */
static u64 stack_mask(const struct vm *vm)
{
	return vm->sregs.cs.l ? -1ull : vm->sregs.ss.db ? 0xffffffff : 0xffff;
}

/* The linear address of the top of the stack. */
static u64 stack_top(const struct vm *vm)
{
	return linear(vm->sregs.cs.l, &vm->sregs.ss,
		      vm->regs.rsp & stack_mask(vm));
}

/* Take a word of size bytes off the stack, as POP does; 0 if none is there. */
static u64 pop(struct vm *vm, size_t size)
{
	u64 mask = stack_mask(vm), value = 0;

	read_guest(vm, stack_top(vm), &value, size);
	vm->regs.rsp = (vm->regs.rsp & ~mask) | ((vm->regs.rsp + size) & mask);
	return value;
}

/*
 * The segment register that results when a selector is loaded into CS or SS. In
 * real mode its base is 16 times the selector. Elsewhere its descriptor is in
 * the LDT if bit 2 is set, and else in the GDT. Outside of long mode there is
 * no 64-bit code.
 */
static struct kvm_segment find_segment(struct vm *vm, u64 selector)
{
	struct kvm_sregs *s = &vm->sregs;
	u64 table = selector & 4 ? s->ldt.base : s->gdt.base;
	u64 desc = CODE16 | (selector & 0xffff) << 20;
	struct kvm_segment found;

	if (s->cr0 & X86_CR0_PE)
		read_guest(vm, table + (selector & 0xfff8), &desc, 8);
	found = segment((u16)selector, desc);
	found.l = found.l && gate_size(s) == 16;
	return found;
}

/* The exceptions, by vector: SDM "Exception and Interrupt Vectors". */
/* clang-format off */
static const struct exception {
	const char *name;
	bool coded; /* it brings an error code, but not in real mode */
	int signal; /* for gdb, if it is not SIGSEGV */
} exceptions[256] = {
	{ "#DE divide error", 0, SIGFPE },
	{ "#DB debug exception", 0, SIGTRAP }, { "NMI interrupt", 0, 0 },
	{ "#BP breakpoint", 0, SIGTRAP }, { "#OF overflow", 0, 0 },
	{ "#BR BOUND range exceeded", 0, 0 },
	{ "#UD invalid opcode", 0, SIGILL },
	{ "#NM device not available", 0, 0 }, { "#DF double fault", 1, 0 },
	{ "coprocessor segment overrun", 0, 0 }, { "#TS invalid TSS", 1, 0 },
	{ "#NP segment not present", 1, 0 },
	{ "#SS stack-segment fault", 1, 0 }, { "#GP general protection", 1, 0 },
	{ "#PF page fault", 1, 0 }, { "reserved", 0, 0 },
	{ "#MF x87 floating-point error", 0, SIGFPE },
	{ "#AC alignment check", 1, 0 }, { "#MC machine check", 0, 0 },
	{ "#XM SIMD floating-point exception", 0, SIGFPE },
	{ "#VE virtualization exception", 0, 0 },
	{ "#CP control protection exception", 1, 0 },
	[22 ... 255] = { "reserved", 0, 0 },
};
/* clang-format on */

/*
 * The CPU is in the stub of vm->vector. Put vm->regs and vm->sregs back to
 * where the exception happened, as IRET would. This is the frame, from the top
 * of the stack up (SDM "Exception- or Interrupt-Handler Procedures", "64-Bit
 * Mode Stack Frame", and for real mode "Interrupt and Exception Handling"):
 *
 *	+------------+
 *	| SS         |  in long mode, or if the exception was in another ring
 *	| RSP        |
 *	+------------+
 *	| RFLAGS     |
 *	| CS         |
 *	| RIP        |
 *	+------------+
 *	| error code |  for some exceptions, but not for INT n
 *	+------------+  <- RSP
 *
 * A word of it has half of a gate's size, whatever CS says. It was an INT n if
 * that instruction is before RIP. But its bytes may be another instruction's,
 * so this is not looked at for the first vectors, which any code may cause.
 */
static void unwind(struct vm *vm)
{
	size_t word = gate_size(&vm->sregs) / 2;
	u64 rip = pop(vm, word), cs = pop(vm, word), rsp;
	struct kvm_segment code = find_segment(vm, cs);
	u16 before = 0; /* of an INT n: cd n */

	read_guest(vm, linear(code.l, &code, rip - 2), &before, 2);
	vm->by_int = vm->vector > 7 && before == (vm->vector << 8 | 0xcd);
	vm->error_code = 0;
	if (exceptions[vm->vector].coded && !vm->by_int && word > 2) {
		vm->error_code = rip;
		rip = cs;
		cs = pop(vm, word);
	}
	vm->regs.rip = rip;
	/* In real mode the frame has the lower half of it. */
	vm->regs.rflags &= word == 2 ? ~0xffffull : 0;
	vm->regs.rflags |= pop(vm, word);
	if (vm->on[STEP]) /* its trap flag is KVM's, and not the guest's */
		vm->regs.rflags &= ~(u64)X86_EFLAGS_TF;
	if (word == 8 || (word == 4 && cs & 3)) {
		rsp = pop(vm, word);
		vm->sregs.ss = find_segment(vm, pop(vm, word));
		vm->regs.rsp = rsp;
	}
	vm->sregs.cs = find_segment(vm, cs);
}

/*
 * Have KVM copy the registers out. If the CPU is in a stub, they are put back
 * to where the exception was: the guest's own are in vm->regs and vm->sregs.
 * Then vm->vector, by_int and error_code tell what happened; else vm->vector is
 * -1. RIP is at the stub's OUT, or under kvm-pvm after it, and so within the
 * stub's four bytes in any case.
 */
static void get_registers(struct vm *vm)
{
	const struct kvm_run *run = vm->kvm_run;
	u64 stub;

	KVM(vm->vcpu_fd, KVM_GET_REGS, &vm->regs);
	KVM(vm->vcpu_fd, KVM_GET_SREGS, &vm->sregs);
	vm->vector = -1;
	stub = vm->sregs.cr0 & X86_CR0_PE ? STUBS : REAL_STUBS;
	stub = (code_address(vm) - stub) / 4;
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != STUB_PORT ||
	    run->io.direction != KVM_EXIT_IO_OUT || stub >= 256)
		return;
	vm->vector = (int)stub;
	unwind(vm);
}

/* A region of guest physical memory. It ends where the next one begins. */
struct region {
	u64 start;
	const char *name;
};

/* The region that an address is in. What starts at NOWHERE is not there. */
static struct region region_at(const struct vm *vm, u64 address)
{
	const u64 NOWHERE = -1ull, real = vm->mode->bits == 16 ? 0 : NOWHERE;
	const struct region regions[] = {
		{ IVT, "the interrupt vectors of real mode" },
		{ RESULT, "the result" },
		{ GDT | real, "free memory" },
		{ GDT | ~real, "the GDT" },
		{ FREE | ~real, "free memory below the tables" },
		{ STUBS | ~real, "the exception stubs" },
		{ IDT | ~real, "the IDT" },
		{ PML4 | ~real, "the page tables" },
		{ TABLES_END | ~real, "RAM below the image" },
		{ vm->start, "the image" },
		{ vm->end, "RAM above the image, and the stack" },
		{ REAL_STUBS | real, "the exception stubs" },
		{ vm->mem_size, "beyond the end of RAM" },
	};
	const struct region *region = regions + ARRAY_SIZE(regions) - 1;

	while (region->start > address)
		region--;
	return *region;
}

/*
 * The name of the region where a linear address leads, or of that at the
 * address itself if the guest's page tables lead nowhere.
 */
static const char *region_name(struct vm *vm, u64 linear)
{
	u64 address = physical_address(vm, linear);

	return region_at(vm, address == NOT_MAPPED ? linear : address).name;
}

/*
 * Go on with count words of size bytes, from a linear address up, or with why
 * they are not there.
 */
static void more_words(struct vm *vm, u64 linear, size_t size, int count)
{
	u64 word = 0;
	size_t done;

	for (; count > 0; count--, linear += size) {
		done = read_guest(vm, linear, &word, size);
		if (done < size)
			break;
		more(" %0*llx", (int)size * 2, word);
	}
	if (count > 0)
		more(physical_address(vm, linear + done) == NOT_MAPPED
			     ? " (not mapped by the guest's page tables)"
			     : " (no RAM)");
}

/*
 * Go on with the names of the bits that are set, each after a space. The names
 * are those of the bits from 0 up, with a dot where there is none.
 */
static void more_bits(const char *names, u64 value)
{
	for (; *names; value >>= 1) {
		int len = (int)strcspn(names, " ");

		if (value & 1 && *names != '.')
			more(" %.*s", len, names);
		names += len + (names[len] == ' ');
	}
}

/* Print a register, and the names of its bits that are set. */
static void show_register(const char *name, u64 value, const char *bits)
{
	say("  %-6s %016llx", name, value);
	more_bits(bits, value);
	more("\n");
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

/* Print all registers, as get_registers() has left them. */
static void show_registers(const struct vm *vm)
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
	show_register("RFLAGS", vm->regs.rflags,
		      "CF . PF . AF . ZF SF TF IF DF "
		      "OF . . NT . RF VM AC VIF VIP ID");
	for (int i = 0; i < 8; i++)
		say("  %-3s %04x base %08llx limit %08x type %-2u dpl %u%s%s\n",
		    segment_names[i], seg[i].selector, seg[i].base,
		    seg[i].limit, seg[i].type, seg[i].dpl,
		    seg[i].l ? " 64-bit" : "", seg[i].db ? " 32-bit" : "");
	say("  GDT base %08llx limit %04x  IDT base %08llx limit %04x\n",
	    s->gdt.base, s->gdt.limit, s->idt.base, s->idt.limit);
	show_register("CR0", s->cr0,
		      "PE MP EM TS ET NE . . . . . . . . . . WP "
		      ". AM . . . . . . . . . . NW CD PG");
	say("  CR2    %016llx  CR3 %016llx\n", s->cr2, s->cr3);
	show_register("CR4", s->cr4,
		      "VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR "
		      "OSXMMEXCPT UMIP LA57 VMXE SMXE . FSGSBASE PCIDE OSXSAVE "
		      ". SMEP SMAP PKE");
	show_register("EFER", s->efer, "SCE . . . . . . . LME . LMA NXE");
}

/* Print where the CPU is, its registers and the top of its stack. */
static void show_state(struct vm *vm)
{
	u64 rip = code_address(vm), sp = stack_top(vm);
	size_t word = vm->sregs.cs.l ? 8 : vm->sregs.cs.db ? 4 : 2;

	say("at address 0x%llx (%s):", rip, region_name(vm, rip));
	more_words(vm, rip, 1, 15); /* the longest instruction */
	more("\n");
	show_registers(vm);
	say("  stack, from 0x%llx up:", sp);
	more_words(vm, sp, word, 8);
	more("\n");
}

/*
 * Is an SSE instruction at RIP, while that is not allowed? It may have a
 * prefix. Its opcode is two bytes: 0x0f, and another from 0x10 on.
 */
static bool lacks_sse(struct vm *vm)
{
	u8 code[3] = { 0 };
	bool prefix;

	read_guest(vm, code_address(vm), code, 3);
	prefix = code[0] == 0x66 || code[0] == 0xf2 || code[0] == 0xf3;
	return !(vm->sregs.cr4 & X86_CR4_OSFXSR) && code[prefix] == 0x0f &&
	       code[prefix + 1] >= 0x10;
}

/*
 * Go on with which exception it is, or which INT that nothing handles. For the
 * bits of error codes see SDM "Error Code", and for #PF "Page-Fault
 * Exceptions".
 */
static void more_exception(struct vm *vm)
{
	u64 error = vm->error_code;

	if (vm->by_int) {
		more("INT 0x%02x, ", (unsigned)vm->vector);
		if (vm->sregs.cr0 & X86_CR0_PE)
			more("and nothing handles it");
		else
			more("AX is 0x%04x, and there is no such service",
			     (u16)vm->regs.rax);
		return;
	}
	more("exception %d, %s", vm->vector, exceptions[vm->vector].name);
	if (vm->vector == UD_VECTOR && lacks_sse(vm))
		more(" (SSE? CR4.OSFXSR is off)");
	if (vm->vector == PF_VECTOR) {
		more(", error code 0x%llx: %s a page that %s", error,
		     error & 2 ? "write to" : "read of",
		     error & 1 ? "forbids it" : "is not present");
		more_bits(". . USER RESERVED FETCH", error);
		more("; CR2 is 0x%llx (%s)", vm->sregs.cr2,
		     region_name(vm, vm->sregs.cr2));
	} else if (error) {
		more(", error code 0x%llx: %s 0x%llx", error,
		     error & 2 ? "vector" : "selector",
		     error & 2 ? error >> 3 : error & 0xfff8);
		more_bits("EXT IDT LDT", error);
	}
}

/* The exits that a guest may come to, without the KVM_EXIT_ that all have. */
/* clang-format off */
static const char exit_names[64][16] = {
	[KVM_EXIT_IO] = "IO", [KVM_EXIT_DEBUG] = "DEBUG",
	[KVM_EXIT_HLT] = "HLT", [KVM_EXIT_MMIO] = "MMIO",
	[KVM_EXIT_SHUTDOWN] = "SHUTDOWN", [KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
	[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
};
/* clang-format on */

/* Go on with an access, if the exit is for one: to a port, or to memory. */
static void more_access(const struct kvm_run *run)
{
	bool io = run->exit_reason == KVM_EXIT_IO;
	bool write = io ? run->io.direction : run->mmio.is_write;
	u32 size = io ? run->io.size : run->mmio.len;
	const u8 *data =
		io ? (const u8 *)run + run->io.data_offset : run->mmio.data;

	if (!io && run->exit_reason != KVM_EXIT_MMIO)
		return;
	more(write ? ": a %u-byte write of 0x%llx to" : ": a %u-byte read from",
	     size, write ? little_endian(data, size) : 0);
	more(" %s 0x%llx", io ? "port" : "address",
	     io ? run->io.port : run->mmio.phys_addr);
}

/* Go on with an exit that nothing handles. */
static void more_exit(struct vm *vm)
{
	const struct kvm_run *run = vm->kvm_run;
	u32 reason = run->exit_reason, number = run->internal.suberror;

	more("KVM_EXIT_%s (%u)", exit_names[reason % 64], reason);
	more_access(run);
	if (reason == KVM_EXIT_IO || reason == KVM_EXIT_MMIO)
		more(", which is not there");
	else if (reason == KVM_EXIT_SHUTDOWN)
		more(": triple fault (KVM may have reset the registers)");
	else if (!translate(vm, code_address(vm)))
		more(": there is no memory at RIP");
	else if (reason == KVM_EXIT_INTERNAL_ERROR &&
		 number == KVM_INTERNAL_ERROR_EMULATION)
		more(": KVM cannot emulate an instruction (SSE? try "
		     "-mgeneral-regs-only. INT? not on kvm-pvm)");
	else
		more(": KVM gave up, reason 0x%x", number);
}

/*
 * The guest has failed, or a signal has stopped it: status says which. Say why,
 * and how things stood, and make that the status. (Not by strsignal(), which
 * may want to make a system call.)
 */
static void report(struct vm *vm, int status)
{
	get_registers(vm);
	say("the guest %s: ", status == STATUS_GUEST ? "failed" : "stopped");
	if (status != STATUS_GUEST)
		more(status == STATUS_TIMEOUT ? "its time is over (--timeout)"
		     : status == STATUS_SIGNAL + SIGINT ? "Interrupt"
							: "Terminated");
	else if (vm->vector >= 0)
		more_exception(vm);
	else
		more_exit(vm);
	more(vm->guessed ? " (real mode was a guess: -s, -p, -l?)\n" : "\n");
	if (!vm->gdb) /* which would ask itself */
		show_state(vm);
	vm->status = status;
}

/*
 * The guest has ended as it should. Say how, if it was not by a HLT from which
 * nothing is to wake it; and if it has not printed, the likeliest cause.
 */
static void explain_halt(struct vm *vm)
{
	bool silent = !vm->exits[KVM_EXIT_IO] && !vm->collected;

	get_registers(vm);
	if (vm->why)
		say("the guest has ended: %s\n", vm->why);
	else if (vm->regs.rflags & X86_EFLAGS_IF)
		say("the guest waits for an interrupt: none ever comes\n");
	else if (silent && vm->guessed && vm->image_size == SECTOR)
		say("no output: a boot sector would end with 55 AA\n");
	else if (silent && vm->guessed)
		say("no output: real mode was a guess; try -s, -p or -l\n");
}

/* ===================================================================== 13 ===
 * What boot sectors call: BIOS services, the disk, input, the screen
 *
 * Boot sectors and first kernels are written for a PC, and call its BIOS by INT
 * n. In real mode each vector leads to a stub, whose OUT leaves the guest
 * (chapter 12). So INT n is a hypercall. A service looks at the guest's
 * registers as the INT left them, and changes them. To add one, write a
 * function, and give it a row in the table of services. The function gets the
 * number that stands in the row.
 *
 * The disk is the image's file, and the keyboard is stdin. Numbers and
 * registers are as in Ralf Brown's Interrupt List.
 */
enum { FLOPPY = 2880 };                      /* its sectors: 1.44 MB */
enum { LOW_END = 0x9fc00, HIGH = 0x100000 }; /* of RAM, as a BIOS tells it */
enum { ANY = 256 };                          /* any AH */

/* Is the image a boot sector, or a disk that begins with one? */
static bool is_boot_sector(const struct vm *vm)
{
	return vm->mode->bits == 16 && !vm->elf && vm->image_size >= SECTOR &&
	       little_endian(vm->image + SECTOR - 2, 2) == 0xaa55;
}

/*
 * The first registers of struct kvm_regs, as 16-bit code calls them and their
 * parts. What is written to a part leaves the rest as it is.
 */
/* clang-format off */
struct regs16 {
	union { struct { u8 al, ah; }; u16 ax; u64 rax; };
	union { u16 bx; u64 rbx; };
	union { struct { u8 cl, ch; }; u16 cx; u64 rcx; };
	union { struct { u8 dl, dh; }; u16 dx; u64 rdx; };
	union { u16 si; u64 rsi; };
	union { u16 di; u64 rdi; };
	u64 rsp;
	union { u16 bp; u64 rbp; };
} __attribute__((may_alias)); /* it is laid over struct kvm_regs */
/* clang-format on */

static void set_flag(struct vm *vm, u64 flag, bool on)
{
	vm->regs.rflags &= ~flag;
	vm->regs.rflags |= on ? flag : 0;
}

/* So the disk's and the system's services end: is AH an error? CF says it. */
static void set_ah(struct vm *vm, struct regs16 *r, u32 ah)
{
	r->ah = (u8)ah;
	set_flag(vm, X86_EFLAGS_CF, ah != 0);
}

static void set_ax(struct vm *vm, struct regs16 *r, u32 ax)
{
	r->ax = (u16)ax;
}

static void do_nothing(struct vm *vm, struct regs16 *r, u32 number)
{
}

/* The guest has ended, without a HLT. */
static void end_guest(struct vm *vm, struct regs16 *r, u32 number)
{
	vm->status = STATUS_OK;
	vm->why = "it would boot again";
}

/* Print AL n times, or if n is 0 CX times. (Many blanks clear the screen.) */
static void print_al(struct vm *vm, struct regs16 *r, u32 n)
{
	for (n = n ? n : r->cx; n > 0 && (n <= 80 || r->al != ' '); n--)
		console_out(vm, &r->al, 1);
}

/* Print CX characters at ES:BP, each with an attribute if AL has bit 1. */
static void print_string(struct vm *vm, struct regs16 *r, u32 number)
{
	u64 text = vm->sregs.es.base + r->bp, step = r->al & 2 ? 2 : 1;
	u8 c;

	for (u32 n = r->cx; n > 0 && read_guest(vm, text, &c, 1); n--) {
		console_out(vm, &c, 1);
		text += step;
	}
}

/* The cursor goes to row DH. Without a newline texts would run together. */
static void set_cursor(struct vm *vm, struct regs16 *r, u32 number)
{
	u8 newline = '\n';

	if (r->dh != vm->row)
		console_out(vm, &newline, 1);
	vm->row = r->dh;
}

static void get_cursor(struct vm *vm, struct regs16 *r, u32 number)
{
	r->dx = (u16)(vm->row << 8);
}

/*
 * The geometry of the disk: the number at a place in its BIOS parameter block,
 * if the boot sector has one, or else that of a drive as DL says.
 */
static u64 geometry(const struct vm *vm, u64 place, u64 floppy, u64 hard)
{
	u64 number = little_endian(vm->image + place, 2);

	if (number && vm->boot && little_endian(vm->image + 0x0b, 2) == SECTOR)
		return number;
	return vm->regs.rdx & 0x80 ? hard : floppy;
}

#define TRACK geometry(vm, 0x18, 18, 63) /* its sectors */
#define HEADS geometry(vm, 0x1a, 2, 16)

/* How many sectors it has: as the file, but as many as a floppy at least. */
static u64 disk_sectors(const struct vm *vm)
{
	u64 in_file = (vm->image_size + SECTOR - 1) / SECTOR;

	return in_file > FLOPPY ? in_file : FLOPPY;
}

/*
 * Read n sectors to a guest physical address. What is beyond the end of the
 * file is zero.
 */
static void read_sectors(struct vm *vm, struct regs16 *r, u64 first, u64 n,
			 u64 to)
{
	u64 all = disk_sectors(vm), size = n * SECTOR, rest = 0;

	if (to + size > vm->mem_size || first >= all || n > all - first) {
		set_ah(vm, r, 0x04); /* sector not found */
		return;
	}
	if (first * SECTOR < vm->image_size)
		rest = vm->image_size - first * SECTOR;
	memset(vm->mem + to, 0, size);
	memcpy(vm->mem + to, vm->image + first * SECTOR,
	       rest < size ? rest : size);
	set_ah(vm, r, 0);
}

/* AL sectors to ES:BX; cylinder CL 7..6 and CH, head DH, sector CL 5..0. */
static void read_track(struct vm *vm, struct regs16 *r, u32 number)
{
	u64 track = ((r->cl & 0xc0u) << 2 | r->ch) * HEADS + r->dh;
	u64 sector = r->cl & 0x3f; /* from 1 on */

	read_sectors(vm, r, sector ? track * TRACK + sector - 1 : -1ull, r->al,
		     vm->sregs.es.base + r->bx);
}

/* By the packet at DS:SI: n, offset and segment, and the first sector. */
static void read_by_packet(struct vm *vm, struct regs16 *r, u32 number)
{
	struct {
		u16 size, n, offset, segment;
		u64 first;
	} p = { .first = -1ull };

	read_guest(vm, vm->sregs.ds.base + r->si, &p, sizeof(p));
	read_sectors(vm, r, p.first, p.n, p.segment * 16u + p.offset);
}

/* The last cylinder, head and sector, as read_track() has them; one drive. */
static void get_disk(struct vm *vm, struct regs16 *r, u32 number)
{
	u64 last = disk_sectors(vm) / (HEADS * TRACK);

	last -= last > 0; /* if the first cylinder is not whole, it is that */
	last = last < 1023 ? last : 1023;
	r->cx = (u16)(last << 8 | (last >> 8 & 3) << 6 | TRACK);
	r->dx = (u16)((HEADS - 1) << 8 | 1);
	set_ah(vm, r, 0);
}

static void get_extensions(struct vm *vm, struct regs16 *r, u32 number)
{
	r->bx = 0xaa55;
	r->cx = 1; /* read_by_packet() */
	set_ah(vm, r, 0);
}

/* The KiB above 1 MiB. */
static void get_high_memory(struct vm *vm, struct regs16 *r, u32 number)
{
	u64 kib = (vm->mem_size - HIGH) / 1024;

	set_ah(vm, r, 0);
	r->ax = kib < 0xffff ? (u16)kib : 0xffff;
}

/* Range EBX, 0 or 1, goes to ES:DI. EBX becomes the next one's number, or 0. */
static void get_memory_map(struct vm *vm, struct regs16 *r, u32 number)
{
	const u64 ranges[2][3] = { { 0, LOW_END, 1 },
				   { HIGH, vm->mem_size - HIGH, 1 } };
	const u32 smap = 0x534d4150, i = (u32)r->rbx;

	set_ah(vm, r, 0x86);
	if (r->al != 0x20 || i > 1 || (u32)r->rdx != smap)
		return;
	write_guest(vm, vm->sregs.es.base + r->di, ranges[i], 20);
	set_ah(vm, r, 0);
	r->rax = smap;
	r->rbx = !i;
	r->rcx = 20;
}

/* Set the clock of a PC's BIOS, and return it: ticks since the start. */
static u32 set_clock(struct vm *vm)
{
	u32 ticks = (u32)((now() - vm->began) * 18.2065); /* a second */

	memcpy(vm->mem + TICKS, &ticks, sizeof(ticks));
	return ticks;
}

static void get_clock(struct vm *vm, struct regs16 *r, u32 number)
{
	u32 ticks = set_clock(vm);

	r->cx = (u16)(ticks >> 16);
	r->dx = (u16)ticks;
	set_ah(vm, r, 0);
	r->al = 0; /* no midnight has passed */
}

/*
 * Does a byte of stdin wait? Look for so many milliseconds, or if that is -1
 * until a signal comes. vm->input becomes the byte, or at the end NO_MORE.
 */
static bool input_waits(struct vm *vm, int timeout)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	u8 byte;

	if (vm->input == NO_INPUT && poll(&in, 1, timeout) > 0)
		vm->input = read(STDIN_FILENO, &byte, 1) == 1 ? byte : NO_MORE;
	return vm->input >= 0;
}

/*
 * COM1, a serial port. What is written to its first register is output, and
 * what is read there is input. But bit 7 of LCR makes that register the divisor
 * latch, and bit 4 of MCR loops it back, with the lines of the modem. Each
 * register keeps what is written to it, and gives it back. So drivers find that
 * the port works.
 */
static void serial_port(struct vm *vm, u8 *data, u32 size)
{
	enum { IIR = 2, LCR, MCR, LSR, MSR };
	u32 reg = vm->kvm_run->io.port - COM1;
	u8 modem = vm->com1[MCR], *kept = &vm->com1[reg];
	bool loop = modem & 0x10, on_line = !loop && !(vm->com1[LCR] & 0x80);

	if (vm->kvm_run->io.direction == KVM_EXIT_IO_OUT) {
		*kept = data[0];
		if (reg == 0 && on_line)
			console_out(vm, data, size);
		return;
	}
	if (reg == 0 && on_line && input_waits(vm, 0)) {
		*kept = (u8)vm->input;
		vm->input = NO_INPUT;
	}
	data[0] = *kept;
	if (reg == IIR)
		data[0] = 1; /* no interrupt is pending */
	else if (reg == LSR) /* all is sent; does a byte wait? */
		data[0] = loop || input_waits(vm, 0) ? 0x61 : 0x60;
	else if (reg == MSR && loop) /* RTS, DTR, OUT1, OUT2 */
		data[0] = (u8)((modem & 2) << 3 | (modem & 1) << 5 |
			       (modem & 12) << 4);
}

/*
 * Boot code sets up devices of a PC that are not here, and does without. IN
 * gives 0. But at 0x61, 0x64 and 0x3DA it waits for a bit to be set, or to be
 * clear. So all bits change there each time.
 */
static void ignore(struct vm *vm, u8 *data, u32 size)
{
	u16 port = vm->kvm_run->io.port;
	bool state = port == 0x61 || port == 0x64 || port == 0x3DA;

	if (vm->kvm_run->io.direction == KVM_EXIT_IO_OUT)
		return;
	if (state)
		vm->pulse = (u8)~vm->pulse;
	memset(data, state ? vm->pulse : 0, size);
}

/* Look whether a key waits. If so ZF is clear, and AX has it. */
static void peek_key(struct vm *vm, struct regs16 *r, u32 number)
{
	set_flag(vm, X86_EFLAGS_ZF, !input_waits(vm, 0));
	if (vm->input >= 0) /* Enter is a carriage return */
		r->ax = vm->input == '\n' ? '\r' : (u16)vm->input;
}

/* Wait for a key, and take it. At the end of stdin there will never be one. */
static void get_key(struct vm *vm, struct regs16 *r, u32 number)
{
	u64 flags = vm->regs.rflags;

	flush_output(); /* it may be a prompt */
	while (!stopped && vm->input == NO_INPUT)
		input_waits(vm, -1);
	peek_key(vm, r, 0);
	vm->regs.rflags = flags;
	if (vm->input >= 0) {
		vm->input = NO_INPUT;
	} else if (!stopped) {
		vm->status = STATUS_OK;
		vm->why = "it waits for a key, and stdin has ended";
	}
}

/* The services, by interrupt and AH. Of rows that fit the first one counts. */
/* clang-format off */
static const struct service {
	int vector;
	u32 ah; /* ANY: all others */
	void (*serve)(struct vm *vm, struct regs16 *r, u32 number);
	u32 number;
} services[] = {
	{ 0x10, 0x02, set_cursor, 0 },     { 0x10, 0x03, get_cursor, 0 },
	{ 0x10, 0x09, print_al, 0 },       { 0x10, 0x0a, print_al, 0 },
	{ 0x10, 0x0e, print_al, 1 },       { 0x10, 0x0f, set_ax, 0x5003 },
	{ 0x10, 0x13, print_string, 0 },   { 0x10, ANY, do_nothing, 0 },
	{ 0x11, ANY, set_ax, 0x221 },      { 0x12, ANY, set_ax, 639 },
	{ 0x13, 0x00, set_ah, 0 },         { 0x13, 0x02, read_track, 0 },
	{ 0x13, 0x03, set_ah, 0x03 },      { 0x13, 0x04, set_ah, 0 },
	{ 0x13, 0x08, get_disk, 0 },       { 0x13, 0x41, get_extensions, 0 },
	{ 0x13, 0x42, read_by_packet, 0 }, { 0x13, 0x43, set_ah, 0x03 },
	{ 0x13, ANY, set_ah, 0x86 },       { 0x15, 0x24, set_ah, 0 },
	{ 0x15, 0x88, get_high_memory, 0 }, { 0x15, 0xe8, get_memory_map, 0 },
	{ 0x15, ANY, set_ah, 0x86 },       { 0x16, 0x00, get_key, 0 },
	{ 0x16, 0x01, peek_key, 0 },       { 0x16, 0x10, get_key, 0 },
	{ 0x16, 0x11, peek_key, 0 },       { 0x16, ANY, set_ax, 0 },
	{ 0x18, ANY, end_guest, 0 },       { 0x19, ANY, end_guest, 0 },
	{ 0x1a, 0x00, get_clock, 0 },      { 0x1a, ANY, set_ah, 0x86 },
};
/* clang-format on */

/*
 * The guest has left by an OUT that is in no row of the ports. If it is a
 * stub's, and a service's vector led there, serve it. Guests may take a vector,
 * and go on to the stub by a call or a jump. So it need not have been an INT,
 * but where the x87's errors are exceptions, INT 10h and #MF are told apart.
 */
static bool serve_bios(struct vm *vm)
{
	const struct service *s = services, *end = s + ARRAY_SIZE(services);
	struct regs16 *r = (struct regs16 *)&vm->regs;

	get_registers(vm);
	while (s < end &&
	       (s->vector != vm->vector || (s->ah != ANY && s->ah != r->ah)))
		s++;
	if (s == end || vm->sregs.cr0 & X86_CR0_PE ||
	    (vm->sregs.cr0 & X86_CR0_NE && !vm->by_int))
		return false;
	if (vm->on[TRACE])
		say("INT 0x%02x, AX 0x%04x\n", s->vector, r->ax);
	s->serve(vm, r, s->number);
	complete_io(vm);
	KVM(vm->vcpu_fd, KVM_SET_SREGS, &vm->sregs);
	KVM(vm->vcpu_fd, KVM_SET_REGS, &vm->regs);
	return true;
}

/*
 * KVM_RUN was interrupted, by a tick mostly. Move the clock of a PC's BIOS. See
 * whether the guest jumps to itself: then it has ended, for no interrupt ever
 * comes that would change that. Under gdb it goes on, for gdb may change it.
 */
static void handle_tick(struct vm *vm)
{
	u8 code[2] = { 0 };

	get_registers(vm);
	if (!(vm->sregs.cr0 & X86_CR0_PE))
		set_clock(vm);
	read_guest(vm, code_address(vm), code, 2);
	if (code[0] != 0xeb || code[1] != 0xfe || stopped || vm->gdb)
		return;
	vm->status = STATUS_OK;
	vm->why = "it jumps to itself";
}

/*
 * Print what the guest has written to the text screen of a PC: 25 rows of 80
 * cells, which are a character and an attribute. The attributes 0 and 0xff show
 * nothing, and are what a table of words looks like. Blanks at the end of a row
 * are left out, and so are the last rows if they are blank. Where the image has
 * been loaded there is no screen.
 */
static void show_screen(const struct vm *vm)
{
	const u8 *cell = vm->mem + SCREEN;
	char text[25][80];
	int rows = 0, columns[25] = { 0 };

	if (vm->start < SCREEN + 2 * sizeof(text) && vm->end > SCREEN)
		return;
	for (int i = 0; i < 25 * 80; i++, cell += 2) {
		bool hidden = cell[0] == 0 || cell[1] == 0 || cell[1] == 0xff;
		char c = isprint(cell[0]) ? (char)cell[0] : '.';

		c = hidden ? ' ' : c;
		text[i / 80][i % 80] = c;
		if (c == ' ')
			continue;
		rows = i / 80 + 1;
		columns[i / 80] = i % 80 + 1;
	}
	for (int i = 0; i < rows; i++)
		say("|%.*s\n", columns[i], text[i]);
}

/*
 * Multiboot is how boot loaders start kernels in protected mode. Does the image
 * have a header for that? Returns its version, 1 or 2; or 0; or 3 if it is
 * version 2 and has a tag (type 3) for an entry of its own.
 */
static unsigned multiboot(const struct vm *vm)
{
	u64 size = vm->image_size < 32768 ? vm->image_size : 32768;
	u64 tag = 0; /* of version 2: where the next one is */
	u32 w[4] = { 0 };

	for (u64 i = 0; i + 12 <= size; i += 4) {
		memcpy(w, vm->image + i, size - i < 16 ? 12 : 16);
		if (i < 8192 && w[0] == 0x1BADB002 && w[0] + w[1] + w[2] == 0)
			return 1;
		if (tag && i == tag) {
			if ((u16)w[0] == 3)
				return 3;
			tag += (w[1] + 7ull) & ~7ull;
		}
		if (w[0] == 0xE85250D6 && w[0] + w[1] + w[2] + w[3] == 0 &&
		    i % 8 == 0) {
			tag = i + 16;
			size = i + w[2] < size ? i + w[2] : size;
		}
	}
	return tag ? 2 : 0;
}

/*
 * The bits of the code at the image's entry, 0 for a flat one: an ELF file's
 * class says it, but what Multiboot starts is 32-bit code in any case.
 */
static unsigned code_bits(const struct vm *vm)
{
	return vm->elf == 64 && multiboot(vm) % 3 ? 32 : vm->elf;
}

/*
 * What a boot loader leaves in registers: in DL the drive, a floppy or a hard
 * disk by its size; for Multiboot the version, and where it tells of the RAM. A
 * stack that would have little room below the entry is where a BIOS has it.
 */
static void set_boot_registers(struct vm *vm, struct kvm_regs *regs)
{
	const u32 low = LOW_END / 1024, size = (u32)vm->mem_size - HIGH;
	/* clang-format off */
	const u32 info[2][25] = { /* flags, kilobytes; then those of the map */
		{ 0x41, low, size / 1024, 0, 0, 0, 0, 0, 0, 0, 0, 48, FREE + 52,
		20, 0, 0, LOW_END, 0, 1, 20, HIGH, 0, size, 0, 1 },
		/* version 2 has tags: kilobytes, map, end */
		{ 96, 0, 4, 16, low, size / 1024, 6, 64, 24, 0,
		0, 0, LOW_END, 0, 1, 0, HIGH, 0, size, 0, 1, 0, 0, 8 } };
	/* clang-format on */
	unsigned version = vm->mode->bits == 32 ? multiboot(vm) : 0;

	if (vm->boot)
		regs->rdx = vm->image_size > FLOPPY * SECTOR ? 0x80 : 0;
	if (vm->mode->bits == 16 && regs->rip < STACK_ROOM)
		regs->rsp = BOOT;
	if (version == 0)
		return;
	regs->rax = version == 1 ? 0x2BADB002 : 0x36D76289;
	regs->rbx = FREE;
	memcpy(vm->mem + FREE, info[version > 1], sizeof(info[0]));
}

/* ===================================================================== 14 ===
 * Watching it run: --verbose, --trace, --step, --stats
 *
 * What the options show of a run that goes well.
 */

/* --verbose: draw the memory map, the end of RAM on top. */
static void show_map(const struct vm *vm)
{
	struct region region;

	for (u64 end = vm->mem_size; end > 0; end = region.start) {
		region = region_at(vm, end - 1);
		say("  +--- 0x%llx\n", end);
		say("  |    %s\n", region.name);
	}
	say("  +--- 0x0\n");
}

/*
 * --verbose: print the way of an address through the page tables, as the CPU
 * walks them. In each table an index, which is a part of the address, leads to
 * an entry. The entry leads to the next table, until PS says that it is a page.
 * In the last table each entry is one, of 4 KiB. Without PRESENT the way ends.
 */
static void show_walk(const struct vm *vm, u64 address)
{
	static const char names[][5] = { "PT", "PD", "PDPT", "PML4" };
	bool lma = vm->sregs.efer & EFER_LMA;
	int level = lma ? 3 : 1, bits = lma ? 9 : 10, shift = 12 + level * bits;
	u64 entry = vm->sregs.cr3, table, index, size = lma ? 8 : 4;

	say("address 0x%llx: CR3 = 0x%llx\n", address, entry);
	for (;; level--, shift -= bits) {
		table = entry & ~0xfffull;
		index = address >> shift & ((1u << bits) - 1);
		if (table >= vm->mem_size) {
			say("  no RAM for %s\n", names[level]);
			return;
		}
		entry = little_endian(vm->mem + table + index * size, size);
		say("  %s[%llu] = 0x%llx", names[level], index, entry);
		more_bits("PRESENT RW USER PWT PCD A D PS G", entry & 0xfff);
		more("\n");
		if (!(entry & PDE64_PRESENT))
			return;
		if (entry & PDE64_PS || level == 0)
			break;
	}
	size = 1ull << shift; /* of the page */
	say("  physical address 0x%llx\n",
	    (entry & ~(size - 1)) + address % size);
}

/*
 * --verbose: show what has been set up, from guest memory and from KVM. This is
 * the end of what it tells.
 */
static void show_machine(struct vm *vm)
{
	if (!verbose)
		return;
	verbose = false;
	get_registers(vm);
	show_map(vm);
	for (u64 i = 0; vm->mode->bits > 16 && i < vm->sregs.gdt.limit; i += 8)
		say("GDT: selector 0x%02llx = %016llx\n", i,
		    little_endian(vm->mem + GDT + i, 8));
	if (vm->mode->map) {
		show_walk(vm, vm->regs.rip);
		show_walk(vm, vm->mem_size - 1);
	}
	show_registers(vm);
}

/*
 * --trace: print the exit. If it was for I/O that has been handled: an IN has
 * its data. Of that the first bytes are shown, as characters or as \xNN.
 */
static void show_exit(struct vm *vm)
{
	const struct kvm_run *run = vm->kvm_run;
	const u8 *data = (const u8 *)run;

	if (!vm->on[TRACE])
		return;
	get_registers(vm);
	say("exit %llu: KVM_EXIT_%s, RIP 0x%llx", vm->exited,
	    exit_names[run->exit_reason % 64], vm->regs.rip);
	more_access(run);
	if (run->exit_reason == KVM_EXIT_IO) {
		more(", count %u: \"", run->io.count);
		data += run->io.data_offset;
		for (u32 i = 0; i < run->io.size * run->io.count && i < 16; i++)
			more(isprint(data[i]) ? "%c" : "\\x%02x", data[i]);
		more("\"");
	}
	more("\n");
}

/* Have KVM_RUN return also for debugging: after steps, or at breakpoints. */
static void set_debug(struct vm *vm, u32 how)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | how };

	KVM(vm->vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

/*
 * Is the CPU about to execute a HLT in ring 0, where that halts? Some KVMs step
 * over it, and would not tell. Then vm->status is the end.
 */
static bool about_to_halt(struct vm *vm)
{
	u8 code = 0;

	read_guest(vm, code_address(vm), &code, 1);
	if (code != 0xf4 || vm->sregs.ss.dpl != 0)
		return false;
	vm->status = STATUS_OK;
	return true;
}

/*
 * --step: have KVM_RUN return after the next instruction. Print the registers
 * that have changed since the last time, and that instruction; nothing if none
 * has. Returns whether it ends the run.
 */
static bool show_step(struct vm *vm)
{
	const u64 *before = &vm->shown.rax, *after = &vm->regs.rax;

	if (!vm->on[STEP])
		return false;
	complete_io(vm);
	set_debug(vm, KVM_GUESTDBG_SINGLESTEP);
	get_registers(vm);
	if (memcmp(&vm->shown, &vm->regs, sizeof(vm->regs)) != 0) {
		say("step:");
		for (int i = 0; i < 18; i++)
			if (after[i] != before[i])
				more(" %s=%llx", reg_names[i], after[i]);
		more("; next:");
		more_words(vm, code_address(vm), 1, 8);
		more("\n");
	}
	vm->shown = vm->regs;
	return about_to_halt(vm);
}

/* --stats: print what the run has cost. */
static void show_stats(struct vm *vm)
{
	if (!vm->on[STATS])
		return;
	say("KVM_RUN: %llu exits, %.6f s; outside of it: %.6f s\n", vm->exited,
	    vm->run_time, now() - vm->began - vm->run_time);
	for (u32 i = 0; i < ARRAY_SIZE(vm->exits); i++)
		if (vm->exits[i])
			say("KVM_EXIT_%s: %llu\n", exit_names[i], vm->exits[i]);
}

/* ===================================================================== 15 ===
 * Output in batches: --coalesce
 *
 * KVM can collect what the guest writes to port 0xE9 in a ring, instead of
 * leaving the guest for each byte (KVM API, 4.116). The ring lies in a page
 * after struct kvm_run. We take out what it has after every KVM_RUN, and before
 * the exit is handled: so the bytes keep their place.
 */

/*
 * Switch it on, if asked to. A KVM that cannot do it is no error: the output is
 * the same.
 */
static void coalesce_console(struct vm *vm)
{
	struct kvm_coalesced_mmio_zone zone = { 0xE9, 1, { .pio = 1 } };
	long page;

	if (!vm->on[COALESCE] || vm->on[TRACE] || vm->on[STEP])
		return; /* the latter two show every exit */
	page = KVM(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	if (!page || !KVM(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO))
		return;
	KVM(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	vm->ring = (void *)((u8 *)vm->kvm_run + page * PAGE_SIZE);
}

/*
 * Take what the ring has, if there is one. Its indices are shared with the
 * kernel. One that is not within the page, which has room for so many entries,
 * is not used.
 */
static void drain_ring(struct vm *vm)
{
	struct kvm_coalesced_mmio_ring *ring = vm->ring;

	while (ring && ring->first < KVM_COALESCED_MMIO_MAX &&
	       ring->first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
		console_out(vm, ring->coalesced_mmio[ring->first].data, 1);
		vm->collected++;
		__atomic_store_n(&ring->first,
				 (ring->first + 1) % KVM_COALESCED_MMIO_MAX,
				 __ATOMIC_RELEASE);
	}
}

/* ===================================================================== 16 ===
 * The locked door
 *
 * Should a guest ever get control of this process, through a mistake in KVM or
 * here, it finds that the process can do next to nothing. From lock_door() on
 * the kernel refuses any system call but the few that are listed there.
 *
 * The list is a program for a small machine in the kernel, which runs it at
 * each system call (Documentation/userspace-api/seccomp_filter.rst in Linux's
 * source). The machine has one register. LOAD() loads a field of struct
 * seccomp_data into it, of an argument the low half. SKIP_IF() skips the next
 * instruction if the register has this value, and SKIP_UNLESS() the next n if
 * it has another. A call that no row allows is not made, and sends SIGSYS.
 */
#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_IF(value)        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0)
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n)
#define RETURN(action)        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_##action)

/*
 * Rows: allow a call; or only if one of its arguments has this value. That is
 * looked at before the call. For the kernel takes a program by trying it on the
 * number of each call there is, as far as the number alone tells: it would take
 * three percent of a launch.
 */
#define ALLOW(call) LOAD(nr), SKIP_UNLESS(call, 1), RETURN(ALLOW)
#define ALLOW_IF(call, argument, value) \
	LOAD(args[argument]), SKIP_UNLESS(value, 3), LOAD(nr), \
		SKIP_UNLESS(call, 1), RETURN(ALLOW)

/* A system call was refused: say which, and end. */
static void handle_refusal(int number, siginfo_t *info, void *context)
{
	fflush(stdout);
	warnx("refused system call %d: see lock_door()", info->si_syscall);
	fflush(stderr); /* gdb's has a buffer */
	_exit(STATUS_HOST);
}

/*
 * From here on only the calls of these rows can be made. A refused one is named
 * by handle_refusal(). It mostly means that glibc was about to report a memory
 * error if it is number 14 or 20. The numbers mean these calls only on the
 * 64-bit way into the kernel. Those of x32 have another bit, and equal none
 * here.
 */
static void lock_door(void)
{
	const struct sigaction action = { .sa_sigaction = handle_refusal,
					  .sa_flags = SA_SIGINFO };
	struct sock_filter code[] = {
		LOAD(arch),
		SKIP_IF(AUDIT_ARCH_X86_64),
		RETURN(TRAP),
		ALLOW_IF(SYS_ioctl, 1, KVM_RUN), /* it is made most often */
		ALLOW_IF(SYS_ioctl, 1, KVM_GET_REGS),
		ALLOW_IF(SYS_ioctl, 1, KVM_GET_SREGS),
		ALLOW_IF(SYS_ioctl, 1, KVM_TRANSLATE),
		ALLOW_IF(SYS_ioctl, 1, KVM_SET_REGS),
		ALLOW_IF(SYS_ioctl, 1, KVM_SET_SREGS),
		ALLOW_IF(SYS_ioctl, 1, KVM_SET_GUEST_DEBUG),
		ALLOW_IF(SYS_read, 0, STDIN_FILENO),
		ALLOW_IF(SYS_write, 0, STDOUT_FILENO),
		ALLOW_IF(SYS_write, 0, STDERR_FILENO),
		ALLOW(SYS_poll),
		ALLOW(SYS_restart_syscall), /* poll, after SIGCONT */
		ALLOW(SYS_rt_sigreturn),    /* the way back from a handler */
		ALLOW(SYS_clock_gettime),   /* now(), if the kernel must help */
		ALLOW(SYS_exit_group),
		ALLOW(-1u), /* no call: how strace -e inject skips one */
		RETURN(TRAP),
	};
	const struct sock_fprog program = { ARRAY_SIZE(code), code };

#ifdef SANITIZE /* sanitizers map memory, and even start a process */
	return;
#endif
	MUST(sigaction(SIGSYS, &action, NULL));
	/* The kernel wants the promise that no setuid program will be run. */
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	/* A kernel without seccomp is no error, but is told. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		warn("the guest is not locked in: seccomp");
}

/* ===================================================================== 17 ===
 * gdb
 *
 * gdb can start a program, and debug by its stdin and stdout:
 *
 *	gdb hello.elf -ex 'target remote | ./simple-kvm --gdb hello.elf'
 *
 * It sends packets, $TEXT#XX, where XX is the sum of TEXT's bytes in hex. Each
 * is acknowledged with a +, and answered in the same form, with an empty text
 * to what we do not know: gdb does without it. So it puts INT3 instructions
 * into guest memory for breakpoints. While the guest runs, gdb prints the text
 * of packets that begin with O. It sends nothing then but a byte 3, for ^C. See
 * "Remote Serial Protocol" in gdb's manual.
 */
enum { PACKET = 4096, PART = PACKET / 2, CTRL_C = 3 };

struct gdb {
	FILE *wire;                                 /* what was stdout */
	char packet[PACKET + 1], reply[PACKET + 2]; /* their texts */
	bool interrupt; /* gdb has sent a ^C, or has gone */
	int signal;     /* why the guest has stopped */
};

/* Frame a text, and send it. */
static void send_packet(struct gdb *gdb, const char *text)
{
	u8 sum = 0;

	for (const char *p = text; *p; p++)
		sum += (u8)*p;
	fprintf(gdb->wire, "$%s#%02x", text, sum);
}

/* Make a reply of a prefix, and of at most PART bytes in hex. */
static const char *hex_reply(struct gdb *gdb, const char *prefix,
			     const void *data, size_t size)
{
	char *p = stpcpy(gdb->reply, prefix);

	for (const u8 *byte = data; size > 0; size--)
		p += sprintf(p, "%02x", *byte++);
	return gdb->reply;
}

/*
 * Take size bytes, of at most PART, from a text in hex. Returns false, and
 * leaves data alone, if the text is not just these.
 */
static bool parse_hex(const char *text, u8 *data, size_t size)
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
 * for our packets are dropped, lest they fill the wire. A packet is left.
 */
static void poll_input(struct gdb *gdb)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	int c;

	do {
		poll(&in, 1, 0);
		c = in.revents & POLLIN ? getchar() : EOF;
		gdb->interrupt |= c == CTRL_C || in.revents & POLLHUP;
	} while (c == '+' || c == CTRL_C);
	ungetc(c, stdin); /* which does nothing with EOF */
}

/*
 * Wait for a packet. A ^C here has come too late for a step that is over, and
 * is for the next one. Returns false when gdb has gone, or sends nonsense.
 */
static bool read_packet(struct gdb *gdb)
{
	char *p = gdb->packet;
	int c;

	while ((c = getchar()) != '$' && c != EOF)
		gdb->interrupt |= c == CTRL_C;
	while ((c = getchar()) != '#' && c != EOF && p < gdb->packet + PACKET)
		*p++ = (char)c;
	*p = 0;
	/* A pipe changes nothing: the sum is not looked at. */
	if (c != '#' || getchar() == EOF || getchar() == EOF)
		return false;
	putc('+', gdb->wire);
	return true;
}

/* What is written to stdout: have gdb print it. */
static ssize_t write_output(void *cookie, const char *data, size_t size)
{
	struct gdb *gdb = cookie;

	for (size_t done = 0, n; done < size; done += n) {
		n = size - done < PART ? size - done : PART;
		poll_input(gdb);
		send_packet(gdb, hex_reply(gdb, "O", data + done, n));
	}
	return ferror(gdb->wire) ? 0 : (ssize_t)size;
}

/*
 * Make stdin and stdout the wire, on which each byte that waits can be polled,
 * and give the guest another stdout. Ends with STATUS_USAGE if that cannot be.
 */
static void open_gdb(struct vm *vm)
{
	const cookie_io_functions_t functions = { .write = write_output };
	static struct gdb gdb = { .signal = SIGTRAP };

	if (!vm->on[GDB])
		return;
	if (vm->on[STEP] || vm->timeout > 0 || isatty(0) || isatty(1))
		errx(STATUS_USAGE,
		     "--gdb is not for terminals, --step or "
		     "--timeout: type in gdb\ntarget remote | %s --gdb -%c %s",
		     program_invocation_name, vm->mode->option,
		     vm->path ? vm->path : "");
	gdb.wire = stdout;
	setvbuf(gdb.wire, NULL, _IONBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	stdout = fopencookie(&gdb, "w", functions);
	open_output(); /* for the new one */
	vm->gdb = &gdb;
	vm->input = NO_MORE; /* for the guest */
}

/*
 * The registers that gdb knows of 32-bit and of 64-bit code, in its order. The
 * numbers are places in struct kvm_regs, as in reg_names[].
 */
static const u8 reg_order[2][18] = {
	{ 0, 2, 3, 1, 6, 7, 4, 5, 16, 17 },
	{ 0, 1, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 },
};

/* Copy them out for gdb, or in. Returns their size in bytes. */
static size_t copy_registers(struct vm *vm, u8 *data, bool in)
{
	bool is64 = vm->mode->bits == 64;
	size_t size, done = 0;

	for (int i = 0; i < (is64 ? 18 : 10); i++, done += size) {
		u64 *reg = &vm->regs.rax + reg_order[is64][i];

		size = is64 && i != 17 ? 8 : 4; /* RFLAGS has 4, too */
		if (in)
			memcpy(reg, data + done, size);
		else
			memcpy(data + done, reg, size);
	}
	return done;
}

/*
 * The guest has left KVM_RUN, and cannot just run on. Returns the signal that
 * it would be of a program, and tells why if it is not one for debugging. The
 * registers are put back to where an exception was. A breakpoint's INT3 is an
 * exit of its own, or under kvm-pvm an internal error, or an exception. In any
 * case RIP is then after it.
 */
static int find_signal(struct vm *vm)
{
	const struct kvm_run *run = vm->kvm_run;
	bool debug = run->exit_reason == KVM_EXIT_DEBUG;
	bool gave_up = run->exit_reason == KVM_EXIT_INTERNAL_ERROR;
	int signal = debug ? SIGTRAP : SIGSEGV;
	u8 code = 0;

	get_registers(vm);
	read_guest(vm, code_address(vm), &code, 1);
	if (vm->vector >= 0 && !vm->by_int && exceptions[vm->vector].signal)
		signal = exceptions[vm->vector].signal;
	if (code == 0xcc &&
	    (gave_up || (debug && run->debug.arch.exception == BP_VECTOR))) {
		vm->regs.rip++;
		signal = SIGTRAP;
	}
	if (signal != SIGTRAP)
		report(vm, STATUS_GUEST);
	vm->status = -1; /* gdb may mend it */
	complete_io(vm);
	if (vm->vector >= 0)
		KVM(vm->vcpu_fd, KVM_SET_SREGS, &vm->sregs);
	KVM(vm->vcpu_fd, KVM_SET_REGS, &vm->regs);
	return signal;
}

/*
 * Run the guest until it stops, or one instruction of it. Returns the signal,
 * but if it has a status now, or stopped has, that is its end.
 */
static int run_in_gdb(struct vm *vm, bool step)
{
	struct gdb *gdb = vm->gdb;

	if (step && !gdb->interrupt && about_to_halt(vm))
		return 0;
	while (vm->status < 0 && !stopped && !gdb->interrupt) {
		if (!run_vcpu(vm)) {
			handle_tick(vm);
			poll_input(gdb);
		} else if (!handle_exit(vm)) {
			return find_signal(vm);
		} else if (step) { /* it was an IN or OUT */
			break;
		}
	}
	complete_io(vm);
	return gdb->interrupt ? SIGINT : SIGTRAP;
}

/* A reply of a letter and a number: how the guest has stopped or ended. */
static const char *stop_reply(struct gdb *gdb, const char *how, int code)
{
	flush_output();
	return hex_reply(gdb, how, &code, 1); /* its lowest byte */
}

/*
 * c and s, continue and step; C and S with a signal. There is nothing in the
 * guest to take one, so it ends, as a program without a handler does.
 */
static const char *resume(struct vm *vm, const char *p)
{
	struct gdb *gdb = vm->gdb;
	bool step = *p == 's' || *p == 'S';
	int signal = (int)strtoul(p + 1, NULL, 16);

	if (p[1] && (*p == 'c' || *p == 's'))
		return ""; /* from another address: gdb sets RIP instead */
	if (signal != 0) {
		vm->status = STATUS_GUEST;
		end_run(vm);
		return stop_reply(gdb, "X", signal);
	}
	set_debug(vm, KVM_GUESTDBG_USE_SW_BP |
			      (step ? KVM_GUESTDBG_SINGLESTEP : 0));
	gdb->signal = run_in_gdb(vm, step);
	gdb->interrupt &= gdb->signal != SIGINT;
	if (vm->status < 0 && !stopped)
		return stop_reply(gdb, "S", gdb->signal);
	end_run(vm);
	return stop_reply(gdb, "W", vm->status);
}

#define TARGET(cpu) "l<target><architecture>" cpu "</architecture></target>"

/* q, a query: what we can do, what CPU it is, and `monitor' with any word. */
static const char *answer_query(struct vm *vm, const char *p)
{
	static const char *const targets[] = { TARGET("i8086"), TARGET("i386"),
					       TARGET("i386:x86-64") };

	if (!strncmp(p, "qSupported", 10))
		return "PacketSize=1000;qXfer:features:read+";
	if (!strncmp(p, "qXfer:features:read:target.xml:0,", 33))
		return targets[vm->mode->bits / 32];
	if (strncmp(p, "qRcmd,", 6) != 0)
		return "";
	show_registers(vm);
	flush_output();
	return "OK";
}

/*
 * Returns the reply to a packet. After the letter m or M, which read and write
 * memory, come an address and a size; then after M a colon and the bytes.
 */
static const char *answer(struct vm *vm, char *p)
{
	static u8 data[PART];
	char *end;
	u64 address = strtoull(p + 1, &end, 16);
	size_t size = *end == ',' ? strtoull(end + 1, &end, 16) : 0;

	switch (*p) {
	case '?':
		return stop_reply(vm->gdb, "S", vm->gdb->signal);
	case 'g':
		return hex_reply(vm->gdb, "", data,
				 copy_registers(vm, data, false));
	case 'G':
		if (!parse_hex(p + 1, data, copy_registers(vm, data, false)))
			return "E01";
		copy_registers(vm, data, true);
		KVM(vm->vcpu_fd, KVM_SET_REGS, &vm->regs);
		return "OK";
	case 'm':
		size = read_guest(vm, address, data, size < PART ? size : PART);
		return size ? hex_reply(vm->gdb, "", data, size) : "E01";
	case 'M':
		if (*end != ':' || !parse_hex(end + 1, data, size) ||
		    write_guest(vm, address, data, size) != size)
			return "E01";
		return "OK";
	case 'c':
	case 's':
	case 'C':
	case 'S':
		return resume(vm, p);
	case 'q':
		return answer_query(vm, p);
	case 'D': /* detach: as if gdb had gone */
		vm->status = STATUS_SIGNAL + SIGHUP;
		return "OK";
	}
	return "";
}

/*
 * Serve gdb until the guest ends, or gdb goes. In the latter case vm->status is
 * as if a terminal had gone. While it lasts gdb prints what we say, too, for it
 * may not read its own stderr for a long time, and let it fill.
 */
static void serve_gdb(struct vm *vm)
{
	struct gdb *gdb = vm->gdb;

	stderr = stdout;
	while (vm->status < 0 && read_packet(gdb) && *gdb->packet != 'k') {
		get_registers(vm);
		send_packet(gdb, answer(vm, gdb->packet));
	}
	while (getchar() != EOF)
		; /* gdb would complain if its last + had no reader */
	if (vm->status < 0)
		vm->status = STATUS_SIGNAL + SIGHUP;
}

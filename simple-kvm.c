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
 *	 6. Images: built-in, flat file, ELF file
 *	 7. Ports: what the guest's I/O instructions reach
 *	 8. Reports: registers, exceptions, exits, and what options show
 *	 9. The run loop, behind a locked door
 *	10. The verdict and the command line
 *
 * "SDM" stands for Intel's Software Developer's Manual, volume 3 unless another
 * is named, and "KVM API" for Documentation/virt/kvm/api.rst in Linux's source.
 */
#define _GNU_SOURCE
#include <asm/processor-flags.h>
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define VERSION "0.1"

/* The kernel's integers, by the short names it has for them. */
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

/* ====================================================================== 1 ===
 * What this is: the statuses, the memory map
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

/*
 * Guest physical memory. It begins at address 0, and simple-kvm fills the part
 * below the image before the guest starts:
 *
 *	0x00000   interrupt vectors of real mode, 32 of them
 *	0x00400   result: the built-in guests store 42 here
 *	0x00500   GDT: null, code (selector 0x08), data (selector 0x10)
 *	0x00600   exception stubs, 4 bytes for each of the vectors 0 to 31
 *	0x01000   IDT, vectors 0 to 31
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
	STUBS = 0x600,
	IDT = 0x1000,
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

/*
 * Page-table entries: SDM "32-Bit Paging" and "4-Level Paging", the tables of
 * the formats of entries that map large pages.
 */
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
static struct kvm_segment flat_segment(u16 selector, u8 type)
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
static u64 descriptor(const struct kvm_segment *seg)
{
	u64 limit = seg->g ? seg->limit >> 12 : seg->limit;

	return (limit & 0xffff) | (seg->base & 0xffffff) << 16 |
	       (u64)seg->type << 40 | (u64)seg->s << 44 | (u64)seg->dpl << 45 |
	       (u64)seg->present << 47 | (limit >> 16 & 0xf) << 48 |
	       (u64)seg->l << 53 | (u64)seg->db << 54 | (u64)seg->g << 55 |
	       (seg->base >> 24 & 0xff) << 56;
}

/*
 * An entry of the IDT: an interrupt gate (SDM "IDT Descriptors") to code at
 * offset in the segment of selector 0x08. Long mode has 32 bits more of offset,
 * in a second u64; ours are zero.
 */
static u64 interrupt_gate(u64 offset)
{
	const u64 present = 0x80, gate = 0x0e;

	return (offset & 0xffff) | 0x08 << 16 | (present | gate) << 40 |
	       (offset >> 16 & 0xffff) << 48;
}

/* The names of registers' bits, by their numbers. */
/* clang-format off */
static const char *const rflags_bits[64] = {
	"CF", [2] = "PF", [4] = "AF", [6] = "ZF", "SF", "TF", "IF", "DF", "OF",
	[14] = "NT", [16] = "RF", "VM", "AC", "VIF", "VIP", "ID",
};
static const char *const cr0_bits[64] = {
	"PE", "MP", "EM", "TS", "ET", "NE", [16] = "WP", [18] = "AM",
	[29] = "NW", "CD", "PG",
};
static const char *const cr4_bits[64] = {
	"VME", "PVI", "TSD", "DE", "PSE", "PAE", "MCE", "PGE", "PCE", "OSFXSR",
	"OSXMMEXCPT", "UMIP", "LA57", "VMXE", "SMXE", [16] = "FSGSBASE",
	"PCIDE", "OSXSAVE", [20] = "SMEP", "SMAP", "PKE",
};
static const char *const efer_bits[64] = {
	"SCE", [8] = "LME", [10] = "LMA", "NXE",
};
/* clang-format on */

/* A line of text that is put together piece by piece, then printed whole. */
struct line {
	size_t len;
	char text[240];
};

/* Append to a line, as printf() would print; what is too much is left out. */
static void __attribute__((format(printf, 2, 3)))
add(struct line *line, const char *format, ...)
{
	size_t room = sizeof(line->text) - line->len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line->text + line->len, room, format, args);
	va_end(args);
	if (n > 0)
		line->len += (size_t)n < room ? (size_t)n : room - 1;
}

/* Append the names of the bits that are set in value, each behind prefix. */
static void add_bits(struct line *line, const char *prefix,
		     const char *const bits[64], u64 value)
{
	for (int i = 0; i < 64; i++)
		if (value >> i & 1 && bits[i])
			add(line, "%s%s", prefix, bits[i]);
}

/* Append bytes as two hexadecimal digits each. */
static void add_bytes(struct line *line, const u8 *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		add(line, " %02x", bytes[i]);
}

/* Print a line on stderr, and make it an empty one again. */
static void say(struct line *line)
{
	warnx("%s", line->text);
	*line = (struct line){ 0 };
}

/* The first bytes of something, at most 8, as the number that they are. */
static u64 number(const void *bytes, size_t size)
{
	u64 value = 0;

	memcpy(&value, bytes, size);
	return value;
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
	bool tty;            /* stdout is a terminal */
	size_t used;         /* how many of the bytes wait to be written */
	size_t lost;         /* how many of them nobody has read in the end */
	u64 written, writes; /* bytes so far, and the write() calls for them */
	u8 bytes[1 << 16];
};

/*
 * The signal that ends the run, SIGALRM for --timeout; 0 until there is one.
 * Set by the handler in chapter 9. It is here because a reader that has stopped
 * reading must not keep the run from ending.
 */
static volatile sig_atomic_t stop_signal;

/*
 * Get ready to collect output; the buffer itself stays untouched, to cost no
 * memory until it is used. A closed stdout ends with STATUS_HOST: the next file
 * opened would get its number, and then the guest's output.
 */
static void console_init(struct console *console)
{
	console->tty = isatty(STDOUT_FILENO);
	if (!console->tty && errno != ENOTTY && errno != EINVAL)
		err(STATUS_HOST, "standard output: isatty");
	/* A reader that went away shall be an error of write() like others. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		err(STATUS_HOST, "signal");
}

/* Wait up to a second for stdout to take bytes. Returns whether it does. */
static bool console_ready(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };

	/* Fifty times 20 ms, as each may be cut short by the timer's tick. */
	for (int tries = 0; tries < 50; tries++)
		if (poll(&out, 1, 20) > 0)
			return true;
	return false;
}

/*
 * Write all that waits. What cannot be written ends with STATUS_HOST. Once the
 * run is to stop, a reader that takes nothing for a second loses the rest.
 */
static void console_flush(struct console *console)
{
	const u8 *next = console->bytes;

	while (console->used > 0) {
		size_t len = console->used;
		ssize_t n;

		if (stop_signal && !console_ready())
			break;
		/* So much a pipe takes without blocking when it is ready. */
		if (stop_signal && len > PIPE_BUF)
			len = PIPE_BUF;
		n = write(STDOUT_FILENO, next, len);
		if (n >= 0) {
			next += n;
			console->used -= (size_t)n;
			console->written += (size_t)n;
			console->writes++;
		} else if (errno == EAGAIN) {
			console_ready();
		} else if (errno != EINTR) {
			err(STATUS_HOST, "write to standard output");
		}
	}
	if (console->used > 0)
		warnx("nobody reads the output: %zu bytes of it are lost",
		      console->used);
	console->lost += console->used;
	console->used = 0;
}

/* Take len bytes of output from the guest. */
static void console_put(struct console *console, const u8 *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		console->bytes[console->used++] = data[i];
		if (console->used == sizeof(console->bytes) ||
		    (console->tty && data[i] == '\n'))
			console_flush(console);
	}
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
	struct kvm_coalesced_mmio_ring *ring; /* with --coalesce; else NULL */
};

/* What the command line asks for. */
struct options {
	const struct mode *mode; /* NULL: none was chosen */
	const char *image;       /* a file; NULL: the mode's built-in guest */
	u64 mem_size;            /* in bytes */
	double timeout;          /* in seconds; 0: none */
	/* Switches, which are int because getopt_long() sets them. */
	int coalesce, verbose, trace, step, stats;
};

/* The registers of the CPU, as KVM hands them out. */
struct cpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

/* What --stats prints, and what --step compares the next step with. */
struct history {
	u64 runs, exited;    /* KVM_RUN calls, and those that no signal cut */
	u64 exits[64];       /* the latter by exit reason... */
	u64 out, in;         /* ...and, if for I/O, by direction */
	u64 start, run_time; /* nanoseconds */
	int ksm_fd;     /* what KSM did for us; -1 when it is not asked for */
	struct cpu cpu; /* at the end; or before the step being made... */
	u8 code[8];     /* ...and the bytes that it executes */
};

struct vm {
	int sys_fd;      /* /dev/kvm */
	int fd;          /* the virtual machine */
	u8 *mem;         /* guest physical address 0 */
	u64 mem_size;    /* in bytes, a multiple of 4096 */
	u64 image_start; /* what the guest's image occupies... */
	u64 image_end;   /* ...and the address behind it */
	struct vcpu vcpu;
	struct console console;
	struct options opts;
	struct history history;
	bool stopped; /* the guest asked to end the run... */
	int status;   /* ...with this exit status */
};

/* Nanoseconds on a clock that nobody sets. */
static u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* Tell on stderr what happens, if --verbose asks for it. */
#define narrate(vm, ...) ((vm)->opts.verbose ? warnx(__VA_ARGS__) : (void)0)

/* What a person can do about a call's error, for what people really meet. */
static const struct remedy {
	const char *call; /* a part of the message */
	int error;
	const char *remedy;
} remedies[] = {
	{ "/dev/kvm", ENOENT,
	  "load the module kvm_intel or kvm_amd; should that fail, "
	  "virtualisation is off in the firmware, or in the host of this VM" },
	{ "/dev/kvm", ENXIO, "load the module kvm_intel or kvm_amd" },
	{ "/dev/kvm", EACCES, "join its group: sudo usermod -aG kvm $USER" },
	{ "/dev/kvm", EPERM, "the container must be given the device" },
	{ "API_VERSION", ENOTTY, "/dev/kvm is not a KVM device" },
	{ "KVM_", ENOTTY, "this KVM lacks the call: use a newer kernel" },
	{ "CREATE_VM", EBUSY, "another hypervisor has the CPU: stop it" },
	{ "", EMFILE, "allow more open files: ulimit -n" },
	{ "", ENOMEM, "free some memory, or raise its limit: ulimit -v" },
};

/*
 * End with STATUS_HOST and a message that says which call failed, why (by
 * errno), and what to do about it if that is known.
 */
static void __attribute__((noreturn)) host_error(const char *call)
{
	int error = errno;

	warn("%s", call);
	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++)
		if (remedies[i].error == error &&
		    strstr(call, remedies[i].call))
			errx(STATUS_HOST, "%s", remedies[i].remedy);
	exit(STATUS_HOST);
}

/* What --verbose says of each ioctl. */
static const struct {
	unsigned long request;
	const char *meaning;
} meanings[] = {
	{ KVM_GET_API_VERSION, "the version of the API, always 12" },
	{ KVM_CHECK_EXTENSION, "a capability is there, or not (0)" },
	{ KVM_CREATE_VM, "a file for a machine without memory or CPU" },
	{ KVM_SET_TSS_ADDR, "where Intel's real mode may have its pages" },
	{ KVM_SET_USER_MEMORY_REGION, "our memory is the guest's RAM" },
	{ KVM_GET_VCPU_MMAP_SIZE, "the size of struct kvm_run and its data" },
	{ KVM_REGISTER_COALESCED_MMIO, "port 0xE9 is collected" },
	{ KVM_CREATE_VCPU, "a file for a virtual CPU, as after a reset" },
	{ KVM_GET_SUPPORTED_CPUID, "what CPUID can tell the guest..." },
	{ KVM_SET_CPUID2, "...and shall" },
	{ KVM_GET_SREGS, "segments and control registers, read" },
	{ KVM_SET_SREGS, "segments and control registers, set" },
	{ KVM_GET_REGS, "general registers, read" },
	{ KVM_SET_REGS, "general registers, set" },
	{ KVM_SET_GUEST_DEBUG, "an exit after each instruction" },
};

/*
 * An ioctl that has to succeed. Returns what it returned, which for some is a
 * file descriptor or a size; an error is a host_error() with its name.
 */
#define KVM(vm, fd, request, arg) \
	kvm_ioctl(vm, fd, request, #request, (unsigned long)(arg))

static int kvm_ioctl(const struct vm *vm, int fd, unsigned long request,
		     const char *name, unsigned long arg)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		host_error(name);
	for (size_t i = 0; vm->opts.verbose && i < ARRAY_SIZE(meanings); i++)
		if (meanings[i].request == request)
			warnx("%s = %d: %s", name, ret, meanings[i].meaning);
	return ret;
}

/*
 * Open /dev/kvm and see that it speaks the API that we do: the version has been
 * 12 since Linux 2.6.22, and the KVM API tells us to refuse any other. What
 * came later has capabilities to ask for; this is the latest of those that we
 * need.
 */
static void open_kvm(struct vm *vm)
{
	int version;

	vm->sys_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->sys_fd < 0)
		host_error("open /dev/kvm");
	narrate(vm, "open /dev/kvm = %d: KVM itself", vm->sys_fd);
	version = KVM(vm, vm->sys_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		errx(STATUS_HOST, "KVM_GET_API_VERSION: %d, where %d is needed",
		     version, KVM_API_VERSION);
	if (!KVM(vm, vm->sys_fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT))
		errx(STATUS_HOST, "KVM_CHECK_EXTENSION: this KVM lacks "
				  "KVM_CAP_IMMEDIATE_EXIT: use Linux 4.11");
}

/* Give the machine its RAM, all zero, from guest physical address 0 on. */
static void create_ram(struct vm *vm)
{
	u64 mem_size = vm->opts.mem_size;
	struct kvm_userspace_memory_region region = {
		.slot = 0,
		.guest_phys_addr = 0,
		.memory_size = mem_size,
	};

	/*
	 * PRIVATE and ANONYMOUS: pages of our own, zeroed, of no file.
	 * A page of it takes memory only once it is touched, so a large guest
	 * costs no more than what it uses. NORESERVE: do not count all of it
	 * as memory that is promised, and so refuse more than there is.
	 */
	vm->mem_size = mem_size;
	vm->mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->mem == MAP_FAILED)
		host_error("mmap guest RAM");
	narrate(vm, "mmap %llu bytes = %p: guest RAM", mem_size, vm->mem);

	/*
	 * Let the kernel share pages that are the same in several guests. This
	 * is a favour to the host, so it is no error when the kernel is built
	 * without KSM, the part that does it.
	 */
	if (madvise(vm->mem, mem_size, MADV_MERGEABLE) == 0)
		narrate(vm, "madvise MADV_MERGEABLE: KSM may share its pages");

	region.userspace_addr = (unsigned long)vm->mem;
	KVM(vm, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/*
 * Let the guest see the CPUID of the host, as far as KVM can virtualise it. KVM
 * itself keeps at most 256 entries, and says E2BIG to an array that is too
 * small.
 */
static void copy_cpuid(struct vm *vm)
{
	const u32 nent = 256;
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + nent * sizeof(*cpuid->entries));

	if (!cpuid)
		host_error("calloc");
	cpuid->nent = nent;
	KVM(vm, vm->sys_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	KVM(vm, vm->vcpu.fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

/*
 * --coalesce: let KVM collect what the guest writes to port 0xE9, in a ring
 * that lies in a page behind kvm_run, instead of leaving the guest for each
 * byte (KVM API, 4.116). A KVM that cannot is no error: the output is the same.
 */
static void coalesce_console(struct vm *vm)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xE9,
						.size = 1,
						.pio = 1 };
	int page = KVM(vm, vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);

	if (!KVM(vm, vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) ||
	    !page) {
		warnx("this KVM does not coalesce: an exit for each byte");
		return;
	}
	KVM(vm, vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone);
	vm->vcpu.ring = (void *)((u8 *)vm->vcpu.kvm_run + page * 4096);
}

/*
 * Create the virtual CPU, and map the struct kvm_run through which KVM tells
 * why it stopped. It is as after a reset (SDM "Processor State After Reset").
 */
static void create_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpu;
	int size = KVM(vm, vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if ((size_t)size < sizeof(*vcpu->kvm_run))
		errx(STATUS_HOST, "KVM_GET_VCPU_MMAP_SIZE: %d is too small",
		     size);
	vcpu->fd = KVM(vm, vm->fd, KVM_CREATE_VCPU, 0);
	vcpu->kvm_run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
			     MAP_SHARED, vcpu->fd, 0);
	if (vcpu->kvm_run == MAP_FAILED)
		host_error("mmap struct kvm_run");
	narrate(vm, "mmap %d bytes = %p: struct kvm_run", size, vcpu->kvm_run);
	copy_cpuid(vm);
	/* Who wants to see each exit, or each step, shall see them all. */
	if (vm->opts.coalesce && !vm->opts.trace && !vm->opts.step)
		coalesce_console(vm);
}

/* Make a machine with one CPU, and RAM as the options say. */
static void create_vm(struct vm *vm)
{
	open_kvm(vm);
	vm->fd = KVM(vm, vm->sys_fd, KVM_CREATE_VM, 0);
	/*
	 * Intel CPUs that cannot run real mode as a guest run it as a virtual
	 * 8086 task, and KVM puts the three pages which that takes here: just
	 * below the BIOS of a PC, and above all RAM that we may have.
	 */
	KVM(vm, vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	create_ram(vm);
	create_vcpu(vm);
	/* The CPU's file keeps the machine alive, and is all that we need. */
	close(vm->sys_fd);
	close(vm->fd);
}

/* ====================================================================== 5 ===
 * Modes: tables in guest memory, registers
 *
 * A PC starts in real mode, and its boot code climbs to long mode step by step.
 * KVM lets us skip the climb: build the tables in guest memory, then set the
 * registers to what they would be at the end of it. Each function below starts
 * from the CPU's reset state in sregs and changes what its mode needs.
 */

/*
 * Where exceptions lead: vector v to the stub at STUBS + 4 * v, which halts. So
 * the run loop finds out which exception it was from where the guest halted,
 * and the rest from the frame that the CPU has pushed. Without a handler an
 * exception would become a double, then a triple fault, which tells nothing.
 */
static const u8 stub[4] = {
	0xf4,       /* hlt */
	0xeb, 0xfd, /* jmp, back to the hlt */
	0x90,       /* nop, never reached */
};
/* The CPU's own exceptions (SDM "Exception and Interrupt Vectors"). */
enum { VECTORS = 32 };

/* Write the stubs, one behind the other. */
static void write_stubs(struct vm *vm)
{
	for (size_t v = 0; v < VECTORS; v++)
		memcpy(vm->mem + STUBS + v * sizeof(stub), stub, sizeof(stub));
}

/*
 * Real mode (SDM "Real-Address Mode"): the segment registers at 0, so that an
 * offset is an address, and at address 0 a table with the address of each
 * vector's handler.
 */
static void setup_real(struct vm *vm, struct kvm_sregs *sregs)
{
	u32 *ivt = (void *)vm->mem;

	for (u32 v = 0; v < VECTORS; v++)
		ivt[v] = STUBS + v * (u32)sizeof(stub); /* segment 0, offset */
	/* After a reset CS is the BIOS's: selector f000, base ffff0000. */
	sregs->cs.selector = 0;
	sregs->cs.base = 0;
}

/* Build the IDT, with a gate of one u64 for each vector, or of two. */
static void build_idt(struct vm *vm, struct kvm_sregs *sregs, unsigned words)
{
	u64 *idt = (void *)(vm->mem + IDT);

	for (u32 v = 0; v < VECTORS; v++) {
		idt[v * words + words - 1] = 0; /* the high half, if any */
		idt[v * words] = interrupt_gate(STUBS + v * sizeof(stub));
	}
	sregs->idt.base = IDT;
	sregs->idt.limit = (u16)(VECTORS * words * sizeof(*idt) - 1);
}

/*
 * Protected mode (SDM "Switching to Protected Mode"): a GDT with one code and
 * one data segment, each all of the 4 GiB, the segment registers as if loaded
 * from it, and an IDT.
 */
static void setup_protected(struct vm *vm, struct kvm_sregs *sregs)
{
	struct kvm_segment code = flat_segment(0x08, SEGMENT_CODE);
	struct kvm_segment data = flat_segment(0x10, SEGMENT_DATA);
	u64 *gdt = (void *)(vm->mem + GDT);

	gdt[0] = 0; /* never used: selector 0 means "no segment" */
	gdt[1] = descriptor(&code);
	gdt[2] = descriptor(&data);
	sregs->gdt.base = GDT;
	sregs->gdt.limit = 3 * sizeof(*gdt) - 1;
	build_idt(vm, sregs, 1);

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
	 * change nothing until a guest sets CR0.TS, or RFLAGS.AC in ring 3;
	 * kernels have them on.
	 */
	sregs->cr0 |= X86_CR0_PG | X86_CR0_WP | X86_CR0_MP | X86_CR0_AM;
	sregs->cr3 = PML4;
}

/*
 * 32-bit paging with pages of 4 MiB (SDM "32-Bit Paging"): bits 31..22 of an
 * address choose an entry of the one page directory, and the other 22 are the
 * offset in the page.
 *
 *	CR3 -> page directory [0] -> 0x000000 .. 0x3fffff
 *			      [1] -> 0x400000 .. 0x7fffff   and so on
 *
 * The last page may reach beyond the end of RAM: there is nothing behind it.
 */
static void setup_paged(struct vm *vm, struct kvm_sregs *sregs)
{
	u32 *pd = (void *)(vm->mem + PML4);

	setup_protected(vm, sregs);
	for (u32 i = 0; (u64)i << 22 < vm->mem_size; i++)
		pd[i] = i << 22 | PDE64_PRESENT | PDE64_RW | PDE64_USER |
			PDE64_PS;
	enable_paging(sregs);
	sregs->cr4 = X86_CR4_PSE; /* page-size extensions: heed PDE64_PS */
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
 * The page directories lie one behind the other, so that one index reaches all.
 */
static void setup_long(struct vm *vm, struct kvm_sregs *sregs)
{
	const u64 flags = PDE64_PRESENT | PDE64_RW | PDE64_USER;
	u64 *pml4 = (void *)(vm->mem + PML4);
	u64 *pdpt = (void *)(vm->mem + PDPT);
	u64 *pd = (void *)(vm->mem + PD);
	u64 *gdt = (void *)(vm->mem + GDT);

	setup_protected(vm, sregs);
	pml4[0] = PDPT | flags;
	for (u64 i = 0; i << 30 < vm->mem_size; i++)
		pdpt[i] = (PD + i * 4096) | flags;
	for (u64 i = 0; i << 21 < vm->mem_size; i++)
		pd[i] = i << 21 | flags | PDE64_PS;
	enable_paging(sregs);

	/* PAE: entries of 64 bits. The others: SSE, which compilers use. */
	sregs->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	sregs->efer = EFER_LME | EFER_LMA;
	/*
	 * L makes code 64-bit, and then D must be 0 (SDM "Code-Segment
	 * Descriptor in 64-bit Mode").
	 */
	sregs->cs.l = 1;
	sregs->cs.db = 0;
	gdt[1] = descriptor(&sregs->cs);
	build_idt(vm, sregs, 2);
}

/* The built-in guests, linked in as bytes: see %.img.o in the Makefile. */
extern const u8 guest16[], guest16_end[];
extern const u8 guest32[], guest32_end[];
extern const u8 guest64[], guest64_end[];

/* A mode of the CPU, and all that differs from mode to mode. */
struct mode {
	const char *name;
	int option;              /* on the command line */
	const u8 *image;         /* the built-in guest... */
	const u8 *image_end;     /* ...and the byte behind it */
	size_t width;            /* of the result, in bytes */
	const char *accumulator; /* the register of that width */
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
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (modes[i].option == option)
			return &modes[i];
	return NULL;
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
	struct line bad = { 0 };

	KVM(vm, vm->vcpu.fd, KVM_GET_SREGS, &got);
	add_bits(&bad, " CR0.", cr0_bits, want->cr0 ^ got.cr0);
	add_bits(&bad, " CR4.", cr4_bits, want->cr4 ^ got.cr4);
	add_bits(&bad, " EFER.", efer_bits, want->efer ^ got.efer);
	if (bad.len > 0)
		errx(STATUS_HOST,
		     "%s: this KVM does not have it, for it did not set%s as "
		     "asked: try another mode, or kvm_intel or kvm_amd",
		     vm->opts.mode->name, bad.text);
}

/* Put the CPU into its mode, about to execute the instruction at entry. */
static void enter_mode(struct vm *vm, u64 entry)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = entry,
		.rflags = X86_EFLAGS_FIXED, /* and IF clear: no interrupts */
	};

	KVM(vm, vm->vcpu.fd, KVM_GET_SREGS, &sregs);
	write_stubs(vm);
	vm->opts.mode->setup(vm, &sregs);
	KVM(vm, vm->vcpu.fd, KVM_SET_SREGS, &sregs);
	check_mode(vm, &sregs);

	regs.rsp = sregs.cr0 & X86_CR0_PE ? vm->mem_size : REAL_STACK;
	KVM(vm, vm->vcpu.fd, KVM_SET_REGS, &regs);
}

/* ====================================================================== 6 ===
 * Images: built-in, flat file, ELF file
 *
 * A flat image is copied to guest physical address 0x8000 and entered at its
 * first byte. An ELF file says itself which of its parts belong where, and
 * where it wants to be entered. Either must keep off the tables below 0x8000,
 * and off the stack of at least 4 KiB at the end of RAM; in real mode the stack
 * is below the image, but a 16-bit offset reaches no further than 64 KiB.
 *
 * A file may say anything, so its numbers are checked before they are used, and
 * in a way that cannot overflow: whether a + b <= c, as a <= c && b <= c - a.
 */
struct image {
	const char *path; /* NULL: built-in */
	u8 *file;         /* what was read from there, to be freed */
	const u8 *data;
	size_t size;
};

/* End with STATUS_USAGE and a message about the image. */
#define bad_image(image, format, ...) \
	errx(STATUS_USAGE, "%s: " format, (image)->path, ##__VA_ARGS__)

/* As realloc(), but ends when there is no memory. */
static void *resize(void *memory, size_t size)
{
	memory = realloc(memory, size);
	if (!memory)
		host_error("realloc");
	return memory;
}

/*
 * Read a file to its end; it may be a pipe. Debug information may make it
 * larger than the RAM that it is for, but more than 64 MiB of it is taken for a
 * mistake.
 */
static struct image read_image(const char *path, u64 mem_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct image image = { .path = path };
	size_t room = 1 << 15, limit = mem_size + (64 << 20);
	ssize_t n = 1;

	if (fd < 0)
		err(STATUS_USAGE, "%s", path);
	while (n != 0) {
		if (image.size > limit)
			bad_image(&image, "too large for the guest's RAM");
		if (!image.file || image.size == room)
			image.file = resize(image.file, room *= 2);
		n = read(fd, image.file + image.size, room - image.size);
		if (n > 0)
			image.size += (size_t)n;
		else if (n < 0 && errno != EINTR)
			err(STATUS_USAGE, "%s", path);
	}
	close(fd);
	if (image.size == 0)
		bad_image(&image, "the file is empty");
	image.data = image.file = resize(image.file, image.size);
	return image;
}

/* 64 or 32, as an ELF file's class says; 0 when it is not an ELF file. */
static int elf_bits(const struct image *image)
{
	if (image->size < SELFMAG || memcmp(image->data, ELFMAG, SELFMAG))
		return 0;
	return image->size > EI_CLASS && image->data[EI_CLASS] == ELFCLASS64
		       ? 64
		       : 32;
}

/*
 * Copy size bytes to a guest physical address, where they occupy mem_size
 * bytes; the rest stays zero, as all RAM is at first. Ends if they do not
 * belong there.
 */
static void load_part(struct vm *vm, const struct image *image, u64 address,
		      u64 mem_size, const u8 *data, u64 size)
{
	const struct mode *mode = vm->opts.mode;
	u64 end = mode->option == 'r' ? REAL_END : vm->mem_size - STACK_ROOM;

	if (address < IMAGE)
		bad_image(image, "0x%llx is below 0x%x, where the tables are",
			  address, IMAGE);
	if (address > end || mem_size > end - address)
		bad_image(image,
			  "too large for %s: %llu bytes at 0x%llx, where the "
			  "limit is 0x%llx",
			  mode->name, mem_size, address, end);
	narrate(vm, "image: %llu bytes at 0x%llx, %llu of them from the file",
		mem_size, address, size);
	memcpy(vm->mem + address, data, size);
	if (address < vm->image_start)
		vm->image_start = address;
	if (address + mem_size > vm->image_end)
		vm->image_end = address + mem_size;
}

/* The ELF header; that of a 32-bit file with its fields made 64-bit ones. */
static Elf64_Ehdr elf_header(const struct image *image)
{
	bool is64 = elf_bits(image) == 64;
	Elf32_Ehdr eh = { 0 };
	Elf64_Ehdr eh64;

	if (image->size < (is64 ? sizeof(eh64) : sizeof(eh)))
		bad_image(image, "the ELF header is truncated");
	if (is64)
		return *(Elf64_Ehdr *)memcpy(&eh64, image->data, sizeof(eh64));
	memcpy(&eh, image->data, sizeof(eh));
	return (Elf64_Ehdr){ .e_type = eh.e_type,
			     .e_machine = eh.e_machine,
			     .e_entry = eh.e_entry,
			     .e_phoff = eh.e_phoff,
			     .e_phentsize = eh.e_phentsize,
			     .e_phnum = eh.e_phnum };
}

/* Program header number i, in the same form; elf_check() saw it is there. */
static Elf64_Phdr program_header(const struct image *image,
				 const Elf64_Ehdr *eh, u32 i)
{
	const u8 *from = image->data + eh->e_phoff + i * eh->e_phentsize;
	Elf32_Phdr ph;
	Elf64_Phdr ph64;

	if (elf_bits(image) == 64)
		return *(Elf64_Phdr *)memcpy(&ph64, from, sizeof(ph64));
	memcpy(&ph, from, sizeof(ph));
	return (Elf64_Phdr){ .p_type = ph.p_type,
			     .p_offset = ph.p_offset,
			     .p_paddr = ph.p_paddr,
			     .p_filesz = ph.p_filesz,
			     .p_memsz = ph.p_memsz };
}

/* See that an ELF file is a program for this CPU in this mode. */
static void elf_check(const struct image *image, const Elf64_Ehdr *eh,
		      const struct mode *mode)
{
	bool is64 = elf_bits(image) == 64;
	u32 size = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (!is64 && image->data[EI_CLASS] != ELFCLASS32)
		bad_image(image, "its class is neither 32 nor 64 bits");
	if (image->data[EI_DATA] != ELFDATA2LSB)
		bad_image(image, "its byte order is not that of x86");
	if (eh->e_machine != (is64 ? EM_X86_64 : EM_386))
		bad_image(image, "it is for another machine than x86");
	if (is64 != (mode->option == 'l'))
		bad_image(image, "a %d-bit file cannot run in %s",
			  elf_bits(image), mode->name);
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		bad_image(image, "it is not a linked program");
	if (eh->e_phnum == 0 || eh->e_phnum > 64)
		bad_image(image, "%u program headers, where 1 to 64 can be",
			  eh->e_phnum);
	if (eh->e_phentsize != size || eh->e_phoff > image->size ||
	    eh->e_phnum * size > image->size - eh->e_phoff)
		bad_image(image, "its program headers are truncated");
}

/*
 * See that a segment is all there, and needs no dynamic loader, which it would
 * as an interpreter's name, or as a dynamic section that lists relocations.
 */
static void segment_check(const struct image *image, const Elf64_Phdr *ph)
{
	size_t word = (size_t)elf_bits(image) / 8;
	const u8 *p;

	if (ph->p_offset > image->size ||
	    ph->p_filesz > image->size - ph->p_offset)
		bad_image(image, "a segment is truncated");
	if (ph->p_type == PT_LOAD && ph->p_filesz > ph->p_memsz)
		bad_image(image, "a segment is larger than its memory");
	if (ph->p_type == PT_INTERP)
		bad_image(image, "not static: it needs an interpreter");
	if (ph->p_type != PT_DYNAMIC)
		return;
	p = image->data + ph->p_offset;
	for (u64 n = ph->p_filesz / (2 * word); n > 0; n--) {
		u64 tag = number(p, word), value = number(p + word, word);

		if (value > 0 && (tag == DT_RELSZ || tag == DT_RELASZ ||
				  tag == DT_PLTRELSZ ||
				  tag == 35 /* DT_RELRSZ, which is new */))
			bad_image(image, "not static: it has relocations");
		p += 2 * word;
	}
}

/* Load the segments of an ELF file. Returns the address of its entry. */
static u64 load_elf(struct vm *vm, const struct image *image)
{
	Elf64_Ehdr eh = elf_header(image);
	bool entry_found = false;

	elf_check(image, &eh, vm->opts.mode);
	for (u32 i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph = program_header(image, &eh, i);

		segment_check(image, &ph);
		if (ph.p_type != PT_LOAD || ph.p_memsz == 0)
			continue;
		load_part(vm, image, ph.p_paddr, ph.p_memsz,
			  image->data + ph.p_offset, ph.p_filesz);
		if (eh.e_entry - ph.p_paddr < ph.p_memsz)
			entry_found = true;
		for (u32 j = 0; j < i; j++) {
			Elf64_Phdr other = program_header(image, &eh, j);

			if (other.p_type == PT_LOAD && other.p_memsz &&
			    ph.p_paddr < other.p_paddr + other.p_memsz &&
			    other.p_paddr < ph.p_paddr + ph.p_memsz)
				bad_image(image, "two segments overlap");
		}
	}
	if (!entry_found)
		bad_image(image, "its entry, 0x%llx, is in no segment",
			  (u64)eh.e_entry);
	return eh.e_entry;
}

/* Put an image into guest memory. Returns the address to enter it at. */
static u64 load_image(struct vm *vm, const struct image *image)
{
	vm->image_start = vm->mem_size;
	vm->image_end = 0;
	if (elf_bits(image))
		return load_elf(vm, image);
	load_part(vm, image, IMAGE, image->size, image->data, image->size);
	return IMAGE;
}

/* ====================================================================== 7 ===
 * Ports: what the guest's I/O instructions reach
 *
 * IN and OUT leave the guest (KVM_EXIT_IO). KVM has put the bytes that an OUT
 * wrote into the shared kvm_run, and takes what an IN reads from there. To add
 * a hypercall, write a function and give it a row in the table. It gets the 1,
 * 2 or 4 bytes of one access, to read them or to fill them.
 */

/* Take the bytes, lowest first, as output. */
static void console_out(struct vm *vm, u8 *data, size_t size)
{
	console_put(&vm->console, data, size);
}

/* "The console is here", as the port says it in Bochs and QEMU. */
static void console_in(struct vm *vm, u8 *data, size_t size)
{
	(void)vm;
	memset(data, 0xE9, size);
}

/* Stop, with the exit status that QEMU's isa-debug-exit makes of the value. */
static void exit_out(struct vm *vm, u8 *data, size_t size)
{
	(void)size;
	vm->stopped = true;
	vm->status = (data[0] << 1 | 1) & 0xff;
}

/* The line status of a serial port that can always take another byte. */
static void serial_status_in(struct vm *vm, u8 *data, size_t size)
{
	(void)vm;
	memset(data, 0x60, size); /* transmitter empty, and its register */
}

/* An access to a port, and the function that handles it. */
struct port {
	u16 port;
	u8 direction; /* KVM_EXIT_IO_OUT or KVM_EXIT_IO_IN */
	u8 widest;    /* the most bytes that an access may have */
	void (*handle)(struct vm *vm, u8 *data, size_t size);
};

static const struct port ports[] = {
	{ 0xE9, KVM_EXIT_IO_OUT, 4, console_out },
	{ 0xE9, KVM_EXIT_IO_IN, 4, console_in },
	{ 0xF4, KVM_EXIT_IO_OUT, 4, exit_out },
	{ 0x3F8, KVM_EXIT_IO_OUT, 1, console_out }, /* COM1 */
	{ 0x3FD, KVM_EXIT_IO_IN, 1, serial_status_in },
};

/* The row of the table for the I/O exit that run describes; NULL: none. */
static const struct port *find_port(const struct kvm_run *run)
{
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
		if (ports[i].port == run->io.port &&
		    ports[i].direction == run->io.direction &&
		    ports[i].widest >= run->io.size)
			return &ports[i];
	return NULL;
}

/*
 * Handle an I/O exit: count elements of size bytes each, one behind the other
 * at data_offset, all for one port. (REP INS gives a count above 1.) Returns
 * false when there is no such port.
 */
static bool handle_io(struct vm *vm)
{
	struct kvm_run *run = vm->vcpu.kvm_run;
	u8 *data = (u8 *)run + run->io.data_offset;
	const struct port *port = find_port(run);

	if (!port)
		return false;
	for (u32 i = 0; i < run->io.count; i++, data += run->io.size)
		port->handle(vm, data, run->io.size);
	return true;
}

/* ====================================================================== 8 ===
 * Reports: registers, exceptions, exits, what --verbose and others show
 *
 * When a guest ends otherwise than it should, its author wants to know what
 * happened, where, and how things stood. Here is all that tells it, on stderr;
 * and behind it what the options show of a run that goes well.
 */

/* Have KVM copy the registers out. */
static void get_cpu(struct vm *vm, struct cpu *cpu)
{
	KVM(vm, vm->vcpu.fd, KVM_GET_REGS, &cpu->regs);
	KVM(vm, vm->vcpu.fd, KVM_GET_SREGS, &cpu->sregs);
}

/* How many bytes PUSH stores in the code that the CPU executes. */
static size_t word_size(const struct cpu *cpu)
{
	return cpu->sregs.cs.l ? 8 : cpu->sregs.cs.db ? 4 : 2;
}

/* The linear address of the instruction that RIP points to. */
static u64 code_address(const struct cpu *cpu)
{
	u64 address = cpu->sregs.cs.base + cpu->regs.rip;

	return cpu->sregs.cs.l ? address : (u32)address;
}

/* The linear address of the top of the stack. */
static u64 stack_top(const struct cpu *cpu)
{
	const struct kvm_segment *ss = &cpu->sregs.ss;
	u64 rsp = cpu->regs.rsp;

	if (cpu->sregs.cs.l)
		return rsp;
	return (u32)(ss->base + (ss->db ? (u32)rsp : (u16)rsp));
}

/*
 * Copy up to len bytes from a linear address of the guest's, through the page
 * tables if it has paging. Returns how many: fewer where no RAM is behind it.
 * Each byte is looked up anew: it takes longer, but no page's end can be
 * missed.
 */
static size_t read_guest(struct vm *vm, u64 linear, u8 *to, size_t len)
{
	size_t done;

	for (done = 0; done < len; done++) {
		struct kvm_translation tr = { .linear_address = linear + done };

		KVM(vm, vm->vcpu.fd, KVM_TRANSLATE, &tr);
		if (!tr.valid || tr.physical_address >= vm->mem_size)
			break;
		to[done] = vm->mem[tr.physical_address];
	}
	return done;
}

/* The memory map of chapter 1, by where each part starts. */
static const struct region {
	u64 start;
	const char *name;
} regions[] = {
	{ 0, "the interrupt vectors of real mode" },
	{ RESULT, "the result" },
	{ GDT, "the GDT" },
	{ STUBS, "the exception stubs" },
	{ IDT, "the IDT" },
	{ PML4, "the page tables" },
	{ REAL_STACK - 0x1000, "the stack of real mode" },
	{ IMAGE, "RAM below the image" },
};

/* What the memory map has at a guest physical address. */
static const char *region_name(const struct vm *vm, u64 address)
{
	size_t i = ARRAY_SIZE(regions) - 1;

	if (address >= vm->mem_size)
		return "beyond the end of RAM";
	if (address >= vm->image_start)
		return address < vm->image_end ? "in the image"
					       : "in the RAM above the image";
	while (regions[i].start > address)
		i--;
	return regions[i].name;
}

/* The registers of struct kvm_regs, and the segments of struct kvm_sregs. */
/* clang-format off */
static const char *const reg_names[] = {
	"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RSP", "RBP", "R8", "R9",
	"R10", "R11", "R12", "R13", "R14", "R15", "RIP", "RFLAGS",
};
static const char *const segment_names[] = {
	"CS", "DS", "ES", "FS", "GS", "SS", "TR", "LDT",
};
/* clang-format on */

/* Print a register, and the names of its bits that are set. */
static void print_register(const char *name, u64 value,
			   const char *const bits[64])
{
	struct line line = { 0 };

	add(&line, "  %-6s %016llx", name, value);
	add_bits(&line, " ", bits, value);
	say(&line);
}

/* Print all registers. */
static void print_registers(const struct cpu *cpu)
{
	const struct kvm_sregs *sregs = &cpu->sregs;
	struct kvm_segment seg[8]; /* cs to ldt, as they lie in sregs */
	u64 regs[18];              /* rax to rflags, as they lie in regs */
	struct line line = { 0 };

	memcpy(regs, &cpu->regs, sizeof(regs));
	memcpy(seg, sregs, sizeof(seg));
	for (int i = 0; i < 17; i++) {
		add(&line, "  %-3s %016llx", reg_names[i], regs[i]);
		if (i % 4 == 3 || i == 16)
			say(&line);
	}
	print_register("RFLAGS", cpu->regs.rflags, rflags_bits);
	for (int i = 0; i < 8; i++)
		warnx("  %-3s %04x base %08llx limit %08x type %-2u dpl %u%s%s",
		      segment_names[i], seg[i].selector, seg[i].base,
		      seg[i].limit, seg[i].type, seg[i].dpl,
		      seg[i].l    ? " 64-bit"
		      : seg[i].db ? " 32-bit"
				  : "",
		      seg[i].present ? "" : " not present");
	warnx("  GDT base %08llx limit %04x  IDT base %08llx limit %04x",
	      sregs->gdt.base, sregs->gdt.limit, sregs->idt.base,
	      sregs->idt.limit);
	print_register("CR0", sregs->cr0, cr0_bits);
	warnx("  CR2    %016llx  CR3 %016llx", sregs->cr2, sregs->cr3);
	print_register("CR4", sregs->cr4, cr4_bits);
	print_register("EFER", sregs->efer, efer_bits);
}

/* Print where the CPU is, its registers and the top of its stack. */
static void print_cpu(struct vm *vm, const struct cpu *cpu)
{
	u64 rip = code_address(cpu), sp = stack_top(cpu);
	size_t word = word_size(cpu);
	u8 bytes[64];
	struct line line = { 0 };
	size_t n = read_guest(vm, rip, bytes, 15); /* the longest instruction */

	add(&line, "at address 0x%llx, %s; the bytes there:", rip,
	    region_name(vm, rip));
	add_bytes(&line, bytes, n);
	say(&line);
	print_registers(cpu);
	n = read_guest(vm, sp, bytes, 8 * word);
	add(&line, "  stack, from 0x%llx up:", sp);
	for (size_t i = 0; i + word <= n; i += word)
		add(&line, " %0*llx", (int)word * 2, number(bytes + i, word));
	add(&line, "%s", n < 8 * word ? " (no more RAM)" : "");
	say(&line);
}

/* The exceptions, as the manual names them (the same section). */
/* clang-format off */
static const char *const exceptions[VECTORS] = {
	"#DE divide error", "#DB debug exception", "NMI interrupt",
	"#BP breakpoint", "#OF overflow", "#BR BOUND range exceeded",
	"#UD invalid opcode", "#NM device not available", "#DF double fault",
	"coprocessor segment overrun", "#TS invalid TSS",
	"#NP segment not present", "#SS stack-segment fault",
	"#GP general protection", "#PF page fault", "reserved",
	"#MF x87 floating-point error", "#AC alignment check",
	"#MC machine check", "#XM SIMD floating-point exception",
	"#VE virtualization exception", "#CP control protection exception",
};
/* clang-format on */
/* Those whose frame has an error code in front. */
static const u32 with_error_code =
	1 << DF_VECTOR | 1 << TS_VECTOR | 1 << NP_VECTOR | 1 << SS_VECTOR |
	1 << GP_VECTOR | 1 << PF_VECTOR | 1 << AC_VECTOR | 1 << 21;

/*
 * Append what an exception's error code says (SDM "Error Code"; for #PF
 * "Page-Fault Exceptions").
 */
static void add_error_code(struct line *line, u64 vector, u64 error)
{
	add(line, ", error code 0x%llx", error);
	if (vector == PF_VECTOR)
		add(line, ": %s a page that %s, in %s mode%s",
		    error & 16  ? "fetch from"
		    : error & 2 ? "write to"
				: "read of",
		    error & 1 ? "forbids it" : "is not present",
		    error & 4 ? "user" : "supervisor",
		    error & 8 ? " (a reserved bit is set in its entry)" : "");
	else if (error)
		add(line, ": about selector 0x%llx of the %s%s", error & 0xfff8,
		    error & 2   ? "IDT"
		    : error & 4 ? "LDT"
				: "GDT",
		    error & 1 ? ", while an event was delivered" : "");
}

/*
 * The CPU has halted: was it in one of our exception stubs? Then put it back to
 * where the exception happened, by the frame on its stack (SDM "Exception- or
 * Interrupt-Handler Procedures", "64-Bit Mode Stack Frame", and for real mode
 * "Interrupt and Exception Handling"), append the exception's name and error
 * code to the line and return true. Returns false if the guest halted by
 * itself; so it did, too, when it had replaced the IDT or the stubs.
 */
static bool unwind_exception(struct vm *vm, struct cpu *cpu, struct line *line)
{
	bool real = !(cpu->sregs.cr0 & X86_CR0_PE);
	u64 offset = cpu->regs.rip - STUBS, frame[6] = { 0 }, *f = frame;
	u64 vector = offset / sizeof(stub), sp = stack_top(cpu);
	size_t word = word_size(cpu);

	if (vector >= VECTORS || cpu->sregs.idt.base != (real ? 0 : IDT) ||
	    memcmp(vm->mem + STUBS + vector * sizeof(stub), stub, sizeof(stub)))
		return false;
	for (int i = 0; i < 6; i++, sp += word)
		read_guest(vm, sp, (u8 *)&frame[i], word);
	add(line, "failed: exception %llu, %s", vector,
	    exceptions[vector] ? exceptions[vector] : "reserved");
	/*
	 * INT pushes no error code, and then CS is where RIP would be, and
	 * RFLAGS where CS would be, which cannot be 0x08: its bit 1 is set.
	 */
	if (!real && with_error_code >> vector & 1 &&
	    (f[1] != cpu->sregs.cs.selector || f[2] == f[1]))
		add_error_code(line, vector, *f++);
	cpu->regs.rip = f[0];
	cpu->sregs.cs.selector = (u16)f[1];
	if (real)
		cpu->sregs.cs.base = f[1] << 4;
	cpu->regs.rflags = f[2];
	/* From another ring, or in long mode, RSP is pushed as well. */
	if (word == 8 || (!real && f[1] & 3))
		cpu->regs.rsp = f[3];
	else
		cpu->regs.rsp += (u64)(f - frame + 3) * word;
	if (vector == BP_VECTOR || vector == OF_VECTOR)
		add(line, " (a trap: RIP is behind the instruction)");
	if (vector == PF_VECTOR)
		add(line, "; CR2 is 0x%llx, %s", cpu->sregs.cr2,
		    region_name(vm, cpu->sregs.cr2));
	return true;
}

/* The names of exits in <linux/kvm.h>, by their numbers. */
/* clang-format off */
static const char *const exits[] = {
	"UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO",
	"IRQ_WINDOW_OPEN", "SHUTDOWN", "FAIL_ENTRY", "INTR", "SET_TPR",
	"TPR_ACCESS", [16] = "NMI", "INTERNAL_ERROR", [24] = "SYSTEM_EVENT",
	[26] = "IOAPIC_EOI", "HYPERV", [29] = "X86_RDMSR", "X86_WRMSR",
	"DIRTY_RING_FULL", "AP_RESET_HOLD", "X86_BUS_LOCK", "XEN",
	[37] = "NOTIFY", [39] = "MEMORY_FAULT",
};
/* clang-format on */

/* Why KVM gave up, by the suberror of KVM_EXIT_INTERNAL_ERROR. */
static const char *const suberrors[] = {
	"why is not known", "it cannot emulate an instruction",
	"two exceptions at the same time",
	"an exit amid the delivery of an event",
	"an exit that it did not expect"
};

/* Append an access of the guest's: "a 2-byte write of 0x1 to port 0x2". */
static void add_access(struct line *line, bool write, const void *data,
		       u32 size, const char *where, u64 address)
{
	add(line, "a %u-byte %s", size, write ? "write of " : "read from");
	if (write)
		add(line, "0x%llx to", number(data, size));
	add(line, " %s 0x%llx", where, address);
}

/* Append what KVM tells of an internal error. */
static void add_internal_error(struct line *line, const struct kvm_run *run)
{
	u32 suberror = run->internal.suberror;

	add(line, "KVM gave up: %s (suberror %u)",
	    suberrors[suberror < ARRAY_SIZE(suberrors) ? suberror : 0],
	    suberror);
	if (suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    run->emulation_failure.ndata > 0 &&
	    run->emulation_failure.flags &
		    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		add(line, ":");
		add_bytes(line, run->emulation_failure.insn_bytes,
			  run->emulation_failure.insn_size);
	}
}

/* The name of an exit, without the KVM_EXIT_ that all have. */
static const char *exit_name(u32 reason)
{
	return reason < ARRAY_SIZE(exits) && exits[reason] ? exits[reason]
							   : "(unknown)";
}

/* Append what the exit tells of, which is an access for some. */
static void add_exit(struct line *line, struct vm *vm)
{
	const struct kvm_run *run = vm->vcpu.kvm_run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		add_access(line, run->io.direction == KVM_EXIT_IO_OUT,
			   (const u8 *)run + run->io.data_offset, run->io.size,
			   "port", run->io.port);
		break;
	case KVM_EXIT_MMIO:
		add_access(line, run->mmio.is_write, run->mmio.data,
			   run->mmio.len, "address", run->mmio.phys_addr);
		add(line, ", 0x%llx bytes beyond the end of RAM",
		    run->mmio.phys_addr - vm->mem_size);
		break;
	case KVM_EXIT_SHUTDOWN:
		add(line, "triple fault: an exception whose handler could not "
			  "be entered, nor that of the double fault (on some "
			  "CPUs the registers are those of a reset)");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		add(line, "the CPU refuses this state, hardware reason 0x%llx",
		    run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		add_internal_error(line, run);
		break;
	default:
		add(line, "%s",
		    run->exit_reason == KVM_EXIT_HLT     ? "the guest halts"
		    : run->exit_reason == KVM_EXIT_DEBUG ? "a step"
							 : "not handled");
	}
}

/* --trace: print the exit, which has been handled: an IN has its data. */
static void print_exit(struct vm *vm)
{
	const struct kvm_run *run = vm->vcpu.kvm_run;
	u32 len = run->io.size * run->io.count, shown = len < 16 ? len : 16;
	const u8 *data = (const u8 *)run + run->io.data_offset;
	struct line line = { 0 };
	struct kvm_regs regs;

	KVM(vm, vm->vcpu.fd, KVM_GET_REGS, &regs);
	add(&line, "exit %llu: KVM_EXIT_%s, RIP 0x%llx: ", vm->history.exited,
	    exit_name(run->exit_reason), regs.rip);
	add_exit(&line, vm);
	if (run->exit_reason == KVM_EXIT_IO) {
		add(&line, ", count %u:", run->io.count);
		add_bytes(&line, data, shown);
		add(&line, "%s \"", shown < len ? "..." : "");
		for (u32 i = 0; i < shown; i++)
			add(&line, "%c",
			    data[i] < ' ' || data[i] > '~' ? '.' : data[i]);
		add(&line, "\"");
	}
	say(&line);
}

/* Remember the CPU's registers, and the instruction that it is to execute. */
static void remember_cpu(struct vm *vm)
{
	struct history *h = &vm->history;

	get_cpu(vm, &h->cpu);
	memset(h->code, 0, sizeof(h->code));
	read_guest(vm, code_address(&h->cpu), h->code, sizeof(h->code));
}

/*
 * --step: print the instruction that was executed, and the registers that it
 * changed. Some KVMs step over a HLT instead of telling that the guest halts:
 * then make that the exit, so that the run ends as it does with the others.
 */
static void print_step(struct vm *vm)
{
	u64 before[18], after[18]; /* rax to rflags, as they lie in kvm_regs */
	u64 stub_offset;
	bool halted;
	struct line line = { 0 };

	add(&line, "step: RIP 0x%llx:", vm->history.cpu.regs.rip);
	add_bytes(&line, vm->history.code, sizeof(vm->history.code));
	memcpy(before, &vm->history.cpu.regs, sizeof(before));
	halted = vm->history.code[0] == stub[0];
	remember_cpu(vm);
	memcpy(after, &vm->history.cpu.regs, sizeof(after));
	/*
	 * In ring 3 it did not halt, but went to the handler of #GP. And some
	 * step from the fault to behind the stub's HLT at once.
	 */
	stub_offset = after[16] - STUBS;
	if ((halted && after[16] == before[16] + 1) ||
	    (stub_offset < VECTORS * sizeof(stub) && stub_offset % 4 == 1))
		vm->vcpu.kvm_run->exit_reason = KVM_EXIT_HLT;
	for (int i = 0; i < 18; i++)
		if (after[i] != before[i])
			add(&line, " %s=%llx", reg_names[i], after[i]);
	say(&line);
}

/* --stats: print what the run has cost. */
static void print_stats(const struct vm *vm)
{
	const struct history *h = &vm->history;
	struct rusage usage;
	char text[512] = "", *merged;

	warnx("KVM_RUN: %llu calls, %.6f s; outside of it: %.6f s", h->runs,
	      (double)h->run_time / 1e9,
	      (double)(now() - h->start - h->run_time) / 1e9);
	for (u32 i = 0; i < ARRAY_SIZE(h->exits); i++)
		if (h->exits[i])
			warnx("KVM_EXIT_%s: %llu", exit_name(i), h->exits[i]);
	warnx("I/O exits: %llu out, %llu in", h->out, h->in);
	warnx("output: %llu bytes in %llu writes", vm->console.written,
	      vm->console.writes);
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		warnx("peak RSS: %ld KiB", usage.ru_maxrss);
	if (h->ksm_fd >= 0 && read(h->ksm_fd, text, sizeof(text) - 1) > 0 &&
	    (merged = strstr(text, "ksm_merging_pages")))
		warnx("KSM: %.*s", (int)strcspn(merged, "\n"), merged);
}

/* --verbose: draw the memory map, the end of RAM on top. */
static void show_map(const struct vm *vm)
{
	u64 end = vm->mem_size;

	warnx("memory map: +--- 0x%llx", end);
	warnx("            |    RAM above the image, the stack");
	warnx("            +--- 0x%llx", vm->image_end);
	warnx("            |    the image");
	end = vm->image_start;
	for (size_t i = ARRAY_SIZE(regions); i-- > 0; end = regions[i].start) {
		bool used = false;

		if (regions[i].start == end)
			continue;
		/* Nothing is written between the tables and the image. */
		for (u64 a = regions[i].start; a < end && a < IMAGE; a++)
			used |= vm->mem[a] != 0;
		warnx("            +--- 0x%llx", end);
		warnx("            |    %s%s", regions[i].name,
		      used ? "" : " (all zero)");
	}
	warnx("            +--- 0x0");
}

/* --verbose: decode the GDT, as it stands in guest memory. */
static void show_gdt(const struct vm *vm, const struct kvm_dtable *gdt)
{
	for (u32 i = 0; i * 8 < gdt->limit; i++) {
		u64 d = number(vm->mem + gdt->base + i * 8, 8);

		warnx("GDT: selector 0x%02x = %016llx: base 0x%llx, limit "
		      "0x%llx%s, type %llu, dpl %llu%s%s%s",
		      i * 8, d, (d >> 16 & 0xffffff) | (d >> 56 << 24),
		      (d & 0xffff) | (d >> 32 & 0xf0000),
		      d >> 55 & 1 ? " pages" : "", d >> 40 & 0xf, d >> 45 & 3,
		      d >> 47 & 1 ? ", present" : "",
		      d >> 53 & 1 ? ", 64-bit" : "",
		      d >> 54 & 1 ? ", 32-bit" : "");
	}
}

/*
 * --verbose: print the page table at an address, and those below it, as the CPU
 * would walk them. It is one of level 1 (of 4 KiB pages) to 4, maps what is
 * from base on, and has entries of size bytes. Large pages in a row are one
 * line.
 */
static void show_table(const struct vm *vm, u64 table, int level, u64 base,
		       u32 size)
{
	static const char *const names[] = { "", "PT", "PD", "PDPT", "PML4" };
	static const char *const flags[64] = {
		"PRESENT", "RW", "USER", "PWT", "PCD",
		"A",       "D",  "PS",   "G",   [63] = "NX"
	};
	u32 entries = 4096 / size, next;
	int shift = 12 + (level - 1) * (size == 8 ? 9 : 10);

	if (table > vm->mem_size - 4096)
		return;
	for (u32 i = 0; i < entries; i = next) {
		u64 entry = number(vm->mem + table + i * size, size);
		u64 page = 1ull << shift;
		struct line line = { 0 };

		next = i + 1;
		if (!(entry & PDE64_PRESENT))
			continue;
		while ((entry & PDE64_PS) && next < entries &&
		       number(vm->mem + table + next * size, size) ==
			       entry + (next - i) * page)
			next++;
		add(&line, "%*s%s[%u", 2 * (4 - level), "", names[level], i);
		if (next > i + 1)
			add(&line, "..%u", next - 1);
		add(&line, "] = 0x%llx", entry);
		add_bits(&line, " ", flags, entry & ~(page - 4096));
		add(&line, ": 0x%llx to 0x%llx", base + i * page,
		    base + next * page - 1);
		say(&line);
		if (level > 1 && !(entry & PDE64_PS))
			show_table(vm, entry & 0xffffffffff000, level - 1,
				   base + i * page, size);
	}
}

/* --verbose: show what has been set up, from guest memory and from KVM. */
static void show_machine(struct vm *vm, u64 entry)
{
	u64 addresses[] = { entry, vm->mem_size };
	struct cpu cpu;

	get_cpu(vm, &cpu);
	show_map(vm);
	if (cpu.sregs.cr0 & X86_CR0_PE)
		show_gdt(vm, &cpu.sregs.gdt);
	if (cpu.sregs.cr0 & X86_CR0_PG)
		show_table(vm, cpu.sregs.cr3 & ~0xfffull,
			   cpu.sregs.efer & EFER_LMA ? 4 : 2, 0,
			   cpu.sregs.efer & EFER_LMA ? 8 : 4);
	print_registers(&cpu);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct kvm_translation tr = { .linear_address = addresses[i] };

		KVM(vm, vm->vcpu.fd, KVM_TRANSLATE, &tr);
		warnx("KVM_TRANSLATE of 0x%llx: %s 0x%llx", addresses[i],
		      tr.valid ? "valid, physical address" : "not valid,",
		      tr.physical_address);
	}
}

/*
 * The guest has stopped. Returns STATUS_OK if it halted by itself; else says
 * why it stopped and how things stood, and returns the status for that.
 */
static int report(struct vm *vm, int stopped_by)
{
	int status = STATUS_GUEST;
	u32 reason = vm->vcpu.kvm_run->exit_reason;
	struct cpu *cpu = &vm->history.cpu;
	struct line why = { 0 };

	get_cpu(vm, cpu);
	if (stopped_by == SIGALRM) {
		add(&why, "stopped: its time is over (--timeout)");
		status = STATUS_TIMEOUT;
	} else if (stopped_by) {
		add(&why, "stopped: signal %d, %s", stopped_by,
		    strsignal(stopped_by));
		status = STATUS_SIGNAL + stopped_by;
	} else if (reason != KVM_EXIT_HLT) {
		add(&why, "failed: ");
		add_exit(&why, vm);
		add(&why, "%s (KVM_EXIT_%s, %u)",
		    reason == KVM_EXIT_IO ? ", which is not there" : "",
		    exit_name(reason), reason);
	} else if (!unwind_exception(vm, cpu, &why)) {
		return STATUS_OK;
	}
	console_flush(&vm->console);
	warnx("the guest %s", why.text);
	print_cpu(vm, cpu);
	return status;
}

/* ====================================================================== 9 ===
 * The run loop, behind a locked door
 *
 * KVM_RUN lets the CPU execute the guest until the guest does something that
 * the hypervisor has to handle; then the reason is in kvm_run. We handle it,
 * and run on.
 *
 * A guest that does nothing of the kind is only interrupted by a signal. One
 * that arrives while the guest runs makes KVM_RUN fail with EINTR. One that
 * arrives before that would be lost, so the handler sets immediate_exit, which
 * makes the next KVM_RUN fail in the same way (KVM API, 5, "immediate_exit").
 */
enum { TICK = 20000 }; /* microseconds: how late --timeout, or output, may be */

/* For the signal handler: which CPU to interrupt, and when time is over. */
static struct kvm_run *signal_run;
static u64 deadline = -1ull; /* never */

/* SIGALRM is the timer's tick, and stops the guest only at the deadline. */
static void handle_signal(int number)
{
	if (!stop_signal && (number != SIGALRM || now() >= deadline))
		stop_signal = number;
	signal_run->immediate_exit = 1;
}

/*
 * From here on SIGINT and SIGTERM end the run with a report, and so does the
 * end of --timeout. For that, and for output that waits in the ring of
 * --coalesce while the guest does not exit, a timer ticks.
 */
static void catch_signals(struct vm *vm)
{
	const struct sigaction action = { .sa_handler = handle_signal };
	const struct timeval tick = { .tv_usec = TICK };
	const struct itimerval timer = { tick, tick };

	signal_run = vm->vcpu.kvm_run;
	if (vm->opts.timeout > 0)
		deadline = now() + (u64)(vm->opts.timeout * 1e9);
	if (sigaction(SIGINT, &action, NULL) ||
	    sigaction(SIGTERM, &action, NULL) ||
	    sigaction(SIGALRM, &action, NULL))
		host_error("sigaction");
	if ((vm->opts.timeout > 0 || vm->vcpu.ring) &&
	    setitimer(ITIMER_REAL, &timer, NULL))
		host_error("setitimer");
}

/*
 * Should a guest ever get control of this process, through a mistake in KVM or
 * here, it shall find that the process can do next to nothing: from lock_door()
 * on the kernel kills it at any system call but the few that are listed there.
 *
 * The list is a program for a small machine in the kernel, which runs it at
 * each system call (Documentation/userspace-api/seccomp_filter.rst in Linux's
 * source). LOAD loads a field of struct seccomp_data; IF_EQUAL compares it, and
 * skips as many instructions as it says for either case.
 */
#define NR     offsetof(struct seccomp_data, nr)
#define ARCH   offsetof(struct seccomp_data, arch)
#define ARG(n) offsetof(struct seccomp_data, args[n]) /* its low 32 bits */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, field)
#define IF_EQUAL(value, then, other) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, other)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)

/*
 * Allow a call if a field has a value: one of the arguments, or the number
 * again where any arguments will do. Before and after it, the number is loaded.
 */
#define ALLOW(nr, field, value) \
	IF_EQUAL(nr, 0, 4), LOAD(field), IF_EQUAL(value, 0, 1), \
		RETURN(SECCOMP_RET_ALLOW), LOAD(NR)

/* The sanitizers map memory and, to look for leaks, even start a process. */
#ifdef SANITIZE
#define REFUSE SECCOMP_RET_ALLOW
#else
#define REFUSE SECCOMP_RET_KILL_PROCESS
#endif

/*
 * Install the filter. KVM_RUN, the most frequent call, comes first. The numbers
 * mean these calls only on the 64-bit way into the kernel; those of x32 have
 * another bit, and so are equal to none here. A kernel without seccomp is no
 * error, but is told.
 */
static void lock_door(const struct vm *vm)
{
	struct sock_filter code[] = {
		LOAD(ARCH),
		IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
		RETURN(REFUSE),
		LOAD(NR),
		ALLOW(SYS_ioctl, ARG(1), KVM_RUN),
		ALLOW(SYS_ioctl, ARG(1), KVM_GET_REGS),
		ALLOW(SYS_ioctl, ARG(1), KVM_GET_SREGS),
		ALLOW(SYS_ioctl, ARG(1), KVM_TRANSLATE),
		ALLOW(SYS_write, ARG(0), STDOUT_FILENO),
		ALLOW(SYS_write, ARG(0), STDERR_FILENO),
		ALLOW(SYS_poll, NR, SYS_poll), /* console_ready() */
		/* After ^Z, poll() goes on as this call. */
		ALLOW(SYS_restart_syscall, NR, SYS_restart_syscall),
		/* The way back from handle_signal(). */
		ALLOW(SYS_rt_sigreturn, NR, SYS_rt_sigreturn),
		/* now(), where the kernel's clock cannot be read without it. */
		ALLOW(SYS_clock_gettime, NR, SYS_clock_gettime),
		/* --stats; without it the file's number, -1, is no file's. */
		ALLOW(SYS_getrusage, ARG(0), RUSAGE_SELF),
		ALLOW(SYS_read, ARG(0), (u32)vm->history.ksm_fd),
		ALLOW(SYS_exit_group, NR, SYS_exit_group),
		/* No call at all: how strace -e inject skips one. */
		ALLOW(-1u, NR, -1u),
		RETURN(REFUSE),
	};
	const struct sock_fprog program = { ARRAY_SIZE(code), code };

	/* The kernel wants the promise that no setuid program will be run. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		host_error("prctl PR_SET_NO_NEW_PRIVS");
	if (!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return;
	if (errno != EINVAL && errno != ENOSYS)
		host_error("prctl PR_SET_SECCOMP");
	warnx("this kernel lacks seccomp: the guest is not locked in");
}

/* --step: have KVM_RUN return after each instruction. */
static void enable_steps(struct vm *vm)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};

	KVM(vm, vm->vcpu.fd, KVM_SET_GUEST_DEBUG, &debug);
	remember_cpu(vm);
}

/*
 * Take what the ring has. Its indices are shared with the kernel: one that is
 * not within the page, which has room for so many entries, is not used.
 */
static void drain_ring(struct vm *vm)
{
	struct kvm_coalesced_mmio_ring *ring = vm->vcpu.ring;
	const u32 entries =
		(4096 - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);

	while (ring) {
		u32 first = ring->first;

		if (first >= entries ||
		    first == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
			break;
		console_put(&vm->console, ring->coalesced_mmio[first].data, 1);
		__atomic_store_n(&ring->first, (first + 1) % entries,
				 __ATOMIC_RELEASE);
	}
}

/* KVM_RUN, counted, and timed for --stats. Returns false on a signal. */
static bool run_vcpu(struct vm *vm)
{
	struct kvm_run *run = vm->vcpu.kvm_run;
	struct history *h = &vm->history;
	u64 before = vm->opts.stats ? now() : 0;
	int ret = ioctl(vm->vcpu.fd, KVM_RUN, 0);

	if (ret < 0 && errno != EINTR && errno != EAGAIN) {
		console_flush(&vm->console);
		host_error("KVM_RUN");
	}
	drain_ring(vm); /* what came before the exit, before the exit */
	if (vm->opts.stats)
		h->run_time += now() - before;
	h->runs++;
	/* Only after success does exit_reason mean something. */
	if (ret < 0)
		return false;
	h->exited++;
	if (run->exit_reason < ARRAY_SIZE(h->exits))
		h->exits[run->exit_reason]++;
	if (run->exit_reason == KVM_EXIT_IO)
		(*(run->io.direction == KVM_EXIT_IO_OUT ? &h->out : &h->in))++;
	return true;
}

/* Run the guest to its end. Returns STATUS_OK when it halted. */
static int run_vm(struct vm *vm)
{
	struct kvm_run *run = vm->vcpu.kvm_run;
	bool io = false; /* the last exit was for I/O, and has been handled */

	while (!vm->stopped) {
		/* To step, let KVM_RUN complete the I/O, and nothing more. */
		if (vm->opts.step && io)
			run->immediate_exit = 1;
		if (!run_vcpu(vm)) {
			run->immediate_exit = 0;
			if (stop_signal)
				return report(vm, stop_signal);
			console_flush(&vm->console);
			if (vm->opts.step && io)
				print_step(vm);
			io = false;
			continue;
		}
		io = run->exit_reason == KVM_EXIT_IO && handle_io(vm);
		if (vm->opts.trace)
			print_exit(vm);
		if (vm->opts.step && (run->exit_reason == KVM_EXIT_DEBUG ||
				      run->exit_reason == KVM_EXIT_HLT))
			print_step(vm);
		if (!io &&
		    !(vm->opts.step && run->exit_reason == KVM_EXIT_DEBUG))
			return report(vm, 0);
	}
	return vm->status;
}

/* ===================================================================== 10 ===
 * The verdict and the command line
 */

/*
 * A built-in guest has halted: see whether 42 is where it should be, and say
 * so. Returns the exit status for that.
 */
static int check(struct vm *vm)
{
	const struct mode *mode = vm->opts.mode;
	u64 rax = 0, memval = 0;
	bool right;

	/* As many bytes of each as the mode's guest writes. */
	memcpy(&rax, &vm->history.cpu.regs.rax, mode->width);
	memcpy(&memval, vm->mem + RESULT, mode->width);
	right = rax == 42 && memval == 42;
	warnx("%s: %s is %llu, memory at 0x%x is %llu: %s", mode->name,
	      mode->accumulator, rax, RESULT, memval,
	      right ? "as expected" : "wrong, 42 was expected in both");
	return right ? STATUS_OK : STATUS_GUEST;
}

#define USAGE "usage: simple-kvm [-r | -s | -p | -l] [OPTION]... [IMAGE]"

static const char help[] = USAGE
	"\n"
	"Run a small guest in a virtual machine, and print what it writes to\n"
	"port 0xE9.\n"
	"\n"
	"  -r, --real          in real mode: the default, but for ELF files\n"
	"  -s, --protected     in protected mode\n"
	"  -p, --paged         in protected mode with 32-bit paging\n"
	"  -l, --long          in long mode, the 64-bit one\n"
	"\n"
	"  -m, --memory SIZE   guest RAM: 1M to 3G, suffix K, M or G; else 2M\n"
	"  -t, --timeout SEC   stop the guest after SEC seconds, 0.5 for "
	"example\n"
	"  -c, --coalesce      let KVM collect output, and hand over batches\n"
	"  -v, --verbose       tell what is set up, and how\n"
	"      --trace         print every VM exit\n"
	"      --step          print every instruction\n"
	"      --stats         print counts, times and memory at the end\n"
	"  -h, --help          print this help\n"
	"  -V, --version       print the version\n"
	"\n"
	"IMAGE is an ELF file, or a flat one that is loaded and entered at\n"
	"0x8000. An ELF file runs in protected mode, or in long mode if it is\n"
	"64-bit, unless an option says otherwise. Without IMAGE the mode's\n"
	"built-in guest runs, which must leave 42 in AX, EAX or RAX and at\n"
	"0x400.\n"
	"\n"
	"Exit status: 0 the guest halted, with the right result if built in;\n"
	"1 it failed; 2 bad option or image; 3 KVM or the host failed;\n"
	"124 its time was over; 128 + N signal N stopped it; (v << 1) | 1 it\n"
	"wrote v to port 0xF4.\n";

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

/* A time in seconds: decimal digits, with a fraction if one likes. */
static double parse_seconds(const char *text)
{
	double seconds = strtod(text, NULL);

	/* strtod() knows more than decimals: exponents, hex, inf, spaces. */
	if (strspn(text, "0123456789.") != strlen(text) ||
	    strchr(text, '.') != strrchr(text, '.') || seconds <= 0 ||
	    seconds > 1e9)
		usage("--timeout takes a number of seconds above 0, like 0.5");
	return seconds;
}

/* A size that RAM can have, in bytes: digits, and K, M or G if one likes. */
static u64 parse_size(const char *text)
{
	const u64 least = 1 << 20, most = 3ull << 30;
	size_t digits = strspn(text, "0123456789");
	u64 size = strtoull(text, NULL, 10); /* the largest if it overflows */
	const char *suffix = strchr("KMG", text[digits]);

	if (text[digits] && suffix && size <= most)
		size <<= 10 * (suffix - "KMG" + 1);
	if (digits == 0 || (text[digits] && (!suffix || text[digits + 1])) ||
	    size < least || size > most || size % 4096)
		usage("--memory takes a size from 1M to 3G, a multiple of 4K");
	return size;
}

/* Read the command line; does not return when it is wrong. */
static struct options parse_options(int argc, char *argv[])
{
	struct options opts = { .mem_size = RAM_SIZE };
	const struct option long_options[] = {
		{ "real", no_argument, NULL, 'r' },
		{ "protected", no_argument, NULL, 's' },
		{ "paged", no_argument, NULL, 'p' },
		{ "long", no_argument, NULL, 'l' },
		{ "memory", required_argument, NULL, 'm' },
		{ "timeout", required_argument, NULL, 't' },
		{ "coalesce", no_argument, NULL, 'c' },
		{ "verbose", no_argument, &opts.verbose, 1 },
		{ "trace", no_argument, &opts.trace, 1 },
		{ "step", no_argument, &opts.step, 1 },
		{ "stats", no_argument, &opts.stats, 1 },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	argv[0] = program_invocation_short_name; /* as err() begins a line */
	while ((c = getopt_long(argc, argv, "rsplm:t:cvhV", long_options,
				NULL)) != -1) {
		const struct mode *mode = find_mode(c);

		if (c == '?')
			usage(NULL); /* getopt_long has said what is wrong */
		if (c == 'h')
			print_and_exit(help);
		if (c == 'V')
			print_and_exit("simple-kvm " VERSION "\n");
		if (mode && opts.mode && opts.mode != mode)
			usage("only one mode can be chosen");
		if (mode)
			opts.mode = mode;
		if (c == 'm')
			opts.mem_size = parse_size(optarg);
		if (c == 't')
			opts.timeout = parse_seconds(optarg);
		if (c == 'c')
			opts.coalesce = 1;
		if (c == 'v')
			opts.verbose = 1;
	}
	if (argc - optind > 1)
		usage("only one image can be run");
	opts.image = argv[optind]; /* argv[argc] is NULL */
	return opts;
}

/*
 * Get the image that the options name, and choose the mode if they do not: an
 * ELF file's class says it, and everything else runs in real mode.
 */
static struct image choose_image(struct options *opts)
{
	struct image image = { 0 };
	int bits = 0;

	if (opts->image) {
		image = read_image(opts->image, opts->mem_size);
		bits = elf_bits(&image);
	}
	if (!opts->mode)
		opts->mode = find_mode(bits == 64 ? 'l' : bits ? 's' : 'r');
	if (!opts->image) {
		image.data = opts->mode->image;
		image.size = (size_t)(opts->mode->image_end - image.data);
	}
	return image;
}

/* Set up a machine, run the guest in it, and judge what came of it. */
int main(int argc, char *argv[])
{
	static char text[BUFSIZ]; /* so that a line on stderr is one write() */
	static struct vm vm;      /* all zero, and untouched until it is used */
	struct image image;
	u64 entry;
	int status;

	setvbuf(stderr, text, _IOLBF, sizeof(text));
	vm.opts = parse_options(argc, argv);
	vm.history.start = now();
	vm.history.ksm_fd = -1;
	console_init(&vm.console);
	image = choose_image(&vm.opts);

	create_vm(&vm);
	entry = load_image(&vm, &image);
	enter_mode(&vm, entry);
	if (vm.opts.step)
		enable_steps(&vm);
	if (vm.opts.verbose)
		show_machine(&vm, entry);
	vm.opts.verbose = false; /* the set-up ends here */

	free(image.file);
	if (vm.opts.stats)
		vm.history.ksm_fd = open("/proc/self/ksm_stat", O_RDONLY);
	catch_signals(&vm);
	lock_door(&vm);
	status = run_vm(&vm);
	console_flush(&vm.console);
	if (status == STATUS_OK && vm.console.lost > 0)
		status = STATUS_HOST;
	if (status == STATUS_OK && !vm.opts.image)
		status = check(&vm);
	if (vm.opts.stats)
		print_stats(&vm);
	return status;
}

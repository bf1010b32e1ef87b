/*
 * tamper.c - what if the guest got control of simple-kvm? See that the process
 * cannot do what the run loop does not need.
 *
 *	tamper CALL PROGRAM [ARGUMENT]...
 *
 * runs a program under ptrace, and when it is about to write to stdout after
 * its first KVM_RUN, has it make another system call instead, just as code that
 * was smuggled in would. Then it says, on stderr, what came of that call and
 * how the program ended:
 *
 *	tamper: returned -1 (Operation not permitted)
 *	tamper: exit 0
 *
 * or, where a filter has refused the call by a SIGSYS that the program catches,
 *
 *	tamper: refused
 *	tamper: exit 3
 *
 * or, where it has killed the program,
 *
 *	tamper: signal 31
 *
 * CALL "none" changes nothing, and "no-vdso" only that the program has to ask
 * the kernel for the time. CALL "filter" prints on stderr what the seccomp
 * filter that is then in force allows, by trying every system call on it:
 *
 *	tamper: ABI NUMBER ARGUMENT0 ARGUMENT1
 *
 * where * stands for any value of an argument. For this it needs root.
 *
 * CALL "fail-run" makes KVM_RUN fail, and not before it has done its work: the
 * first one is interrupted before it begins, and each later one that succeeds
 * is told to the program as EIO.
 *
 * CALL "exit=REASON,SUBERROR" tells the program that the first KVM_RUN ended so,
 * in struct kvm_run. (What an exit brings has its place where the suberror is.)
 */
#define _GNU_SOURCE
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

/* The bit of a number that chooses the x32 ABI. */
#define X32_BIT 0x40000000ull

/* Any number but those in a filter. */
#define OTHER 0x5eed5eedu

typedef unsigned long long u64;

/* A filter has sent SIGSYS. */
static bool refused;

/* The calls. Those that are let through by mistake do no harm. */
static const struct call {
	const char *name;
	u64 nr;
	u64 args[4];
} calls[] = {
	{ "openat", SYS_openat, { (u64)AT_FDCWD, 0, O_RDONLY } },
	{ "socket", SYS_socket, { AF_UNIX, SOCK_STREAM } },
	{ "fork", SYS_fork, { 0 } },
	{ "clone", SYS_clone, { SIGCHLD } },
	{ "execve", SYS_execve, { 0 } },
	{ "mmap", SYS_mmap, { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANON } },
	{ "mprotect", SYS_mprotect, { 0 } },
	{ "kill", SYS_kill, { 0 } },
	{ "ptrace", SYS_ptrace, { PTRACE_TRACEME } },
	{ "getuid", SYS_getuid, { 0 } },
	{ "ioctl-other", SYS_ioctl, { STDIN_FILENO, KVM_CREATE_VM } },
	{ "write-other", SYS_write, { STDIN_FILENO } },
	{ "x32", SYS_write | X32_BIT, { STDOUT_FILENO } },
	/*
	 * By int $0x80 the number is fgetxattr's, and not that of exit_group,
	 * which a filter that does not look at the ABI would take it for.
	 */
	{ "i386", SYS_exit_group, { (u64)-1 } },
	{ "none", 0, { 0 } },
	{ "no-vdso", 0, { 0 } },
	{ "filter", 0, { 0 } },
	{ "fail-run", 0, { 0 } },
};

static struct user_regs_struct get_regs(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
		err(2, "PTRACE_GETREGS");
	return regs;
}

static void set_regs(pid_t pid, const struct user_regs_struct *regs)
{
	if (ptrace(PTRACE_SETREGS, pid, 0, regs))
		err(2, "PTRACE_SETREGS");
}

/*
 * Let the program run until it enters or leaves a system call. Ends when the
 * program does.
 */
static void next_stop(pid_t pid)
{
	int status, number = 0;
	pid_t stopped;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, pid, 0, number))
			err(2, "PTRACE_SYSCALL");
		stopped = waitpid(-1, &status, __WALL);
		while (stopped != pid && stopped > 0) {
			/* What it has forked shall not do anything. */
			kill(stopped, SIGKILL);
			stopped = waitpid(-1, &status, __WALL);
		}
		if (stopped < 0)
			err(2, "waitpid");
		if (WIFSIGNALED(status))
			fprintf(stderr, "tamper: signal %d\n",
				WTERMSIG(status));
		if (WIFEXITED(status))
			fprintf(stderr, "tamper: exit %d\n",
				WEXITSTATUS(status));
		if (!WIFSTOPPED(status))
			exit(0);
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			return;
		/* A signal is passed on, but for ptrace's own. */
		number = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		refused = refused || number == SIGSYS;
	}
}

/* A word of the program's memory. */
static u64 peek(pid_t pid, u64 address)
{
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, address, 0);
	if (errno)
		err(2, "PTRACE_PEEKDATA");
	return (u64)word;
}

static void poke(pid_t pid, u64 address, u64 word)
{
	if (ptrace(PTRACE_POKEDATA, pid, address, word))
		err(2, "PTRACE_POKEDATA");
}

/*
 * Hide the vDSO, the kernel's code in the program that knows the time without a
 * system call: at the program's first instruction RSP points at argc; behind it
 * are argv and environ, each with a zero at its end, and the auxiliary vector
 * of pairs, one of which says where the vDSO is.
 */
static void hide_vdso(pid_t pid)
{
	u64 at = get_regs(pid).rsp;

	at += (peek(pid, at) + 2) * 8;
	while (peek(pid, at))
		at += 8;
	for (at += 8; peek(pid, at) != AT_NULL; at += 16)
		if (peek(pid, at) == AT_SYSINFO_EHDR)
			poke(pid, at, AT_IGNORE);
}

/* Start the program; it stops at its first instruction. */
static pid_t start(char *argv[])
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL |
			     PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE;
	const struct rlimit no_core = { 0 };
	pid_t pid = fork();
	int status;

	if (pid < 0)
		err(2, "fork");
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core); /* SIGSYS dumps one */
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			err(2, "PTRACE_TRACEME");
		execv(argv[0], argv);
		err(2, "%s", argv[0]);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		errx(2, "%s does not start", argv[0]);
	if (ptrace(PTRACE_SETOPTIONS, pid, 0, options))
		err(2, "PTRACE_SETOPTIONS");
	return pid;
}

/* The program is on its way into a system call: is it KVM_RUN? */
static bool is_kvm_run(const struct user_regs_struct *regs)
{
	return regs->orig_rax == SYS_ioctl && regs->rsi == KVM_RUN;
}

/*
 * Let the program come to its write to stdout after the first KVM_RUN. Without
 * its timers that write is of all that the guest has written.
 */
static void come_to_write(pid_t pid, bool timers)
{
	bool running = false;

	for (;;) {
		struct user_regs_struct regs;

		next_stop(pid); /* on the way in */
		regs = get_regs(pid);
		running = running || is_kvm_run(&regs);
		if (running && regs.orig_rax == SYS_write &&
		    regs.rdi == STDOUT_FILENO)
			return;
		if (timers || regs.orig_rax != SYS_timer_settime) {
			next_stop(pid); /* on the way out */
			continue;
		}
		regs.orig_rax = (u64)-1; /* no call */
		set_regs(pid, &regs);
		next_stop(pid);
		regs = get_regs(pid);
		regs.rax = 0;
		set_regs(pid, &regs);
	}
}

/* Have its KVM_RUNs fail, as said above. */
static void fail_run(pid_t pid)
{
	for (bool first = true;;) {
		struct user_regs_struct regs;

		next_stop(pid); /* on the way in */
		regs = get_regs(pid);
		if (!is_kvm_run(&regs)) {
			next_stop(pid);
			continue;
		}
		if (first) {
			regs.orig_rax = (u64)-1; /* no call */
			set_regs(pid, &regs);
		}
		next_stop(pid); /* on the way out */
		regs = get_regs(pid);
		if (first)
			regs.rax = (u64)-EINTR;
		else if (regs.rax == 0)
			regs.rax = (u64)-EIO;
		set_regs(pid, &regs);
		first = false;
	}
}

/* Have its first KVM_RUN end by an exit of this kind, as said above. */
static void fake_exit(pid_t pid, const char *kind)
{
	const u64 reason_at = offsetof(struct kvm_run, exit_reason);
	const u64 suberror_at = offsetof(struct kvm_run, internal.suberror);
	unsigned reason, suberror;
	u64 kvm_run = 0;

	if (sscanf(kind, "exit=%u,%u", &reason, &suberror) != 2)
		errx(2, "no exit %s", kind);
	for (;;) {
		struct user_regs_struct regs;

		next_stop(pid); /* on the way in */
		regs = get_regs(pid);
		next_stop(pid); /* on the way out */
		if (regs.orig_rax == SYS_mmap && regs.r10 == MAP_SHARED)
			kvm_run = get_regs(pid).rax;
		if (is_kvm_run(&regs))
			break;
	}
	poke(pid, kvm_run + reason_at, reason);
	poke(pid, kvm_run + suberror_at, suberror);
	for (;;)
		next_stop(pid);
}

/*
 * The program is on its way out of a system call, which left rax: go on with
 * these registers, and say what the call returned. This is known only when the
 * program comes to its next stop, since from one that a filter has refused it
 * is on its way out, too, with the call's number in rax.
 */
static void resume(pid_t pid, const struct user_regs_struct *regs, u64 rax)
{
	long long result = (long long)rax;

	set_regs(pid, regs);
	next_stop(pid);
	if (refused)
		fprintf(stderr, "tamper: refused\n");
	else
		fprintf(stderr, "tamper: returned %lld (%s)\n", result,
			result < 0 ? strerror((int)-result) : "success");
}

/* Put a call in the place of the write that the program is about to make. */
static void replace(pid_t pid, const struct call *call)
{
	const struct user_regs_struct saved = get_regs(pid);
	struct user_regs_struct regs = saved;

	regs.orig_rax = call->nr;
	regs.rdi = call->args[0];
	regs.rsi = call->args[1];
	regs.rdx = call->args[2];
	regs.r10 = call->args[3];
	set_regs(pid, &regs);
	next_stop(pid);
	/* And on, as if all had been written. */
	regs = saved;
	regs.rax = saved.rdx;
	resume(pid, &regs, get_regs(pid).rax);
}

/*
 * Have a call made by int $0x80, the way into the kernel of 32-bit programs.
 * How it was entered is settled once a call has been entered, so let the write
 * be, and afterwards go back to its instruction, with another one there.
 */
static void replace_i386(pid_t pid, const struct call *call)
{
	struct user_regs_struct saved, regs;
	u64 code;

	next_stop(pid);
	saved = regs = get_regs(pid);
	regs.rip -= 2; /* SYSCALL has two bytes, INT $0x80 as well */
	regs.rax = call->nr;
	regs.rbx = call->args[0];
	regs.orig_rax = (u64)-1; /* nothing to restart */
	code = peek(pid, regs.rip);
	poke(pid, regs.rip, (code & ~0xffffull) | 0x80cd);
	set_regs(pid, &regs);
	next_stop(pid); /* on the way in, by the new instruction */
	next_stop(pid); /* and out */
	poke(pid, regs.rip, code);
	resume(pid, &saved, get_regs(pid).rax);
}

/* A filter, as the kernel gives it out. */
struct program {
	int len;
	struct sock_filter code[BPF_MAXINSNS];
};

/*
 * Does a filter allow a call? Runs the instructions that the kernel permits in
 * a filter (Documentation/userspace-api/seccomp_filter.rst) and that occur in
 * one that is not contrived; ends at any other.
 */
static bool allows(const struct program *program, struct seccomp_data data)
{
	const struct sock_filter *op = program->code;
	unsigned a = 0;

	for (;;) {
		bool jump = false;

		switch (op->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (char *)&data + op->k, sizeof(a));
			op++;
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= op->k;
			op++;
			continue;
		case BPF_JMP | BPF_JA:
			op += 1 + op->k;
			continue;
		case BPF_RET | BPF_K:
			return op->k == SECCOMP_RET_ALLOW ||
			       op->k == SECCOMP_RET_LOG;
		case BPF_JMP | BPF_JEQ | BPF_K:
			jump = a == op->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			jump = a > op->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			jump = a >= op->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			jump = (a & op->k) != 0;
			break;
		default:
			errx(2, "the filter has an instruction 0x%x", op->code);
		}
		op += 1 + (jump ? op->jt : op->jf);
	}
}

/* The same, with every other argument of the call being any. */
static bool allows_call(const struct program *program, unsigned arch,
			unsigned nr, unsigned arg0, unsigned arg1)
{
	struct seccomp_data data = { .arch = arch, .nr = (int)nr };

	for (size_t i = 0; i < ARRAY_SIZE(data.args); i++)
		data.args[i] = OTHER;
	data.args[0] = arg0;
	data.args[1] = arg1;
	return allows(program, data);
}

/* An argument's value, or * for any. */
static const char *value(unsigned arg, char text[16])
{
	snprintf(text, 16, arg == OTHER ? "*" : "%#x", arg);
	return text;
}

/*
 * Print what the filter allows of a call: for any arguments, or for those of
 * the first two that it has in it.
 */
static void print_allowed(const struct program *program, const char *abi,
			  unsigned arch, unsigned nr)
{
	unsigned values[BPF_MAXINSNS + 1] = { OTHER };
	int n = 1;
	char text[2][16];

	for (int i = 0; i < program->len; i++) {
		bool seen = BPF_CLASS(program->code[i].code) != BPF_JMP;

		for (int j = 0; j < n; j++)
			seen = seen || values[j] == program->code[i].k;
		if (!seen)
			values[n++] = program->code[i].k;
	}
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			unsigned a = values[i], b = values[j];

			if (!allows_call(program, arch, nr, a, b))
				continue;
			/* Not if it was said with a * already. */
			if ((i > 0 &&
			     allows_call(program, arch, nr, OTHER, b)) ||
			    (j > 0 && allows_call(program, arch, nr, a, OTHER)))
				continue;
			fprintf(stderr, "tamper: %s %d %s %s\n", abi, (int)nr,
				value(a, text[0]), value(b, text[1]));
		}
}

/* Print all that the program's filter allows. */
static void print_filter(pid_t pid)
{
	static struct program program;

	program.len =
		(int)ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, program.code);
	if (program.len < 0)
		err(2, "PTRACE_SECCOMP_GET_FILTER");
	/* -1 is no call: a tracer puts it in the place of one to skip. */
	print_allowed(&program, "x86-64", AUDIT_ARCH_X86_64, -1u);
	print_allowed(&program, "i386", AUDIT_ARCH_I386, -1u);
	for (unsigned nr = 0; nr < 1024; nr++) {
		print_allowed(&program, "x86-64", AUDIT_ARCH_X86_64, nr);
		print_allowed(&program, "x32", AUDIT_ARCH_X86_64,
			      nr | (unsigned)X32_BIT);
		print_allowed(&program, "i386", AUDIT_ARCH_I386, nr);
	}
}

int main(int argc, char *argv[])
{
	const struct call *call = calls;
	pid_t pid;

	if (argc < 3)
		errx(2, "usage: tamper CALL PROGRAM [ARGUMENT]...");
	if (!strncmp(argv[1], "exit=", 5))
		fake_exit(start(argv + 2), argv[1]);
	while (strcmp(call->name, argv[1]))
		if (++call == calls + ARRAY_SIZE(calls))
			errx(2, "no call %s", argv[1]);
	pid = start(argv + 2);
	if (!strcmp(call->name, "no-vdso"))
		hide_vdso(pid);
	if (!strcmp(call->name, "fail-run"))
		fail_run(pid);
	come_to_write(pid, call->nr == 0);
	if (!strcmp(call->name, "filter"))
		print_filter(pid);
	else if (!strcmp(call->name, "i386"))
		replace_i386(pid, call);
	else if (call->nr)
		replace(pid, call);
	for (;;)
		next_stop(pid);
}

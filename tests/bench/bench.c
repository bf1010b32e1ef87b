/*
 * bench.c - how fast simple-kvm is, next to the floor (see yardstick.c).
 *
 *	bench SIMPLE_KVM YARDSTICK GUEST OUTS [ROUNDS]
 *
 * GUEST is the built-in guest of long mode as a flat image, and OUTS an image
 * that writes 100,000 bytes with an OUT for each.
 *
 * What is compared runs in turn, so that what else the machine does hits all
 * alike: A B C, then C B A, then A B C ... The A and the B of a round make a
 * pair. A row has the medians of A, of B and of the pairs' results, which are
 * their ratios or differences. Half of the pairs lie between the quartiles. The
 * median is steadier than a single pair: with 300 of them it changes from run
 * to run by up to a fifth of the distance between the quartiles: that is noise.
 *
 * A launch is timed from before its process is made until it is gone. Its exit
 * status and the length of its output are checked each time.
 *
 * A second table tells where the time of a launch goes: it is stopped at each
 * system call, and the time from stop to stop is added to that call, or to the
 * program in between. What a stop itself costs is measured, and subtracted.
 *
 * ROUNDS is how often all of that is done; 1, if it is not told, takes less
 * than a minute. The exit status is 0 if all could be measured, whether or not
 * an aim is met.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	LAUNCHES = 300, /* of each program, where a launch takes milliseconds */
	RUNS = 10,      /* where it takes a second */
	BATCHES = 10,   /* of launches two at a time... */
	BATCH = 40,     /* ...each of so many */
	LOOKS = 15,     /* launches whose memory or page faults are looked at */
	LOADS = 9,      /* launches with a large image... */
	MIB = 256,      /* ...of this size */
	TRACES = 60,    /* launches that are stopped at each system call */
	CALLS = 400,    /* which tell what such a stop costs */
	GREETING = 14,  /* bytes: what the built-in guest writes */
	OUTS = 100000,  /* bytes: what the image of that name writes */
};

/* A program with its arguments, and what came of its launches. */
struct subject {
	const char *args[6];
	off_t output;  /* how many bytes it has to write */
	double *value; /* what was measured, for each launch */
};

/* What is measured of subjects, and how often. */
struct series {
	const char *what;                          /* for the progress line */
	double (*measure)(const struct subject *); /* launches it once... */
	int launches;                              /* ...or so many times */
	int rounds;
	struct subject *subjects[6]; /* NULL after the last */
};

static const char *simple_kvm, *yardstick, *guest, *outs;
static int rounds = 1;
static int out;        /* the file for the output: a real one, without a name */
static int nowhere;    /* for what they say besides: where it costs nothing */
static char large[40]; /* the name of the large image: a file without one */
static posix_spawn_file_actions_t files; /* which gives a launch these two */

/* Seconds on a clock that nobody sets. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/*
 * Tell a person who watches how many rounds of a series are done, ten times a
 * second at most. With NULL, erase that. Only a terminal is told anything.
 */
static void progress(const struct series *s, int round)
{
	static double next;

	if (!isatty(STDERR_FILENO) || (s && now() < next))
		return;
	if (s)
		fprintf(stderr, "\r\033[K%s: %d of %d", s->what, round,
			s->rounds);
	else
		fputs("\r\033[K", stderr);
	next = s ? now() + 0.1 : 0;
}

/* End because a system call failed. */
static void __attribute__((noreturn)) host_error(const char *what)
{
	int error = errno;

	progress(NULL, 0);
	errno = error;
	err(1, "%s", what);
}

/* End with a message about a program, and how to see what is wrong with it. */
static _Noreturn void fail(const struct subject *s, const char *what,
			   long long number)
{
	progress(NULL, 0);
	fprintf(stderr, "bench: %s %lld:", what, number);
	for (int i = 0; s->args[i]; i++)
		fprintf(stderr, " %s", s->args[i]);
	fputc('\n', stderr);
	exit(1);
}

/* Start a program. Returns its process. */
static pid_t start(const struct subject *s)
{
	static char *const no_environment[] = { NULL };
	pid_t pid;

	errno = posix_spawn(&pid, s->args[0], &files, NULL,
			    (char *const *)s->args, no_environment);
	if (errno)
		host_error(s->args[0]);
	return pid;
}

/* Wait for one to end, any if pid is -1. Returns what it used. */
static struct rusage finish(const struct subject *s, pid_t pid)
{
	struct rusage used;
	int status;

	if (wait4(pid, &status, 0, &used) < 0)
		host_error("wait4");
	if (WIFSIGNALED(status))
		fail(s, "stopped by signal", WTERMSIG(status));
	if (WEXITSTATUS(status))
		fail(s, "exit status", WEXITSTATUS(status));
	return used;
}

/* How long a launch takes, in milliseconds. */
static double launch(const struct subject *s)
{
	double begin = now();

	finish(s, start(s));
	return (now() - begin) * 1e3;
}

/* How long one takes where BATCH of them run, two at a time. */
static double launch_batch(const struct subject *s)
{
	double begin = now();

	start(s);
	for (int i = 1; i < BATCH; i++) {
		start(s);
		finish(s, -1);
	}
	finish(s, -1);
	return (now() - begin) * 1e3 / BATCH;
}

/*
 * How many page faults a launch has that need no disk: for each page that it,
 * or KVM on its behalf, touches for the first time.
 */
static double page_faults(const struct subject *s)
{
	return (double)finish(s, start(s)).ru_minflt;
}

/* Start a program, and stop it on its way out. Returns its process. */
static pid_t run_to_exit(const struct subject *s)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		dup2(out, STDOUT_FILENO);
		dup2(nowhere, STDERR_FILENO);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execv(s->args[0], (char *const *)s->args);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT) ||
	    ptrace(PTRACE_CONT, pid, 0, 0) || waitpid(pid, &status, 0) != pid ||
	    !WIFSTOPPED(status))
		fail(s, "cannot be traced: status", status);
	return pid;
}

/*
 * The most memory that a launch has at a time, in KiB. What wait4() tells would
 * be easier to get, but is never below this program's own, and leaves out what
 * the kernel has yet to add up. So stop the process on its way out, and look.
 */
static double peak_memory(const struct subject *s)
{
	char path[40], line[128];
	long peak = 0;
	pid_t pid = run_to_exit(s);
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "VmHWM: %ld", &peak);
	if (peak == 0)
		host_error(path);
	fclose(file);
	ptrace(PTRACE_CONT, pid, 0, 0);
	finish(s, pid);
	return (double)peak;
}

/* Measure one subject once, and check the length of its output. */
static double measure(const struct series *series, const struct subject *s)
{
	struct stat st;
	double value;

	if (ftruncate(out, 0) || lseek(out, 0, SEEK_SET))
		host_error("the output file");
	value = series->measure(s);
	if (fstat(out, &st))
		host_error("the output file");
	if (st.st_size != s->output * series->launches)
		fail(s, "wrong size of output,", st.st_size);
	return value;
}

/* Measure each subject once, to warm up, and get room for their numbers. */
static void warm_up(const struct series *series)
{
	progress(series, 0);
	for (struct subject *const *s = series->subjects; *s; s++) {
		(*s)->value = reallocarray((*s)->value, (size_t)series->rounds,
					   sizeof(double));
		if (!(*s)->value)
			host_error("reallocarray");
		measure(series, *s);
	}
}

/* Measure all in turn, to and fro. */
static void in_turn(const struct series *series)
{
	struct subject *const *subjects = series->subjects;
	int n = 0;

	warm_up(series);
	while (subjects[n])
		n++;
	for (int i = 0; i < series->rounds; i++) {
		progress(series, i);
		for (int j = 0; j < n; j++) {
			struct subject *s = subjects[i % 2 ? n - 1 - j : j];

			s->value[i] = measure(series, s);
		}
	}
	progress(NULL, 0);
}

/* For qsort(): which of two numbers is less. */
static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The middle of some numbers, and where their middle half begins and ends. */
struct spread {
	double low, median, high;
};

/* The number at a part of the way from the least to the most of n in order. */
static double quantile(const double *sorted, int n, double part)
{
	double place = part * (n - 1);
	int below = (int)place;
	int above = below + 1 < n ? below + 1 : below;

	return sorted[below] +
	       (place - below) * (sorted[above] - sorted[below]);
}

/* Find these of n numbers, which stay in their order. */
static struct spread find_spread(const double *value, int n)
{
	size_t size = (size_t)n * sizeof(*value);
	double *sorted = malloc(size);
	struct spread spread;

	if (!sorted)
		host_error("malloc");
	memcpy(sorted, value, size);
	qsort(sorted, (size_t)n, sizeof(*sorted), compare);
	spread.low = quantile(sorted, n, 0.25);
	spread.median = quantile(sorted, n, 0.5);
	spread.high = quantile(sorted, n, 0.75);
	free(sorted);
	return spread;
}

/* What becomes of a pair, and how it is printed: with so many decimals. */
struct result {
	bool is_ratio; /* otherwise it is the difference */
	int decimals;  /* of A and of B */
	int precision; /* of the result */
};

static const struct result ratio = { true, 2, 3 };
static const struct result difference = { false, 0, 0 };

/* The results of all pairs of a and b, in short. */
static struct spread pair_up(struct result how, const struct subject *a,
			     const struct subject *b, int n)
{
	double *value = malloc((size_t)n * sizeof(*value));
	struct spread spread;

	if (!value)
		host_error("malloc");
	for (int i = 0; i < n; i++)
		value[i] = how.is_ratio ? a->value[i] / b->value[i]
					: a->value[i] - b->value[i];
	spread = find_spread(value, n);
	free(value);
	return spread;
}

/* Print a row of the table; less is better, and an aim of 0 is none. */
static void row(const char *what, struct result how, const struct subject *a,
		const struct subject *b, int n, double aim)
{
	struct spread s = pair_up(how, a, b, n);
	char quartiles[40], limit[20] = "-";
	const char *met = "-";

	snprintf(quartiles, sizeof(quartiles), "%.*f..%.*f", how.precision,
		 s.low, how.precision, s.high);
	if (aim > 0) {
		snprintf(limit, sizeof(limit), "<=%.*f", how.decimals, aim);
		met = s.median <= aim ? "yes" : "no";
	}
	printf("%-30s %7.*f %7.*f %7.*f %-12s %-6s %s\n", what, how.decimals,
	       find_spread(a->value, n).median, how.decimals,
	       find_spread(b->value, n).median, how.precision, s.median,
	       quartiles, limit, met);
	fflush(stdout);
}

/* A program that writes so many bytes, and its arguments. */
/* clang-format off */
#define SUBJECT(bytes, ...) { .args = { __VA_ARGS__ }, .output = (bytes) }
/* clang-format on */

/* One launch at a time. */
static void bench_launches(void)
{
	struct subject builtin = SUBJECT(GREETING, simple_kvm, "-l");
	struct subject file = SUBJECT(GREETING, simple_kvm, "-l", guest);
	struct subject merged = SUBJECT(GREETING, yardstick, "madvise");
	struct subject floor = SUBJECT(GREETING, yardstick);
	const struct series s = {
		.what = "launches",
		.measure = launch,
		.launches = 1,
		.rounds = LAUNCHES * rounds,
		.subjects = { &builtin, &floor, &merged, &file },
	};

	in_turn(&s);
	row("launch of -l / floor, ms", ratio, &builtin, &floor, s.rounds,
	    1.12);
	row("floor with madvise / floor, ms", ratio, &merged, &floor, s.rounds,
	    0);
	row("launch of IMAGE / floor, ms", ratio, &file, &floor, s.rounds, 0);
}

/* Two at a time, where one may wait for the other in the kernel. */
static void bench_two(void)
{
	struct subject builtin = SUBJECT(GREETING, simple_kvm, "-l");
	struct subject floor = SUBJECT(GREETING, yardstick);
	const struct series s = {
		.what = "launches two at a time",
		.measure = launch_batch,
		.launches = BATCH,
		.rounds = BATCHES * rounds,
		.subjects = { &builtin, &floor },
	};

	in_turn(&s);
	row("two at a time / floor, ms each", ratio, &builtin, &floor, s.rounds,
	    0);
}

/* A guest that prints much. */
static void bench_outs(void)
{
	struct subject plain = SUBJECT(OUTS, simple_kvm, "-l", outs);
	struct subject bare = SUBJECT(0, yardstick, "bare", outs);
	struct subject flush = SUBJECT(OUTS, yardstick, "flush", outs);
	struct subject coalesce = SUBJECT(OUTS, simple_kvm, "-l", "-c", outs);
	struct subject ring = SUBJECT(0, yardstick, "ring", outs);
	const struct series s = {
		.what = "100,000 OUTs",
		.measure = launch,
		.launches = 1,
		.rounds = RUNS * rounds,
		.subjects = { &coalesce, &plain, &bare, &flush, &ring },
	};

	in_turn(&s);
	row("100,000 OUTs / bare loop, ms", ratio, &plain, &bare, s.rounds,
	    1.04);
	row("  / each written at once, ms", ratio, &plain, &flush, s.rounds, 0);
	row("  --coalesce / bare ring, ms", ratio, &coalesce, &ring, s.rounds,
	    1.10);
	row("  --coalesce / without, ms", ratio, &coalesce, &plain, s.rounds,
	    0);
}

/* A large image, next to a file that is read. */
static void bench_image(void)
{
	struct subject image =
		SUBJECT(0, simple_kvm, "-l", "-m", "512M", large);
	struct subject file = SUBJECT(0, yardstick, "read", large);
	struct series s = {
		.what = "a large image",
		.measure = launch,
		.launches = 1,
		.rounds = LOADS * rounds,
		.subjects = { &image, &file },
	};

	in_turn(&s);
	row("image of 256 MiB / read, ms", ratio, &image, &file, s.rounds,
	    1.25);
	s.measure = peak_memory;
	in_turn(&s);
	for (int i = 0; i < s.rounds; i++) {
		image.value[i] /= 1024;
		file.value[i] /= 1024;
	}
	row("  its peak memory, MiB", ratio, &image, &file, s.rounds, 1.05);
}

/* What a launch takes besides time. */
static void bench_memory(void)
{
	struct subject builtin = SUBJECT(GREETING, simple_kvm, "-l");
	struct subject floor = SUBJECT(GREETING, yardstick);
	struct series s = {
		.what = "peak memory",
		.measure = peak_memory,
		.launches = 1,
		.rounds = LOOKS * rounds,
		.subjects = { &builtin, &floor },
	};

	in_turn(&s);
	row("peak memory of -l - floor, KiB", difference, &builtin, &floor,
	    s.rounds, 256);
	s.what = "page faults";
	s.measure = page_faults;
	in_turn(&s);
	row("page faults of -l - floor", difference, &builtin, &floor, s.rounds,
	    0);
}

/* The parts of a launch. */
enum { START, CREATE_VM, CREATE_VCPU, SET_UP, OTHER, PROGRAM, RUN, END, PARTS };
static const char *const part_names[PARTS] = {
	"start of the process",
	"KVM_CREATE_VM",
	"KVM_CREATE_VCPU",
	"other calls of the set-up",
	"other system calls",
	"the program itself",
	"KVM_RUN",
	"end of the process",
};

/* Which part a system call is, that a stopped process is about to make. */
static int part_of(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
		host_error("PTRACE_GETREGS");
	if (regs.orig_rax == SYS_exit_group)
		return END;
	if (regs.orig_rax != SYS_ioctl)
		return OTHER;
	switch (regs.rsi) {
	case KVM_CREATE_VM:
		return CREATE_VM;
	case KVM_CREATE_VCPU:
		return CREATE_VCPU;
	case KVM_RUN:
		return RUN;
	}
	return SET_UP;
}

/* Let a stopped process run to its next stop. Returns whether there was one. */
static bool run_to_stop(pid_t pid, double *time, double stop)
{
	double begin = now();
	int status;

	if (ptrace(PTRACE_SYSCALL, pid, 0, 0) ||
	    waitpid(pid, &status, 0) != pid)
		host_error("PTRACE_SYSCALL");
	*time += now() - begin - stop;
	return WIFSTOPPED(status);
}

/*
 * Start a program that stops before its first instruction; or with NULL one
 * that makes the same call again and again.
 */
static pid_t start_traced(const struct subject *s)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		dup2(out, STDOUT_FILENO);
		dup2(nowhere, STDERR_FILENO);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		if (s)
			execv(s->args[0], (char *const *)s->args);
		raise(SIGSTOP);
		for (int i = 0; i < CALLS; i++)
			syscall(SYS_getppid);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		host_error("a traced process");
	return pid;
}

/* Seconds that a stop at a system call, on the way in or out, costs by itself. */
static double cost_of_stop(void)
{
	pid_t pid = start_traced(NULL);
	double time[2 * CALLS] = { 0 };
	int n = 0;

	while (n < 2 * CALLS && run_to_stop(pid, &time[n], 0))
		n++;
	ptrace(PTRACE_KILL, pid, 0, 0);
	waitpid(pid, NULL, 0);
	return find_spread(time, n).median;
}

/* Stay on one CPU, and so do the programs: no stop has to wake another one. */
static void stay_here(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET((size_t)sched_getcpu(), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		host_error("sched_setaffinity");
}

/* Trace a launch, and add the time of each part to its row, at round n. */
static void trace_launch(const struct subject *s, double *parts[PARTS], int n,
			 double stop)
{
	double time[PARTS] = { 0 };
	double begin = now();
	pid_t pid = start_traced(s);
	int part;

	time[START] = now() - begin;
	while (run_to_stop(pid, &time[PROGRAM], stop)) { /* on the way in */
		part = part_of(pid);
		if (!run_to_stop(pid, &time[part], stop)) /* and out */
			break;
	}
	for (int i = 0; i < PARTS; i++)
		parts[i][n] = time[i] > 0 ? time[i] * 1e6 : 0;
}

/* Where the time of a launch goes, in microseconds. */
static void bench_parts(void)
{
	const struct subject builtin = SUBJECT(GREETING, simple_kvm, "-l");
	const struct subject floor = SUBJECT(GREETING, yardstick);
	double *of_builtin[PARTS], *of_floor[PARTS], stop;
	int n = TRACES * rounds;

	stay_here();
	stop = cost_of_stop();
	for (int i = 0; i < PARTS; i++) {
		of_builtin[i] = calloc((size_t)n, sizeof(double));
		of_floor[i] = calloc((size_t)n, sizeof(double));
		if (!of_builtin[i] || !of_floor[i])
			host_error("calloc");
	}
	for (int i = 0; i < n; i++) {
		trace_launch(&builtin, of_builtin, i, stop);
		trace_launch(&floor, of_floor, i, stop);
	}
	printf("\n%-30s %9s %9s\n", "Parts of a launch, us", "-l", "floor");
	for (int i = 0; i < PARTS; i++) {
		printf("%-30s %9.0f %9.0f\n", part_names[i],
		       find_spread(of_builtin[i], n).median,
		       find_spread(of_floor[i], n).median);
		free(of_builtin[i]);
		free(of_floor[i]);
	}
}

/* Make the large image: a HLT, and bytes that no page has twice. */
static void make_image(void)
{
	static unsigned char chunk[1 << 20];
	char name[] = "/tmp/bench-image.XXXXXX";
	unsigned random = 1;
	int fd = mkostemp(name, O_CLOEXEC);

	if (fd < 0 || unlink(name))
		host_error(name);
	for (int i = 0; i < MIB; i++) {
		for (size_t j = 0; j < sizeof(chunk); j++)
			chunk[j] =
				(unsigned char)((random = random * 1103515245 +
							  12345) >>
						16);
		if (i == 0)
			chunk[0] = 0xf4;
		if (write(fd, chunk, sizeof(chunk)) != sizeof(chunk))
			host_error("write");
	}
	snprintf(large, sizeof(large), "/proc/%d/fd/%d", getpid(), fd);
}

/* Open what the programs write to. */
static void open_files(void)
{
	char name[] = "/tmp/bench.XXXXXX";

	make_image();
	out = mkostemp(name, O_CLOEXEC);
	nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (out < 0 || unlink(name) || nowhere < 0 ||
	    posix_spawn_file_actions_init(&files) ||
	    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO) ||
	    posix_spawn_file_actions_adddup2(&files, nowhere, STDERR_FILENO))
		host_error(name);
}

/* Print what the table shows, and its first line. */
static void print_heading(void)
{
	printf("Medians of A, of B and of the pairs' A / B or A - B. Half of "
	       "the pairs lie\nbetween the quartiles. Launches: %d of each, %d "
	       "two at a time, %d of 100,000\nOUTs, %d for memory and page "
	       "faults, %d with a large image, %d for the parts.\n\n",
	       LAUNCHES * rounds, BATCHES * BATCH * rounds, RUNS * rounds,
	       LOOKS * rounds, LOADS * rounds, TRACES * rounds);
	printf("%-30s %7s %7s %7s %-12s %-6s %s\n", "A / B, or A - B", "A", "B",
	       "result", "quartiles", "aim", "met");
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	if (argc > 5)
		rounds = atoi(argv[5]);
	if (argc < 5 || argc > 6 || rounds < 1 || rounds > 1000)
		errx(1, "usage: bench SIMPLE_KVM YARDSTICK GUEST OUTS "
			"[ROUNDS, 1 to 1000]");
	simple_kvm = argv[1];
	yardstick = argv[2];
	guest = argv[3];
	outs = argv[4];
	open_files();
	print_heading();
	bench_launches();
	bench_two();
	bench_outs();
	bench_image();
	bench_memory();
	bench_parts();
	return 0;
}

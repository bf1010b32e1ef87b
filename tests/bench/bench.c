/*
 * bench.c - how fast simple-kvm is, next to the yardstick (see yardstick.c).
 *
 *	bench SIMPLE_KVM YARDSTICK IMAGE [ROUNDS]
 *
 * What is compared runs in turn, A B A B ..., so that what else the machine
 * does hits both alike; the medians are compared, so that an outlier counts for
 * nothing. A launch is timed from before its process is made until it is gone.
 * Its exit status and the length of its output are checked each time.
 *
 * ROUNDS is how often each program of the 100,000 OUTs runs, for these take
 * most of the time: about a second for each.
 *
 * The exit status is 0 if all could be measured, whether or not an aim is met.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	LAUNCHES = 500, /* of each program, where a launch takes milliseconds */
	ROUNDS = 40,    /* unless told, where it takes a second */
	BATCHES = 10,   /* of launches two at a time... */
	BATCH = 100,    /* ...each of so many: 1,000 of each program */
	MEMORY = 25,    /* launches whose memory is looked at */
	GREETING = 14,  /* bytes: what the built-in guest writes */
	OUTS = 100000,  /* bytes: what the image outs64.bin writes */
};

/* A program with its arguments, and what came of its launches. */
struct subject {
	const char *args[6];
	off_t output;  /* how many bytes it has to write */
	double *value; /* what was measured, for each launch... */
	int n;         /* ...and how many there are */
};

static const char *simple_kvm, *yardstick, *image;
static int out;     /* the file for the output: a real one, without a name */
static int nowhere; /* for what they say besides: where it costs nothing */
static posix_spawn_file_actions_t files; /* which gives a launch these two */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* End with a message about a program, and how to see what is wrong with it. */
static void __attribute__((noreturn))
fail(const struct subject *s, const char *what, long long number)
{
	fprintf(stderr, "bench: %s %lld:", what, number);
	for (int i = 0; s->args[i]; i++)
		fprintf(stderr, " %s", s->args[i]);
	fputc('\n', stderr);
	exit(1);
}

static pid_t start(const struct subject *s)
{
	static char *const no_environment[] = { NULL };
	pid_t pid;
	int error = posix_spawn(&pid, s->args[0], &files, NULL,
				(char *const *)s->args, no_environment);

	if (error) {
		errno = error;
		err(1, "%s", s->args[0]);
	}
	return pid;
}

/* Wait for one to end: any, if pid is -1. */
static void finish(const struct subject *s, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) < 0)
		err(1, "waitpid");
	if (WIFSIGNALED(status))
		fail(s, "stopped by signal", WTERMSIG(status));
	if (WEXITSTATUS(status))
		fail(s, "exit status", WEXITSTATUS(status));
}

/* How long a launch takes, in milliseconds. */
static double launch(const struct subject *s)
{
	double begin = now();

	finish(s, start(s));
	return (now() - begin) * 1e3;
}

/* How many launches there are in a second, two at a time. */
static double launch_batch(const struct subject *s)
{
	double begin = now();

	start(s);
	for (int i = 1; i < BATCH; i++) {
		start(s);
		finish(s, -1);
	}
	finish(s, -1);
	return BATCH / (now() - begin);
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
	int status;
	FILE *file;
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
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "VmHWM: %ld", &peak);
	if (peak == 0)
		err(1, "VmHWM in %s", path);
	fclose(file);
	ptrace(PTRACE_CONT, pid, 0, 0);
	finish(s, pid);
	return (double)peak;
}

/* Measure all in turn, so many times, and once before that to warm up. */
static void in_turn(double (*measure)(const struct subject *), int rounds,
		    struct subject *const subjects[], int n)
{
	off_t launches = measure == launch_batch ? BATCH : 1;
	struct stat st;

	for (int i = -1; i < rounds; i++) {
		for (int j = 0; j < n; j++) {
			struct subject *s = subjects[j];
			double value;

			if (ftruncate(out, 0) || lseek(out, 0, SEEK_SET))
				err(1, "the output file");
			value = measure(s);
			if (fstat(out, &st))
				err(1, "the output file");
			if (st.st_size != s->output * launches)
				fail(s, "wrong size of output,", st.st_size);
			if (i < 0)
				s->value = calloc((size_t)rounds,
						  sizeof(*s->value));
			else
				s->value[s->n++] = value;
		}
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct subject *s)
{
	qsort(s->value, (size_t)s->n, sizeof(*s->value), compare);
	return (s->value[(s->n - 1) / 2] + s->value[s->n / 2]) / 2;
}

/* Print a row of the table: the medians, what they make, and the aim. */
static void row(const char *what, const char *unit, double a, double b,
		double result, const char *aim, const char *met)
{
	printf("%-47s %8.2f %8.2f %-4s %7.3f  %-7s %s\n", what, a, b, unit,
	       result, aim, met);
	fflush(stdout);
}

/* A row about times, where less is better; an aim of 0 is none. */
static void ratio(const char *what, struct subject *a, struct subject *b,
		  double aim)
{
	double x = median(a), y = median(b);
	char text[32] = "-";

	if (aim > 0)
		snprintf(text, sizeof(text), "<= %.2f", aim);
	row(what, "ms", x, y, x / y, text,
	    aim <= 0       ? "-"
	    : x / y <= aim ? "yes"
			   : "no");
}

#define SUBJECT(bytes, ...) \
	{ \
		.args = { __VA_ARGS__ }, .output = (bytes) \
	}
#define IN_TURN(measure, rounds, ...) \
	in_turn(measure, rounds, (struct subject *[]){ __VA_ARGS__ }, \
		sizeof((struct subject *[]){ __VA_ARGS__ }) / sizeof(void *))

static void bench_launches(void)
{
	struct subject a = SUBJECT(GREETING, simple_kvm, "-l");
	struct subject b = SUBJECT(GREETING, yardstick);

	IN_TURN(launch, LAUNCHES, &a, &b);
	ratio("launch of -l / yardstick", &a, &b, 1.03);
}

static void bench_large(void)
{
	struct subject a = SUBJECT(GREETING, simple_kvm, "-l", "-m3G");
	struct subject b = SUBJECT(GREETING, simple_kvm, "-l", "-m2M");
	struct subject c = SUBJECT(GREETING, yardstick, "large");
	struct subject d = SUBJECT(GREETING, yardstick);

	IN_TURN(launch, LAUNCHES, &a, &b, &c, &d);
	ratio("launch of -l with -m 3G / -m 2M", &a, &b, 1.05);
	ratio("  the same two, of the yardstick", &c, &d, 0);
	ratio("  launch with -m 3G / yardstick", &a, &c, 0);
}

static void bench_outs(int rounds)
{
	struct subject plain = SUBJECT(OUTS, simple_kvm, "-l", image);
	struct subject bare = SUBJECT(0, yardstick, "bare", image);
	struct subject flush = SUBJECT(OUTS, yardstick, "flush", image);
	struct subject coalesce = SUBJECT(OUTS, simple_kvm, "-l", image, "-c");
	struct subject try = SUBJECT(0, simple_kvm, "-c", "-V");
	int status;

	if (waitpid(start(&try), &status, 0) < 0)
		err(1, "waitpid");
	if (status == 0)
		IN_TURN(launch, rounds, &plain, &bare, &flush, &coalesce);
	else
		IN_TURN(launch, rounds, &plain, &bare, &flush);
	ratio("100,000 OUTs to a file / bare KVM_RUN loop", &plain, &bare,
	      1.02);
	ratio("100,000 OUTs to a file / each written at once", &plain, &flush,
	      1.00);
	if (status == 0)
		ratio("100,000 OUTs with --coalesce / without", &coalesce,
		      &plain, 0.25);
	else
		printf("%-47s not available\n",
		       "100,000 OUTs with --coalesce / without");
}

static void bench_memory(void)
{
	struct subject a = SUBJECT(GREETING, simple_kvm, "-l");
	struct subject b = SUBJECT(GREETING, yardstick);
	double difference;

	IN_TURN(peak_memory, MEMORY, &a, &b);
	difference = median(&a) - median(&b);
	row("peak memory of -l - yardstick's", "KiB", median(&a), median(&b),
	    difference, "<= 256", difference <= 256 ? "yes" : "no");
}

static void bench_two(void)
{
	struct subject a = SUBJECT(GREETING, simple_kvm, "-l");
	struct subject b = SUBJECT(GREETING, yardstick);

	IN_TURN(launch_batch, BATCHES, &a, &b);
	row("launches of -l, two at a time / yardstick's", "/s", median(&a),
	    median(&b), median(&a) / median(&b), "-", "-");
}

int main(int argc, char *argv[])
{
	char name[] = "/tmp/bench.XXXXXX";
	int rounds = argc > 4 ? atoi(argv[4]) : ROUNDS;

	if (argc < 4 || rounds < 1)
		errx(1, "usage: bench SIMPLE_KVM YARDSTICK IMAGE [ROUNDS]");
	simple_kvm = argv[1];
	yardstick = argv[2];
	image = argv[3];

	out = mkostemp(name, O_CLOEXEC);
	nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (out < 0 || unlink(name) || nowhere < 0 ||
	    posix_spawn_file_actions_init(&files) ||
	    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO) ||
	    posix_spawn_file_actions_adddup2(&files, nowhere, STDERR_FILENO))
		err(1, "%s", name);

	printf("Medians of %d launches of each, in turn; of %d where there are "
	       "100,000 OUTs;\n%d launches of each two at a time; memory of "
	       "%d.\n\n",
	       LAUNCHES, rounds, BATCH * BATCHES, MEMORY);
	printf("%-47s %8s %8s %-4s %7s  %-7s %s\n", "A / B", "A", "B", "",
	       "result", "aim", "met");
	bench_launches();
	bench_outs(rounds);
	bench_large();
	bench_memory();
	bench_two();
	return 0;
}

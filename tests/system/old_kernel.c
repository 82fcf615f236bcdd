/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * old_kernel PATH-ON-A PATH-ON-B PID-OF-A STOP-MS: in the machine of old_kernel.sh, where both
 * hosts are mounted. One round: every second page of two files is stored to by mappings on a; the
 * kernel is made to queue the copies of these while a's daemon stands still, so many of the first
 * file that those of the second stay out of the daemon's sight for some time; b overwrites the
 * second file and syncs it; a's daemon goes on. In the end every block of it is b's, on both.
 *
 * Prints "copies N behind N lost N took N ms": those of the second file, of the first; blocks that
 * are not b's; until b was done. Exit: 0 nothing is lost, 1 something is, 2 trouble.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define PIECE (1u << 20)
#define BYTES_BEFORE (32 * (size_t)PIECE)
#define BYTES (2 * (size_t)PIECE)
#define DRAIN_MS 60000

static void need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* Copies that the kernel has in its queues. */
static long copies(void)
{
	char line[256];
	long n = -1;
	FILE *fp = fopen("/proc/sys/vm/stat_refresh", "r");

	need(fp && fgetc(fp) == EOF, "stat_refresh");
	fclose(fp);
	fp = fopen("/proc/vmstat", "r");
	need(fp != NULL, "vmstat");
	while (n < 0 && fgets(line, sizeof(line), fp))
		sscanf(line, "nr_writeback_temp %ld", &n);
	fclose(fp);
	return n;
}

static void write_all(int fd, size_t len, void *buf, int c)
{
	memset(buf, c, PIECE);
	for (size_t at = 0; at < len; at += PIECE)
		need(pwrite(fd, buf, PIECE, (off_t)at) == (ssize_t)PIECE, "pwrite");
	need(fsync(fd) == 0, "fsync");
}

/* Blocks that are not wholly @c. */
static unsigned others(int fd, unsigned char *buf, int c)
{
	unsigned n = 0;

	for (size_t at = 0; at < BYTES; at += PIECE) {
		need(pread(fd, buf, PIECE, (off_t)at) == (ssize_t)PIECE, "pread");
		for (size_t p = 0; p < PIECE; p += PAGE)
			n += buf[p] != c || memcmp(buf + p, buf + p + 1, PAGE - 1) != 0;
	}
	return n;
}

static void store(int fd, size_t len)
{
	unsigned char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	need(mem != MAP_FAILED, "mmap");
	for (size_t at = 0; at < len; at += 2 * PAGE)
		memset(mem + at, 'a', PAGE);
	/* It stays mapped: its end would wait for the pages. */
}

static pid_t overwrite(int fd, void *buf)
{
	pid_t pid = fork();

	need(pid >= 0, "fork");
	if (pid == 0) {
		write_all(fd, BYTES, buf, 'b');
		_exit(0);
	}
	return pid;
}

static int new_file(const char *path, size_t len, void *buf)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);

	need(fd >= 0, path);
	write_all(fd, len, buf, '0');
	return fd;
}

/* As fsync(2) begins: it waits for pages, but not for their copies. How many those are. */
static long queue_copies(int fd)
{
	const unsigned all =
	    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	long before = copies();

	need(sync_file_range(fd, 0, 0, all) == 0, "sync_file_range");
	return copies() - before;
}

static unsigned now_ms(void)
{
	struct timespec t;

	need(clock_gettime(CLOCK_MONOTONIC, &t) == 0, "clock_gettime");
	return (unsigned)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static void end_of_copies(void)
{
	for (int ms = 0; ms < DRAIN_MS && copies() != 0; ms += 10)
		usleep(10000);
	need(copies() == 0, "copies are left");
}

int main(int argc, char **argv)
{
	char before[256];
	int a[2], b, status;
	pid_t daemon, child;
	long first, queued;
	unsigned lost, since, took;
	void *buf;

	need(argc == 5 && posix_memalign(&buf, PAGE, PIECE) == 0, "usage");
	daemon = (pid_t)atoi(argv[3]);
	snprintf(before, sizeof(before), "%s.before", argv[1]);
	a[0] = new_file(before, BYTES_BEFORE, buf);
	a[1] = new_file(argv[1], BYTES, buf);
	b = open(argv[2], O_RDWR | O_DIRECT); /* now: it takes the lock from a */
	need(b >= 0, argv[2]);
	store(a[0], BYTES_BEFORE);
	store(a[1], BYTES);
	need(copies() == 0, "the kernel writes back by itself");
	need(kill(daemon, SIGSTOP) == 0, "SIGSTOP");
	first = queue_copies(a[0]);
	queued = queue_copies(a[1]);
	child = overwrite(b, buf);
	usleep((useconds_t)atoi(argv[4]) * 1000);
	need(kill(daemon, SIGCONT) == 0, "SIGCONT");
	since = now_ms();
	need(waitpid(child, &status, 0) == child && status == 0, "host b");
	took = now_ms() - since;
	end_of_copies();
	lost = others(b, buf, 'b');
	printf("copies %ld behind %ld lost %u took %u ms\n", queued, first, lost, took);
	need(others(a[1], buf, 'b') == lost, "a and b do not see the same");
	return lost != 0;
}

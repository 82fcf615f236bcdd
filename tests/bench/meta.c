/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata operations by several threads: one thread for each directory that is named, in step, so
 * that a rate is that of all threads together. The same directory twice is two threads in it; the
 * same directory by two mount points is two hosts in it. Each thread has names of its own.
 *
 * usage: bench-meta [-s] FILES DIR...; -s writes 4 KiB to each file and fsyncs it before it is
 * closed. Prints one JSON object: operations a second of create, stat, rename, readdir (names read)
 * and unlink.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define PATH_BYTES 4096
#define BLOCK_BYTES 4096

struct worker {
	const char *dir;
	unsigned index;
	unsigned long done; /* in this phase */
	pthread_t thread;
};

typedef void phase_fn(struct worker *w);

static struct worker workers[THREADS_MAX];
static unsigned n_workers;
static unsigned long n_files;
static bool synced;
static pthread_barrier_t gate;
static const char block[BLOCK_BYTES];

static void die(const char *what, const char *path)
{
	fprintf(stderr, "bench-meta: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

static void name_of(const struct worker *w, const char *kind, unsigned long i, char *path)
{
	snprintf(path, PATH_BYTES, "%s/%s-%u-%lu", w->dir, kind, w->index, i);
}

static void create(struct worker *w)
{
	char path[PATH_BYTES];

	for (unsigned long i = 0; i < n_files; i++) {
		int fd;

		name_of(w, "new", i, path);
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0)
			die("create", path);
		if (synced && (write(fd, block, sizeof(block)) != sizeof(block) || fsync(fd) != 0))
			die("fsync", path);
		if (close(fd) != 0)
			die("close", path);
		w->done++;
	}
}

static void stat_all(struct worker *w)
{
	char path[PATH_BYTES];
	struct stat st;

	for (unsigned long i = 0; i < n_files; i++) {
		name_of(w, "new", i, path);
		if (stat(path, &st) != 0)
			die("stat", path);
		w->done++;
	}
}

static void rename_all(struct worker *w)
{
	char from[PATH_BYTES], to[PATH_BYTES];

	for (unsigned long i = 0; i < n_files; i++) {
		name_of(w, "new", i, from);
		name_of(w, "old", i, to);
		if (rename(from, to) != 0)
			die("rename", from);
		w->done++;
	}
}

static void list(struct worker *w)
{
	DIR *d = opendir(w->dir);

	if (!d)
		die("opendir", w->dir);
	while (readdir(d))
		w->done++;
	closedir(d);
}

static void unlink_all(struct worker *w)
{
	char path[PATH_BYTES];

	for (unsigned long i = 0; i < n_files; i++) {
		name_of(w, "old", i, path);
		if (unlink(path) != 0)
			die("unlink", path);
		w->done++;
	}
}

static const struct {
	const char *name;
	phase_fn *fn;
} phases[] = {
    {"create", create}, {"stat", stat_all},	{"rename", rename_all},
    {"readdir", list},	{"unlink", unlink_all},
};
#define N_PHASES (sizeof(phases) / sizeof(phases[0]))

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < N_PHASES; i++) {
		w->done = 0;
		pthread_barrier_wait(&gate);
		phases[i].fn(w);
		pthread_barrier_wait(&gate);
		pthread_barrier_wait(&gate); /* what was done has been added up */
	}
	return NULL;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double rate(void)
{
	double from = seconds(); /* the workers stand at the gate already, or are about to */
	unsigned long done = 0;

	pthread_barrier_wait(&gate);
	pthread_barrier_wait(&gate);
	from = seconds() - from;
	for (unsigned i = 0; i < n_workers; i++)
		done += workers[i].done;
	pthread_barrier_wait(&gate);
	return (double)done / from;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "-s") == 0) {
		synced = true;
		argc--;
		argv++;
	}
	if (argc < 3 || argc - 2 > THREADS_MAX || (n_files = strtoul(argv[1], NULL, 10)) == 0) {
		fprintf(stderr, "usage: bench-meta [-s] FILES DIR...\n");
		return 2;
	}
	n_workers = (unsigned)argc - 2;
	pthread_barrier_init(&gate, NULL, n_workers + 1);
	for (unsigned i = 0; i < n_workers; i++) {
		workers[i].dir = argv[2 + i];
		workers[i].index = i;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			abort();
	}
	for (unsigned i = 0; i < N_PHASES; i++)
		printf("%s\"%s\": %.1f", i == 0 ? "{" : ", ", phases[i].name, rate());
	puts("}");
	for (unsigned i = 0; i < n_workers; i++)
		pthread_join(workers[i].thread, NULL);
	return 0;
}

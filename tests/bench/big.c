/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills a volume with very many things by the code under FUSE, as fast as that goes:
 *
 *   bench-big DEVICE files N     N empty files in /files-N, 10,000 a directory
 *   bench-big DEVICE names N     N files in the directory /names-N
 *   bench-big DEVICE extents N   /extents-N with N extents: every other block written
 *
 * Prints how long it took, unmounting included, in seconds. big.py measures what comes of it.
 */
#include "vol/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PER_DIR 10000u

static const struct op_ctx root = {.umask = 022};

static void must(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "bench-big: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void make(struct volume *v, struct nodeid dir, const char *name, mode_t mode,
		 struct nodeid *out)
{
	struct vattr va;

	if (S_ISDIR(mode))
		must(vol_mkdir(v, &root, dir, name, mode, &va), name);
	else
		must(vol_mknod(v, &root, dir, name, mode, 0, &va), name);
	*out = va.id;
}

static void names(struct volume *v, struct nodeid dir, unsigned long n)
{
	char name[32];
	struct nodeid id;

	for (unsigned long i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "file-%lu", i);
		make(v, dir, name, S_IFREG | 0644, &id);
	}
}

static void files(struct volume *v, struct nodeid top, unsigned long n)
{
	char name[32];
	struct nodeid dir;

	for (unsigned long i = 0; i < n; i += PER_DIR) {
		snprintf(name, sizeof(name), "d%lu", i / PER_DIR);
		make(v, top, name, S_IFDIR | 0755, &dir);
		names(v, dir, n - i < PER_DIR ? n - i : PER_DIR);
	}
}

static void extents(struct volume *v, struct nodeid file, unsigned long n)
{
	uint8_t *block = dev_buf_alloc(4096);
	size_t done;

	memset(block, 'x', 4096);
	for (unsigned long i = 0; i < n; i++)
		must(vol_write(v, &root, file, i * 8192, 4096, block, 0, &done, NULL), "write");
	free(block);
}

static void fill(struct volume *v, const char *what, unsigned long n)
{
	struct nodeid top, at;
	char name[48];

	must(vol_root(v, &top), "root");
	snprintf(name, sizeof(name), "%s-%lu", what, n);
	make(v, top, name, strcmp(what, "extents") == 0 ? S_IFREG | 0644 : S_IFDIR | 0755, &at);
	if (strcmp(what, "extents") == 0)
		extents(v, at, n);
	else if (strcmp(what, "names") == 0)
		names(v, at, n);
	else
		files(v, at, n);
}

int main(int argc, char **argv)
{
	const struct vol_options opt = {.host.name = "filler"};
	char why[512] = "";
	struct volume *v;
	struct clock *clk;
	struct dev *dev;
	uint64_t from;

	if (argc != 4) {
		fprintf(stderr, "usage: bench-big DEVICE files|names|extents N\n");
		return 2;
	}
	must(clock_real_new(&clk), "clock");
	if (dev_open(argv[1], 0, 0, &dev, why, sizeof(why)) ||
	    vol_mount(dev, clk, &opt, &v, why, sizeof(why))) {
		fprintf(stderr, "bench-big: %s\n", why);
		return 1;
	}
	from = clock_now_ns(clk);
	fill(v, argv[2], strtoul(argv[3], NULL, 10));
	must(vol_unmount(v), "unmount");
	printf("%.1f\n", (double)(clock_now_ns(clk) - from) / 1e9);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What there is to run. The short workloads are all sequences over one list of operations on few
 * names, in the manner of ACE (Mohan et al., OSDI 2018), each followed by a sync; the long ones are
 * drawn by a seed.
 */
#include "crash.h"
#include "simrand.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE
#define KEEP FALLOC_FL_KEEP_SIZE
/* Where the first group's inodes end and its files lie; little, since it is cut by the sector. */
#define TRIM_FROM (1u << 20)
#define TRIM_WITHIN (128u << 10)
#define TRIM_BYTES (96u << 10)

/* f: a file of 10000 bytes; d/g: one so small that it lies in its inode; d: a directory that is not
 * empty, e: one that is. */
static const struct wop ops[] = {
    {.kind = HOP_MKNOD, .a = "n"},
    {.kind = HOP_MKNOD, .a = "d/n"},
    {.kind = HOP_MKDIR, .a = "n"},
    {.kind = HOP_MKDIR, .a = "d/n"},
    {.kind = HOP_SYMLINK, .a = "n"},
    {.kind = HOP_LINK, .a = "f", .b = "d/n"},
    {.kind = HOP_LINK, .a = "d/g", .b = "n"},
    {.kind = HOP_UNLINK, .a = "f"},
    {.kind = HOP_UNLINK, .a = "d/g"},
    {.kind = HOP_RMDIR, .a = "e"},
    {.kind = HOP_RENAME, .a = "f", .b = "n"},
    {.kind = HOP_RENAME, .a = "f", .b = "d/n"},
    {.kind = HOP_RENAME, .a = "f", .b = "d/g"},
    {.kind = HOP_RENAME, .a = "d/g", .b = "f"},
    {.kind = HOP_RENAME, .a = "e", .b = "d/n"},
    {.kind = HOP_RENAME, .a = "d", .b = "e"},
    {.kind = HOP_RENAME, .a = "f", .b = "d/g", .flags = RENAME_EXCHANGE},
    {.kind = HOP_RENAME, .a = "e", .b = "d/g", .flags = RENAME_EXCHANGE},
    {.kind = HOP_TRUNCATE, .a = "f", .len = 0},
    {.kind = HOP_TRUNCATE, .a = "f", .len = 5000},
    {.kind = HOP_TRUNCATE, .a = "f", .len = 30000},
    {.kind = HOP_TRUNCATE, .a = "d/g", .len = 9000},
    {.kind = HOP_WRITE, .a = "f", .flags = VWRITE_APPEND, .len = 3000},
    {.kind = HOP_WRITE, .a = "d/g", .flags = VWRITE_APPEND, .len = 5000},
    {.kind = HOP_WRITE, .a = "f", .off = 0, .len = 4096},
    {.kind = HOP_WRITE, .a = "f", .off = 1000, .len = 500},
    {.kind = HOP_WRITE, .a = "f", .off = 16384, .len = 4096},
    {.kind = HOP_WRITE, .a = "d/g", .off = 40, .len = 64},
    {.kind = HOP_FALLOCATE, .a = "f", .off = 8192, .len = 16384},
    {.kind = HOP_FALLOCATE, .a = "f", .off = 8192, .len = 16384, .flags = KEEP},
    {.kind = HOP_FALLOCATE, .a = "d/g", .off = 0, .len = 8192, .flags = KEEP},
    {.kind = HOP_FALLOCATE, .a = "f", .off = 0, .len = 4096, .flags = PUNCH},
    {.kind = HOP_FALLOCATE, .a = "f", .off = 2000, .len = 7000, .flags = PUNCH},
    {.kind = HOP_FALLOCATE, .a = "f", .off = 1000, .len = 16000, .flags = ZERO},
    {.kind = HOP_FALLOCATE, .a = "f", .off = 4096, .len = 8192, .flags = ZERO | KEEP},
    {.kind = HOP_SETXATTR, .a = "f", .b = "user.x", .len = 50},
    {.kind = HOP_SETXATTR, .a = "f", .b = "user.y", .len = 2000},
    {.kind = HOP_SETXATTR, .a = "d/g", .b = "user.y", .len = 100},
    {.kind = HOP_RMXATTR, .a = "f", .b = "user.x"},
    {.kind = HOP_OPEN, .a = "f"},
    {.kind = HOP_CREATE, .a = "n"},
};
#define N_OPS ((unsigned)(sizeof(ops) / sizeof(ops[0])))

static const char *const families[FAMILIES] = {"one", "two", "two-host", "three", "random"};

const char *family_name(enum family f)
{
	return families[f];
}

unsigned family_groups(enum family f)
{
	return f == FAM_ONE ? 1 : f <= FAM_TWO_HOST ? N_OPS : 0;
}

unsigned family_members(enum family f)
{
	return f == FAM_ONE ? N_OPS : f == FAM_TWO ? 2 * N_OPS : f == FAM_TWO_HOST ? N_OPS : 1;
}

/* ---- short ----------------------------------------------------------------------------------- */

static void add(struct workload *w, const struct wop *o, unsigned host)
{
	lunfs_assert(w->n < WORK_OPS);
	w->op[w->n] = *o;
	w->op[w->n++].host = host;
}

static void add_sync(struct workload *w, unsigned host)
{
	add(w, &(struct wop){.kind = HOP_SYNCFS}, host);
}

static void make_two(struct workload *w, unsigned first, unsigned second, bool sync_between)
{
	add(w, &ops[first], 0);
	if (sync_between)
		add_sync(w, 0);
	add(w, &ops[second], 0);
	add_sync(w, 0);
}

/* Nothing but the handing over of locks makes the first one durable. */
static void make_two_hosts(struct workload *w, unsigned first, unsigned second)
{
	w->hosts = 2;
	add(w, &ops[first], 0);
	add(w, &ops[second], 1);
	add_sync(w, 1);
}

static void make_three(struct workload *w, uint64_t *rng)
{
	w->hosts = 1 + (unsigned)sim_rand_below(rng, 2);
	for (unsigned k = 0; k < 3; k++) {
		unsigned host = (unsigned)sim_rand_below(rng, w->hosts);

		add(w, &ops[sim_rand_below(rng, N_OPS)], host);
		if (sim_rand_below(rng, 3) == 0)
			add_sync(w, host);
	}
	for (unsigned h = 0; h < w->hosts; h++)
		add_sync(w, h);
}

/* ---- long ------------------------------------------------------------------------------------ */

static void some_name(uint64_t *rng, char name[12])
{
	static const char *const dir[] = {"", "", "d/", "e/"};

	snprintf(name, 12, "%s%c", dir[sim_rand_below(rng, 4)],
		 (char)('d' + sim_rand_below(rng, 7)));
}

static void some_range(uint64_t *rng, struct wop *o)
{
	switch (sim_rand_below(rng, 3)) {
	case 0:
		o->off = sim_rand_below(rng, 6) * 4096;
		o->len = (1 + sim_rand_below(rng, 3)) * 4096;
		break;
	case 1:
		o->off = sim_rand_below(rng, 3000);
		o->len = 1 + sim_rand_below(rng, 300);
		break;
	default:
		o->off = sim_rand_below(rng, 20000);
		o->len = 1 + sim_rand_below(rng, 20000);
		break;
	}
}

static void some_flags(uint64_t *rng, struct wop *o)
{
	static const unsigned falloc[] = {0, KEEP, PUNCH, PUNCH, ZERO, ZERO | KEEP};
	static const unsigned ren[] = {0, 0, 0, RENAME_EXCHANGE, RENAME_NOREPLACE};
	static const unsigned xattr[] = {0, 0, 0, XATTR_CREATE, XATTR_REPLACE};

	if (o->kind == HOP_FALLOCATE)
		o->flags = falloc[sim_rand_below(rng, 6)];
	else if (o->kind == HOP_RENAME)
		o->flags = ren[sim_rand_below(rng, 5)];
	else if (o->kind == HOP_SETXATTR)
		o->flags = xattr[sim_rand_below(rng, 5)];
	else if (o->kind == HOP_WRITE && sim_rand_below(rng, 4) == 0)
		o->flags = VWRITE_APPEND;
	else if (o->kind == HOP_FSYNC)
		o->flags = (unsigned)sim_rand_below(rng, 2); /* of the data alone */
}

static void some_op(uint64_t *rng, struct wop *o)
{
	static const uint8_t kinds[] = {
	    HOP_MKNOD,	  HOP_MKNOD,	 HOP_CREATE,   HOP_MKDIR,    HOP_SYMLINK,   HOP_LINK,
	    HOP_UNLINK,	  HOP_UNLINK,	 HOP_RMDIR,    HOP_RENAME,   HOP_RENAME,    HOP_RENAME,
	    HOP_WRITE,	  HOP_WRITE,	 HOP_WRITE,    HOP_WRITE,    HOP_WRITE,	    HOP_TRUNCATE,
	    HOP_TRUNCATE, HOP_FALLOCATE, HOP_SETXATTR, HOP_SETXATTR, HOP_RMXATTR,   HOP_OPEN,
	    HOP_FSYNC,	  HOP_FSYNC,	 HOP_SYNCFS,   WORK_SLEEP,   HOP_FALLOCATE, HOP_WRITE,
	    WORK_TRIM,	  WORK_TRIM};

	*o = (struct wop){.kind = kinds[sim_rand_below(rng, sizeof(kinds))]};
	some_name(rng, o->a);
	some_name(rng, o->b);
	if (o->kind == HOP_SETXATTR || o->kind == HOP_RMXATTR)
		snprintf(o->b, sizeof(o->b), "user.%c", (char)('x' + sim_rand_below(rng, 2)));
	if (o->kind == HOP_WRITE || o->kind == HOP_FALLOCATE)
		some_range(rng, o);
	else if (o->kind == HOP_TRUNCATE)
		o->len = sim_rand_below(rng, 40000);
	else if (o->kind == HOP_SETXATTR)
		o->len =
		    sim_rand_below(rng, 4) ? sim_rand_below(rng, 100) : sim_rand_below(rng, 2500);
	else if (o->kind == WORK_SLEEP)
		o->len = 1 + sim_rand_below(rng, 9000);
	else if (o->kind == WORK_TRIM) {
		o->off = TRIM_FROM + sim_rand_below(rng, TRIM_WITHIN);
		o->len = TRIM_BYTES;
	}
	some_flags(rng, o);
}

/* On a wide base: half of the operations go to its big directory and its big file. */
static void aim_wide(uint64_t *rng, struct wop *o)
{
	bool data = o->kind == HOP_WRITE || o->kind == HOP_FALLOCATE || o->kind == HOP_TRUNCATE;

	if (sim_rand_below(rng, 2) || o->kind >= WORK_SLEEP)
		return;
	if (!data) {
		snprintf(o->a, sizeof(o->a), "e/%u",
			 (unsigned)sim_rand_below(rng, WIDE_NAMES) % 1000);
		return;
	}
	snprintf(o->a, sizeof(o->a), "d/h");
	if (o->kind == HOP_TRUNCATE)
		o->len = sim_rand_below(rng, 2 * WIDE_EXTENTS) * 4096;
	else
		o->off += sim_rand_below(rng, 2 * WIDE_EXTENTS) * 4096;
	if (o->kind == HOP_FALLOCATE)
		o->len += sim_rand_below(rng, WIDE_EXTENTS) * 4096;
}

/*
 * Every fourth is on a wide base; every fourth syncs after each operation, so that the journal goes
 * round.
 */
static void make_random(struct workload *w, uint64_t seed)
{
	uint64_t rng = seed;
	bool syncs = seed % 4 == 2;
	unsigned n = (syncs ? 120 : 20) + (unsigned)sim_rand_below(&rng, 60), host = 0;

	w->seed = seed;
	w->sampled = w->from_mount = true;
	w->wide = seed % 4 == 3;
	w->hosts = 1 + (unsigned)(seed / 4 % 2);
	w->sector_bytes = sim_rand_below(&rng, 4) ? 512 : 4096;
	for (unsigned k = 0; k < n; k++) {
		struct wop o;

		some_op(&rng, &o);
		if (w->wide)
			aim_wide(&rng, &o);
		if (sim_rand_below(&rng, 4) == 0)
			host = (unsigned)sim_rand_below(&rng, w->hosts);
		add(w, &o, host);
		if (syncs)
			add_sync(w, host);
	}
}

/* ---- by number and by name ------------------------------------------------------------------- */

void workload_make(struct workload *w, enum family f, uint64_t group, unsigned member)
{
	uint64_t rng = group + 1;

	memset(w, 0, sizeof(*w));
	w->seed = 1;
	w->hosts = 1;
	w->sector_bytes = 512;
	snprintf(w->name, sizeof(w->name), "%s-%llu-%u", families[f], (unsigned long long)group,
		 member);
	switch (f) {
	case FAM_ONE:
		w->from_mount = member == 0;
		add(w, &ops[member], 0);
		add_sync(w, 0);
		break;
	case FAM_TWO:
		make_two(w, (unsigned)group, member / 2, member % 2);
		break;
	case FAM_TWO_HOST:
		make_two_hosts(w, (unsigned)group, member);
		break;
	case FAM_THREE:
		make_three(w, &rng);
		break;
	default:
		make_random(w, group);
		break;
	}
}

int workload_find(struct workload *w, const char *name)
{
	for (unsigned f = 0; f < FAMILIES; f++) {
		size_t len = strlen(families[f]);
		unsigned long long group;
		unsigned member;

		if (strncmp(name, families[f], len) != 0 ||
		    sscanf(name + len, "-%llu-%u", &group, &member) != 2)
			continue;
		if ((family_groups((enum family)f) && group >= family_groups((enum family)f)) ||
		    member >= family_members((enum family)f))
			return -1;
		workload_make(w, (enum family)f, group, member);
		return 0;
	}
	return -1;
}

const char *wop_text(const struct wop *o, char *buf, size_t len)
{
	if (o->kind == WORK_SLEEP)
		snprintf(buf, len, "%llu ms pass", (unsigned long long)o->len);
	else if (o->kind == WORK_TRIM)
		snprintf(buf, len, "host%u trims off %llu len %llu", o->host,
			 (unsigned long long)o->off, (unsigned long long)o->len);
	else
		snprintf(buf, len, "host%u %s %s %s off %llu len %llu flags %#x", o->host,
			 hop_name((enum hop_kind)o->kind), o->a, o->b, (unsigned long long)o->off,
			 (unsigned long long)o->len, o->flags);
	return buf;
}

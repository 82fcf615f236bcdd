/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random damage with right checksums, so that what stands behind them is reached: every repair
 * comes to an end, the second run finds nothing, and all that is left can be read by a host.
 * LUNFS_SEED and LUNFS_SEEDS choose others.
 */
#include "simrand.h"
#include "unit.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#define SEEDS 40u /* large buffers are slow to come by */
#else
#define SEEDS 150u
#endif
#define CELLS_MAX 4096u
#define DEPTH_MAX 40u

struct cells {
	uint64_t addr[CELLS_MAX];
	unsigned n;
};

/* All that is used: inodes, nodes, and the maps of groups and chunks. */
static void list_cells(struct fu *u, struct cells *c)
{
	const struct geo *g = &u->t->geo;

	for (uint64_t addr = g->group0_blk; addr < g->end_blk && c->n < CELLS_MAX;
	     addr += g->cell_blks) {
		uint8_t payload[LUNFS_PAYLOAD_BYTES];

		fu_get(u, addr, payload);
		for (uint16_t type = LUNFS_BLK_GROUP; type <= LUNFS_BLK_BTREE; type++)
			if (!blk_check(g, payload, type, addr))
				c->addr[c->n++] = addr;
	}
}

static uint64_t any_value(struct fu *u, const struct cells *c, uint64_t *rng)
{
	switch (sim_rand_below(rng, 7)) {
	case 0:
		return 0;
	case 1:
		return ~0ull;
	case 2:
		return sim_rand_below(rng, 16);
	case 3:
		return sim_rand_below(rng, u->t->geo.dev_blks);
	case 4:
		return 1ull << sim_rand_below(rng, 64);
	default:
		return c->addr[sim_rand_below(rng, c->n)];
	}
}

/* Where fields are: heads, slots, the first bodies; rarely anywhere. */
static size_t any_place(const uint8_t *payload, uint64_t *rng)
{
	bool inode = le16_get(((const struct lunfs_blk_hdr *)payload)->type) == LUNFS_BLK_INODE;

	switch (sim_rand_below(rng, 4)) {
	case 0:
		return sim_rand_below(rng, LUNFS_PAYLOAD_BYTES - 8);
	case 1:
		return inode ? 0x40 + sim_rand_below(rng, 0x70) : 0x40 + sim_rand_below(rng, 16);
	case 2:
		return inode ? 0x300 + sim_rand_below(rng, 64) : 0x40 + sim_rand_below(rng, 64);
	default:
		return inode ? 0x100 + sim_rand_below(rng, 64)
			     : LUNFS_PAYLOAD_BYTES - 8 - sim_rand_below(rng, 256);
	}
}

static void change(struct fu *u, const struct cells *c, uint64_t *rng)
{
	uint64_t addr = c->addr[sim_rand_below(rng, c->n)], value = any_value(u, c, rng);
	uint8_t payload[LUNFS_PAYLOAD_BYTES], other[LUNFS_PAYLOAD_BYTES];
	size_t at, n = 1u << sim_rand_below(rng, 4);

	fu_get(u, addr, payload);
	at = any_place(payload, rng);
	switch (sim_rand_below(rng, 8)) {
	case 0: /* all but the head is another cell's */
		fu_get(u, c->addr[sim_rand_below(rng, c->n)], other);
		memcpy(payload + 0x40, other + 0x40, sizeof(payload) - 0x40);
		break;
	case 1: /* and the head too, but for the place */
		fu_get(u, c->addr[sim_rand_below(rng, c->n)], other);
		memcpy(payload, other, sizeof(payload));
		((struct lunfs_blk_hdr *)payload)->addr = le64_make(addr);
		break;
	case 2:
		payload[at] ^= (uint8_t)(1u << sim_rand_below(rng, 8));
		fu_put_raw(u, addr, payload); /* rot */
		return;
	default:
		memcpy(payload + at, &value, n);
	}
	fu_put(u, addr, payload);
}

/* ---- reading all of it ----------------------------------------------------------------------- */

static void read_file(struct fu *u, struct nodeid id)
{
	struct stat st = sc_stat(u->t, 0, id);
	static uint8_t buf[1 << 16];
	uint64_t at = 0;
	size_t done;

	/* Data only: a size may be anything. */
	while (at < (uint64_t)st.st_size &&
	       vol_lseek(u->t->v[0], &sc_root, id, at, SEEK_DATA, &at) == 0) {
		SC_OK(u->t, vol_read(u->t->v[0], &sc_root, id, at, sizeof(buf), buf, &done));
		if (!done)
			break;
		at += done;
	}
}

static void read_attrs(struct fu *u, struct nodeid id)
{
	static char names[65536], value[65536];
	size_t len, got;

	SC_OK(u->t, vol_listxattr(u->t->v[0], &sc_root, id, names, sizeof(names), &len));
	for (size_t at = 0; at < len; at += strlen(names + at) + 1)
		SC_OK(u->t, vol_getxattr(u->t->v[0], &sc_root, id, names + at, value, sizeof(value),
					 &got));
}

static void read_all(struct fu *u, struct nodeid dir, unsigned depth)
{
	struct vdirent *de = calloc(64, sizeof(*de));
	uint64_t cookie = 0;
	size_t n = 0;

	SC_CHECK(u->t, depth < DEPTH_MAX, "directories without end");
	do {
		SC_OK(u->t,
		      vol_readdir(u->t->v[0], &sc_root, dir, cookie, VATTRS_NONE, de, 64, &n));
		for (size_t i = 0; i < n; i++) {
			struct nodeid id;
			char target[4200];

			cookie = de[i].next;
			if (de[i].de.name[0] == '.')
				continue;
			SC_CHECK(u->t, sc_lookup(u->t, 0, dir, de[i].de.name, &id) == 0,
				 "a name is not found");
			read_attrs(u, id);
			if (de[i].de.type == DT_DIR)
				read_all(u, id, depth + 1);
			else if (de[i].de.type == DT_REG)
				read_file(u, id);
			else if (de[i].de.type == DT_LNK)
				SC_OK(u->t, vol_readlink(u->t->v[0], &sc_root, id, target,
							 sizeof(target)));
		}
	} while (n);
	free(de);
}

/* The answers of somebody who is asked each time. */
static FILE *answers(uint64_t seed)
{
	FILE *f = tmpfile();

	for (unsigned i = 0; i < 2000; i++)
		fputs(sim_rand_below(&seed, 3) ? "y\n" : "n\n", f);
	rewind(f);
	return f;
}

/* What is left may be anything, but the repair ends, and one of all the rest ends well. */
static void answer(struct fu *u, uint64_t seed)
{
	FILE *in = stdin, *out = stdout;

	stdin = answers(seed);
	stdout = fopen("/dev/null", "w");
	fu_fsck(u, MODE_ASK);
	fclose(stdin);
	fclose(stdout);
	stdin = in;
	stdout = out;
	SC_CHECK(u->t, u->rc == 0, "with answers it came to no end: %s", strerror(-u->rc));
}

static void random_body(struct fu *u)
{
	const char *from = getenv("LUNFS_SEED"), *count = getenv("LUNFS_SEEDS");
	uint64_t first = from ? strtoull(from, NULL, 0) : 1;
	unsigned seeds = count ? (unsigned)atoi(count) : SEEDS;
	struct cells *c = calloc(1, sizeof(*c));

	list_cells(u, c);
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		uint64_t rng = seed, n;

		u->t->seed = seed;
		u->threads = (unsigned)(seed % (FSCK_WORKERS_MAX + 1));
		if (from)
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		fu_restore(u);
		n = 1 + sim_rand_below(&rng, 6);
		while (n--)
			change(u, c, &rng);
		if (seed % 3 == 0)
			answer(u, seed);
		fu_fsck(u, MODE_YES);
		SC_CHECK(u->t, u->rc == 0, "the repair came to no end: %s", strerror(-u->rc));
		SC_CHECK(u->t, u->left == 0, "%llu problems are left", (unsigned long long)u->left);
		fu_fsck(u, MODE_CHECK);
		for (int i = 0; i < PROBLEMS; i++)
			SC_CHECK(u->t, u->count[i] == 0, "after the repair there is %s",
				 problem_name((enum problem_code)i));
		sc_up(u->t, 0);
		read_all(u, sc_root_id(u->t, 0), 0);
		sc_settle(u->t, 0);
		sc_down(u->t, 0);
		fu_fsck(u, MODE_CHECK);
		SC_CHECK(u->t, u->rc == 0 && u->total == 0, "after a mount it is not clean");
	}
	free(c);
}

static char *said_with(struct fu *u, enum repair_mode mode, unsigned threads)
{
	u->alone = threads == 0;
	u->threads = threads;
	fu_fsck(u, mode);
	return strdup(u->said);
}

static void threads_body(struct fu *u)
{
	static const unsigned threads[] = {1, 2, FSCK_WORKERS_MAX};
	struct cells *c = calloc(1, sizeof(*c));

	list_cells(u, c);
	for (uint64_t seed = 1000; seed < 1000 + SEEDS / 5; seed++) {
		enum repair_mode mode = seed % 2 ? MODE_CHECK : MODE_YES;
		struct simdev_snapshot *damaged;
		uint64_t rng = seed;
		char *alone;

		u->t->seed = seed;
		fu_restore(u);
		for (unsigned n = 0; n < 8; n++)
			change(u, c, &rng);
		damaged = simdev_snapshot(u->t->medium);
		alone = said_with(u, mode, 0);
		for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
			char *said;

			simdev_roll_back(u->t->medium, damaged);
			said = said_with(u, mode, threads[i]);
			SC_CHECK(u->t, strcmp(said, alone) == 0, "%u threads find %s, one alone %s",
				 threads[i], said, alone);
			free(said);
		}
		free(alone);
		simdev_snapshot_free(damaged);
	}
	free(c);
}

static void however_many_threads_there_are_the_same_is_found_in_the_same_order(void **s)
{
	(void)s;
	fu_run(threads_body, 512);
}

static void random_damage_is_repaired_for_good(void **s)
{
	(void)s;
	fu_run(random_body, 512);
}

static void random_damage_is_repaired_for_good_on_4k_sectors(void **s)
{
	(void)s;
	fu_run(random_body, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(however_many_threads_there_are_the_same_is_found_in_the_same_order),
	    cmocka_unit_test(random_damage_is_repaired_for_good),
	    cmocka_unit_test(random_damage_is_repaired_for_good_on_4k_sectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

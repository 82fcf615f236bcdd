/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File data on one host, against a model in memory. */
#include "unit.h"

#include "node/node_impl.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MODEL_BYTES (600u << 10)

struct model {
	struct simcluster *t;
	struct nodeid id;
	uint8_t *want, *got, *src;
	uint64_t size;
};

static void check_all(struct model *m)
{
	uint64_t skew = sc_random(m->t, 3) ? 0 : sc_random(m->t, 4096);

	memset(m->got, 0xee, MODEL_BYTES + 8192);
	assert_int_equal(sc_stat(m->t, 0, m->id).st_size, m->size);
	assert_int_equal(sc_read(m->t, 0, m->id, 0, m->got + skew, MODEL_BYTES), m->size);
	if (memcmp(m->got + skew, m->want, (size_t)m->size) != 0) {
		for (uint64_t k = 0; k < m->size; k++)
			if (m->got[skew + k] != m->want[k])
				fail_msg("byte %llu of %llu is %02x, not %02x",
					 (unsigned long long)k, (unsigned long long)m->size,
					 m->got[skew + k], m->want[k]);
	}
}

/* Small and large, aligned and not. */
static uint64_t pick(struct simcluster *t, uint64_t below)
{
	uint64_t x = sc_random(t, below);

	switch (sc_random(t, 3)) {
	case 0:
		return x / 4096 * 4096;
	case 1:
		return sc_random(t, below < 9000 ? below : 9000);
	default:
		return x;
	}
}

static void do_write(struct model *m)
{
	uint64_t off = pick(m->t, MODEL_BYTES), len = 1 + pick(m->t, MODEL_BYTES - off), o2 = 0;
	uint64_t skew = sc_random(m->t, 2) ? 0 : sc_random(m->t, 4096);
	bool append = sc_random(m->t, 8) == 0 && m->size + len < MODEL_BYTES;
	uint8_t fill = (uint8_t)(1 + sc_random(m->t, 255));
	size_t done;

	if (append)
		off = m->size;
	if (off + len > MODEL_BYTES)
		len = MODEL_BYTES - off;
	for (uint64_t k = 0; k < len; k++)
		m->src[skew + k] = (uint8_t)(fill + k / 512);
	assert_int_equal(vol_write(m->t->v[0], &sc_root, m->id, append ? 0 : off, len,
				   m->src + skew, append ? VWRITE_APPEND : 0, &done, &o2),
			 0);
	assert_true(done == len && o2 == off);
	memcpy(m->want + off, m->src + skew, len);
	m->size = off + len > m->size ? off + len : m->size;
}

static void do_truncate(struct model *m)
{
	uint64_t size = pick(m->t, MODEL_BYTES);

	assert_int_equal(sc_truncate(m->t, 0, m->id, size), 0);
	if (size < m->size)
		memset(m->want + size, 0, (size_t)(m->size - size));
	m->size = size;
}

static void do_fallocate(struct model *m)
{
	static const int modes[] = {
	    0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	    FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	int mode = modes[sc_random(m->t, 5)];
	uint64_t off = pick(m->t, MODEL_BYTES), len = 1 + pick(m->t, MODEL_BYTES - off);

	if (off + len > MODEL_BYTES)
		len = MODEL_BYTES - off;
	assert_int_equal(vol_fallocate(m->t->v[0], &sc_root, m->id, mode, off, len), 0);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(m->want + off, 0, (size_t)len);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > m->size)
		m->size = off + len;
	if (m->size < MODEL_BYTES) /* nothing beyond the end is remembered */
		memset(m->want + m->size, 0, MODEL_BYTES - m->size);
}

/* Every byte that is not zero lies in what SEEK_DATA finds. */
static void do_seek(struct model *m)
{
	uint64_t pos = 0, data, hole;

	while (pos < m->size) {
		int rc = vol_lseek(m->t->v[0], &sc_root, m->id, pos, SEEK_DATA, &data);

		if (rc == -ENXIO)
			data = m->size;
		else
			assert_int_equal(rc, 0);
		for (uint64_t k = pos; k < data; k++)
			assert_int_equal(m->want[k], 0);
		if (data >= m->size)
			break;
		assert_int_equal(vol_lseek(m->t->v[0], &sc_root, m->id, data, SEEK_HOLE, &hole), 0);
		assert_true(hole > data && hole <= m->size);
		pos = hole;
	}
}

static void remount(struct model *m)
{
	sc_down(m->t, 0);
	sc_up(m->t, 0);
}

static void model_body(struct simcluster *t)
{
	struct model m = {.t = t};
	struct nodeid root;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	m.id = sc_mkfile(t, 0, root, "f");
	m.want = calloc(1, MODEL_BYTES + 8192);
	m.got = dev_buf_alloc(MODEL_BYTES + 8192);
	m.src = dev_buf_alloc(MODEL_BYTES + 8192);
	for (unsigned k = 0; k < 120; k++) {
		uint64_t what = sc_random(t, 20);

		if (what < 10)
			do_write(&m);
		else if (what < 13)
			do_truncate(&m);
		else if (what < 17)
			do_fallocate(&m);
		else if (what < 19)
			do_seek(&m);
		else
			remount(&m);
		check_all(&m);
	}
	free(m.want);
	free(m.got);
	free(m.src);
}

static void file_holds_what_was_written(void **s)
{
	(void)s;
	sc_run_seeds(model_body, 12);
}

/* ---- many extents ---------------------------------------------------------------------------- */

static void fragmented_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(4096);
	struct nodeid root, id;
	uint64_t free0;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	sc_mkfile(t, 0, root, "other");
	assert_int_equal(vol_syncfs(t->v[0]), 0);
	free0 = sc_free_blks(t, 0);
	id = sc_mkfile(t, 0, root, "f");
	memset(buf, 'x', 4096);
	for (uint64_t k = 0; k < 400; k++)
		sc_write(t, 0, id, k * 8192, buf, 4096);
	assert_true(sc_stat(t, 0, id).st_blocks >= 400 * 8);
	assert_int_equal(sc_truncate(t, 0, id, 100 * 8192 + 77), 0);
	assert_int_equal(sc_stat(t, 0, id).st_size, 100 * 8192 + 77);
	assert_int_equal(sc_truncate(t, 0, id, 300 * 8192), 0);
	assert_int_equal(sc_read(t, 0, id, 100 * 8192, buf, 4096), 4096);
	for (unsigned k = 0; k < 4096; k++)
		assert_int_equal(buf[k], k < 77 ? 'x' : 0);
	assert_int_equal(sc_read(t, 0, id, 200 * 8192, buf, 4096), 4096);
	assert_int_equal(buf[0], 0);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	sc_settle(t, 0);
	assert_int_equal(vol_syncfs(t->v[0]), 0);
	assert_true(sc_free_blks(t, 0) >= free0 - 256); /* a chunk may have been made */
	free(buf);
}

static void truncation_of_many_extents_leaves_nothing_behind(void **s)
{
	(void)s;
	sc_run(fragmented_body, NULL);
}

/* The host dies somewhere in a long truncation. */
struct cut {
	struct simcluster *t;
	struct nodeid id;
	bool done;
};

static void cut_task(void *arg)
{
	struct cut *c = arg;

	sc_truncate(c->t, 0, c->id, 4096);
	vol_syncfs(c->t->v[0]);
	c->done = true;
}

static void cut_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(4096);
	struct cut c = {.t = t};
	struct nodeid root;
	uint64_t size;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	c.id = sc_mkfile(t, 0, root, "f");
	memset(buf, 'x', 4096);
	for (uint64_t k = 0; k < 120; k++)
		sc_write(t, 0, c.id, k * 8192, buf, 4096);
	assert_int_equal(vol_syncfs(t->v[0]), 0);
	sc_task(t, 0, cut_task, &c);
	for (uint64_t n = sc_random(t, 4000); n > 0 && !c.done; n--)
		simclock_yield(t->clk);
	sc_kill(t, 0);
	sc_up(t, 1);
	sc_settle(t, 1);
	size = (uint64_t)sc_stat(t, 1, c.id).st_size;
	assert_true(size == 4096 || size == 119 * 8192 + 4096);
	assert_int_equal(sc_truncate(t, 1, c.id, 119 * 8192 + 4096), 0);
	assert_int_equal(sc_read(t, 1, c.id, 60 * 8192, buf, 4096), 4096);
	assert_int_equal(buf[0], size == 4096 ? 0 : 'x');
	free(buf);
}

static void truncation_cut_short_is_all_or_nothing(void **s)
{
	(void)s;
	sc_run_seeds(cut_body, 25);
}

/* ---- no space -------------------------------------------------------------------------------- */

static void full_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(1 << 20);
	struct nodeid root, id;
	unsigned files = 0;
	char name[32];
	size_t done;
	int rc = 0;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	memset(buf, 'f', 1 << 20);
	while (rc == 0) {
		snprintf(name, sizeof(name), "f%u", files);
		id = sc_mkfile(t, 0, root, name);
		files++;
		rc = vol_write(t->v[0], &sc_root, id, 0, 1 << 20, buf, 0, &done, NULL);
		if (rc == 0 && done < 1 << 20)
			rc = -ENOSPC;
		assert_true(files < 200);
	}
	assert_int_equal(rc, -ENOSPC);
	for (unsigned k = 0; k < 400; k++) { /* to the last block */
		size_t n = 0;

		if (vol_write(t->v[0], &sc_root, id, (uint64_t)k * 8192, 4096, buf, 0, &n, NULL))
			break;
	}
	for (unsigned k = 0; k < files; k++) {
		snprintf(name, sizeof(name), "f%u", k);
		assert_int_equal(vol_unlink(t->v[0], &sc_root, root, name), 0);
	}
	id = sc_mkfile(t, 0, root, "again");
	for (unsigned k = 0; k < 30; k++)
		sc_write(t, 0, id, (uint64_t)k << 20, buf, 1 << 20);
	free(buf);
}

static void full_volume_can_be_emptied_and_filled_again(void **s)
{
	(void)s;
	sc_run(full_body, NULL);
}

static void reuse_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(1 << 20);
	struct nodeid root, id;
	uint64_t off = 0;
	size_t done;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	for (unsigned k = 0; k < 3; k++) {
		id = sc_mkfile(t, 0, root, "f");
		off = 0;
		while (vol_write(t->v[0], &sc_root, id, off, 1 << 20, buf, 0, &done, NULL) == 0)
			off += done;
		assert_true(off > 40ull << 20);
		assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	}
	free(buf);
}

static void space_of_a_deleted_file_can_be_used_at_once(void **s)
{
	(void)s;
	sc_run(reuse_body, NULL);
}

static void limits_body(struct simcluster *t)
{
	struct nodeid root, id;
	size_t done;
	char c;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	id = sc_mkfile(t, 0, root, "f");
	assert_int_equal(sc_truncate(t, 0, id, VOL_FILE_MAX + 1), -EFBIG);
	assert_int_equal(vol_write(t->v[0], &sc_root, id, VOL_FILE_MAX, 1, "x", 0, &done, NULL),
			 -EFBIG);
	sc_write(t, 0, id, 16ull << 40, "end", 3); /* a byte beyond 16 TiB */
	assert_int_equal(sc_stat(t, 0, id).st_size, (16ll << 40) + 3);
	assert_true(sc_stat(t, 0, id).st_blocks <= 16);
	assert_int_equal(sc_read(t, 0, id, 8ull << 40, &c, 1), 1);
	assert_int_equal(c, 0);
	assert_int_equal(sc_read(t, 0, id, (16ull << 40) + 1, &c, 1), 1);
	assert_int_equal(c, 'n');
}

static void files_may_be_huge_and_sparse(void **s)
{
	(void)s;
	sc_run(limits_body, NULL);
}

/* ---- growing --------------------------------------------------------------------------------- */

#define GROWN_BLKS 600u

static void together_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(4096);
	struct nodeid id[3];

	sc_up(t, 0);
	for (unsigned n = 0; n < 3; n++)
		id[n] = sc_mkfile(t, 0, sc_root_id(t, 0), n == 0 ? "a" : n == 1 ? "b" : "c");
	memset(buf, 'g', 4096);
	for (unsigned k = 0; k < GROWN_BLKS; k++)
		for (unsigned n = 0; n < 3; n++)
			sc_write(t, 0, id[n], k * 4096ull, buf, 4096);
	for (unsigned n = 0; n < 3; n++)
		assert_in_range(pieces_of(t, id[n], GROWN_BLKS), 1, 12);
	free(buf);
}

static void files_that_grow_side_by_side_lie_in_few_pieces(void **state)
{
	(void)state;
	sc_run(together_body, &(struct sc_shape){.hosts = 1});
}

#define EDGE_BLKS 400u

/* The leaf of @lblk in the tree of @id; host 0. */
static uint64_t leaf_of(struct simcluster *t, struct nodeid id, uint64_t lblk)
{
	struct bt bt = {.ne = &t->v[0]->ne, .fork = FORK_DATA};
	struct bt_path p;
	uint64_t addr;
	struct op o;

	op_init(&o, t->v[0], &sc_root);
	op_plan(&o, id.ino, LOCK_EX, LOCAL_SHARED);
	assert_int_equal(op_try(&o), 0);
	assert_int_equal(op_get(&o, id, LOCK_EX, LOCAL_SHARED, &bt.i), 0);
	assert_int_equal(bt_seek(&bt, lblk, &p), 0);
	addr = bt_leaf(&p)->m->addr;
	bt_put(&bt, &p);
	op_leave(&o);
	return addr;
}

/*
 * Blocks written and unwritten by turns, an extent each. The last block that @id has in some leaf,
 * and the next leaf.
 */
static uint64_t last_of_leaf(struct simcluster *t, struct nodeid id, const uint8_t *blk,
			     uint64_t *next_leaf)
{
	uint64_t at = 1;

	SC_OK(t, vol_fallocate(t->v[0], &sc_root, id, 0, 0, EDGE_BLKS * BLK));
	for (uint64_t k = 0; k < EDGE_BLKS; k += 2)
		sc_write(t, 0, id, k * BLK, blk, BLK);
	while (leaf_of(t, id, at) == leaf_of(t, id, at + 1))
		at++;
	*next_leaf = leaf_of(t, id, at + 1);
	return at;
}

static void damage_payload(struct simcluster *t, uint64_t addr)
{
	uint8_t junk[512];

	simdev_peek(t->medium, geo_payload_off(&t->geo, addr), sizeof(junk), junk);
	for (unsigned k = 0; k < sizeof(junk); k++)
		junk[k] ^= 0xff;
	simdev_poke(t->medium, geo_payload_off(&t->geo, addr), sizeof(junk), junk);
}

static int change_edge(struct simcluster *t, struct nodeid id, int how, uint64_t at,
		       const uint8_t *blk)
{
	size_t done;

	if (how)
		return vol_fallocate(t->v[0], &sc_root, id, how | FALLOC_FL_KEEP_SIZE, at * BLK,
				     BLK);
	return vol_write(t->v[0], &sc_root, id, at * BLK, BLK, blk, 0, &done, NULL);
}

static void body_edge(struct simcluster *t)
{
	static const int how[] = {0, FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE};
	struct nodeid root, id[3], other;
	uint64_t at[3], next[3];
	uint8_t *blk = dev_buf_alloc(BLK), *got = dev_buf_alloc(BLK);

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	memset(blk, 7, BLK);
	for (unsigned k = 0; k < 3; k++) {
		char name[2] = {(char)('a' + k), 0};

		id[k] = sc_mkfile(t, 0, root, name);
		at[k] = last_of_leaf(t, id[k], blk, &next[k]);
		/* What is to be changed is not yet so. */
		SC_OK(t, change_edge(t, id[k], how[k] ? 0 : FALLOC_FL_ZERO_RANGE, at[k], blk));
		assert_true(leaf_of(t, id[k], at[k] + 1) == next[k]);
	}
	sc_down(t, 0);
	for (unsigned k = 0; k < 3; k++)
		damage_payload(t, next[k]);
	sc_up(t, 0);
	for (unsigned k = 0; k < 3; k++) {
		SC_OK(t, change_edge(t, id[k], how[k], at[k], blk));
		if (how[k] != FALLOC_FL_PUNCH_HOLE) { /* where a hole ends the next leaf tells */
			assert_int_equal(sc_read(t, 0, id[k], at[k] * BLK, got, BLK), BLK);
			assert_int_equal(got[0], how[k] ? 0 : 7);
		}
		assert_int_equal(vol_fsync(t->v[0], &sc_root, id[k], false), 0);
	}
	other = sc_mkfile(t, 0, root, "other");
	sc_write(t, 0, other, 0, blk, BLK);
	sc_down(t, 0);
	for (unsigned k = 0; k < 3; k++)
		damage_payload(t, next[k]); /* and back */
	free(got);
	free(blk);
}

static void the_last_blocks_of_a_leaf_are_changed_without_the_next_one(void **s)
{
	(void)s;
	sc_run_seeds(body_edge, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(file_holds_what_was_written),
	    cmocka_unit_test(truncation_of_many_extents_leaves_nothing_behind),
	    cmocka_unit_test(truncation_cut_short_is_all_or_nothing),
	    cmocka_unit_test(full_volume_can_be_emptied_and_filled_again),
	    cmocka_unit_test(space_of_a_deleted_file_can_be_used_at_once),
	    cmocka_unit_test(files_may_be_huge_and_sparse),
	    cmocka_unit_test(files_that_grow_side_by_side_lie_in_few_pieces),
	    cmocka_unit_test(the_last_blocks_of_a_leaf_are_changed_without_the_next_one),
	};

	return cmocka_run_group_tests_name("vol-data", tests, NULL, NULL);
}

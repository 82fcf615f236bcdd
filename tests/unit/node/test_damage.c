/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata that lies with a good checksum: every operation ends, with an answer or an error, within
 * the memory that is its own (run this under ASan) and without tripping an assertion.
 */
#include "fake.h"

#include "node/btree.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIME_LIMIT_S 100u /* a loop without end ends the test */

static unsigned rounds(void)
{
	const char *s = getenv("LUNFS_DAMAGE_ROUNDS");

	return s ? (unsigned)atoi(s) : 400;
}

/* Heads, slots and attributes are hit more often than bodies. */
static void damage(struct fake *f)
{
	unsigned n = (unsigned)(fake_random(f) % fake_payloads(f));
	const struct lunfs_blk_hdr *h = (const void *)fake_payload(f, n);
	bool inode = le16_get(h->type) == LUNFS_BLK_INODE;
	size_t off = sizeof(*h);
	uint8_t byte = (uint8_t)fake_random(f);

	switch (fake_random(f) % 4) {
	case 0:
		off += fake_random(f) % (LUNFS_PAYLOAD_BYTES - sizeof(*h));
		break;
	case 1:
		off = inode ? (fake_random(f) % 2 ? 0x100 : 0x300) + fake_random(f) % 8
			    : off + fake_random(f) % 8;
		break;
	default:
		off = (inode ? 0x300 : off) + fake_random(f) % 200;
	}
	if (fake_random(f) % 3 == 0)
		byte = (uint8_t)(fake_payload(f, n)[off] ^ 1u << fake_random(f) % 8);
	fake_damage(f, n, off, byte);
}

/* One pointer of the tree becomes another one. */
static void cross(struct fake *f)
{
	unsigned n = (unsigned)(fake_random(f) % fake_payloads(f));
	const uint8_t *from = fake_payload(f, (unsigned)(fake_random(f) % fake_payloads(f)));
	const struct lunfs_blk_hdr *h = (const void *)fake_payload(f, n);
	size_t at = le16_get(h->type) == LUNFS_BLK_INODE ? 0x308 : sizeof(*h) + 8;

	at += fake_random(f) % 10 * sizeof(struct lunfs_bt_inner_slot) + 8;
	for (size_t k = 0; k < 8; k++)
		fake_damage(f, n, at + k, from[offsetof(struct lunfs_blk_hdr, addr) + k]);
}

static bool spoil(struct fake *f)
{
	unsigned hits = 1 + (unsigned)(fake_random(f) % 4);

	f->hostile = true;
	while (hits--) {
		if (fake_random(f) % 6)
			damage(f);
		else
			cross(f);
	}
	return fake_reload(f) == 0;
}

static void give_up(struct fake *f)
{
	struct node_shrink step;

	for (unsigned k = 0; k < 500; k++) {
		struct node_txn nt;

		memset(&f->frees, 0, sizeof(f->frees));
		if (node_shrink_prepare(&f->ne, &f->i, &step, &f->frees) || step.done)
			break;
		f->with_frees = true;
		nt = fake_begin_with(f, 0, step.credits);
		node_shrink_commit(&f->ne, &nt, &f->i, &step);
		fake_end(f);
	}
	memset(&f->frees, 0, sizeof(f->frees));
}

/* ---- directories -------------------------------------------------------------------- */

static void dir_round(struct fake *f, unsigned names)
{
	static struct dir_entry de[64];
	uint64_t from = 0;
	size_t n = 1;

	for (unsigned k = 0; k < 60; k++) {
		struct node_txn nt;
		char name[32];

		sprintf(name, "name %llu", (unsigned long long)(fake_random(f) % (names * 2)));
		dir_lookup(&f->ne, &f->i, name, de);
		f->with_frees = true;
		dir_remove_prepare(&f->ne, &f->i, name, &f->frees);
		nt = fake_begin(f, FORK_DATA, 1);
		if (fake_random(f) % 2)
			dir_insert(&f->ne, &nt, &f->i, name, f->i.ino, 1, DT_REG);
		else if (fake_random(f) % 4)
			dir_remove(&f->ne, &nt, &f->i, name);
		else
			dir_replace(&f->ne, &nt, &f->i, name, f->i.ino, 2, DT_DIR);
		fake_end(f);
	}
	for (unsigned k = 0; k < 10000 && n; k++) {
		if (dir_list(&f->ne, &f->i, from, de, 64, &n))
			break;
		assert_true(n == 0 || de[n - 1].cookie >= from);
		from = n ? de[n - 1].cookie + 1 : 0;
	}
	give_up(f);
}

static void a_damaged_directory_harms_nobody(void **state)
{
	(void)state;
	for (unsigned r = 0; r < rounds(); r++) {
		struct fake *f = fake_new(S_IFDIR | 0755);
		unsigned names = 60 + r % 3 * 600;

		for (unsigned k = 0; k < names; k++) {
			struct node_txn nt = fake_begin(f, FORK_DATA, 1);
			char name[32];

			sprintf(name, "name %u", k);
			dir_insert(&f->ne, &nt, &f->i, name, f->i.ino, 1, DT_REG);
			fake_end(f);
		}
		f->rnd = r;
		if (spoil(f))
			dir_round(f, names);
		fake_free(f);
	}
}

/* ---- files -------------------------------------------------------------------------- */

static void file_round(struct fake *f, uint64_t span)
{
	for (unsigned k = 0; k < 60; k++) {
		uint64_t at = fake_random(f) % span, len;
		struct node_txn nt;
		struct ext e;

		if (ext_map(&f->ne, &f->i, at, &e))
			continue;
		assert_true(e.len > 0 && e.lblk == at);
		len = 1 + fake_random(f) % e.len;
		if (e.blk) {
			f->with_frees = true;
			ext_remove_prepare(&f->ne, &f->i, at, len, &f->frees);
		}
		nt = fake_begin(f, FORK_DATA, 3);
		if (!e.blk) {
			e = (struct ext){.lblk = at, .len = 1 + len % 3};
			e.blk = fake_blocks(f, (uint32_t)e.len);
			ext_insert(&f->ne, &nt, &f->i, &e);
		} else if (fake_random(f) % 2) {
			ext_remove(&f->ne, &nt, &f->i, at, len);
		} else {
			ext_set_written(&f->ne, &nt, &f->i, at, len, fake_random(f) % 2);
		}
		fake_end(f);
	}
	give_up(f);
}

static void a_damaged_file_harms_nobody(void **state)
{
	(void)state;
	for (unsigned r = 0; r < rounds(); r++) {
		struct fake *f = fake_new(S_IFREG | 0644);
		unsigned extents = 60 + r % 3 * 600;

		for (unsigned k = 0; k < extents; k++) {
			struct ext e = {.lblk = (k * 37 % extents) * 5, .len = 3, .flags = k % 2};
			struct node_txn nt = fake_begin(f, FORK_DATA, 1);

			e.blk = fake_blocks(f, 3);
			assert_int_equal(ext_insert(&f->ne, &nt, &f->i, &e), 0);
			fake_end(f);
		}
		f->rnd = r;
		if (spoil(f))
			file_round(f, extents * 5);
		fake_free(f);
	}
}

/* ---- attributes --------------------------------------------------------------------- */

static void set_xattr(struct fake *f, const char *name, size_t len)
{
	static uint8_t value[LUNFS_XATTR_VALUE_MAX];
	struct node_need need;
	struct node_txn nt;

	if (xattr_need(&f->ne, &f->i, name, len, &need))
		return;
	f->with_frees = true;
	xattr_free_prepare(&f->ne, &f->i, name, len, &f->frees);
	nt = fake_begin_with(f, need.cells, need.credits);
	xattr_set(&f->ne, &nt, &f->i, name, value, len, 0);
	fake_end(f);
}

static void xattr_round(struct fake *f)
{
	static uint8_t got[LUNFS_XATTR_VALUE_MAX];
	size_t len;

	for (unsigned k = 0; k < 40; k++) {
		struct node_txn nt;
		char name[32];

		sprintf(name, "user.%llu", (unsigned long long)(fake_random(f) % 50));
		xattr_get(&f->ne, &f->i, name, got, sizeof(got), &len);
		xattr_list(&f->ne, &f->i, true, (char *)got, sizeof(got), &len);
		if (fake_random(f) % 2) {
			set_xattr(f, name, fake_random(f) % 9000);
			continue;
		}
		f->with_frees = true;
		xattr_free_prepare(&f->ne, &f->i, name, XATTR_KEEP_NOTHING, &f->frees);
		nt = fake_begin(f, FORK_XATTR, 64);
		xattr_remove(&f->ne, &nt, &f->i, name);
		fake_end(f);
	}
	give_up(f);
}

static void damaged_attributes_harm_nobody(void **state)
{
	(void)state;
	for (unsigned r = 0; r < rounds(); r++) {
		struct fake *f = fake_new(S_IFREG | 0644);

		for (unsigned k = 0; k < 40; k++) {
			char name[32];

			sprintf(name, "user.%u", k);
			set_xattr(f, name, k * k * 5);
		}
		f->rnd = r;
		if (spoil(f))
			xattr_round(f);
		fake_free(f);
	}
}

static void a_damaged_link_is_not_read(void **state)
{
	static char target[4000], back[5000];

	(void)state;
	memset(target, 't', sizeof(target));
	for (unsigned r = 0; r < rounds(); r++) {
		struct fake *f = fake_new(S_IFLNK | 0777);
		struct node_txn nt = fake_begin(f, FORK_DATA, 4);

		assert_int_equal(symlink_set(&f->ne, &nt, &f->i, target, sizeof(target)), 0);
		fake_end(f);
		f->rnd = r;
		if (spoil(f)) {
			if (symlink_get(&f->ne, &f->i, back, sizeof(back)) == 0)
				assert_int_equal(strlen(back), f->i.size);
			give_up(f);
		}
		fake_free(f);
	}
}

/* ---- one node ----------------------------------------------------------------------- */

static void dead_bytes_are_reclaimed_when_room_runs_out(void **state)
{
	struct fake *f = fake_new(S_IFREG);
	uint8_t area[300], body[80];
	struct lunfs_bt_head *h = (void *)area;
	struct bt_range all = {0, UINT64_MAX};
	size_t len;

	(void)state;
	memset(body, 'b', sizeof(body));
	node_init(area, sizeof(area), 0);
	for (unsigned k = 0; k < 3; k++)
		leaf_insert(area, sizeof(area), k, k, body, sizeof(body));
	assert_false(leaf_fits(area, sizeof(area), sizeof(body)));
	/* What another implementation may leave: the item is gone, its body still stands there. */
	h->items = le16_make(2);
	assert_int_equal(node_check(&f->geo, area, sizeof(area), 0, all), -EUCLEAN);
	h->dead = le16_make(sizeof(body));
	assert_int_equal(node_check(&f->geo, area, sizeof(area), 0, all), 0);
	assert_true(leaf_fits(area, sizeof(area), sizeof(body)));
	body[0] = 'n';
	leaf_insert(area, sizeof(area), 2, 9, body, sizeof(body));
	assert_int_equal(node_check(&f->geo, area, sizeof(area), 0, all), 0);
	assert_int_equal(le16_get(h->dead), 0);
	assert_memory_equal(leaf_body(area, 2, &len), body, sizeof(body));
	assert_int_equal(leaf_body(area, 0, &len)[0], 'b');
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_damaged_directory_harms_nobody),
	    cmocka_unit_test(a_damaged_file_harms_nobody),
	    cmocka_unit_test(damaged_attributes_harm_nobody),
	    cmocka_unit_test(a_damaged_link_is_not_read),
	    cmocka_unit_test(dead_bytes_are_reclaimed_when_room_runs_out),
	};

	alarm(TIME_LIMIT_S);
	return cmocka_run_group_tests_name("node-damage", tests, NULL, NULL);
}

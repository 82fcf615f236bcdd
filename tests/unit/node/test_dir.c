/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories against a model. */
#include "fake.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INO(k) (4096u + 2u * (500u + (k) % 30000u)) /* cells of the first group */

static void name_of(char *buf, unsigned k)
{
	/* Lengths from 1 to 255 in the mix. */
	int n = sprintf(buf, "n%x", k);

	if (k % 7 == 3)
		for (unsigned want = k * 2654435761u % 255; (unsigned)n < want; n++)
			buf[n] = 'x';
	buf[n] = 0;
}

static int insert(struct fake *f, unsigned k)
{
	struct node_txn nt = fake_begin(f, FORK_DATA, 1);
	char name[256];
	int rc;

	name_of(name, k);
	rc = dir_insert(&f->ne, &nt, &f->i, name, INO(k), k + 1, DT_REG);
	if (!rc)
		inode_update(nt.h, &f->i);
	fake_end(f);
	return rc;
}

static int remove_name(struct fake *f, unsigned k, bool prepare)
{
	struct node_txn nt;
	char name[256];
	int rc;

	name_of(name, k);
	f->with_frees = prepare;
	if (prepare)
		dir_remove_prepare(&f->ne, &f->i, name, &f->frees);
	nt = fake_begin(f, FORK_DATA, 1);
	rc = dir_remove(&f->ne, &nt, &f->i, name);
	if (!rc)
		inode_update(nt.h, &f->i);
	fake_end(f);
	return rc;
}

static bool is_there(struct fake *f, unsigned k)
{
	struct dir_entry de;
	char name[256];
	int rc;

	name_of(name, k);
	rc = dir_lookup(&f->ne, &f->i, name, &de);
	if (rc == -ENOENT)
		return false;
	assert_int_equal(rc, 0);
	assert_string_equal(de.name, name);
	assert_int_equal(de.name_len, strlen(name));
	assert_int_equal(de.ino, INO(k));
	assert_int_equal(de.generation, k + 1);
	assert_int_equal(de.type, DT_REG);
	return true;
}

static uint64_t count_listed(struct fake *f)
{
	struct dir_entry de[37];
	uint64_t n = 0, from = 0, last = 0;
	size_t got;

	do {
		assert_int_equal(dir_list(&f->ne, &f->i, from, de, 37, &got), 0);
		for (size_t k = 0; k < got; k++) {
			assert_true(de[k].cookie >= 128 && de[k].cookie > last);
			last = de[k].cookie;
			from = last + 1;
		}
		n += got;
	} while (got);
	return n;
}

static void names_are_there_from_insertion_to_removal(void **state)
{
	enum { NAMES = 3000, STEPS = 40000 };
	struct fake *f = fake_new(S_IFDIR | 0755);
	static bool there[NAMES];
	uint64_t n = 0;

	(void)state;
	memset(there, 0, sizeof(there));
	f->busy_permil = 100;
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned k = (unsigned)(fake_random(f) % NAMES);
		/* Waves: full, then all but empty, and so on. */
		bool want = fake_random(f) % 100 < (step / 10000 % 2 ? 10 : 90);

		assert_int_equal(is_there(f, k), there[k]);
		if (want) {
			assert_int_equal(insert(f, k), there[k] ? -EEXIST : 0);
			n += !there[k];
		} else {
			assert_int_equal(remove_name(f, k, step % 3), there[k] ? 0 : -ENOENT);
			n -= there[k];
		}
		there[k] = want;
		assert_int_equal(f->i.size, n);
		if (step % 1000 == 0)
			assert_int_equal(fake_walk(f).items[FORK_DATA], n);
	}
	assert_int_equal(count_listed(f), n);
	fake_free(f);
}

static void two_hundred_thousand_names_are_three_levels_deep(void **state)
{
	enum { NAMES = 200000 };
	struct fake *f = fake_new(S_IFDIR | 0755);
	struct walk w;

	(void)state;
	for (unsigned k = 0; k < NAMES; k++)
		assert_int_equal(insert(f, k), 0);
	w = fake_walk(f);
	assert_int_equal(w.items[FORK_DATA], NAMES);
	assert_true(w.depth[FORK_DATA] <= 3);
	assert_int_equal(w.empty_leaves, 0);
	for (unsigned k = 0; k < NAMES; k += 7)
		assert_true(is_there(f, k));
	assert_false(is_there(f, NAMES));
	assert_int_equal(count_listed(f), NAMES);
	for (unsigned k = 0; k < NAMES; k++)
		assert_int_equal(remove_name(f, k * 7919u % NAMES, true), 0);
	assert_int_equal(f->i.size, 0);
	assert_int_equal(f->i.data_format, LUNFS_FORK_EMPTY);
	assert_int_equal(f->live_cells, 1);
	assert_int_equal(f->i.blks, 0);
	fake_free(f);
}

static void a_stream_misses_nothing_that_stays(void **state)
{
	enum { NAMES = 4000 };
	struct fake *f = fake_new(S_IFDIR | 0755);
	static uint8_t seen[NAMES];
	uint64_t from = 128;
	struct dir_entry de;

	(void)state;
	memset(seen, 0, sizeof(seen));
	for (unsigned k = 0; k < NAMES; k += 2)
		assert_int_equal(insert(f, k), 0);
	while (dir_next(&f->ne, &f->i, from, &de) == 0) {
		unsigned k = (unsigned)de.generation - 1;
		unsigned other = (unsigned)(fake_random(f) % NAMES) / 4 * 4 + 1;

		from = de.cookie + 1;
		assert_int_equal(seen[k], 0);
		seen[k] = 1;
		if (is_there(f, other))
			remove_name(f, other, true);
		else
			insert(f, other);
		if (k % 4 == 2)
			assert_int_equal(remove_name(f, k, true), 0);
	}
	for (unsigned k = 0; k < NAMES; k += 2)
		assert_int_equal(seen[k], 1);
	fake_walk(f);
	fake_free(f);
}

static void a_replaced_name_keeps_its_place(void **state)
{
	struct fake *f = fake_new(S_IFDIR | 0755);
	struct dir_entry before, after;
	struct node_txn nt;

	(void)state;
	for (unsigned k = 0; k < 500; k++)
		insert(f, k);
	assert_int_equal(dir_lookup(&f->ne, &f->i, "n64", &before), 0);
	nt = fake_begin_with(f, 0, 1);
	assert_int_equal(dir_replace(&f->ne, &nt, &f->i, "n64", INO(9000), 77, DT_DIR), 0);
	fake_end(f);
	assert_int_equal(dir_lookup(&f->ne, &f->i, "n64", &after), 0);
	assert_int_equal(after.cookie, before.cookie);
	assert_int_equal(after.ino, INO(9000));
	assert_int_equal(after.generation, 77);
	assert_int_equal(after.type, DT_DIR);
	assert_int_equal(f->i.size, 500);
	fake_free(f);
}

static void names_too_long_are_refused(void **state)
{
	struct fake *f = fake_new(S_IFDIR | 0755);
	struct node_txn nt;
	struct dir_entry de;
	char name[258];

	(void)state;
	memset(name, 'y', sizeof(name));
	name[256] = 0;
	assert_int_equal(dir_lookup(&f->ne, &f->i, name, &de), -ENAMETOOLONG);
	nt = fake_begin(f, FORK_DATA, 1);
	assert_int_equal(dir_insert(&f->ne, &nt, &f->i, name, INO(1), 1, DT_REG), -ENAMETOOLONG);
	name[255] = 0;
	assert_int_equal(dir_insert(&f->ne, &nt, &f->i, name, INO(1), 1, DT_REG), 0);
	fake_end(f);
	assert_int_equal(dir_lookup(&f->ne, &f->i, name, &de), 0);
	assert_string_equal(de.name, name);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_are_there_from_insertion_to_removal),
	    cmocka_unit_test(two_hundred_thousand_names_are_three_levels_deep),
	    cmocka_unit_test(a_stream_misses_nothing_that_stays),
	    cmocka_unit_test(a_replaced_name_keeps_its_place),
	    cmocka_unit_test(names_too_long_are_refused),
	};

	return cmocka_run_group_tests_name("node-dir", tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes against a model, and symbolic links. */
#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t value[LUNFS_XATTR_VALUE_MAX + 1], got[LUNFS_XATTR_VALUE_MAX + 1];

static const uint8_t *value_of(unsigned seed, size_t len)
{
	for (size_t k = 0; k < len; k++)
		value[k] = (uint8_t)(seed * 31 + k * 7 + k / 251);
	return value;
}

static int set(struct fake *f, const char *name, unsigned seed, size_t len, int flags)
{
	struct node_need need;
	struct node_txn nt;
	int rc = xattr_need(&f->ne, &f->i, name, len, &need);

	if (rc)
		return rc;
	f->with_frees = true;
	xattr_free_prepare(&f->ne, &f->i, name, len, &f->frees);
	nt = fake_begin_with(f, need.cells, need.credits);
	rc = xattr_set(&f->ne, &nt, &f->i, name, value_of(seed, len), len, flags);
	fake_end(f);
	return rc;
}

static int drop(struct fake *f, const char *name)
{
	struct node_need need;
	struct node_txn nt;
	int rc = xattr_need(&f->ne, &f->i, name, XATTR_KEEP_NOTHING, &need);

	assert_int_equal(rc, 0);
	f->with_frees = true;
	xattr_free_prepare(&f->ne, &f->i, name, XATTR_KEEP_NOTHING, &f->frees);
	nt = fake_begin_with(f, need.cells, need.credits);
	rc = xattr_remove(&f->ne, &nt, &f->i, name);
	fake_end(f);
	return rc;
}

static void check(struct fake *f, const char *name, unsigned seed, size_t len)
{
	size_t n = 0;

	assert_int_equal(xattr_get(&f->ne, &f->i, name, NULL, 0, &n), 0);
	assert_int_equal(n, len);
	assert_int_equal(xattr_get(&f->ne, &f->i, name, got, sizeof(got), &n), 0);
	assert_int_equal(n, len);
	assert_memory_equal(got, value_of(seed, len), len);
	if (len > 1)
		assert_int_equal(xattr_get(&f->ne, &f->i, name, got, len - 1, &n), -ERANGE);
}

struct attr {
	bool there;
	unsigned seed;
	size_t len;
};

static void name_of(char *buf, unsigned k)
{
	static const char *const ns[] = {"user.", "trusted.", "security."};

	sprintf(buf, "%s%0*u", ns[k % 3], k % 5 == 4 ? 200 : 3, k);
}

static void check_list(struct fake *f, const struct attr *a, unsigned attrs)
{
	static char list[65536];
	size_t len, n = 0, want = 0;
	char name[256];

	assert_int_equal(xattr_list(&f->ne, &f->i, true, NULL, 0, &len), 0);
	assert_int_equal(xattr_list(&f->ne, &f->i, true, list, sizeof(list), &n), 0);
	assert_int_equal(n, len);
	if (len)
		assert_int_equal(xattr_list(&f->ne, &f->i, true, list, len - 1, &n), -ERANGE);
	for (unsigned k = 0; k < attrs; k++) {
		bool found = false;

		name_of(name, k);
		for (size_t at = 0; at < len; at += strlen(list + at) + 1)
			found |= strcmp(list + at, name) == 0;
		assert_int_equal(found, a[k].there);
		want += a[k].there ? strlen(name) + 1 : 0;
	}
	assert_int_equal(len, want);
}

static size_t random_len(struct fake *f)
{
	switch (fake_random(f) % 8) {
	case 0:
		return 0;
	case 1:
		return fake_random(f) % (LUNFS_XATTR_VALUE_MAX + 1);
	case 2:
		return (1 + fake_random(f) % 8) * LUNFS_XATTR_PART_BYTES;
	case 3:
		return fake_random(f) % 5000;
	default:
		return fake_random(f) % 100;
	}
}

static void values_are_there_as_they_were_set(void **state)
{
	enum { ATTRS = 60, STEPS = 6000 };
	struct fake *f = fake_new(S_IFREG | 0644);
	struct attr a[ATTRS] = {0};
	char name[256];

	(void)state;
	f->busy_permil = 100;
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned k = (unsigned)(fake_random(f) % ATTRS);
		size_t n;

		name_of(name, k);
		if (a[k].there)
			check(f, name, a[k].seed, a[k].len);
		else
			assert_int_equal(xattr_get(&f->ne, &f->i, name, got, 1, &n), -ENODATA);
		if (fake_random(f) % 3 == 0) {
			assert_int_equal(drop(f, name), a[k].there ? 0 : -ENODATA);
			a[k].there = false;
		} else {
			a[k] = (struct attr){true, step, random_len(f)};
			assert_int_equal(set(f, name, step, a[k].len, 0), 0);
		}
		if (step % 200 == 0) {
			check_list(f, a, ATTRS);
			fake_walk(f);
		}
	}
	assert_true(f->most_cells <= ALLOC_CELLS_MAX);
	f->busy_permil = 0;
	for (unsigned k = 0; k < ATTRS; k++) {
		name_of(name, k);
		if (a[k].there)
			assert_int_equal(drop(f, name), 0);
	}
	check_list(f, a, 0);
	fake_free(f);
}

static void attributes_that_come_and_go_leave_nothing_behind(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	char name[32];

	(void)state;
	for (unsigned k = 0; k < 300; k++) {
		sprintf(name, "user.%u", k);
		assert_int_equal(set(f, name, k, LUNFS_XATTR_VALUE_MAX, 0), 0);
		check(f, name, k, LUNFS_XATTR_VALUE_MAX);
		if (k % 2)
			assert_int_equal(set(f, name, k, 1, 0), 0);
		assert_int_equal(drop(f, name), 0);
		assert_int_equal(f->live_cells, 1);
		assert_int_equal(f->i.xattr_format, LUNFS_FORK_EMPTY);
	}
	fake_free(f);
}

static void flags_are_obeyed_before_anything_changes(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);

	(void)state;
	assert_int_equal(set(f, "user.a", 1, 10, XATTR_MUST_EXIST), -ENODATA);
	assert_int_equal(set(f, "user.a", 1, 10, XATTR_MUST_CREATE), 0);
	assert_int_equal(set(f, "user.a", 2, 20, XATTR_MUST_CREATE), -EEXIST);
	check(f, "user.a", 1, 10);
	assert_int_equal(set(f, "user.a", 3, 30, XATTR_MUST_EXIST), 0);
	check(f, "user.a", 3, 30);
	fake_free(f);
}

static void names_and_sizes_have_limits(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	char name[300] = "user.";

	(void)state;
	assert_int_equal(set(f, "nothing.a", 1, 10, 0), -EOPNOTSUPP);
	assert_int_equal(set(f, "system.other", 1, 10, 0), -EOPNOTSUPP);
	assert_int_equal(set(f, "user.", 1, 10, 0), -EINVAL);
	assert_int_equal(set(f, ACL_ACCESS_NAME, 1, 44, 0), 0);
	assert_int_equal(set(f, "user.a", 1, LUNFS_XATTR_VALUE_MAX + 1, 0), -E2BIG);
	memset(name + 5, 'n', 256);
	assert_int_equal(set(f, name, 1, 10, 0), -ERANGE);
	name[5 + 255] = 0;
	assert_int_equal(set(f, name, 1, LUNFS_XATTR_VALUE_MAX, 0), 0);
	check(f, name, 1, LUNFS_XATTR_VALUE_MAX);
	fake_free(f);
}

static void a_link_of_any_length_is_read_back(void **state)
{
	char target[LUNFS_SYMLINK_MAX + 2], back[LUNFS_SYMLINK_MAX + 2];

	(void)state;
	for (size_t len = 1; len <= LUNFS_SYMLINK_MAX + 1; len += len < 2800 ? 173 : 1) {
		struct fake *f = fake_new(S_IFLNK | 0777);
		struct node_txn nt = fake_begin(f, FORK_DATA, symlink_need_changes(len));
		int rc;

		for (size_t k = 0; k < len; k++)
			target[k] = (char)('a' + k % 26);
		target[len] = 0;
		rc = symlink_set(&f->ne, &nt, &f->i, target, len);
		fake_end(f);
		assert_int_equal(rc, len > LUNFS_SYMLINK_MAX ? -ENAMETOOLONG : 0);
		if (!rc) {
			assert_int_equal(symlink_get(&f->ne, &f->i, back, len), -ERANGE);
			assert_int_equal(symlink_get(&f->ne, &f->i, back, sizeof(back)), 0);
			assert_string_equal(back, target);
			fake_walk(f);
		}
		fake_free(f);
		if (len > 2830 && len < 4090)
			len += 101;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values_are_there_as_they_were_set),
	    cmocka_unit_test(attributes_that_come_and_go_leave_nothing_behind),
	    cmocka_unit_test(flags_are_obeyed_before_anything_changes),
	    cmocka_unit_test(names_and_sizes_have_limits),
	    cmocka_unit_test(a_link_of_any_length_is_read_back),
	};

	return cmocka_run_group_tests_name("node-xattr", tests, NULL, NULL);
}

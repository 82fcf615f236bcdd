/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names whose hashes are equal: a hash of this program's own stands in for SipHash. */
#include "fake.h"

#include "base/siphash.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Names with the same first letter collide; 'a' has the least hash, 'z' the greatest. */
uint64_t siphash24(const uint8_t key[16], const void *buf, size_t len_bytes)
{
	const uint8_t *c = buf;

	(void)key;
	(void)len_bytes;
	if (*c < 'a') /* an xattr's name space */
		return 0x1234567;
	return *c == 'a' ? 0 : *c == 'z' ? UINT64_MAX : (uint64_t)*c << 40;
}

static int insert(struct fake *f, const char *name)
{
	struct node_txn nt = fake_begin(f, FORK_DATA, 1);
	int rc = dir_insert(&f->ne, &nt, &f->i, name, f->i.ino, 1, DT_REG);

	if (!rc)
		inode_update(nt.h, &f->i);
	fake_end(f);
	return rc;
}

static int remove_name(struct fake *f, const char *name)
{
	struct node_txn nt;
	int rc;

	f->with_frees = true;
	dir_remove_prepare(&f->ne, &f->i, name, &f->frees);
	nt = fake_begin(f, FORK_DATA, 1);
	rc = dir_remove(&f->ne, &nt, &f->i, name);
	if (!rc)
		inode_update(nt.h, &f->i);
	fake_end(f);
	return rc;
}

static int lookup(struct fake *f, const char *name)
{
	struct dir_entry de;

	return dir_lookup(&f->ne, &f->i, name, &de);
}

static void a_hundred_and_twenty_eight_names_share_a_hash(void **state)
{
	static const char first[] = "zam";
	struct fake *f = fake_new(S_IFDIR | 0755);
	struct dir_entry de[500];
	char name[64];
	size_t n;

	(void)state;
	for (unsigned k = 0; k < 129 * 3; k++) {
		sprintf(name, "%c%u", first[k % 3], k / 3);
		assert_int_equal(insert(f, name), k / 3 < 128 ? 0 : -ENOSPC);
	}
	assert_int_equal(insert(f, "z55"), -EEXIST);
	fake_walk(f);
	for (unsigned k = 0; k < 129 * 3; k++) {
		sprintf(name, "%c%u", first[k % 3], k / 3);
		assert_int_equal(lookup(f, name), k / 3 < 128 ? 0 : -ENOENT);
	}
	assert_int_equal(dir_list(&f->ne, &f->i, 0, de, 500, &n), 0);
	assert_int_equal(n, 3 * 128);
	assert_int_equal(de[0].cookie, 128);
	assert_true(de[n - 1].cookie <= INT64_MAX);
	assert_int_equal(remove_name(f, "z7"), 0);
	assert_int_equal(lookup(f, "z7"), -ENOENT);
	assert_int_equal(lookup(f, "z127"), 0);
	assert_int_equal(insert(f, "znew"), 0);
	assert_int_equal(lookup(f, "znew"), 0);
	assert_int_equal(insert(f, "zmore"), -ENOSPC);
	for (unsigned k = 0; k < 128; k++) {
		sprintf(name, "z%u", k);
		assert_int_equal(remove_name(f, name), k == 7 ? -ENOENT : 0);
	}
	assert_int_equal(remove_name(f, "znew"), 0);
	fake_walk(f);
	fake_free(f);
}

static void set(struct fake *f, const char *name, uint8_t fill, size_t len, int want)
{
	static uint8_t value[5000];
	struct node_need need;
	struct node_txn nt;
	int rc;

	memset(value, fill, len);
	rc = xattr_need(&f->ne, &f->i, name, len, &need);
	assert_int_equal(rc, want);
	if (rc)
		return;
	nt = fake_begin_with(f, need.cells, need.credits);
	assert_int_equal(xattr_set(&f->ne, &nt, &f->i, name, value, len, 0), 0);
	fake_end(f);
}

static void attributes_that_share_a_hash_keep_apart(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	uint8_t got[5000];
	char name[32];
	size_t len;

	(void)state;
	for (unsigned k = 0; k < 257; k++) {
		sprintf(name, "user.%u", k);
		set(f, name, (uint8_t)k, k * 19, k < 256 ? 0 : -ENOSPC);
	}
	for (unsigned k = 0; k < 256; k++) {
		sprintf(name, "user.%u", k);
		assert_int_equal(xattr_get(&f->ne, &f->i, name, got, sizeof(got), &len), 0);
		assert_int_equal(len, k * 19);
		for (size_t n = 0; n < len; n++)
			assert_int_equal(got[n], k);
	}
	fake_walk(f);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_hundred_and_twenty_eight_names_share_a_hash),
	    cmocka_unit_test(attributes_that_share_a_hash_keep_apart),
	};

	return cmocka_run_group_tests_name("node-collide", tests, NULL, NULL);
}

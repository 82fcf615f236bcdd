/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inodes: what is written is read back, what cannot be true is refused. And giving one up. */
#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct inode some_inode(uint32_t mode)
{
	return (struct inode){.ino = 4096 + 2 * 300,
			      .generation = 0xabcdef0123456789ull,
			      .mode = mode,
			      .nlink = 3,
			      .uid = 1000,
			      .gid = 4294967294u,
			      .size = S_ISREG(mode) ? 123456789012ull : 0,
			      .blks = 77,
			      .atime = {.tv_sec = -5, .tv_nsec = 999999999},
			      .mtime = {.tv_sec = 1ll << 40, .tv_nsec = 1},
			      .ctime = {.tv_sec = 3, .tv_nsec = 2},
			      .btime = {.tv_sec = 4, .tv_nsec = 3},
			      .rdev_major = S_ISCHR(mode) ? 5 : 0,
			      .rdev_minor = S_ISCHR(mode) ? 300 : 0,
			      .parent = S_ISDIR(mode) ? 4096 + 2 * 400 : 0};
}

static void attributes_are_read_back_as_written(void **state)
{
	static const uint32_t modes[] = {S_IFREG | 06755, S_IFDIR | 01777, S_IFCHR | 0600,
					 S_IFBLK,	  S_IFIFO | 0644,  S_IFSOCK | 0777};
	struct fake *f = fake_new(S_IFREG);
	uint8_t pl[LUNFS_PAYLOAD_BYTES];

	(void)state;
	for (size_t k = 0; k < sizeof(modes) / sizeof(modes[0]); k++) {
		struct inode in = some_inode(modes[k]), out;

		inode_format(&f->geo, &in, pl);
		assert_int_equal(blk_check(&f->geo, pl, LUNFS_BLK_INODE, in.ino), 0);
		memset(&out, 0, sizeof(out));
		assert_int_equal(inode_decode(&f->geo, pl, in.ino, &out), 0);
		assert_memory_equal(&in, &out, sizeof(in));
	}
	fake_free(f);
}

static int decode_with(struct fake *f, uint32_t mode, size_t off, unsigned byte)
{
	struct inode in = some_inode(mode), out;
	uint8_t pl[LUNFS_PAYLOAD_BYTES];

	inode_format(&f->geo, &in, pl);
	pl[off] = (uint8_t)byte;
	return inode_decode(&f->geo, pl, in.ino, &out);
}

#define AT(field) offsetof(struct lunfs_inode_pl, field)

static void what_cannot_be_true_is_refused(void **state)
{
	struct fake *f = fake_new(S_IFREG);
	uint32_t reg = S_IFREG | 0644, dir = S_IFDIR | 0755;
	const struct {
		uint32_t mode;
		size_t off;
		unsigned byte;
	} bad[] = {
	    {reg, AT(hdr.addr), 1},
	    {reg, AT(hdr.guard), 1},
	    {reg, AT(hdr.guard_gen), 1},
	    {reg, AT(generation), 1},
	    {reg, AT(mode) + 1, 0x00},
	    {reg, AT(mode) + 1, 0x30},
	    {reg, AT(mode) + 2, 1},
	    {reg, AT(nlink) + 3, 0x80},
	    {reg, AT(size) + 7, 0x80},
	    {reg, AT(blks) + 6, 1},
	    {reg, AT(atime_ns) + 3, 0x40},
	    {reg, AT(btime_ns) + 3, 0xff},
	    {reg, AT(rdev_major), 1},
	    {reg, AT(parent), 1},
	    {dir, AT(parent), 1},
	    {dir, AT(parent) + 7, 1},
	    {reg, AT(flags), 4},
	    {reg, AT(flags), LUNFS_INODE_ORPHAN_DIR},
	    {reg, AT(orphan_slot), 1},
	    {reg, AT(xattr_format), LUNFS_FORK_INLINE},
	    {reg, AT(data_format), 3},
	    {reg, AT(data_format), LUNFS_FORK_INLINE}, /* its size is larger than the fork */
	    {dir, AT(data_format), LUNFS_FORK_INLINE},
	    {S_IFIFO, AT(size), 1},
	    {S_IFIFO, AT(data_format), LUNFS_FORK_TREE},
	    {S_IFLNK, AT(data_format), LUNFS_FORK_INLINE}, /* size 0 */
	    {reg, AT(reserved) + 0x4f, 1},
	};

	(void)state;
	assert_int_equal(decode_with(f, reg, AT(xattr_fork), 0), 0);
	assert_int_equal(decode_with(f, dir, AT(xattr_fork), 0), 0);
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		assert_int_equal(decode_with(f, bad[k].mode, bad[k].off, bad[k].byte), -EUCLEAN);
	fake_free(f);
}

static void an_old_generation_is_stale(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	struct inode in;

	(void)state;
	assert_int_equal(inode_get(&f->ne, f->i.m->guard, f->i.generation, &in), 0);
	assert_int_equal(in.ino, f->i.ino);
	inode_put(&f->ne, &in);
	assert_int_equal(inode_get(&f->ne, f->i.m->guard, 0, &in), 0);
	inode_put(&f->ne, &in);
	assert_int_equal(inode_get(&f->ne, f->i.m->guard, f->i.generation + 1, &in), -ESTALE);
	fake_free(f);
}

/* ---- giving up ---------------------------------------------------------------------- */

static void add_extents(struct fake *f, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		uint32_t len = 1 + (uint32_t)(fake_random(f) % 20);
		struct ext e = {.lblk = k * 21ull, .blk = fake_blocks(f, len), .len = len};
		struct node_txn nt = fake_begin(f, FORK_DATA, 1);

		assert_int_equal(ext_insert(&f->ne, &nt, &f->i, &e), 0);
		fake_end(f);
	}
}

static void add_xattrs(struct fake *f, unsigned n)
{
	static uint8_t value[30000];

	for (unsigned k = 0; k < n; k++) {
		struct node_need need;
		struct node_txn nt;
		char name[32];

		sprintf(name, "user.%u", k);
		assert_int_equal(xattr_need(&f->ne, &f->i, name, k * 97 % 30000, &need), 0);
		nt = fake_begin_with(f, need.cells, need.credits);
		assert_int_equal(xattr_set(&f->ne, &nt, &f->i, name, value, k * 97 % 30000, 0), 0);
		fake_end(f);
	}
}

static unsigned shrink(struct fake *f)
{
	struct node_shrink step;
	unsigned steps = 0;

	f->count_frees = true;
	for (;;) {
		int rc = node_shrink_prepare(&f->ne, &f->i, &step, &f->frees);
		struct node_txn nt;

		if (rc == -EAGAIN) {
			assert_true(f->frees.want != 0);
			memset(&f->frees, 0, sizeof(f->frees));
			continue;
		}
		assert_int_equal(rc, 0);
		if (step.done)
			return steps;
		assert_true(step.n_ext <= ALLOC_CELLS_MAX / 2);
		f->with_frees = true;
		nt = fake_begin_with(f, 0, step.credits);
		assert_int_equal(node_shrink_commit(&f->ne, &nt, &f->i, &step), 0);
		fake_end(f);
		if (steps++ % 16 == 0)
			fake_walk(f);
	}
}

static void a_file_given_up_leaves_no_block_and_no_cell(void **state)
{
	for (unsigned n = 0; n < 20000; n = n * 3 + 1) {
		struct fake *f = fake_new(S_IFREG | 0644);

		(void)state;
		add_extents(f, n);
		add_xattrs(f, n % 401);
		fake_walk(f);
		f->busy_permil = 200;
		shrink(f);
		assert_int_equal(f->live_cells, 1);
		assert_int_equal(f->data_blks, 0);
		assert_int_equal(f->i.blks, 0);
		assert_int_equal(f->i.data_format, LUNFS_FORK_EMPTY);
		assert_int_equal(f->i.xattr_format, LUNFS_FORK_EMPTY);
		fake_free(f);
	}
}

static void an_inode_with_inline_data_is_done_at_once(void **state)
{
	struct fake *f = fake_new(S_IFREG | 0644);
	struct node_txn nt = fake_begin_with(f, 0, 1);

	(void)state;
	f->i.size = 3;
	inline_set(nt.h, &f->i, "abc", 3);
	fake_end(f);
	assert_int_equal(shrink(f), 0);
	fake_free(f);
}

static void a_long_link_is_given_up_in_steps_too(void **state)
{
	struct fake *f = fake_new(S_IFLNK | 0777);
	struct node_txn nt = fake_begin(f, FORK_DATA, symlink_need_changes(4000));
	char target[4000];

	(void)state;
	memset(target, 'z', sizeof(target));
	assert_int_equal(symlink_set(&f->ne, &nt, &f->i, target, sizeof(target)), 0);
	f->i.flags = LUNFS_INODE_ORPHAN;
	inode_update(nt.h, &f->i);
	fake_end(f);
	assert_true(shrink(f) > 0);
	assert_int_equal(f->live_cells, 1);
	fake_walk(f);
	fake_free(f);
}

static void a_directory_with_names_is_not_given_up(void **state)
{
	struct fake *f = fake_new(S_IFDIR | 0755);
	struct node_txn nt = fake_begin(f, FORK_DATA, 1);
	struct node_shrink step;

	(void)state;
	assert_int_equal(dir_insert(&f->ne, &nt, &f->i, "x", f->i.ino, 1, 8), 0);
	fake_end(f);
	assert_int_equal(node_shrink_prepare(&f->ne, &f->i, &step, &f->frees), -ENOTEMPTY);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(attributes_are_read_back_as_written),
	    cmocka_unit_test(what_cannot_be_true_is_refused),
	    cmocka_unit_test(an_old_generation_is_stale),
	    cmocka_unit_test(a_file_given_up_leaves_no_block_and_no_cell),
	    cmocka_unit_test(an_inode_with_inline_data_is_done_at_once),
	    cmocka_unit_test(a_long_link_is_given_up_in_steps_too),
	    cmocka_unit_test(a_directory_with_names_is_not_given_up),
	};

	return cmocka_run_group_tests_name("node-inode", tests, NULL, NULL);
}

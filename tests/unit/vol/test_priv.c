/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a file may do by itself, and whom it runs as: what takes that away, and what does not. */
#include "unit.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE 4096u
#define FILE_BYTES (16 * PAGE)
#define CAPS "security.capability"
#define OTHER "user.other"

static void write_at(struct simcluster *t, unsigned host, struct nodeid id, uint64_t off,
		     size_t len, unsigned flags, bool late)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct op_ctx c = sc_root;
	size_t done;

	c.late = late;
	memset(buf, 'n', FILE_BYTES);
	SC_OK(t, vol_write(t->v[host], &c, id, off, len, buf, flags, &done, NULL));
	SC_CHECK(t, done == len, "short write");
	free(buf);
}

static void set(struct simcluster *t, struct nodeid id, unsigned what, const struct stat *st)
{
	struct vattr va;

	SC_OK(t, vol_setattr(t->v[0], &sc_root, id, st, what, &va));
}

static struct nodeid make_file(struct simcluster *t, size_t len)
{
	struct nodeid id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");

	write_at(t, 0, id, 0, len, 0, false);
	return id;
}

static void give(struct simcluster *t, unsigned host, struct nodeid id)
{
	struct stat st = {.st_mode = 06755};
	struct vattr va;

	SC_OK(t, vol_setxattr(t->v[host], &sc_root, id, OTHER, "o", 1, 0));
	SC_OK(t, vol_setxattr(t->v[host], &sc_root, id, CAPS, "c", 1, 0));
	SC_OK(t, vol_setattr(t->v[host], &sc_root, id, &st, VSET_MODE, &va));
}

static bool has(struct simcluster *t, unsigned host, struct nodeid id, const char *name)
{
	size_t len;
	int rc = vol_getxattr(t->v[host], &sc_root, id, name, NULL, 0, &len);

	SC_CHECK(t, rc == 0 || rc == -ENODATA, "getxattr: %d", rc);
	return rc == 0;
}

static bool has_bits(struct simcluster *t, unsigned host, struct nodeid id)
{
	return sc_stat(t, host, id).st_mode & 06000;
}

/* ---- what takes them away -------------------------------------------------------------------- */

static const struct stat shorter = {.st_size = 100}, same = {.st_size = FILE_BYTES},
			 longer = {.st_size = 10 * FILE_BYTES}, owner = {.st_uid = 5, .st_gid = 6};

struct way {
	const char *name;
	size_t file_bytes, len; /* len: of a write */
	uint64_t off;
	const struct stat *st; /* of vol_setattr() */
	unsigned flags;	       /* of either */
	int falloc;
};

static const struct way ways[] = {
    {.name = "overwrite", .file_bytes = FILE_BYTES, .len = PAGE},
    {.name = "part", .file_bytes = FILE_BYTES, .off = 5, .len = 10},
    {.name = "longer", .file_bytes = FILE_BYTES, .off = FILE_BYTES, .len = PAGE},
    {.name = "append", .file_bytes = FILE_BYTES, .len = 1, .flags = VWRITE_APPEND},
    {.name = "inline", .file_bytes = 5, .off = 2, .len = 2},
    {.name = "shorter", .file_bytes = FILE_BYTES, .st = &shorter, .flags = VSET_SIZE},
    {.name = "as long", .file_bytes = FILE_BYTES, .st = &same, .flags = VSET_SIZE},
    {.name = "a hole", .file_bytes = FILE_BYTES, .st = &longer, .flags = VSET_SIZE},
    {.name = "user", .file_bytes = FILE_BYTES, .st = &owner, .flags = VSET_UID},
    {.name = "group", .file_bytes = FILE_BYTES, .st = &owner, .flags = VSET_GID},
    {.name = "allocate", .file_bytes = FILE_BYTES, .len = 2 * FILE_BYTES, .falloc = -1},
    {.name = "punch",
     .file_bytes = FILE_BYTES,
     .len = PAGE,
     .falloc = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
};

static void go(struct simcluster *t, struct nodeid id, const struct way *w, bool suidgid)
{
	int mode = w->falloc > 0 ? w->falloc : 0;

	if (w->st)
		set(t, id, w->flags | (suidgid ? VSET_KILL_SUIDGID : 0), w->st);
	else if (w->falloc)
		SC_OK(t,
		      vol_fallocate(t->v[0], &sc_root, id,
				    mode | (suidgid ? VFALLOC_KILL_SUIDGID : 0), w->off, w->len));
	else
		write_at(t, 0, id, w->off, w->len, w->flags | (suidgid ? VWRITE_KILL_SUIDGID : 0),
			 false);
}

static void ways_body(struct simcluster *t)
{
	sc_up(t, 0);
	for (unsigned k = 0; k < 2 * sizeof(ways) / sizeof(ways[0]); k++) {
		const struct way *w = &ways[k / 2];
		struct nodeid id = make_file(t, w->file_bytes);

		give(t, 0, id);
		go(t, id, w, k % 2);
		SC_CHECK(t, !has(t, 0, id, CAPS), "%s: capabilities are left", w->name);
		SC_CHECK(t, has(t, 0, id, OTHER), "%s: too much is gone", w->name);
		SC_CHECK(t, has_bits(t, 0, id) != k % 2, "%s: set-id bits", w->name);
		SC_OK(t, vol_unlink(t->v[0], &sc_root, sc_root_id(t, 0), "f"));
	}
}

static void whatever_changes_contents_or_owner_takes_capabilities_and_bits_where_asked(void **s)
{
	(void)s;
	sc_run(ways_body, NULL);
}

static void bits_body(struct simcluster *t)
{
	struct stat st = {.st_mode = 02745};
	struct nodeid id, fifo;
	struct vattr va;

	sc_up(t, 0);
	id = make_file(t, FILE_BYTES);
	set(t, id, VSET_MODE, &st);
	write_at(t, 0, id, 0, PAGE, VWRITE_KILL_SUIDGID, false);
	assert_int_equal(sc_stat(t, 0, id).st_mode & 07777, 02745); /* for nobody executes it */
	st.st_mode = 06755;
	set(t, id, VSET_MODE | VSET_KILL_SUIDGID, &st);
	assert_int_equal(sc_stat(t, 0, id).st_mode & 07777, 06755); /* as asked */
	SC_OK(t, vol_mknod(t->v[0], &sc_root, sc_root_id(t, 0), "p", S_IFIFO | 06755, 0, &va));
	fifo = va.id;
	set(t, fifo, VSET_UID | VSET_KILL_SUIDGID, &owner);
	assert_int_equal(sc_stat(t, 0, fifo).st_mode & 07777, 0755);
}

static void set_id_bits_go_as_in_linux(void **s)
{
	(void)s;
	sc_run(bits_body, NULL);
}

/* ---- what does not --------------------------------------------------------------------------- */

static void keep_body(struct simcluster *t)
{
	struct stat st = {.st_mode = 06711, .st_mtim.tv_sec = 1000};
	struct nodeid id;

	sc_up(t, 0);
	id = make_file(t, FILE_BYTES);
	give(t, 0, id);
	write_at(t, 0, id, 0, PAGE, 0, true);
	write_at(t, 0, id, 5, 100, 0, true);
	set(t, id, VSET_MODE | VSET_MTIME, &st);
	assert_true(has(t, 0, id, CAPS));
	assert_true(has_bits(t, 0, id));
}

static void write_back_of_pages_a_mode_and_time_stamps_take_nothing(void **s)
{
	(void)s;
	sc_run(keep_body, NULL);
}

/* ---- what is known in memory ----------------------------------------------------------------- */

static void known_body(struct simcluster *t)
{
	unsigned giver = (unsigned)sc_random(t, 2);
	struct nodeid id;

	sc_up(t, 0);
	sc_up(t, 1);
	id = make_file(t, FILE_BYTES);
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, id, OTHER, "o", 1, 0));
	for (unsigned k = 0; k < 3; k++) {
		write_at(t, 0, id, 0, PAGE, VWRITE_KILL_SUIDGID, false);
		give(t, giver, id);
		assert_true(has(t, 0, id, CAPS));
		write_at(t, 0, id, 0, PAGE, VWRITE_KILL_SUIDGID, false);
		assert_false(has(t, 1, id, CAPS));
		assert_false(has_bits(t, 1, id));
	}
}

static void what_was_given_since_the_last_write_goes_with_the_next_whoever_gave_it(void **s)
{
	(void)s;
	sc_run_seeds(known_body, 8);
}

struct hidden { /* reads of host 0 */
	struct simcluster *t;
	unsigned reads, writes;
};

static void count(void *ctx, struct dev *d, const struct simdev_cmd *cmd, struct simdev_fault *out)
{
	struct hidden *c = ctx;

	(void)out;
	if (d == c->t->dev[0]) {
		c->reads += cmd->op == SIMDEV_READ;
		c->writes += cmd->op == SIMDEV_WRITE;
	}
}

/* Attributes in a tree of many blocks, none of which is in memory: the first write looks. */
static void cost_body(struct simcluster *t)
{
	struct hidden c = {.t = t};
	uint8_t *big = malloc(PAGE);
	struct nodeid id;
	char name[32];

	sc_up(t, 0);
	sc_up(t, 1);
	id = make_file(t, FILE_BYTES);
	memset(big, 'b', PAGE);
	for (unsigned k = 0; k < 20; k++) {
		snprintf(name, sizeof(name), "user.%u", k);
		SC_OK(t, vol_setxattr(t->v[0], &sc_root, id, name, big, PAGE, 0));
	}
	write_at(t, 1, id, 0, PAGE, 0, false); /* the lock goes, and comes back */
	write_at(t, 0, id, 0, PAGE, 0, false);
	clock_sleep_ns(t->clk, 12 * SC_S); /* committed, and all is quiet */
	write_at(t, 0, id, 0, PAGE, 0, false);
	simdev_set_hook(t->medium, count, &c);
	for (unsigned k = 0; k < 8; k++)
		write_at(t, 0, id, k * PAGE, PAGE, VWRITE_KILL_SUIDGID, false);
	simdev_set_hook(t->medium, NULL, NULL);
	assert_int_equal(c.reads, 0);
	assert_int_equal(c.writes, 8);
	free(big);
}

static void where_there_is_nothing_to_drop_a_write_costs_a_write(void **s)
{
	(void)s;
	sc_run(cost_body, NULL);
}

/* ---- order ----------------------------------------------------------------------------------- */

struct writer {
	struct simcluster *t;
	struct nodeid id;
	uint64_t wait_ns;
	bool ended;
};

static void writer_task(void *arg)
{
	struct writer *w = arg;

	clock_sleep_ns(w->t->clk, w->wait_ns);
	write_at(w->t, 0, w->id, 0, FILE_BYTES, VWRITE_KILL_SUIDGID, false);
	w->ended = true;
}

static void order_body(struct simcluster *t)
{
	struct writer w = {.t = t};
	uint8_t byte = 'n';
	struct task *task;

	sc_up(t, 0);
	sc_up(t, 1);
	w.id = make_file(t, FILE_BYTES);
	sc_write(t, 0, w.id, 0, "o", 1);
	give(t, (unsigned)sc_random(t, 2), w.id);
	w.wait_ns = sc_random(t, SC_S / 10);
	task = sc_task(t, 0, writer_task, &w);
	while (!w.ended) {
		assert_int_equal(sc_read(t, 1, w.id, 0, &byte, 1), 1);
		if (byte == 'n') {
			assert_false(has_bits(t, 1, w.id));
			assert_false(has(t, 1, w.id, CAPS));
		}
		clock_sleep_ns(t->clk, SC_S / 1000);
	}
	sc_join(t, task);
}

static void no_host_finds_new_contents_with_old_privileges(void **s)
{
	(void)s;
	sc_run_seeds(order_body, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		whatever_changes_contents_or_owner_takes_capabilities_and_bits_where_asked),
	    cmocka_unit_test(set_id_bits_go_as_in_linux),
	    cmocka_unit_test(write_back_of_pages_a_mode_and_time_stamps_take_nothing),
	    cmocka_unit_test(
		what_was_given_since_the_last_write_goes_with_the_next_whoever_gave_it),
	    cmocka_unit_test(where_there_is_nothing_to_drop_a_write_costs_a_write),
	    cmocka_unit_test(no_host_finds_new_contents_with_old_privileges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

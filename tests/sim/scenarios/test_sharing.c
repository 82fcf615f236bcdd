/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hosts that want the same files, directories and space at the same time. */
#include "scen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- an mmap store under a shared lock ------------------------------------------------------- */

/*
 * A kernel in small: host 0 maps the first block of a file and stores to it. A store happens in a
 * page that is there, without lunfs's hearing of it; else the page is read first. When the lock is
 * to be given up the page is written back and dropped. The first word of the page counts the
 * stores.
 */
struct mapped {
	struct simcluster *t;
	struct nodeid id;
	struct mtx mtx;
	struct cond cond;
	bool there, dirty, filling;
	atomic_bool admitted; /* the READ that fills the page holds what it needs */
	uint64_t *page;
	uint64_t stores;
	unsigned dropped, written_back;
	bool stop;
};

static const struct op_ctx late_ctx = {.umask = 022, .late = true};

/* With mtx held: the page, filled by a READ request if it is not there. */
static void page_fault(struct mapped *m)
{
	struct op_ctx c = {.umask = 022, .read_excl = true, .admitted = &m->admitted};
	size_t done;

	atomic_store(&m->admitted, false);
	m->filling = true;
	mtx_unlock(&m->mtx);
	SC_OK(m->t, vol_read(m->t->v[0], &c, m->id, 0, WORK_BYTES, m->page, &done));
	mtx_lock(&m->mtx);
	m->filling = false;
	m->there = true;
	cond_broadcast(&m->cond);
}

static void store_on(void *arg)
{
	struct mapped *m = arg;

	while (!m->stop) {
		mtx_lock(&m->mtx);
		if (!m->there)
			page_fault(m);
		m->page[0] = ++m->stores;
		m->dirty = true;
		mtx_unlock(&m->mtx);
		clock_sleep_ns(m->t->clk, simclock_random(m->t->clk) % (2 * MS));
	}
}

/* A WRITE request of its own task, as write-back is. */
static void write_back(void *arg)
{
	struct mapped *m = arg;
	uint64_t *copy = dev_buf_alloc(WORK_BYTES);
	size_t done;

	mtx_lock(&m->mtx);
	memcpy(copy, m->page, WORK_BYTES);
	m->dirty = false;
	mtx_unlock(&m->mtx);
	SC_OK(m->t, vol_write(m->t->v[0], &late_ctx, m->id, 0, WORK_BYTES, copy, 0, &done, NULL));
	m->written_back++;
	free(copy);
}

/*
 * The page goes. One that is being filled is locked, and waited for; but not where its READ waits
 * for the lock that is given up: it gets its bytes under the next possession.
 */
static int drop_page(void *ctx, uint64_t ino)
{
	struct mapped *m = ctx;
	struct task *task;

	if (ino != m->id.ino || simclock_group(m->t->clk) != 1)
		return 0;
	mtx_lock(&m->mtx);
	while (m->filling && atomic_load(&m->admitted))
		cond_wait(&m->cond, &m->mtx, clock_now_ns(m->t->clk) + MS);
	while (m->there && m->dirty) {
		mtx_unlock(&m->mtx);
		SC_OK(m->t,
		      m->t->clk->ops->task_start(m->t->clk, "write-back", write_back, m, &task));
		m->t->clk->ops->task_join(m->t->clk, task);
		mtx_lock(&m->mtx);
	}
	if (m->there)
		m->dropped++;
	m->there = false;
	mtx_unlock(&m->mtx);
	clock_sleep_ns(m->t->clk, simclock_random(m->t->clk) % (2 * MS)); /* until it is told */
	return 0;
}

SCENARIO(a_store_to_mapped_memory_is_seen_by_the_next_reader_elsewhere, 10)
{
	struct mapped m = {.t = t, .page = dev_buf_alloc(WORK_BYTES)};
	uint64_t *buf = dev_buf_alloc(WORK_BYTES);
	struct task *task;
	size_t done;

	t->opt.cb.ctx = &m;
	t->opt.cb.invalidate = drop_page;
	mtx_init(&m.mtx, t->clk);
	cond_init(&m.cond, t->clk);
	scen_up(t, 2);
	m.id = sc_mkfile(t, 0, sc_root_id(t, 0), "mapped");
	scen_fill(t, 0, m.id, 0, WORK_BYTES);
	sc_read(t, 1, m.id, 0, buf, WORK_BYTES); /* shared by both */
	sc_read(t, 0, m.id, 0, buf, WORK_BYTES);
	task = sc_task(t, 0, store_on, &m);
	for (unsigned k = 0; k < 40; k++) {
		uint64_t before, after;

		rest(t, sc_random(t, 20 * MS));
		before = m.stores;
		SC_OK(t, vol_read(t->v[1], &sc_root, m.id, 0, WORK_BYTES, buf, &done));
		after = m.stores;
		SC_CHECK(t, buf[0] >= before && buf[0] <= after,
			 "read %llu although %llu stores were done (%llu afterwards)",
			 (unsigned long long)buf[0], (unsigned long long)before,
			 (unsigned long long)after);
	}
	m.stop = true;
	sc_join(t, task);
	EXPECT(t, m.written_back >= 10 && m.dropped >= 10);
	sc_read(t, 1, m.id, 0, buf, WORK_BYTES);
	EXPECT_EQ(t, buf[0], m.stores);
	sc_down(t, 0);
	sc_down(t, 1);
	memset(&t->opt.cb, 0, sizeof(t->opt.cb));
	free(m.page);
	free(buf);
}

/* ---- a directory revoke while the kernel holds that directory's lock ------------------------- */

/*
 * The kernel holds a directory's i_rwsem for as long as a create in it is a pending request, and
 * dropping names from its cache needs that semaphore. So a front end may wait for a request that
 * has been admitted, and must not wait for one that itself waits for the lock being given up:
 * op_ctx.admitted tells the two apart. Here the front end is as strict as it may be: it waits for
 * every admitted request.
 */
struct dir_cache {
	struct simcluster *t;
	struct nodeid dir;
	struct {
		bool held; /* the semaphore, by a request */
		atomic_bool admitted;
		struct mtx mtx;
		struct cond cond;
	} k[2];
	unsigned waited;
	unsigned creates;
};

struct creator {
	struct dir_cache *dc;
	unsigned host, number, done;
	uint64_t slowest_ns;
	struct task *task;
};

static int drop_names(void *ctx, uint64_t ino)
{
	struct dir_cache *dc = ctx;
	unsigned host = simclock_group(dc->t->clk) - 1;

	if (ino != dc->dir.ino || host > 1)
		return 0;
	while (dc->k[host].held && atomic_load(&dc->k[host].admitted)) {
		dc->waited++;
		clock_sleep_ns(dc->t->clk, MS / 10);
	}
	return 0;
}

static void sem_down(struct dir_cache *dc, unsigned host)
{
	mtx_lock(&dc->k[host].mtx);
	while (dc->k[host].held)
		cond_wait(&dc->k[host].cond, &dc->k[host].mtx, CLOCK_FOREVER);
	dc->k[host].held = true;
	mtx_unlock(&dc->k[host].mtx);
}

static void sem_up(struct dir_cache *dc, unsigned host)
{
	mtx_lock(&dc->k[host].mtx);
	dc->k[host].held = false;
	cond_signal(&dc->k[host].cond);
	mtx_unlock(&dc->k[host].mtx);
}

static void create_on(void *arg)
{
	struct creator *c = arg;
	struct dir_cache *dc = c->dc;
	struct op_ctx ctx = {.umask = 022, .admitted = &dc->k[c->host].admitted};
	struct simcluster *t = dc->t;

	for (; c->done < dc->creates; c->done++) {
		uint64_t began = simclock_true_ns(t->clk), took;
		struct vattr va;
		char name[32];

		snprintf(name, sizeof(name), "n%u-%u-%u", c->host, c->number, c->done);
		sem_down(dc, c->host);
		SC_OK(t, vol_mknod(t->v[c->host], &ctx, dc->dir, name, S_IFREG | 0644, 0, &va));
		sem_up(dc, c->host);
		took = simclock_true_ns(t->clk) - began;
		if (took > c->slowest_ns)
			c->slowest_ns = took;
	}
}

SCENARIO(a_directory_is_revoked_although_the_kernel_holds_it_for_a_request_that_waits, 10)
{
	struct dir_cache dc = {.t = t, .creates = 25};
	struct creator c[4];
	unsigned done = 0;

	t->opt.cb.ctx = &dc;
	t->opt.cb.invalidate = drop_names;
	for (unsigned n = 0; n < 2; n++) {
		mtx_init(&dc.k[n].mtx, t->clk);
		cond_init(&dc.k[n].cond, t->clk);
	}
	scen_up(t, 2);
	dc.dir = sc_mkdir(t, 0, sc_root_id(t, 0), "d");
	for (unsigned n = 0; n < 4; n++) {
		c[n] = (struct creator){.dc = &dc, .host = n % 2, .number = n};
		c[n].task = sc_task(t, n % 2, create_on, &c[n]);
	}
	UNTIL(t, c[0].done + c[1].done + c[2].done + c[3].done == 4 * dc.creates);
	for (unsigned n = 0; n < 4; n++) {
		sc_join(t, c[n].task);
		done += c[n].done;
		EXPECT(t, c[n].slowest_ns < SC_S);
	}
	EXPECT_EQ(t, done, 4 * dc.creates);
	sc_down(t, 0);
	sc_down(t, 1);
	memset(&t->opt.cb, 0, sizeof(t->opt.cb));
}

/* ---- two group commits that wait for each other's locks -------------------------------------- */

/*
 * Both hosts rename between the same two directories, in opposite directions, link the same file
 * there, and sync all the time: each hand-over needs a commit here, and each commit ends only when
 * those who are joined have left. Were anybody to wait for a lock while joined, the two commits
 * would wait for each other.
 */
struct mover {
	struct simcluster *t;
	unsigned host, number, rounds, done;
	struct nodeid from, to, shared;
	enum { MOVES, SYNCS, LINKS } what;
	uint64_t slowest_ns;
	struct task *task;
};

static void move_once(struct mover *m, struct volume *v, const char *name, bool back)
{
	struct nodeid from = back ? m->to : m->from, to = back ? m->from : m->to;
	struct vattr va;

	if (m->what == SYNCS)
		SC_OK(m->t, vol_fsync(v, &sc_root, to, false));
	else if (m->what == MOVES)
		SC_OK(m->t, vol_rename(v, &sc_root, from, name, to, name, 0));
	else if (back)
		SC_OK(m->t, vol_unlink(v, &sc_root, m->to, name));
	else
		SC_OK(m->t, vol_link(v, &sc_root, m->shared, m->to, name, &va));
}

static void move_on(void *arg)
{
	struct mover *m = arg;
	struct volume *v = m->t->v[m->host];
	char name[16];

	snprintf(name, sizeof(name), "m%u", m->number);
	for (; m->done < m->rounds; m->done++) {
		uint64_t began = simclock_true_ns(m->t->clk), took;

		move_once(m, v, name, m->done % 2);
		took = simclock_true_ns(m->t->clk) - began;
		if (took > m->slowest_ns)
			m->slowest_ns = took;
	}
}

#define MOVERS 8u

SCENARIO(commits_of_two_hosts_never_wait_for_each_other, 10)
{
	struct nodeid root, d[2], shared;
	struct mover m[MOVERS];
	char name[16];

	scen_up(t, 2);
	root = sc_root_id(t, 0);
	shared = sc_mkfile(t, 0, root, "shared"); /* below the directories */
	d[0] = sc_mkdir(t, 0, root, "a");
	d[1] = sc_mkdir(t, 1, root, "b");
	for (unsigned n = 0; n < MOVERS; n++) {
		m[n] = (struct mover){.t = t,
				      .host = n % 2,
				      .number = n,
				      .rounds = 30,
				      .from = d[n % 2],
				      .to = d[1 - n % 2],
				      .shared = shared,
				      .what = n < 4   ? MOVES
					      : n < 6 ? SYNCS
						      : LINKS};
		snprintf(name, sizeof(name), "m%u", n);
		if (m[n].what == MOVES)
			sc_mkfile(t, n % 2, m[n].from, name);
	}
	for (unsigned n = 0; n < MOVERS; n++)
		m[n].task = sc_task(t, m[n].host, move_on, &m[n]);
	for (unsigned n = 0; n < MOVERS; n++) {
		UNTIL(t, m[n].done == m[n].rounds);
		sc_join(t, m[n].task);
		EXPECT(t, m[n].slowest_ns < SC_S);
	}
	for (unsigned n = 0; n < 4; n++) {
		snprintf(name, sizeof(name), "m%u", n);
		SC_OK(t, sc_lookup(t, 0, m[n].from, name, NULL));
	}
}

/* ---- ENOSPC while other hosts cache the free space ------------------------------------------- */

#define BLOCK_BYTES 4096u
#define STRIPE (256u * BLOCK_BYTES)

/* Bytes written until the volume is full. */
static uint64_t fill_up(struct simcluster *t, unsigned host, struct nodeid id, uint64_t max)
{
	uint8_t *buf = dev_buf_alloc(STRIPE);
	uint64_t at = 0;
	size_t done = 0;
	int rc = 0;

	memset(buf, 'F', STRIPE);
	while (at < max && rc == 0) {
		rc = vol_write(t->v[host], &sc_root, id, at, STRIPE, buf, 0, &done, NULL);
		at += done;
	}
	EXPECT(t, rc == 0 || rc == -ENOSPC);
	free(buf);
	return at;
}

/*
 * Hosts 0 and 1 have written much and deleted it: their groups are locked by them, the blocks freed
 * by transactions that nobody has waited for. Host 2 gets it all.
 */
SCENARIO(a_full_volume_is_said_only_when_what_others_cache_is_used_up, 4)
{
	struct nodeid root, f;
	uint64_t before, got, left;
	char name[16];

	scen_up(t, 3);
	root = sc_root_id(t, 2);
	before = sc_free_blks(t, 2);
	for (unsigned n = 0; n < 2; n++) {
		snprintf(name, sizeof(name), "big%u", n);
		f = sc_mkfile(t, n, root, name);
		got = fill_up(t, n, f, before / 3 * BLOCK_BYTES / STRIPE * STRIPE);
		EXPECT(t, got >= before / 3 * BLOCK_BYTES / STRIPE * STRIPE);
	}
	for (unsigned n = 0; n < 2; n++) {
		snprintf(name, sizeof(name), "big%u", n);
		SC_OK(t, vol_unlink(t->v[n], &sc_root, root, name));
	}
	f = sc_mkfile(t, 2, root, "all");
	got = fill_up(t, 2, f, UINT64_MAX);
	left = before - got / BLOCK_BYTES;
	SC_CHECK(t, left * 6 <= before, "full with %llu of %llu blocks written",
		 (unsigned long long)(got / BLOCK_BYTES), (unsigned long long)before);
	/* And back: the others can use what host 2 gives up. */
	SC_OK(t, vol_unlink(t->v[2], &sc_root, root, "all"));
	f = sc_mkfile(t, 0, root, "again");
	got = fill_up(t, 0, f, before / 2 * BLOCK_BYTES / STRIPE * STRIPE);
	EXPECT(t, got >= before / 2 * BLOCK_BYTES / STRIPE * STRIPE);
}

/* The space that a dead host had locked or was about to give up is found, too. */
SCENARIO(space_that_a_dead_host_was_giving_up_is_used_before_the_volume_is_full, 4)
{
	struct nodeid root, f;
	uint64_t before, got;

	scen_up(t, 2);
	root = sc_root_id(t, 1);
	before = sc_free_blks(t, 1);
	f = sc_mkfile(t, 0, root, "big");
	fill_up(t, 0, f, before / 2 * BLOCK_BYTES / STRIPE * STRIPE);
	scen_sync(t, 0);
	SC_OK(t, vol_unlink(t->v[0], &sc_root, root, "big"));
	SC_OK(t, vol_fsync(t->v[0], &sc_root, root, false));
	sc_kill(t, 0);
	f = sc_mkfile(t, 1, root, "all");
	got = fill_up(t, 1, f, UINT64_MAX);
	SC_CHECK(t, (before - got / BLOCK_BYTES) * 6 <= before,
		 "full with %llu of %llu blocks written", (unsigned long long)(got / BLOCK_BYTES),
		 (unsigned long long)before);
}

/* ---- a write that has to wait for room ------------------------------------------------------- */

#define APPEND_AT 3376u /* in the only block of the file */
#define APPEND_LEN 4612u

/* Not a block is left: nothing to be waited for either. */
static void fill_to_the_brim(struct simcluster *t, unsigned host, struct nodeid id)
{
	uint8_t *buf = dev_buf_alloc(BLOCK_BYTES);
	uint64_t at = fill_up(t, host, id, UINT64_MAX);
	size_t done;

	memset(buf, 'F', BLOCK_BYTES);
	while (vol_write(t->v[host], &sc_root, id, at, BLOCK_BYTES, buf, 0, &done, NULL) == 0)
		at += done;
	free(buf);
}

struct watcher { /* of a file's size, on another host */
	struct simcluster *t;
	unsigned host;
	struct nodeid id;
	uint64_t before, after;
	bool stop;
	unsigned looks, other; /* sizes that are neither of these */
};

static void watch_size(void *arg)
{
	struct watcher *w = arg;

	while (!w->stop) {
		uint64_t size = (uint64_t)sc_stat(w->t, w->host, w->id).st_size;

		w->looks++;
		w->other += size != w->before && size != w->after;
		clock_sleep_ns(w->t->clk, MS);
	}
}

/* Locks of inode @ctx change hands slowly. */
static void slow_lock(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		      struct simdev_fault *out)
{
	const struct nodeid *id = ctx;

	(void)d;
	if (cmd->op == SIMDEV_CAW && is_lock_of(id->ino, cmd->off_bytes))
		*out = (struct simdev_fault){.kind = SIMDEV_DELAY, .delay_ns = 100 * MS};
}

/*
 * Append @len bytes to @at on a volume that has @spare free blocks, while a removed file of @going
 * blocks is being given up: others see the old size or the new one.
 */
static void append_and_wait(struct simcluster *t, uint64_t at, size_t len, unsigned spare,
			    unsigned going)
{
	struct watcher w = {.t = t, .host = 1, .before = at, .after = at + len};
	struct nodeid root, g, all;
	struct task *task;
	struct job j;

	scen_up(t, 2);
	root = sc_root_id(t, 0);
	w.id = sc_mkfile(t, 0, root, "f");
	scen_fill(t, 0, w.id, 'f', at);
	g = sc_mkfile(t, 0, root, "going");
	scen_fill(t, 0, g, 'g', going * BLOCK_BYTES);
	all = sc_mkfile(t, 0, root, "all");
	fill_to_the_brim(t, 0, all);
	SC_OK(t, sc_truncate(t, 0, all,
			     (uint64_t)sc_stat(t, 0, all).st_size - (uint64_t)spare * BLOCK_BYTES));
	SC_OK(t, vol_open(t->v[0], &sc_root, g));
	SC_OK(t, vol_unlink(t->v[0], &sc_root, root, "going"));
	scen_sync(t, 0);
	sc_stat(t, 1, g); /* its lock is shared now: giving it up takes a while */
	simdev_set_hook(t->medium, slow_lock, &g);
	task = sc_task(t, 1, watch_size, &w);
	vol_release(t->v[0], g);
	j = (struct job){.kind = JOB_APPEND, .id = w.id, .len = len, .fill = 'f'};
	job_start(t, 0, &j);
	job_end(&j);
	w.stop = true;
	sc_join(t, task);
	EXPECT_EQ(t, j.rc, 0);
	EXPECT_EQ(t, j.done, len);
	EXPECT(t, j.ended_ns - j.began_ns >= 100 * MS); /* it did wait */
	EXPECT(t, w.looks >= 10);
	EXPECT_EQ(t, w.other, 0);
	EXPECT_EQ(t, scen_filled(t, 1, w.id, at + len), 'f');
}

/* The first bytes fit into the block that the file has. */
SCENARIO(a_write_that_waits_for_room_is_seen_whole_or_not_at_all, 6)
{
	append_and_wait(t, APPEND_AT, APPEND_LEN, 0, 16);
}

/* The largest request of the kernel, across a multiple of its size. */
SCENARIO(a_write_of_1_mib_is_seen_whole_or_not_at_all_wherever_it_begins, 3)
{
	append_and_wait(t, 700000 + t->seed % 2 * 10000, 1u << 20, 200, 300);
}

/* Where no room is to be had, as much is written as fits, and a write-back says so. */
SCENARIO(a_write_of_which_a_part_fits_ends_short_and_a_write_back_fails, 4)
{
	const struct op_ctx back = {.late = true};
	uint8_t *buf = dev_buf_alloc(APPEND_LEN);
	struct nodeid root, f, g, all;
	size_t done = 0;

	scen_up(t, 2);
	root = sc_root_id(t, 0);
	f = sc_mkfile(t, 0, root, "f");
	scen_fill(t, 0, f, 'f', APPEND_AT);
	g = sc_mkfile(t, 0, root, "g");
	scen_fill(t, 0, g, 'g', APPEND_AT);
	all = sc_mkfile(t, 0, root, "all");
	fill_to_the_brim(t, 0, all);
	memset(buf, 'f', APPEND_LEN);
	SC_OK(t, vol_write(t->v[0], &sc_root, f, 0, APPEND_LEN, buf, VWRITE_APPEND, &done, NULL));
	EXPECT_EQ(t, done, BLOCK_BYTES - APPEND_AT);
	EXPECT_EQ(t, scen_filled(t, 1, f, BLOCK_BYTES), 'f');
	EXPECT_EQ(t,
		  vol_write(t->v[0], &sc_root, f, 0, APPEND_LEN, buf, VWRITE_APPEND, &done, NULL),
		  -ENOSPC);
	EXPECT_EQ(t, scen_filled(t, 1, f, BLOCK_BYTES), 'f');
	EXPECT_EQ(t, vol_write(t->v[0], &back, g, APPEND_AT, APPEND_LEN, buf, 0, &done, NULL),
		  -ENOSPC);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_store_to_mapped_memory_is_seen_by_the_next_reader_elsewhere),
	    cmocka_unit_test(
		a_directory_is_revoked_although_the_kernel_holds_it_for_a_request_that_waits),
	    cmocka_unit_test(commits_of_two_hosts_never_wait_for_each_other),
	    cmocka_unit_test(a_full_volume_is_said_only_when_what_others_cache_is_used_up),
	    cmocka_unit_test(
		space_that_a_dead_host_was_giving_up_is_used_before_the_volume_is_full),
	    cmocka_unit_test(a_write_that_waits_for_room_is_seen_whole_or_not_at_all),
	    cmocka_unit_test(a_write_of_1_mib_is_seen_whole_or_not_at_all_wherever_it_begins),
	    cmocka_unit_test(a_write_of_which_a_part_fits_ends_short_and_a_write_back_fails),
	};

	if (getenv("LUNFS_SCENARIO")) /* this one only */
		cmocka_set_test_filter(getenv("LUNFS_SCENARIO"));
	return cmocka_run_group_tests_name("scenario-sharing", tests, NULL, NULL);
}

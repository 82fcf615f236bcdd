/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the directed scenarios share: scen.h. */
#include "scen.h"

#include "base/crc.h"
#include "fsck/fsck.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- running --------------------------------------------------------------------------------- */

unsigned long long scen_fsck(struct simcluster *t)
{
	struct dev *dev = simdev_attach(t->medium);
	unsigned long long problems;
	char why[512] = "";
	struct fsck f = {0};
	struct geo geo;
	int rc;

	SC_CHECK(t, vol_read_super(dev, &geo, NULL, why, sizeof(why)) == 0, "fsck: %s", why);
	fsck_init(&f, dev, &geo, MODE_CHECK, NULL);
	rc = fsck_run(&f);
	SC_CHECK(t, rc == 0 || f.problems.total, "fsck could not be finished: %s", strerror(-rc));
	problems = f.problems.total;
	fsck_free(&f);
	dev_close(dev);
	return problems;
}

void scen_try_fsck(struct simcluster *t)
{
	struct dev *dev = simdev_attach(t->medium);
	char why[512] = "";
	struct fsck f = {0};
	struct geo geo;

	if (vol_read_super(dev, &geo, NULL, why, sizeof(why)) == 0) {
		fsck_init(&f, dev, &geo, MODE_CHECK, NULL);
		f.problems.json = true; /* what it finds is kept and not printed */
		fsck_run(&f);
		fsck_free(&f);
	}
	dev_close(dev);
}

static void run_body(struct simcluster *t)
{
	const struct scenario *s = t->ctx;

	if (getenv("LUNFS_VERBOSE"))
		log_open("test", LOG_LVL_INFO, 0);
	simdev_set_latency(t->medium, 50000, 500000);
	s->body(t);
	simdev_set_hook(t->medium, NULL, NULL);
	simdev_set_monitor(t->medium, NULL, NULL);
}

static void run_done(struct simcluster *t)
{
	if (!t->no_fsck)
		SC_CHECK(t, scen_fsck(t) == 0, "fsck.lunfs finds problems");
}

void scen_run(const struct scenario *s)
{
	const char *from = getenv("LUNFS_SEED"), *count = getenv("LUNFS_SEEDS");
	uint64_t first = from ? strtoull(from, NULL, 0) : 1;
	unsigned n = count ? (unsigned)atoi(count) : from ? 1 : s->seeds;

	for (uint64_t seed = first; seed < first + n; seed++) {
		if (from || count)
			fprintf(stderr, "%s: seed %llu\n", s->name, (unsigned long long)seed);
		sc_run(run_body, &(struct sc_shape){.seed = seed,
						    .sector_bytes = seed % 4 ? 512 : 4096,
						    .size_bytes = s->size_bytes,
						    .ctx = (void *)(uintptr_t)s,
						    .done = run_done});
	}
}

void scen_up(struct simcluster *t, unsigned hosts)
{
	for (unsigned n = 0; n < hosts; n++)
		sc_up(t, n);
}

/* ---- the medium ------------------------------------------------------------------------------ */

void scen_slot(struct simcluster *t, unsigned slot, struct host_info *out)
{
	uint8_t *buf = dev_buf_alloc(4096);

	simdev_peek(t->medium, geo_slot_off(slot), t->geo.sector_bytes, buf);
	SC_CHECK(t, slot_decode(&t->geo, buf, slot, out) == 0, "slot %u is damaged", slot);
	free(buf);
}

enum lunfs_slot_state scen_state(struct simcluster *t, unsigned slot)
{
	struct host_info hi;

	scen_slot(t, slot, &hi);
	return hi.state;
}

void scen_record(struct simcluster *t, uint64_t addr, struct lunfs_lock_rec *out)
{
	uint8_t *buf = dev_buf_alloc(4096);

	simdev_peek(t->medium, geo_blk_off(addr), t->geo.sector_bytes, buf);
	SC_CHECK(t, lock_rec_decode(&t->geo, buf, addr, out) == 0, "lock %llu is damaged",
		 (unsigned long long)addr);
	free(buf);
}

void scen_poke_record(struct simcluster *t, uint64_t addr, struct lunfs_lock_rec *r)
{
	uint8_t *buf = dev_buf_alloc(4096);

	memcpy(buf, r, sizeof(*r));
	crc_seal(buf, REC_BYTES, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(t->medium, geo_blk_off(addr), t->geo.sector_bytes, buf);
	free(buf);
}

bool in_journal(const struct geo *g, unsigned slot, uint64_t off_bytes)
{
	uint64_t from = geo_blk_off(g->journal_blk[slot]);

	return off_bytes >= from && off_bytes < from + geo_blk_off(g->journal_blks);
}

bool in_slots(uint64_t off_bytes)
{
	return off_bytes >= geo_slot_off(0) &&
	       off_bytes < geo_slot_off(LUNFS_MAX_SLOTS + LUNFS_SPARE_SLOTS);
}

bool in_board(const struct geo *g, uint64_t off_bytes)
{
	return off_bytes >= LUNFS_BOARD_OFF &&
	       off_bytes < LUNFS_BOARD_OFF + geo_all_slots(g) * g->board_row_bytes;
}

bool in_groups(const struct geo *g, uint64_t off_bytes)
{
	for (unsigned s = 0; s < g->slots; s++)
		if (in_journal(g, s, off_bytes))
			return false;
	return off_bytes >= geo_blk_off(g->group0_blk);
}

/* ---- one operation --------------------------------------------------------------------------- */

static int do_write(struct job *j, uint8_t *buf)
{
	memset(buf, j->fill, j->len);
	return vol_write(j->v, &sc_root, j->id, j->off, j->len, buf,
			 j->kind == JOB_APPEND ? VWRITE_APPEND : 0, &j->done, &j->off);
}

static int do_read(struct job *j, uint8_t *buf)
{
	int rc = vol_read(j->v, &sc_root, j->id, j->off, j->len, buf, &j->done);

	j->fill = rc || !j->done ? 0 : buf[0];
	for (size_t i = 1; i < j->done && !rc; i++)
		if (buf[i] != buf[0])
			j->fill = 0;
	return rc;
}

static int do_truncate(struct job *j)
{
	struct stat st = {.st_size = (off_t)j->len};
	struct vattr va;

	return vol_setattr(j->v, &sc_root, j->id, &st, VSET_SIZE, &va);
}

static void job_main(void *arg)
{
	struct job *j = arg;
	uint8_t *buf = dev_buf_alloc(j->len ? j->len : 1);
	int rc;

	j->began_ns = simclock_true_ns(j->t->clk);
	switch (j->kind) {
	case JOB_READ:
		rc = do_read(j, buf);
		break;
	case JOB_FSYNC:
		rc = vol_fsync(j->v, &sc_root, j->id, false);
		break;
	case JOB_TRUNCATE:
		rc = do_truncate(j);
		break;
	default:
		rc = do_write(j, buf);
		break;
	}
	free(buf);
	j->rc = rc;
	j->ended_ns = simclock_true_ns(j->t->clk);
	j->ended = true;
}

void job_start(struct simcluster *t, unsigned host, struct job *j)
{
	j->t = t;
	j->v = t->v[host];
	j->host = host;
	j->rc = 0;
	j->done = 0;
	j->ended = false;
	j->task = sc_task(t, host, job_main, j);
}

void job_end(struct job *j)
{
	sc_join(j->t, j->task);
}

/* ---- files ----------------------------------------------------------------------------------- */

void scen_fill(struct simcluster *t, unsigned host, struct nodeid id, uint8_t fill, size_t len)
{
	uint8_t *buf = dev_buf_alloc(len);

	memset(buf, fill, len);
	sc_write(t, host, id, 0, buf, len);
	free(buf);
}

uint8_t scen_filled(struct simcluster *t, unsigned host, struct nodeid id, size_t len)
{
	uint8_t *buf = dev_buf_alloc(len + 1), fill;

	EXPECT_EQ(t, sc_read(t, host, id, 0, buf, len + 1), len);
	fill = buf[0];
	for (size_t i = 0; i < len; i++)
		SC_CHECK(t, buf[i] == fill, "byte %zu is 0x%02x, the first one 0x%02x", i, buf[i],
			 fill);
	free(buf);
	return fill;
}

void scen_sync(struct simcluster *t, unsigned host)
{
	SC_OK(t, vol_syncfs(t->v[host]));
}

struct nodeid scen_find(struct simcluster *t, unsigned host, const char *name)
{
	struct nodeid id = {0};

	SC_OK(t, sc_lookup(t, host, sc_root_id(t, host), name, &id));
	return id;
}

void scen_files(struct simcluster *t, unsigned host, unsigned n)
{
	struct nodeid root = sc_root_id(t, host);
	char name[16];

	for (unsigned k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "f%u", k);
		scen_fill(t, host, sc_mkfile(t, host, root, name), (uint8_t)('a' + k),
			  SCEN_FILE_BYTES);
	}
	scen_sync(t, host);
}

void scen_check_files(struct simcluster *t, unsigned host, unsigned n)
{
	char name[16];

	for (unsigned k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "f%u", k);
		EXPECT_EQ(t, scen_filled(t, host, scen_find(t, host, name), SCEN_FILE_BYTES),
			  'a' + k);
	}
}

/* ---- a worker -------------------------------------------------------------------------------- */

static int work_names(struct worker *w)
{
	struct vattr va;
	char name[32];
	int rc;

	snprintf(name, sizeof(name), "w%u-%u", w->host, w->done);
	rc = vol_mknod(w->v, &sc_root, w->dir, name, S_IFREG | 0644, 0, &va);
	if (rc == 0 && w->done % 8 == 4)
		rc = vol_unlink(w->v, &sc_root, w->dir, name);
	return rc;
}

static int work_round(struct worker *w, const uint8_t *buf)
{
	size_t done;
	int rc = vol_write(w->v, &sc_root, w->id, (uint64_t)w->done * WORK_BYTES, WORK_BYTES, buf,
			   0, &done, NULL);

	if (rc)
		return rc;
	w->done++;
	if (w->done % 4 == 0)
		rc = work_names(w);
	if (rc == 0 && w->done % 8 == 0) {
		unsigned done_before = w->done;

		rc = vol_fsync(w->v, &sc_root, w->id, false);
		if (rc == 0)
			w->synced = done_before;
	}
	return rc;
}

static void work_main(void *arg)
{
	struct worker *w = arg;
	uint8_t *buf = dev_buf_alloc(WORK_BYTES);

	memset(buf, 'A' + (int)w->host, WORK_BYTES);
	while (!w->stop && !w->rc && (!w->rounds || w->done < w->rounds)) {
		uint64_t began = simclock_true_ns(w->t->clk), took;

		w->rc = work_round(w, buf);
		took = simclock_true_ns(w->t->clk) - began;
		if (took > w->slowest_ns)
			w->slowest_ns = took;
		clock_sleep_ns(w->t->clk, 5 * MS);
	}
	free(buf);
	w->ended = true;
}

void worker_start(struct simcluster *t, unsigned host, struct worker *w, unsigned rounds)
{
	char name[16];

	*w = (struct worker){.t = t, .v = t->v[host], .host = host, .rounds = rounds};
	w->dir = sc_root_id(t, host);
	snprintf(name, sizeof(name), "work%u", host);
	if (sc_lookup(t, host, w->dir, name, &w->id))
		w->id = sc_mkfile(t, host, w->dir, name);
	scen_sync(t, host);
	w->task = sc_task(t, host, work_main, w);
}

void worker_end(struct worker *w)
{
	w->stop = true;
	sc_join(w->t, w->task);
}

void worker_check(struct simcluster *t, unsigned reader, const struct worker *w)
{
	uint8_t *buf = dev_buf_alloc(WORK_BYTES);

	for (unsigned k = 0; k < w->done; k++) {
		size_t n = sc_read(t, reader, w->id, (uint64_t)k * WORK_BYTES, buf, WORK_BYTES);

		if (k < w->synced)
			SC_CHECK(t, n == WORK_BYTES,
				 "block %u of host %u was synced and is not there", k, w->host);
		for (size_t i = 0; i < n; i++)
			SC_CHECK(t, buf[i] == 'A' + w->host || (k >= w->synced && buf[i] == 0),
				 "block %u of host %u holds 0x%02x", k, w->host, buf[i]);
	}
	free(buf);
}

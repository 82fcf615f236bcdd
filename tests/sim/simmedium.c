/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Simulated media and their handles: made, cloned, killed, cut from power, looked at, saved. */
#include "simdev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dev *simdev_attach_nexus(struct simdev_medium *m, unsigned nexus)
{
	struct simdev *s = calloc(1, sizeof(*s));
	struct dev_identity *id = &s->dev.id;

	lunfs_assert(s != NULL);
	s->m = simdev_medium_get(m);
	s->dev.ops = &simdev_ops;
	id->kind = DEV_KIND_SIM;
	strcpy(id->name, "sim");
	id->size_bytes = m->size_bytes;
	id->sector_bytes = m->sector_bytes;
	id->phys_bytes = m->phys_bytes;
	id->has_caw = true;
	id->has_discard = true;
	id->has_write_zeroes = true;
	medium_lock(m);
	s->nexus = nexus;
	snprintf(s->label, sizeof(s->label), "nexus%u", nexus);
	s->next = m->handles;
	m->handles = s;
	medium_unlock(m);
	return &s->dev;
}

struct dev *simdev_attach(struct simdev_medium *m)
{
	unsigned nexus;

	medium_lock(m);
	nexus = m->next_nexus++;
	medium_unlock(m);
	return simdev_attach_nexus(m, nexus);
}

unsigned simdev_nexus(struct dev *d)
{
	return simdev_of(d)->nexus;
}

void simdev_set_label(struct dev *d, const char *label)
{
	snprintf(simdev_of(d)->label, sizeof(simdev_of(d)->label), "%s", label);
}

const char *simdev_label(struct dev *d)
{
	return simdev_of(d)->label;
}

static struct simdev_medium *medium_new(struct clock *clk)
{
	struct simdev_medium *m = calloc(1, sizeof(*m));
	pthread_mutexattr_t attr;

	lunfs_assert(m != NULL && pthread_mutexattr_init(&attr) == 0);
	lunfs_assert(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
	lunfs_assert(pthread_mutex_init(&m->mtx, &attr) == 0);
	pthread_mutexattr_destroy(&attr);
	m->clk = clk;
	m->refs = 1;
	m->rng = 1;
	m->can_drain = true;
	m->next_nexus = SIMDEV_FIRST_NEXUS;
	return m;
}

struct dev *simdev_new(struct clock *clk, uint64_t size_bytes, uint32_t sector_bytes,
		       uint32_t phys_bytes)
{
	struct simdev_medium *m = medium_new(clk);
	struct dev *d;

	lunfs_assert(sector_bytes == 512 || sector_bytes == 4096);
	lunfs_assert(size_bytes % sector_bytes == 0);
	m->size_bytes = size_bytes;
	m->sector_bytes = sector_bytes;
	m->phys_bytes = phys_bytes;
	m->pages.unit_bytes = sector_bytes;
	d = simdev_attach(m);
	simdev_medium_put(m);
	return d;
}

struct simdev_medium *simdev_medium_of(struct dev *d)
{
	lunfs_assert(d->ops == &simdev_ops);
	return simdev_of(d)->m;
}

struct simdev_medium *simdev_medium_get(struct simdev_medium *m)
{
	medium_lock(m);
	m->refs++;
	medium_unlock(m);
	return m;
}

/* What was still on its way, and answers that nobody came for. */
static void flights_free(struct flight *f)
{
	while (f) {
		struct flight *next = f->next;

		simdev_flight_free(f);
		f = next;
	}
}

void simdev_medium_end(struct simdev_medium *m)
{
	flights_free(m->flying);
	flights_free(m->over);
	while (m->handles) {
		struct simdev *s = m->handles;

		m->handles = s->next;
		free(s->chaos);
		free(s);
	}
	simdev_old_free(m);
	simpages_clear(&m->pages);
	free(m->rot.off_bytes);
	free(m->chaos);
	pthread_mutex_destroy(&m->mtx);
	free(m);
}

void simdev_medium_put(struct simdev_medium *m)
{
	bool last;

	medium_lock(m);
	last = --m->refs == 0;
	medium_unlock(m);
	if (last)
		simdev_medium_end(m);
}

struct simdev_medium *simdev_medium_clone(struct simdev_medium *m)
{
	struct simdev_medium *n = medium_new(m->clk);

	medium_lock(m);
	n->size_bytes = m->size_bytes;
	n->sector_bytes = m->sector_bytes;
	n->phys_bytes = m->phys_bytes;
	n->can_drain = m->can_drain;
	n->caw_cached = m->caw_cached;
	n->min_ns = m->min_ns;
	n->max_ns = m->max_ns;
	n->linger_ns = m->linger_ns;
	n->rng = m->rng;
	n->pr = m->pr;
	n->next_nexus = m->next_nexus;
	simdev_land_due(m);
	simpages_copy(&m->pages, &n->pages);
	medium_unlock(m);
	return n;
}

void simdev_seed(struct simdev_medium *m, uint64_t seed)
{
	medium_lock(m);
	m->rng = seed;
	medium_unlock(m);
}

void simdev_set_latency(struct simdev_medium *m, uint64_t min_ns, uint64_t max_ns)
{
	lunfs_assert(min_ns <= max_ns);
	medium_lock(m);
	m->min_ns = min_ns;
	m->max_ns = max_ns;
	medium_unlock(m);
}

void simdev_set_drain(struct simdev_medium *m, bool supported)
{
	medium_lock(m);
	m->can_drain = supported;
	medium_unlock(m);
}

void simdev_set_caw_cached(struct simdev_medium *m, bool cached)
{
	medium_lock(m);
	m->caw_cached = cached;
	medium_unlock(m);
}

void simdev_set_linger(struct simdev_medium *m, uint64_t max_ns)
{
	medium_lock(m);
	m->linger_ns = max_ns;
	medium_unlock(m);
}

void simdev_kill(struct dev *d)
{
	struct simdev *s = simdev_of(d);

	medium_lock(s->m);
	if (!s->killed) {
		simdev_land_due(s->m);
		simdev_note(s->m, s, "its host dies");
		s->killed = true;
		simdev_scatter(s->m, s, -ENODEV, "its host died");
	}
	medium_unlock(s->m);
}

/* All that was written lasts but what would have been durable by itself in a moment. */
static void keep_all_but_caws(struct simdev_medium *m)
{
	for (unsigned k = 0; k < m->n_caw; k++)
		m->counts.lost_sectors += simpages_lose_one(&m->pages, m->caw[k].off_bytes);
	simpages_flush(&m->pages);
}

uint64_t simdev_cached_caw(struct simdev_medium *m, unsigned k, const struct dev **sender)
{
	uint64_t off = 0;

	medium_lock(m);
	simdev_land_due(m);
	*sender = NULL;
	if (k < m->n_caw) {
		*sender = &m->caw[k].s->dev;
		off = m->caw[k].off_bytes;
	}
	medium_unlock(m);
	return off;
}

void simdev_power_cut(struct simdev_medium *m, uint64_t seed)
{
	uint64_t rng = seed;

	medium_lock(m);
	simdev_land_due(m);
	simdev_note(m, NULL, "power cut");
	simdev_drop_all(m, "power cut");
	if (m->n_caw && sim_chance(&rng, 2))
		keep_all_but_caws(m);
	m->counts.lost_sectors += simpages_lose(&m->pages, &rng);
	m->n_caw = 0;
	simdev_pr_power(m);
	for (struct simdev *s = m->handles; s; s = s->next)
		s->attention = true; /* power on occurred */
	m->counts.power_cuts++;
	m->epoch++;
	medium_unlock(m);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

struct simdev_snapshot *simdev_snapshot(struct simdev_medium *m)
{
	struct simdev_snapshot *snap = calloc(1, sizeof(*snap));

	lunfs_assert(snap != NULL);
	medium_lock(m);
	simdev_land_due(m);
	simpages_copy(&m->pages, &snap->pages);
	medium_unlock(m);
	return snap;
}

void simdev_snapshot_free(struct simdev_snapshot *snap)
{
	simpages_clear(&snap->pages);
	free(snap);
}

void simdev_roll_back(struct simdev_medium *m, const struct simdev_snapshot *snap)
{
	medium_lock(m);
	simdev_land_due(m);
	simdev_note(m, NULL, "rolled back to an older state");
	simpages_return(&snap->pages, &m->pages);
	m->counts.roll_backs++;
	medium_unlock(m);
}

uint64_t simdev_unflushed(struct simdev_medium *m)
{
	uint64_t n;

	medium_lock(m);
	simdev_land_due(m);
	n = simpages_dirty(&m->pages);
	medium_unlock(m);
	return n;
}

void simdev_set_hook(struct simdev_medium *m, simdev_hook hook, void *ctx)
{
	medium_lock(m);
	m->hook = hook;
	m->hook_ctx = ctx;
	medium_unlock(m);
}

void simdev_set_monitor(struct simdev_medium *m, simdev_monitor monitor, void *ctx)
{
	medium_lock(m);
	m->monitor = monitor;
	m->monitor_ctx = ctx;
	medium_unlock(m);
}

void simdev_counts(struct simdev_medium *m, struct simdev_counts *out)
{
	medium_lock(m);
	*out = m->counts;
	medium_unlock(m);
}

void simdev_peek(struct simdev_medium *m, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	medium_lock(m);
	simdev_land_due(m);
	simpages_read(&m->pages, off_bytes, len_bytes, buf);
	medium_unlock(m);
}

/* 512 bytes at a time, so that any place and length will do. */
void simdev_poke(struct simdev_medium *m, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	const uint8_t *p = buf;

	medium_lock(m);
	simdev_land_due(m);
	simdev_rot_heal(m, off_bytes, len_bytes);
	while (len_bytes > 0) {
		uint8_t unit[512];
		size_t in = off_bytes % sizeof(unit), n = sizeof(unit) - in;

		if (n > len_bytes)
			n = len_bytes;
		simpages_read(&m->pages, off_bytes - in, sizeof(unit), unit);
		memcpy(unit + in, p, n);
		simpages_write(&m->pages, off_bytes - in, sizeof(unit), unit, true, NULL);
		off_bytes += n;
		p += n;
		len_bytes -= n;
	}
	medium_unlock(m);
}

static int save_pages(struct simdev_medium *m, int fd)
{
	uint8_t page[SIMPAGE_BYTES];

	for (size_t b = 0; b < (m->pages.bits ? (size_t)1 << m->pages.bits : 0); b++) {
		for (struct simpage *p = m->pages.bucket[b]; p; p = p->next) {
			uint64_t off = p->index * SIMPAGE_BYTES;

			simpages_read(&m->pages, off, sizeof(page), page);
			if (pwrite(fd, page, sizeof(page), (off_t)off) != (ssize_t)sizeof(page))
				return errno ? -errno : -EIO;
		}
	}
	return ftruncate(fd, (off_t)m->size_bytes) == 0 ? 0 : -errno;
}

int simdev_save(struct simdev_medium *m, const char *path)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600), err;

	if (fd < 0)
		return -errno;
	medium_lock(m);
	simdev_land_due(m);
	err = save_pages(m, fd);
	medium_unlock(m);
	if (close(fd) != 0 && err == 0)
		err = -errno;
	return err;
}

static int load_data(struct simdev_medium *m, int fd, off_t from, off_t to)
{
	uint8_t page[SIMPAGE_BYTES];

	while (from < to) {
		ssize_t n = pread(fd, page, sizeof(page), from);

		if (n <= 0)
			return n < 0 ? -errno : 0;
		simdev_poke(m, (uint64_t)from, (size_t)n, page);
		from += n;
	}
	return 0;
}

int simdev_load(struct simdev_medium *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	off_t from = 0, to;

	if (fd < 0)
		return -errno;
	while (err == 0 && (uint64_t)from < m->size_bytes) {
		from = lseek(fd, from, SEEK_DATA);
		if (from < 0) {
			err = errno == ENXIO ? 0 : -errno;
			break;
		}
		to = lseek(fd, from, SEEK_HOLE);
		if ((uint64_t)to > m->size_bytes)
			to = (off_t)m->size_bytes;
		err = load_data(m, fd, from, to);
		from = to;
	}
	close(fd);
	return err;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations of the sg backend. A registration belongs to one path, and a command to a
 * multipath device takes any of them, so the commands go to the paths themselves, as sysfs lists
 * them at that moment. A path that is down is left out: it comes back without a registration, what
 * it carries is refused, and the host then registers anew along all. Or it comes back with a key
 * that it had when it went, unless that was preempted since (pr_leave(), pr_join()).
 */
#include "dev/scsi_pr.h"
#include "dev/sg_impl.h"
#include "dev/sysfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MULTIPATH_CONF "/etc/multipath.conf"
#define MULTIPATH_CONF_DIR "/etc/multipath/conf.d"
#define NAP_MIN_NS 1000000ull
#define NAP_MAX_NS 50000000ull

struct sg_paths {
	struct sg_dev *s;
	unsigned n;
	int fd[SYSFS_PATHS_MAX];
};

static int paths_open(struct sg_dev *s, struct sg_paths *p)
{
	struct sysfs_path path[SYSFS_PATHS_MAX];
	unsigned n;

	p->s = s;
	p->n = 0;
	if (!s->multipath) {
		p->fd[p->n++] = s->sg_fd;
		return 0;
	}
	n = sysfs_paths(s->rdev, path);
	for (unsigned i = 0; i < n; i++) {
		int fd;

		if (!path[i].running)
			continue;
		fd = path[i].node[0] ? sg_path_open(path[i].node) : -ENODEV;
		if (fd < 0)
			return fd;
		p->fd[p->n++] = fd;
	}
	return p->n ? 0 : -ENODEV;
}

static void paths_close(struct sg_paths *p)
{
	for (unsigned i = 0; p->s->multipath && i < p->n; i++)
		sg_path_close(p->fd[i]);
}

static int path_send(void *ctx, unsigned path, struct spr_cmd *c)
{
	struct sg_paths *p = ctx;
	struct sg_cmd g = {.cdb_len = c->cdb_len};
	uint64_t until_ns = dev_deadline_ns(&p->s->dev), nap = NAP_MIN_NS;
	int rc;

	memcpy(g.cdb, c->cdb, sizeof(g.cdb));
	if (c->out) {
		g.out = c->buf;
		g.out_len = c->len_bytes;
	} else {
		g.in = c->buf;
		g.in_len = c->len_bytes;
	}
	for (;;) {
		rc = sg_send_by(p->s, p->fd[path], &g);
		c->got_bytes = g.got;
		if (rc != -EAGAIN)
			return rc;
		if (dev_now_ns() + nap >= until_ns)
			return -ETIMEDOUT;
		dev_nap_ns(nap);
		nap = nap < NAP_MAX_NS ? 2 * nap : NAP_MAX_NS;
	}
}

int sg_scout(struct sg_dev *s, uint64_t *until_ns)
{
	struct sg_paths p = {.s = s, .n = 1, .fd = {s->sg_fd}};
	struct spr_link l = {.ctx = &p, .paths = 1, .send = path_send};

	return scout_ahead(&s->scout, &l, until_ns);
}

/* Of the descriptors opened on 0 the caller disposes by paths_close(). */
static int link_open(struct dev *d, struct sg_paths *p, struct spr_link *l)
{
	int rc = paths_open(sg_of(d), p);

	if (rc) {
		paths_close(p);
		return rc;
	}
	*l = (struct spr_link){.ctx = p, .paths = p->n, .send = path_send};
	return 0;
}

static int sg_pr_probe(struct dev *d, char *why, size_t why_len)
{
	struct sg_paths p;
	struct spr_link l;
	int rc;

	if (sg_of(d)->multipath && spr_multipathd_registers(MULTIPATH_CONF, MULTIPATH_CONF_DIR)) {
		snprintf(why, why_len,
			 "multipathd is set to register keys on its own (reservation_key in %s or "
			 "%s), and would let fenced paths in again; take that out.",
			 MULTIPATH_CONF, MULTIPATH_CONF_DIR);
		return -EOPNOTSUPP;
	}
	rc = link_open(d, &p, &l);
	if (rc) {
		snprintf(why, why_len, "%s has no path that could be registered (error %d).",
			 d->id.name, rc);
		return -EOPNOTSUPP;
	}
	rc = spr_probe(&l, d->id.name, why, why_len);
	paths_close(&p);
	return rc;
}

static int sg_pr_register(struct dev *d, uint64_t old_key, uint64_t new_key)
{
	struct sg_paths p;
	struct spr_link l;
	int rc = link_open(d, &p, &l);

	if (rc)
		return rc;
	rc = spr_register(&l, old_key, new_key);
	paths_close(&p);
	if (!rc)
		scout_registered(&sg_of(d)->scout, new_key);
	return rc;
}

static int sg_pr_register_anyway(struct dev *d, uint64_t key)
{
	struct sg_paths p;
	struct spr_link l;
	int rc = link_open(d, &p, &l);

	if (rc)
		return rc;
	rc = spr_register_anyway(&l, key);
	paths_close(&p);
	if (!rc)
		scout_registered(&sg_of(d)->scout, key);
	return rc;
}

static int sg_pr_reserve(struct dev *d, uint64_t key)
{
	struct sg_paths p;
	struct spr_link l;
	int rc = link_open(d, &p, &l);

	if (rc)
		return rc;
	rc = spr_reserve(&l, key);
	paths_close(&p);
	return rc;
}

static int sg_pr_preempt_abort(struct dev *d, uint64_t own_key, uint64_t victim_key)
{
	struct sg_paths p;
	struct spr_link l;
	int rc = link_open(d, &p, &l);

	if (rc)
		return rc;
	rc = spr_preempt_abort(&l, own_key, victim_key);
	paths_close(&p);
	return rc;
}

static int sg_pr_read_state(struct dev *d, struct dev_pr_state *out)
{
	struct sg_paths p;
	struct spr_link l;
	int rc = link_open(d, &p, &l);

	if (rc)
		return rc;
	rc = spr_read_state(&l, out);
	paths_close(&p);
	return rc;
}

const struct dev_pr_ops sg_pr_ops = {
    .probe = sg_pr_probe,
    .register_key = sg_pr_register,
    .register_anyway = sg_pr_register_anyway,
    .reserve = sg_pr_reserve,
    .preempt_abort = sg_pr_preempt_abort,
    .read_state = sg_pr_read_state,
};

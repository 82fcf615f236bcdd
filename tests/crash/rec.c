/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The recording device of rec.h. Tasks of the simulated clock take turns, so there is no mutex. */
#include "rec.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

struct recdev {
	struct dev dev;
	struct dev *below;
	struct rec *rec;
	unsigned host;
};

#define NO_CMD SIZE_MAX

const char *rec_op_name(enum rec_op op)
{
	static const char *const name[] = {"write", "zero", "discard", "compare-and-write",
					   "flush"};

	return name[op];
}

/* ---- the recording --------------------------------------------------------------------------- */

static void *grown(void *p, size_t n, size_t *cap, size_t each)
{
	if (n < *cap)
		return p;
	*cap = *cap ? 2 * *cap : 256;
	p = realloc(p, *cap * each);
	lunfs_assert(p);
	return p;
}

static size_t add_event(struct rec *r, enum rec_what what, size_t cmd)
{
	struct rec_event *e;

	r->event = grown(r->event, r->n_events, &r->cap_events, sizeof(*e));
	e = &r->event[r->n_events];
	memset(e, 0, sizeof(*e));
	e->what = what;
	e->cmd = cmd;
	if (r->note)
		r->note(r->ctx, e);
	return r->n_events++;
}

void rec_mark(struct rec *r)
{
	if (r->on)
		add_event(r, REC_MARK, NO_CMD);
}

static size_t sent(struct recdev *d, enum rec_op op, uint64_t off, uint64_t len, const void *data)
{
	struct rec *r = d->rec;
	struct rec_cmd *c;

	d->below->deadline_ms = d->dev.deadline_ms;
	if (!r->on)
		return NO_CMD;
	r->cmd = grown(r->cmd, r->n_cmds, &r->cap_cmds, sizeof(*c));
	c = &r->cmd[r->n_cmds];
	*c = (struct rec_cmd){
	    .op = op, .host = d->host, .off_bytes = off, .len_bytes = len, .answer = SIZE_MAX};
	if (data) {
		c->data = malloc((size_t)len);
		lunfs_assert(c->data);
		memcpy(c->data, data, (size_t)len);
	}
	c->sent = add_event(r, REC_SENT, r->n_cmds);
	return r->n_cmds++;
}

static int answered(struct recdev *d, size_t cmd, int result)
{
	struct rec_cmd *c;

	if (cmd == NO_CMD)
		return result;
	c = &d->rec->cmd[cmd];
	c->result = result;
	c->answer = add_event(d->rec, REC_ANSWERED, cmd);
	return result;
}

void rec_clear(struct rec *r)
{
	for (size_t i = 0; i < r->n_cmds; i++)
		free(r->cmd[i].data);
	free(r->cmd);
	free(r->event);
	memset(r, 0, sizeof(*r));
}

/* ---- the device's functions ------------------------------------------------------------------ */

static struct recdev *of(struct dev *d)
{
	return (struct recdev *)d;
}

static int rd_read(struct dev *dev, uint64_t off, size_t len, void *buf)
{
	struct recdev *d = of(dev);

	d->below->deadline_ms = dev->deadline_ms;
	return d->below->ops->read(d->below, off, len, buf);
}

static int rd_write(struct dev *dev, uint64_t off, size_t len, const void *buf)
{
	struct recdev *d = of(dev);
	size_t c = sent(d, REC_WRITE, off, len, buf);

	return answered(d, c, d->below->ops->write(d->below, off, len, buf));
}

static int rd_flush(struct dev *dev)
{
	struct recdev *d = of(dev);
	size_t c = sent(d, REC_FLUSH, 0, 0, NULL);

	return answered(d, c, d->below->ops->flush(d->below));
}

static int rd_discard(struct dev *dev, uint64_t off, uint64_t len)
{
	struct recdev *d = of(dev);
	size_t c = sent(d, REC_DISCARD, off, len, NULL);

	return answered(d, c, d->below->ops->discard(d->below, off, len));
}

static int rd_zeroes(struct dev *dev, uint64_t off, uint64_t len)
{
	struct recdev *d = of(dev);
	size_t c = sent(d, REC_ZERO, off, len, NULL);

	return answered(d, c, d->below->ops->write_zeroes(d->below, off, len));
}

static int rd_caw(struct dev *dev, uint64_t off, const void *test, const void *set)
{
	struct recdev *d = of(dev);
	size_t c = sent(d, REC_CAW, off, dev->id.sector_bytes, set);

	return answered(d, c, d->below->ops->compare_and_write(d->below, off, test, set));
}

static size_t *numbers(size_t n)
{
	size_t *c = calloc(n + 1, sizeof(*c));

	lunfs_assert(c);
	return c;
}

static void rd_batch(struct dev *dev, struct dev_io *io, size_t n)
{
	struct recdev *d = of(dev);
	size_t *c = numbers(n);

	for (size_t i = 0; i < n; i++)
		c[i] = io[i].op == DEV_READ
			   ? NO_CMD
			   : sent(d, REC_WRITE, io[i].off_bytes, io[i].len_bytes, io[i].buf);
	d->below->deadline_ms = dev->deadline_ms;
	d->below->ops->batch(d->below, io, n);
	for (size_t i = 0; i < n; i++)
		answered(d, c[i], io[i].result);
	free(c);
}

static void rd_caw_batch(struct dev *dev, struct dev_caw_io *io, size_t n)
{
	struct recdev *d = of(dev);
	size_t *c = numbers(n);

	for (size_t i = 0; i < n; i++)
		c[i] = sent(d, REC_CAW, io[i].off_bytes, dev->id.sector_bytes, io[i].set);
	d->below->ops->caw_batch(d->below, io, n);
	for (size_t i = 0; i < n; i++)
		answered(d, c[i], io[i].result);
	free(c);
}

static int rd_drain(struct dev *dev)
{
	return of(dev)->below->ops->drain(of(dev)->below);
}

static void rd_close(struct dev *dev)
{
	dev_close(of(dev)->below);
	free(dev);
}

static const struct dev_ops ops = {
    .read = rd_read,
    .write = rd_write,
    .flush = rd_flush,
    .discard = rd_discard,
    .write_zeroes = rd_zeroes,
    .compare_and_write = rd_caw,
    .batch = rd_batch,
    .caw_batch = rd_caw_batch,
    .drain = rd_drain,
    .close = rd_close,
};

struct dev *rec_dev(struct rec *r, struct dev *below, unsigned host)
{
	struct recdev *d = calloc(1, sizeof(*d));

	lunfs_assert(d);
	d->dev.ops = &ops;
	d->dev.id = below->id;
	d->below = below;
	d->rec = r;
	d->host = host;
	return &d->dev;
}

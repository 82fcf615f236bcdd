/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The iscsi backend: iscsi://[user%password@]host[:port]/target-iqn/lun, without the kernel's
 * initiator. All commands are SCSI commands of our own on one session (iscsi.c), many in flight.
 *
 * Plain commands that had no effect (busy, unit attention, never sent) are sent again until the
 * deadline; COMPARE AND WRITE never is. FUA makes the operation durable; a device that rejects that
 * bit gets SYNCHRONIZE CACHE behind it.
 */
#include "dev/dev_impl.h"
#include "dev/iscsi.h"
#include "dev/scout.h"
#include "dev/scsi_pr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_MAX_BYTES (1u << 20)  /* one READ or WRITE */
#define RANGE_MAX_BYTES (64u << 20) /* one UNMAP or WRITE SAME: they take time */
#define NAP_MIN_NS 1000000ull
#define NAP_MAX_NS 50000000ull
#define FEW 8u /* commands that need no memory from the heap */

struct iscsi_dev {
	struct dev dev;
	struct iscsi_session *s;
	uint32_t chunk_bytes, unmap_bytes, same_bytes;
	atomic_bool no_fua, no_same, sync10;
	atomic_bool has_registered; /* so that the nexus's key is ours, or nobody's */
	atomic_uint login_ms;
	struct scout scout;
};

static struct iscsi_dev *iscsi_of(struct dev *d)
{
	return (struct iscsi_dev *)d;
}

/* ---- running commands --------------------------------------------------------------------- */

/* The session shall not try longer to log in than one command may take. */
static uint64_t begin(struct iscsi_dev *i)
{
	uint32_t ms = i->dev.deadline_ms ? i->dev.deadline_ms : DEV_DEADLINE_DEFAULT_MS;

	if (atomic_exchange(&i->login_ms, ms) != ms)
		isess_set_login_bound(i->s, ms);
	return dev_deadline_ns(&i->dev);
}

static bool any_again(const struct iscsi_cmd *c, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		if (c[k].result == -EAGAIN)
			return true;
	}
	return false;
}

/* Plain commands: sent again while they had no effect and there is time. Never -EAGAIN. */
static void run_plain(struct iscsi_dev *i, struct iscsi_cmd *c, size_t n)
{
	uint64_t until_ns = begin(i), nap = NAP_MIN_NS;

	for (size_t k = 0; k < n; k++)
		c[k].result = -EAGAIN;
	for (;;) {
		isess_run(i->s, c, n, until_ns);
		if (!any_again(c, n))
			return;
		if (dev_now_ns() + nap >= until_ns)
			break;
		dev_nap_ns(nap);
		nap = nap < NAP_MAX_NS ? 2 * nap : NAP_MAX_NS;
	}
	for (size_t k = 0; k < n; k++) {
		if (c[k].result == -EAGAIN)
			c[k].result = -ETIMEDOUT;
	}
}

static struct iscsi_cmd *cmds_alloc(size_t n, struct iscsi_cmd few[FEW])
{
	struct iscsi_cmd *c = few;

	if (n > FEW)
		c = dev_buf_alloc(n * sizeof(*c));
	else
		memset(few, 0, n * sizeof(*c));
	return c;
}

static void cmds_free(struct iscsi_cmd *c, struct iscsi_cmd few[FEW])
{
	if (c != few)
		free(c);
}

static size_t chunks_of(const struct iscsi_dev *i, size_t len_bytes)
{
	return (len_bytes + i->chunk_bytes - 1) / i->chunk_bytes;
}

/* Make the commands for one element; returns how many. */
static size_t plan(const struct iscsi_dev *i, const struct dev_io *io, struct iscsi_cmd *c)
{
	uint32_t sector = i->dev.id.sector_bytes;
	uint64_t off = io->off_bytes;
	uint8_t *buf = io->buf;
	size_t left = io->len_bytes, n = 0;

	while (left) {
		size_t len = left < i->chunk_bytes ? left : i->chunk_bytes;
		uint32_t sectors = (uint32_t)(len / sector);

		c[n] = (struct iscsi_cmd){.buf = buf, .len_bytes = len};
		c[n].dir = io->op == DEV_READ ? ISCSI_IN : ISCSI_OUT;
		if (io->op == DEV_READ)
			c[n].cdb_len = sbc_cdb_read16(c[n].cdb, off / sector, sectors);
		else
			c[n].cdb_len = sbc_cdb_write16(c[n].cdb, off / sector, sectors);
		buf += len;
		off += len;
		left -= len;
		n++;
	}
	return n;
}

static void iscsi_batch(struct dev *d, struct dev_io *io, size_t n)
{
	struct iscsi_dev *i = iscsi_of(d);
	struct iscsi_cmd few[FEW], *c;
	size_t total = 0, at = 0;

	for (size_t k = 0; k < n; k++)
		total += chunks_of(i, io[k].len_bytes);
	c = cmds_alloc(total, few);
	for (size_t k = 0; k < n; k++)
		at += plan(i, &io[k], c + at);
	run_plain(i, c, total);
	at = 0;
	for (size_t k = 0; k < n; k++) {
		size_t part = chunks_of(i, io[k].len_bytes);

		io[k].result = iscsi_cmds_outcome(c + at, part);
		at += part;
	}
	cmds_free(c, few);
}

static int iscsi_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	struct dev_io io = {DEV_READ, off_bytes, len_bytes, buf, 0};

	iscsi_batch(d, &io, 1);
	return io.result;
}

static int iscsi_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	struct dev_io io = {DEV_WRITE, off_bytes, len_bytes, (void *)(uintptr_t)buf, 0};

	iscsi_batch(d, &io, 1);
	return io.result;
}

static int iscsi_flush(struct dev *d)
{
	struct iscsi_dev *i = iscsi_of(d);
	struct iscsi_cmd c = {0};

	if (!atomic_load(&i->sync10)) {
		c.cdb_len = sbc_cdb_sync16(c.cdb);
		run_plain(i, &c, 1);
		if (c.result != -EOPNOTSUPP && c.result != -EINVAL)
			return iscsi_cmds_outcome(&c, 1);
		atomic_store(&i->sync10, true);
	}
	c.cdb_len = sbc_cdb_sync10(c.cdb);
	run_plain(i, &c, 1);
	return iscsi_cmds_outcome(&c, 1);
}

/* ---- ranges ------------------------------------------------------------------------------- */

static int iscsi_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	struct iscsi_dev *i = iscsi_of(d);
	uint32_t sector = d->id.sector_bytes;
	uint8_t param[SBC_UNMAP_BYTES];
	int rc = 0;

	while (len_bytes && !rc) {
		uint32_t n = len_bytes < i->unmap_bytes ? (uint32_t)len_bytes : i->unmap_bytes;
		struct iscsi_cmd c = {.dir = ISCSI_OUT, .buf = param, .len_bytes = sizeof(param)};

		c.cdb_len = sbc_cdb_unmap(c.cdb, param, off_bytes / sector, n / sector);
		run_plain(i, &c, 1);
		rc = iscsi_cmds_outcome(&c, 1);
		off_bytes += n;
		len_bytes -= n;
	}
	return rc;
}

static int iscsi_zero(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	struct iscsi_dev *i = iscsi_of(d);
	uint32_t sector = d->id.sector_bytes;
	void *zero;
	int rc = 0;

	if (atomic_load(&i->no_same))
		return -EOPNOTSUPP;
	zero = dev_buf_alloc(sector);
	while (len_bytes && !rc) {
		uint32_t n = len_bytes < i->same_bytes ? (uint32_t)len_bytes : i->same_bytes;
		struct iscsi_cmd c = {.dir = ISCSI_OUT, .buf = zero, .len_bytes = sector};

		c.cdb_len = sbc_cdb_write_same16(c.cdb, off_bytes / sector, n / sector);
		run_plain(i, &c, 1);
		rc = iscsi_cmds_outcome(&c, 1);
		off_bytes += n;
		len_bytes -= n;
	}
	free(zero);
	if (rc == -EINVAL || rc == -EOPNOTSUPP) {
		atomic_store(&i->no_same, true);
		return -EOPNOTSUPP;
	}
	return rc;
}

/* ---- commands without data blocks --------------------------------------------------------- */

/*
 * The one session is the one path; a login with the same ISID keeps its registration. So it may
 * have one from the start: of a process that died, whose commands our login has ended.
 */
static int pr_send(void *ctx, unsigned path, struct spr_cmd *p)
{
	struct iscsi_cmd c = {.cdb_len = p->cdb_len, .buf = p->buf, .len_bytes = p->len_bytes};

	(void)path;
	c.dir = !p->len_bytes ? ISCSI_NO_DATA : p->out ? ISCSI_OUT : ISCSI_IN;
	memcpy(c.cdb, p->cdb, sizeof(c.cdb));
	run_plain(ctx, &c, 1);
	p->got_bytes = c.got_bytes;
	return c.result;
}

static struct spr_link pr_link(struct dev *d)
{
	return (struct spr_link){.ctx = iscsi_of(d), .paths = 1, .send = pr_send};
}

/* ---- the atomic operation ----------------------------------------------------------------- */

/* @both: one after the other, test and set. */
static void caw_plan(struct iscsi_dev *i, struct iscsi_cmd *c, uint64_t off_bytes, uint8_t *both,
		     bool fua)
{
	uint32_t sector = i->dev.id.sector_bytes;

	*c = (struct iscsi_cmd){.dir = ISCSI_OUT, .buf = both, .len_bytes = 2u * sector};
	c->cdb_len = sbc_cdb_caw(c->cdb, off_bytes / sector, fua);
	c->result = -EAGAIN;
}

/* FUA is what the device may have objected to: rejected, it had no effect, so it goes without. */
static void caw_without_fua(struct iscsi_dev *i, struct iscsi_cmd *c, size_t n, uint64_t until_ns)
{
	bool again = false;

	for (size_t k = 0; k < n; k++) {
		if (c[k].result != -EINVAL)
			continue;
		c[k].cdb[1] = 0;
		c[k].result = -EAGAIN;
		again = true;
	}
	if (!again)
		return;
	isess_run(i->s, c, n, until_ns);
	for (size_t k = 0; k < n; k++) {
		if (!c[k].cdb[1] && c[k].result >= 0)
			atomic_store(&i->no_fua, true);
	}
}

static int caw_result(const struct iscsi_cmd *c, bool flushed)
{
	if (c->result == -EINVAL)
		return -EOPNOTSUPP;
	if (c->result == DEV_CAW_GOOD && !c->cdb[1] && !flushed)
		return -ETIMEDOUT; /* it stands, but nobody knows whether it would survive */
	return c->result;
}

static void caw_explain(const struct iscsi_cmd *c, bool flushed, struct dev_caw_io *io)
{
	bool lasts = c->result != DEV_CAW_GOOD || c->cdb[1] || flushed;

	io->result = caw_result(c, flushed);
	io->cause = lasts ? c->cause : DEV_CAUSE_NOT_DURABLE;
}

/* What the scout took, from @from_ns to @ready_ns, was the device's time. */
static void caw_timed(const struct iscsi_cmd *c, uint64_t from_ns, uint64_t ready_ns,
		      struct dev_caw_io *io)
{
	if (c->sent_ns < ready_ns || c->ended_ns <= c->sent_ns)
		return;
	io->wait_ns = c->sent_ns - ready_ns;
	io->device_ns = (c->cdb[1] ? c->ended_ns : dev_now_ns()) - c->sent_ns;
	io->device_ns += ready_ns - from_ns;
}

/* Sets the time after which they shall not go out, or gives them all the result @rc. */
static void caw_admit(struct iscsi_cmd *c, size_t n, int rc, uint64_t not_after_ns)
{
	for (size_t k = 0; k < n; k++) {
		c[k].not_after_ns = not_after_ns;
		if (!rc)
			continue;
		c[k].result = rc;
		c[k].cause = rc == -EAGAIN ? DEV_CAUSE_NOT_SENT : DEV_CAUSE_CONFLICT;
	}
}

static void iscsi_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n)
{
	struct iscsi_dev *i = iscsi_of(d);
	uint32_t sector = d->id.sector_bytes;
	uint8_t *both = dev_buf_alloc(2 * n * sector), *at = both;
	struct iscsi_cmd few[FEW], *c = cmds_alloc(n, few);
	uint64_t until_ns = begin(i), from_ns = dev_now_ns();
	bool fua = !atomic_load(&i->no_fua), flush = false;
	struct spr_link l = pr_link(d);
	uint64_t not_after_ns, ready_ns;
	int rc = scout_ahead(&i->scout, &l, &not_after_ns);

	ready_ns = dev_now_ns();
	for (size_t k = 0; k < n; k++, at += 2 * sector) {
		memcpy(at, io[k].test, sector);
		memcpy(at + sector, io[k].set, sector);
		caw_plan(i, &c[k], io[k].off_bytes, at, fua);
	}
	caw_admit(c, n, rc, not_after_ns);
	if (!rc)
		isess_run(i->s, c, n, until_ns);
	for (size_t k = 0; !rc && k < n; k++)
		scout_answered(&i->scout, c[k].sent_ns, c[k].result, c[k].cause);
	if (!rc && fua)
		caw_without_fua(i, c, n, until_ns);
	for (size_t k = 0; k < n; k++)
		flush = flush || (c[k].result == DEV_CAW_GOOD && !c[k].cdb[1]);
	flush = flush && !iscsi_flush(d);
	for (size_t k = 0; k < n; k++) {
		caw_explain(&c[k], flush, &io[k]);
		caw_timed(&c[k], from_ns, ready_ns, &io[k]);
	}
	cmds_free(c, few);
	free(both);
}

static int iscsi_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	struct dev_caw_io io = {.off_bytes = off_bytes, .test = test, .set = set};

	iscsi_caw_batch(d, &io, 1);
	return io.result;
}

static int iscsi_drain(struct dev *d)
{
	return isess_drain(iscsi_of(d)->s, begin(iscsi_of(d)));
}

/* ---- persistent reservations -------------------------------------------------------------- */

static int iscsi_pr_probe(struct dev *d, char *why, size_t why_len)
{
	struct spr_link l = pr_link(d);

	return spr_probe(&l, d->id.name, why, why_len);
}

static int iscsi_pr_register(struct dev *d, uint64_t old_key, uint64_t new_key)
{
	struct iscsi_dev *i = iscsi_of(d);
	struct spr_link l = pr_link(d);
	int rc = spr_register(&l, old_key, new_key);

	if (rc == -EBADE && !old_key && new_key && !atomic_load(&i->has_registered) &&
	    isess_name_is_locked(i->s))
		rc = spr_register_anyway(&l, new_key);
	if (!rc) {
		atomic_store(&i->has_registered, true);
		scout_registered(&i->scout, new_key);
	}
	return rc;
}

static int iscsi_pr_register_anyway(struct dev *d, uint64_t key)
{
	struct spr_link l = pr_link(d);
	int rc = spr_register_anyway(&l, key);

	if (!rc)
		scout_registered(&iscsi_of(d)->scout, key);
	return rc;
}

static int iscsi_pr_reserve(struct dev *d, uint64_t key)
{
	struct spr_link l = pr_link(d);

	return spr_reserve(&l, key);
}

static int iscsi_pr_preempt_abort(struct dev *d, uint64_t own_key, uint64_t victim_key)
{
	struct spr_link l = pr_link(d);

	return spr_preempt_abort(&l, own_key, victim_key);
}

static int iscsi_pr_read_state(struct dev *d, struct dev_pr_state *out)
{
	struct spr_link l = pr_link(d);

	return spr_read_state(&l, out);
}

static const struct dev_pr_ops iscsi_pr_ops = {
    .probe = iscsi_pr_probe,
    .register_key = iscsi_pr_register,
    .register_anyway = iscsi_pr_register_anyway,
    .reserve = iscsi_pr_reserve,
    .preempt_abort = iscsi_pr_preempt_abort,
    .read_state = iscsi_pr_read_state,
};

/* ---- open and close ----------------------------------------------------------------------- */

static void iscsi_facts(struct dev *d, char *buf, size_t len)
{
	(void)d;
	snprintf(buf, len, "one iSCSI session, at most %u commands on their way", isess_window());
}

static void iscsi_close(struct dev *d)
{
	struct iscsi_dev *i = iscsi_of(d);

	if (i->s)
		isess_close(i->s);
	free(i);
}

static const struct dev_ops iscsi_ops = {
    .read = iscsi_read,
    .write = iscsi_write,
    .flush = iscsi_flush,
    .discard = iscsi_discard,
    .write_zeroes = iscsi_zero,
    .compare_and_write = iscsi_caw,
    .batch = iscsi_batch,
    .caw_batch = iscsi_caw_batch,
    .drain = iscsi_drain,
    .facts = iscsi_facts,
    .pr = &iscsi_pr_ops,
    .close = iscsi_close,
};

static int ask(struct iscsi_dev *i, struct iscsi_cmd *c, void *data, size_t len)
{
	memset(data, 0, len);
	c->dir = ISCSI_IN;
	c->buf = data;
	c->len_bytes = len;
	run_plain(i, c, 1);
	return c->result > 0 ? -EIO : c->result;
}

static uint32_t sectors_to_bytes(uint64_t sectors, uint32_t sector, uint32_t most)
{
	uint64_t limit = most / sector;

	return (uint32_t)((sectors && sectors < limit ? sectors : limit) * sector);
}

static void learn_limits(struct iscsi_dev *i, bool thin)
{
	uint32_t sector = i->dev.id.sector_bytes;
	uint8_t data[SBC_DATA_MAX];
	struct sbc_limits l = {0};
	struct iscsi_cmd c = {0};

	c.cdb_len = sbc_cdb_vpd(c.cdb, SBC_VPD_LIMITS);
	if (!ask(i, &c, data, sizeof(data)))
		sbc_limits_decode(data, c.got_bytes, &l);
	i->dev.id.caw_claim_sectors = l.max_caw;
	i->chunk_bytes = sectors_to_bytes(l.max_xfer, sector, CHUNK_MAX_BYTES);
	i->unmap_bytes = sectors_to_bytes(l.max_unmap, sector, RANGE_MAX_BYTES);
	i->same_bytes = sectors_to_bytes(l.max_write_same, sector, RANGE_MAX_BYTES);
	i->dev.id.discard_max_bytes = i->unmap_bytes;
	c.cdb_len = sbc_cdb_vpd(c.cdb, SBC_VPD_THIN);
	if (thin && l.max_unmap && !ask(i, &c, data, sizeof(data)))
		i->dev.id.has_discard = sbc_thin_unmaps(data, c.got_bytes);
	i->dev.id.has_write_zeroes = true;
}

static int learn_product(struct iscsi_dev *i, const struct dev_open_args *a)
{
	struct dev_identity *id = &i->dev.id;
	uint8_t data[SBC_DATA_MAX];
	struct iscsi_cmd c = {0};
	int rc;

	c.cdb_len = sbc_cdb_inquiry(c.cdb);
	rc = ask(i, &c, data, sizeof(data));
	if (rc)
		return dev_refuse(a, rc, "%s does not answer INQUIRY: %s.", id->name,
				  strerror(-rc));
	if (data[0] & 0xe0)
		return dev_refuse(a, -ENODEV, "%s: the target has no such LUN.", id->name);
	if (data[0] & 0x1f)
		return dev_refuse(a, -ENOTBLK, "%s is a SCSI device, but not a disk.", id->name);
	sbc_product(data, c.got_bytes, id->product, sizeof(id->product));
	c.cdb_len = sbc_cdb_vpd(c.cdb, SBC_VPD_ID);
	if (!ask(i, &c, data, sizeof(data)))
		sbc_designator(data, c.got_bytes, id->dev_id, sizeof(id->dev_id));
	c.cdb_len = sbc_cdb_mode_sense6(c.cdb);
	if (!ask(i, &c, data, sizeof(data)) && sbc_write_protected(data, c.got_bytes))
		id->read_only = true;
	if (id->read_only && !(a->flags & DEV_OPEN_RDONLY))
		return dev_refuse(a, -EROFS,
				  "%s is write-protected: lift the protection (read-only mounts, "
				  "too, write their host slot and locks), or only check it with "
				  "'fsck.lunfs -n'.",
				  id->name);
	return 0;
}

static int learn_capacity(struct iscsi_dev *i, const struct dev_open_args *a)
{
	struct dev_identity *id = &i->dev.id;
	uint8_t data[SBC_CAP_BYTES];
	struct iscsi_cmd c = {0};
	struct sbc_capacity cap;
	int rc;

	c.cdb_len = sbc_cdb_capacity16(c.cdb);
	rc = ask(i, &c, data, sizeof(data));
	if (rc)
		return dev_refuse(a, rc, "%s does not answer READ CAPACITY(16): %s.", id->name,
				  strerror(-rc));
	if (!sbc_capacity_decode(data, c.got_bytes, &cap))
		return dev_refuse(a, -EMEDIUMTYPE,
				  "%s states a capacity that lunfs cannot use; its "
				  "sectors must have 512 or 4096 bytes.",
				  id->name);
	id->size_bytes = cap.size_bytes;
	id->sector_bytes = cap.sector_bytes;
	id->phys_bytes = cap.phys_bytes;
	learn_limits(i, cap.thin);
	return dev_check_sector(a, id->sector_bytes);
}

int iscsi_dev_open(const struct dev_open_args *a, struct dev **out)
{
	struct iscsi_dev *i = calloc(1, sizeof(*i));
	char shown[sizeof(i->dev.id.name)];
	struct dev_open_args b = *a;
	int rc;

	if (!i)
		return dev_refuse_open(a, -ENOMEM);
	dev_name_shown(a->name, shown, sizeof(shown));
	b.name = shown;
	i->dev.ops = &iscsi_ops;
	i->dev.id.kind = DEV_KIND_ISCSI;
	i->dev.id.read_only = a->flags & DEV_OPEN_RDONLY;
	memcpy(i->dev.id.name, shown, sizeof(shown));
	rc = isess_open(a->name, shown, DEV_DEADLINE_DEFAULT_MS, &i->s, b.why, b.why_len);
	if (!rc)
		rc = learn_product(i, &b);
	if (!rc)
		rc = learn_capacity(i, &b);
	if (rc) {
		iscsi_close(&i->dev);
		return rc;
	}
	scout_init(&i->scout, &i->dev);
	*out = &i->dev;
	return 0;
}

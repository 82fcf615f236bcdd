/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sg backend: a SCSI disk, a partition of one, dm-multipath over SCSI disks, or /dev/sgN.
 * COMPARE AND WRITE and the identification go through the kernel's pass-through by libsgutils2;
 * plain I/O is direct I/O on the block node, where the kernel splits, queues and fails over.
 *
 * The pass-through sends a command once (the kernel's retry count for it is zero). FUA makes the
 * operation durable; a device that rejects that bit gets SYNCHRONIZE CACHE behind each operation.
 */
#include "dev/sg_impl.h"
#include "dev/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <scsi/scsi.h>
#include <scsi/scsi_ioctl.h>
#include <scsi/sg.h>
#include <scsi/sg_pt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SENSE_BYTES 64u
#define DOUBTS 2u		/* how often a command is sent again that the kernel gave up */
#define RESET_NO_ESCALATE 0x100 /* SG_SCSI_RESET_NO_ESCALATE, absent from glibc's header */
#define BAD_TARGET 0x04		/* host byte of the kernel, DID_BAD_TARGET: nobody there */
#define TIME_OUT 0x03		/* DID_TIME_OUT */
#define HOST_ERROR 0x07		/* DID_ERROR: the adapter could not make sense of what happened */
/* What older kernels put there beside the device's own words: DID_TARGET_FAILURE to MEDIUM_ERROR.
 */
#define JUDGED_FIRST 0x10
#define JUDGED_LAST 0x13
#define NEXUS_FAILURE 0x11 /* reservation conflict */
#define STATUS_CHECK 0x02u
#define STATUS_CONFLICT 0x18u

/* ---- one command -------------------------------------------------------------------------- */

/*
 * @changes: of a command that changes something nothing is taken for not sent that may have been.
 * Older kernels end the wait for an answer with ENODEV, too, when /dev/sgN goes away.
 */
static int os_error(int err, bool changes)
{
	switch (err) {
	case EAGAIN:
	case EBUSY:
	case ENOMEM:
		return -EAGAIN; /* not sent */
	case EPERM:
	case EACCES:
		return -EACCES;
	case ENODEV:
		return changes ? -ETIMEDOUT : -ENXIO;
	case ENXIO:
		return -ENXIO; /* not sent: it is offline, or gone */
	case ENOTTY:
	case EINVAL:
	case ENOSYS:
		return -EOPNOTSUPP;
	default:
		return -ETIMEDOUT;
	}
}

static struct sbc_sense_key sense_of(struct sg_pt_base *pt, const uint8_t *sense)
{
	int len = get_scsi_pt_sense_len(pt);

	return sbc_sense_decode(sense, len > 0 ? (size_t)len : 0);
}

/* An adapter may say that nobody is there of what it had sent to somebody who went away. */
static int judge(struct sg_pt_base *pt, int submitted, const struct sbc_sense_key *key,
		 bool changes)
{
	unsigned status = (unsigned)get_scsi_pt_status_response(pt);
	int host = get_scsi_pt_transport_err(pt) & 0xff;

	if (submitted < 0)
		return os_error(-submitted, changes);
	if (submitted > 0)
		return submitted == SCSI_PT_DO_TIMEOUT ? -ETIMEDOUT : -EOPNOTSUPP;
	if (status == STATUS_CONFLICT || host == NEXUS_FAILURE)
		return -EBADE;
	if (status == STATUS_CHECK && host >= JUDGED_FIRST && host <= JUDGED_LAST)
		return sbc_outcome(status, key);
	switch (get_scsi_pt_result_category(pt)) {
	case SCSI_PT_RESULT_GOOD:
		return 0;
	case SCSI_PT_RESULT_STATUS:
		return sbc_outcome(status, key);
	case SCSI_PT_RESULT_SENSE:
		return sbc_outcome(STATUS_CHECK, key);
	case SCSI_PT_RESULT_TRANSPORT_ERR:
		return host == BAD_TARGET && !changes ? -ENODEV : -ETIMEDOUT;
	default:
		return os_error(get_scsi_pt_os_err(pt), changes);
	}
}

/* Why it came to the negative @rc, where that alone does not tell. */
static enum dev_cause cause(struct sg_pt_base *pt, const struct sbc_sense_key *key, int rc)
{
	unsigned status = (unsigned)get_scsi_pt_status_response(pt);
	int host = get_scsi_pt_transport_err(pt) & 0xff;
	enum dev_cause why = sbc_cause(status, key);

	if (!why && rc == -EAGAIN && !status)
		return DEV_CAUSE_NOT_SENT;
	if (!why && rc == -ETIMEDOUT &&
	    ((host && host != TIME_OUT) || get_scsi_pt_os_err(pt) == ENODEV))
		return DEV_CAUSE_TRANSPORT;
	return why;
}

static int timeout_s(const struct dev *d)
{
	uint32_t ms = d->deadline_ms ? d->deadline_ms : DEV_DEADLINE_DEFAULT_MS;

	return (int)((ms + 999) / 1000);
}

int sg_send_by(const struct sg_dev *s, int fd, struct sg_cmd *c)
{
	uint8_t sense[SENSE_BYTES] = {0};
	struct sg_pt_base *pt = construct_scsi_pt_obj_with_fd(fd, 0);
	struct sbc_sense_key key;
	int rc;

	c->cause = DEV_CAUSE_NOT_SENT;
	if (!pt)
		return -EAGAIN;
	set_scsi_pt_cdb(pt, c->cdb, (int)c->cdb_len);
	set_scsi_pt_sense(pt, sense, sizeof(sense));
	if (c->in_len)
		set_scsi_pt_data_in(pt, c->in, (int)c->in_len);
	if (c->out_len)
		set_scsi_pt_data_out(pt, c->out, (int)c->out_len);
	rc = do_scsi_pt(pt, -1, timeout_s(&s->dev), 0);
	key = sense_of(pt, sense);
	rc = judge(pt, rc, &key, c->out_len);
	c->host = get_scsi_pt_transport_err(pt) & 0xff;
	c->cause = cause(pt, &key, rc);
	rc = sbc_fate(c->cdb, rc, &key, &c->cause);
	if (rc == -ENXIO) {
		rc = sysfs_has_block(s->rdev) ? -EAGAIN : -ENODEV;
		c->cause = rc == -EAGAIN ? DEV_CAUSE_NOT_SENT : DEV_CAUSE_NONE;
	}
	if (!rc && c->in_len) {
		int left = get_scsi_pt_resid(pt);

		c->got = c->in_len - (left > 0 && (size_t)left <= c->in_len ? (size_t)left : 0);
	}
	destruct_scsi_pt_obj(pt);
	return rc;
}

static int sg_send(struct sg_dev *s, struct sg_cmd *c)
{
	return sg_send_by(s, s->sg_fd, c);
}

int sg_path_open(const char *node)
{
	return scsi_pt_open_device(node, false, 0);
}

void sg_path_close(int fd)
{
	scsi_pt_close_device(fd);
}

/* A question that changes nothing: asked again after unit attentions. */
static int sg_ask(struct sg_dev *s, struct sg_cmd *c)
{
	int rc = -EAGAIN;

	for (unsigned i = 0; i < SBC_QUERY_TRIES && rc == -EAGAIN; i++) {
		memset(c->in, 0, c->in_len);
		rc = sg_send(s, c);
		if (rc == -EAGAIN && i)
			dev_nap_ns(10000000);
	}
	return rc;
}

/* ---- the atomic operation ----------------------------------------------------------------- */

static int sync_cache(struct sg_dev *s)
{
	struct sg_cmd c = {0};
	uint64_t until_ns = dev_deadline_ns(&s->dev);
	bool short_form = false;
	int rc;

	for (;;) {
		c.cdb_len = short_form ? sbc_cdb_sync10(c.cdb) : sbc_cdb_sync16(c.cdb);
		rc = sg_send(s, &c);
		if ((rc == -EOPNOTSUPP || rc == -EINVAL) && !short_form)
			short_form = true;
		else if (rc != -EAGAIN || dev_now_ns() >= until_ns)
			return rc;
		else
			dev_nap_ns(2000000);
	}
}

/*
 * A command that the device does not know may end as an error of the adapter, which had other
 * ideas of how much data there would be. "Not supported" is believed of a device that does not
 * claim the command and has never done it.
 */
static bool never_knew_it(struct sg_dev *s, const struct sg_cmd *c)
{
	return c->host == HOST_ERROR && !s->max_caw && !atomic_load(&s->caw_seen);
}

static int caw_once(struct sg_dev *s, uint64_t off_bytes, const uint8_t *both, bool fua,
		    enum dev_cause *why)
{
	uint32_t sector = s->dev.id.sector_bytes;
	struct sg_cmd c = {.out = both, .out_len = 2u * sector};
	int rc;

	c.cdb_len = sbc_cdb_caw(c.cdb, (s->start_bytes + off_bytes) / sector, fua);
	rc = sg_send(s, &c);
	*why = c.cause;
	if (rc == -ETIMEDOUT && never_knew_it(s, &c)) {
		*why = DEV_CAUSE_OPCODE;
		return -EOPNOTSUPP;
	}
	if (rc >= 0)
		atomic_store(&s->caw_seen, true);
	return rc;
}

static int caw_both(struct sg_dev *s, uint64_t off_bytes, const uint8_t *both, enum dev_cause *why)
{
	bool fua = !atomic_load(&s->no_fua);
	int rc = caw_once(s, off_bytes, both, fua, why);

	if (rc == -EINVAL && fua) {
		fua = false;
		rc = caw_once(s, off_bytes, both, false, why);
		if (rc >= 0)
			atomic_store(&s->no_fua, true);
	}
	if (rc == DEV_CAW_GOOD && !fua && sync_cache(s)) {
		*why = DEV_CAUSE_NOT_DURABLE;
		return -ETIMEDOUT; /* it stands, but nobody knows whether it would survive */
	}
	return rc == -EINVAL ? -EOPNOTSUPP : rc;
}

struct caw_batch {
	struct dev *d;
	struct dev_caw_io *io;
	uint64_t from_ns, not_after_ns;
	uint64_t scout_ns; /* what the scout took: the device's time */
	int refused;	   /* by the scout, with this error */
};

static struct caw_batch caw_begin(struct dev *d, struct dev_caw_io *io)
{
	struct caw_batch b = {.d = d, .io = io, .from_ns = dev_now_ns()};

	b.refused = sg_scout(sg_of(d), &b.not_after_ns);
	b.scout_ns = dev_now_ns() - b.from_ns;
	b.from_ns += b.scout_ns;
	return b;
}

static bool caw_admitted(const struct caw_batch *b, struct dev_caw_io *io)
{
	io->result = b->refused;
	if (!io->result && dev_now_ns() > b->not_after_ns)
		io->result = -EAGAIN;
	io->cause = io->result == -EAGAIN ? DEV_CAUSE_NOT_SENT : DEV_CAUSE_NONE;
	return !io->result;
}

static void caw_element(void *arg, size_t i)
{
	struct caw_batch *b = arg;
	struct dev_caw_io *io = &b->io[i];
	uint32_t sector = b->d->id.sector_bytes;
	uint8_t *both = dev_buf_alloc(2u * sector);
	uint64_t sent_ns = dev_now_ns();

	memcpy(both, io->test, sector);
	memcpy(both + sector, io->set, sector);
	if (caw_admitted(b, io)) {
		io->result = caw_both(sg_of(b->d), io->off_bytes, both, &io->cause);
		scout_answered(&sg_of(b->d)->scout, sent_ns, io->result, io->cause);
	}
	io->wait_ns = sent_ns - b->from_ns;
	io->device_ns = dev_now_ns() - sent_ns + b->scout_ns;
	free(both);
}

static int sg_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	struct dev_caw_io io = {.off_bytes = off_bytes, .test = test, .set = set};
	struct caw_batch b = caw_begin(d, &io);

	caw_element(&b, 0);
	return io.result;
}

static void sg_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n)
{
	struct caw_batch b = caw_begin(d, io);

	if (n > 1 && sg_of(d)->pool) {
		pool_run(sg_of(d)->pool, n, caw_element, &b);
		return;
	}
	for (size_t i = 0; i < n; i++)
		caw_element(&b, i);
}

/* ---- plain I/O ---------------------------------------------------------------------------- */

static int sg_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	return fdio_read(&sg_of(d)->f, off_bytes, len_bytes, buf);
}

static int sg_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	return fdio_write(&sg_of(d)->f, off_bytes, len_bytes, buf);
}

static int sg_flush(struct dev *d)
{
	return fdio_flush(&sg_of(d)->f);
}

static int sg_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	return fdio_discard(&sg_of(d)->f, off_bytes, len_bytes);
}

static int sg_zero(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	return fdio_zero(&sg_of(d)->f, off_bytes, len_bytes);
}

static void sg_batch(struct dev *d, struct dev_io *io, size_t n)
{
	fdio_batch(&sg_of(d)->f, io, n);
}

static struct dev_lane *sg_lane_new(struct dev *d)
{
	return fdio_lane_new(&sg_of(d)->f, d);
}

/*
 * The kernel gave a command up. Does the device answer at all? Then it failed, unless it goes well
 * now; else it is as if there was no answer: an array between two controllers is no bad disk.
 */
static int sg_doubt(void *ctx, unsigned tries)
{
	struct sg_dev *s = ctx;
	int rc = -EAGAIN;

	for (unsigned i = 0; i < SBC_QUERY_TRIES && rc == -EAGAIN; i++) {
		struct sg_cmd c = {0};

		c.cdb_len = sbc_cdb_test_unit_ready(c.cdb);
		rc = sg_send(s, &c);
		if (rc == -EAGAIN && c.cause != DEV_CAUSE_UNIT_ATTENTION)
			return -ETIMEDOUT;
	}
	if (rc == -ENODEV)
		return sysfs_has_block(s->rdev) ? -ETIMEDOUT : rc;
	if (rc == -ETIMEDOUT)
		return rc;
	return tries < DOUBTS ? 0 : -EIO;
}

/*
 * A logical unit reset: aborts every command on it (SAM-5 8.5), those of other hosts too, which
 * see a unit attention and send them again. Asked for only after a command of unknown fate.
 */
static int sg_drain(struct dev *d)
{
	int what = SG_SCSI_RESET_DEVICE | RESET_NO_ESCALATE;

	if (!ioctl(sg_of(d)->sg_fd, SG_SCSI_RESET, &what))
		return 0;
	/* The adapter says EIO for a reset that failed; while the device is away they all do. */
	return errno == EIO || errno == EBUSY || errno == EAGAIN ? -ETIMEDOUT : -EOPNOTSUPP;
}

/* ---- open and close ----------------------------------------------------------------------- */

static void sg_facts(struct dev *d, char *buf, size_t len)
{
	sysfs_facts(sg_of(d)->rdev, buf, len);
}

static void sg_close(struct dev *d)
{
	struct sg_dev *s = sg_of(d);

	fdio_close(&s->f); /* what is on its way may still ask the device by sg_fd */
	if (s->sg_fd >= 0)
		scsi_pt_close_device(s->sg_fd);
	pool_free(s->pool);
	free(s);
}

static const struct dev_ops sg_ops = {
    .read = sg_read,
    .write = sg_write,
    .flush = sg_flush,
    .discard = sg_discard,
    .write_zeroes = sg_zero,
    .compare_and_write = sg_caw,
    .batch = sg_batch,
    .caw_batch = sg_caw_batch,
    .lane_new = sg_lane_new,
    .drain = sg_drain,
    .facts = sg_facts,
    .pr = &sg_pr_ops,
    .close = sg_close,
};

static int identify(struct sg_dev *s, const struct dev_open_args *a)
{
	struct dev_identity *id = &s->dev.id;
	uint8_t data[SBC_DATA_MAX];
	struct sg_cmd c = {.in = data, .in_len = sizeof(data)};
	struct sbc_limits limits = {0};
	int rc;

	c.cdb_len = sbc_cdb_inquiry(c.cdb);
	rc = sg_ask(s, &c);
	if (rc)
		return dev_refuse(a, rc < 0 ? rc : -EIO,
				  "%s does not answer INQUIRY (%s); is it a SCSI "
				  "disk, and may this user send it commands?",
				  a->name, strerror(-rc));
	if ((data[0] & 0x1f) != TYPE_DISK)
		return dev_refuse(a, -ENOTBLK, "%s is a SCSI device, but not a disk.", a->name);
	sbc_product(data, c.got, id->product, sizeof(id->product));
	c.cdb_len = sbc_cdb_vpd(c.cdb, SBC_VPD_ID);
	if (!sg_ask(s, &c))
		sbc_designator(data, c.got, id->dev_id, sizeof(id->dev_id));
	c.cdb_len = sbc_cdb_vpd(c.cdb, SBC_VPD_LIMITS);
	if (!sg_ask(s, &c))
		sbc_limits_decode(data, c.got, &limits);
	s->max_caw = limits.max_caw;
	id->caw_claim_sectors = limits.max_caw;
	return 0;
}

/* The pass-through and the block layer must talk about the same sectors. */
static int check_capacity(struct sg_dev *s, const struct dev_open_args *a)
{
	uint8_t data[SBC_CAP_BYTES];
	struct sg_cmd c = {.in = data, .in_len = sizeof(data)};
	struct sbc_capacity cap;
	int rc;

	c.cdb_len = sbc_cdb_capacity16(c.cdb);
	rc = sg_ask(s, &c);
	if (rc == -EOPNOTSUPP || rc == -EINVAL)
		return 0; /* an old disk; COMPARE AND WRITE will tell */
	if (rc)
		return dev_refuse(a, rc < 0 ? rc : -EIO, "%s does not answer READ CAPACITY: %s.",
				  a->name, strerror(-rc));
	if (!sbc_capacity_decode(data, c.got, &cap))
		return dev_refuse(a, -EMEDIUMTYPE,
				  "%s states a capacity that lunfs cannot use; its "
				  "sectors must have 512 or 4096 bytes.",
				  a->name);
	if (cap.sector_bytes != s->f.sector_bytes ||
	    s->start_bytes + s->f.size_bytes > cap.size_bytes)
		return dev_refuse(a, -EMEDIUMTYPE,
				  "%s: the kernel and the device disagree on its size or "
				  "sectors; rescan the device.",
				  a->name);
	if (cap.phys_bytes > s->dev.id.phys_bytes)
		s->dev.id.phys_bytes = cap.phys_bytes;
	return 0;
}

static int block_node(const struct dev_open_args *a, char *path, size_t len, dev_t *rdev)
{
	struct stat st;

	if (stat(a->name, &st))
		return dev_refuse_open(a, -errno);
	if (S_ISBLK(st.st_mode)) {
		snprintf(path, len, "%s", a->name);
	} else if (!sysfs_block_of_sg(st.st_rdev, path, len) || stat(path, &st)) {
		return dev_refuse(a, -ENOTBLK,
				  "%s belongs to no disk that this machine has a block "
				  "device for; is the sd driver loaded?",
				  a->name);
	}
	*rdev = st.st_rdev;
	return 0;
}

static int set_up(struct sg_dev *s, const struct dev_open_args *a, dev_t rdev)
{
	struct dev_identity *id = &s->dev.id;
	int rc = dev_check_sector(a, s->f.sector_bytes);

	if (rc)
		return rc;
	s->rdev = rdev;
	s->multipath = sysfs_what(rdev) == SYSFS_MULTIPATH;
	s->start_bytes = sysfs_start_bytes(rdev);
	s->sg_fd = scsi_pt_open_device(a->name, s->f.read_only, 0);
	if (s->sg_fd < 0)
		return dev_refuse_open(a, s->sg_fd);
	id->kind = DEV_KIND_SG;
	strncpy(id->name, a->name, sizeof(id->name) - 1);
	id->size_bytes = s->f.size_bytes;
	id->sector_bytes = s->f.sector_bytes;
	id->phys_bytes = s->f.phys_bytes;
	id->read_only = s->f.read_only;
	id->discard_max_bytes = fdio_discard_max(sysfs_discard_max(rdev));
	id->has_discard = id->discard_max_bytes;
	id->has_write_zeroes = true;
	rc = identify(s, a);
	return rc ? rc : check_capacity(s, a);
}

int sg_open(const struct dev_open_args *a, struct dev **out)
{
	struct sg_dev *s = calloc(1, sizeof(*s));
	char path[PATH_MAX];
	dev_t rdev = 0;
	int rc;

	if (!s)
		return dev_refuse_open(a, -ENOMEM);
	rc = block_node(a, path, sizeof(path), &rdev);
	if (!rc) {
		rc = fdio_open(&s->f, &s->dev, path, a->flags);
		if (rc)
			dev_refuse_open(a, rc);
	}
	if (rc) {
		free(s);
		return rc;
	}
	s->dev.ops = &sg_ops;
	s->sg_fd = -1;
	s->f.doubt = sg_doubt;
	s->f.doubt_ctx = s;
	s->pool = pool_new();
	rc = set_up(s, a, rdev);
	if (rc) {
		sg_close(&s->dev);
		return rc;
	}
	scout_init(&s->scout, &s->dev);
	*out = &s->dev;
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs-fsck-dies: fsck.lunfs that is killed once its log stands and nothing of it is in its place.
 */
#include "lunfs/dev.h"
#include "lunfs/format.h"

#include <signal.h>

int __real_dev_open(const char *name, unsigned flags, uint32_t sector_bytes, struct dev **out,
		    char *why, size_t why_len);
int __wrap_dev_open(const char *name, unsigned flags, uint32_t sector_bytes, struct dev **out,
		    char *why, size_t why_len);

static const struct dev_ops *real;
static struct dev_ops dying;

static int write_or_die(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	_Alignas(LUNFS_BLOCK_BYTES) uint8_t sector[LUNFS_BLOCK_BYTES];
	const struct lunfs_maint_rec *rec = (const void *)sector;

	if (real->read(d, LUNFS_MAINT_OFF, sizeof(sector), sector) == 0 &&
	    le32_get(rec->flags) & LUNFS_MAINT_REDO)
		raise(SIGKILL);
	return real->write(d, off_bytes, len_bytes, buf);
}

int __wrap_dev_open(const char *name, unsigned flags, uint32_t sector_bytes, struct dev **out,
		    char *why, size_t why_len)
{
	int rc = __real_dev_open(name, flags, sector_bytes, out, why, why_len);

	if (rc)
		return rc;
	real = (*out)->ops;
	dying = *real;
	dying.write = write_or_die;
	dying.batch = NULL; /* so that all writes come by */
	dying.lane_new = NULL;
	(*out)->ops = &dying;
	return 0;
}

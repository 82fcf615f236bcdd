/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the sg backend: one command through the pass-through (sg.c, the home of libsgutils2), and
 * the operations that sg_pr.c makes of them.
 */
#ifndef DEV_SG_IMPL_H
#define DEV_SG_IMPL_H

#include "dev/dev_impl.h"
#include "dev/fdio.h"
#include "dev/pool.h"
#include "dev/scout.h"
#include "dev/scsi.h"

#include <sys/types.h>

struct sg_dev {
	struct dev dev;
	struct fdio f;
	struct pool *pool; /* for batches of pass-through commands; NULL: one after the other */
	int sg_fd;
	dev_t rdev; /* of the block device */
	bool multipath;
	uint64_t start_bytes; /* of the partition on its disk: the pass-through counts from there */
	uint32_t max_caw;     /* VPD B0's claim, sectors */
	atomic_bool no_fua, caw_seen;
	struct scout scout;
};

struct sg_cmd {
	uint8_t cdb[SBC_CDB_MAX];
	size_t cdb_len;
	void *in;
	size_t in_len;
	const void *out; /* what comes with data changes something */
	size_t out_len;
	size_t got;	      /* out: bytes that came in */
	int host;	      /* out: host byte */
	enum dev_cause cause; /* out: where the result does not tell */
};

static inline struct sg_dev *sg_of(struct dev *d)
{
	return (struct sg_dev *)d;
}

/*
 * Send @c once by @fd. As sbc_outcome(); -EACCES: this user may not send it; -ENODEV, -EAGAIN: it
 * changed nothing.
 */
int sg_send_by(const struct sg_dev *s, int fd, struct sg_cmd *c);
/* A descriptor for one path of a multipath device, or a negative errno. */
int sg_path_open(const char *node);
void sg_path_close(int fd);

/* scout_ahead() along the path that the device's own node takes. */
int sg_scout(struct sg_dev *s, uint64_t *until_ns);

extern const struct dev_pr_ops sg_pr_ops;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several hosts on one simulated LUN that mkfs's own code formatted, each with the whole file
 * system below FUSE. After the last host is down, the medium is checked by fsck.lunfs -n.
 */
#ifndef VOL_FIXTURE_H
#define VOL_FIXTURE_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "simclock.h"
#include "simdev.h"
#include "vol/vol_impl.h"

#define VT_HOSTS 3u
#define VT_S 1000000000ull

struct vt {
	struct clock *clk;
	struct simdev_medium *medium;
	struct dev *first;
	struct geo geo;
	struct volume *v[VT_HOSTS];
	struct dev *dev[VT_HOSTS];
	uint64_t rng;
	bool no_fsck;
};

struct vt_shape {
	uint64_t size_bytes;   /* 0: 64 MiB */
	uint32_t sector_bytes; /* 0: 512 */
	uint64_t seed;
};

extern const struct op_ctx vt_root; /* uid 0, umask 022 */

/*
 * Format, run @body as the first task, take every host that is still up down, check.
 */
void vt_run(void (*body)(struct vt *t), const struct vt_shape *shape);
/* Seeds 1 to @n; LUNFS_SEED and LUNFS_SEEDS in the environment choose others. */
void vt_run_seeds(void (*body)(struct vt *t), unsigned n);
void vt_up(struct vt *t, unsigned host);
void vt_down(struct vt *t, unsigned host);
void vt_kill(struct vt *t, unsigned host); /* kill -9 and power off */
int vt_mount(struct vt *t, unsigned host, bool read_only, char *why, size_t why_len);
struct task *vt_task(struct vt *t, unsigned host, void (*fn)(void *), void *arg);
void vt_join(struct vt *t, struct task *task);
uint64_t vt_random(struct vt *t, uint64_t below);
void vt_settle(struct vt *t, unsigned host); /* orphans that can go are gone */

/* Short forms for tests; fail the test when the operation fails. */
struct nodeid vt_root_id(struct vt *t, unsigned host);
struct nodeid vt_mkfile(struct vt *t, unsigned host, struct nodeid dir, const char *name);
struct nodeid vt_mkdir(struct vt *t, unsigned host, struct nodeid dir, const char *name);
void vt_write(struct vt *t, unsigned host, struct nodeid id, uint64_t off, const void *buf,
	      size_t len);
size_t vt_read(struct vt *t, unsigned host, struct nodeid id, uint64_t off, void *buf, size_t len);
struct stat vt_stat(struct vt *t, unsigned host, struct nodeid id);
int vt_lookup(struct vt *t, unsigned host, struct nodeid dir, const char *name, struct nodeid *id);
int vt_truncate(struct vt *t, unsigned host, struct nodeid id, uint64_t size);
uint64_t vt_free_blks(struct vt *t, unsigned host);

#endif

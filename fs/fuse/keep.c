/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the kernel may keep names and attributes that it is told, and taking them back.
 *
 * They are right for as long as the lock that covers them is held here: a name (and that there is
 * none) by the directory's, attributes by the inode's. They are taken back before the lock is given
 * up, and never kept for longer than what is left of the lease. What follows says why nothing is
 * kept that was not taken back; it speaks of Linux's fs/fuse.
 *
 * Marks. An operation counts the revokes that have begun (keep_begin), works under the lock, lets
 * it go, marks the node (nodes.c), and counts again; if a revoke has begun meanwhile, of whatever
 * lock, the answer is not to be kept. A revoke is counted first and looks at the marks then. So
 * either the operation sees the revoke, or the revoke the mark; and it notifies before the lock is
 * given away. An operation that begins after the revoke waits for the lock and gets what is true
 * under the next possession.
 *
 * Attributes: FUSE_NOTIFY_INVAL_INODE with a negative offset, which touches no page and waits for
 * no request. It makes the inode's attr_version greater than that of every request which the
 * kernel has sent before; the kernel takes no attributes out of the answer to such a request
 * (GETATTR, LOOKUP, READDIRPLUS). What it takes at any rate is
 *  - the answer to SETATTR, LINK, MKNOD, MKDIR, SYMLINK: never to be kept;
 *  - the answer to CREATE. Before the kernel has made its inode the notification says ENOENT, and
 *    is sent again. A kernel that shows the inode before it has taken the attributes is given a
 *    millisecond for the few instructions in between, and notified once more: only when nothing
 *    has been heard of the new handle since the answer (nodes_is_fresh).
 * An answer that the kernel does not take leaves it with the size of before, and a read through
 * pages that has asked for the size goes by that one: sizes.c sees to it that this is right.
 * An inode that was forgotten while a LOOKUP is under way is made anew with the attributes of the
 * answer; the kernel notices by its count of evictions and fetches them once more (6.13; older
 * ones keep no names, and there attributes of a LOOKUP are not kept either).
 * Regular files with set-id bits are left out: the daemon clears these at a write.
 * All else that changes attributes here is a request which the kernel makes it forget them by, or
 * (nlink at an unlink) counts itself: it invalidates them after the answer, so also what a GETATTR
 * between change and answer has brought.
 *
 * Names: FUSE_NOTIFY_INC_EPOCH, which waits for nothing. Each name in the kernel's cache bears the
 * epoch that was read before its LOOKUP (CREATE, MKDIR ...) was sent, and is looked up anew in a
 * later one; an answer that is still on its way when the epoch ends is dead when it arrives. A name
 * that is validated by a LOOKUP keeps the epoch it had. Expiring single names would not do: that
 * waits for the directory's i_rwsem, which a waiting request holds, and misses a validation that is
 * on its way. A listing with attributes gives its names the epoch of its end, so on kernels with
 * epochs READDIRPLUS is not asked for. A rename takes a name with its epoch and time to another
 * directory: that is marked before and after.
 * One directory has one dentry, whatever name is looked up: two answers for it may mix. So for a
 * directory the mark is set also where its name is not to be kept.
 *
 * A name of an earlier epoch is unhashed when it is used next. A directory comes back under the
 * same dentry with the LOOKUP that follows (d_splice_alias), so a process stays where it is; but
 * what is mounted on a directory, in whatever name space, is taken off (d_invalidate). So before an
 * epoch ends the mounts are looked at. If there are any, names are not kept from then on, and the
 * last ones given out are waited for instead: on this way a thread that got its answer and did not
 * run for a second since would keep a name that is not true for the rest of its time.
 */
#include "fuse/front.h"
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

#define KEEP_MAX_NS (10000ull * 1000000)
#define TAKEN_UP_NS (1000ull * 1000000)	     /* by then the kernel has taken up an answer */
#define MOUNTS_AGAIN_NS (60000ull * 1000000) /* so long until mounts are looked for again */
#define ATTRS_MAX_NS (2000ull * 1000000) /* for an answer that the kernel has not taken up yet */
#define ATTRS_NAP_NS 50000ull
#define FRESH_NS 1000000ull
#define NOTIFY_INC_EPOCH 8

/* ---- giving out ------------------------------------------------------------------------------ */

uint64_t keep_begin(const struct front *f)
{
	return atomic_load(&f->revokes);
}

/* After the marks are set. */
static double seconds(struct front *f, uint64_t begun)
{
	uint64_t ns;

	if (atomic_load(&f->revokes) != begun)
		return 0;
	ns = vol_lease_left_ns(f->vol);
	return (double)(ns < KEEP_MAX_NS ? ns : KEEP_MAX_NS) / 1e9;
}

static double names_seconds(struct front *f, uint64_t now, double s)
{
	unsigned long long end = now + (uint64_t)(s * 1e9), was = atomic_load(&f->names_end_ns);

	while (end > was && !atomic_compare_exchange_weak(&f->names_end_ns, &was, end))
		;
	return s;
}

static bool may_keep_attrs(const struct vattr *va)
{
	return !S_ISREG(va->st.st_mode) || !(va->st.st_mode & (S_ISUID | S_ISGID));
}

double keep_attrs(struct front *f, const struct vattr *va, uint64_t begun)
{
	if (!may_keep_attrs(va))
		return 0;
	nodes_keep_attrs(f->nodes, va->id.ino);
	return seconds(f, begun);
}

/* Names were found to be in the way of mounts; are they still? */
static bool names_wanted(struct front *f, uint64_t now)
{
	unsigned long long until = atomic_load(&f->no_names_ns);

	if (!f->epochs || now < until)
		return false;
	if (until == 0)
		return true;
	if (!atomic_compare_exchange_strong(&f->no_names_ns, &until, now + MOUNTS_AGAIN_NS))
		return false;
	if (!mounts_beneath(f))
		atomic_store(&f->no_names_ns, 0);
	return false;
}

void keep_entry(struct front *f, uint64_t dir, const struct vattr *va, uint64_t begun,
		enum keep_how how, struct fuse_entry_param *e)
{
	uint64_t now = clock_now_ns(f->clk);
	struct entry_keep k = {.dir = dir,
			       .epoch = names_wanted(f, now) ? atomic_load(&f->epoch) : 0,
			       .now_ns = now,
			       .created = how == KEEP_CREATED};
	bool names = nodes_keep_entry(f->nodes, va, &k);
	double s = f->epochs ? seconds(f, begun) : 0;

	memset(e, 0, sizeof(*e));
	e->ino = front_nodeid(f, va->id.ino);
	e->generation = va->id.generation;
	e->attr = va->st;
	e->entry_timeout = names ? names_seconds(f, now, s) : 0;
	e->attr_timeout = how != KEEP_MADE && may_keep_attrs(va) ? s : 0;
}

double keep_absence(struct front *f, uint64_t dir, uint64_t begun)
{
	uint64_t now = clock_now_ns(f->clk);

	if (!names_wanted(f, now) || !nodes_keep_names(f->nodes, dir, atomic_load(&f->epoch), now))
		return 0;
	return names_seconds(f, now, seconds(f, begun));
}

void keep_moved_begin(struct front *f, uint64_t dir)
{
	if (f->epochs)
		nodes_keep_names(f->nodes, dir, atomic_load(&f->epoch), CLOCK_FOREVER);
}

void keep_moved_end(struct front *f, uint64_t dir, uint64_t begun)
{
	keep_moved_begin(f, dir);
	/* A revoke may have found the first mark before the operation had the lock. */
	if (f->epochs && atomic_load(&f->revokes) != begun)
		keep_no_names(f);
}

/* ---- taking back ----------------------------------------------------------------------------- */

void keep_end_epoch(struct front *f)
{
	struct fuse_out_header h = {.len = sizeof(h), .error = NOTIFY_INC_EPOCH};

	if (f->epochs && write(fuse_session_fd(f->se), &h, sizeof(h)) < 0 && errno != ENODEV)
		log_err("names-kept",
			"The kernel does not drop the names that it keeps (%s); it may show names "
			"that another host has changed for up to %llu s.",
			strerror(errno), KEEP_MAX_NS / 1000000000);
	atomic_fetch_add(&f->epoch, 1);
}

void keep_no_names(struct front *f)
{
	uint64_t now, end;

	if (!f->epochs)
		return;
	if (!mounts_beneath(f)) {
		keep_end_epoch(f);
		return;
	}
	now = clock_now_ns(f->clk);
	atomic_store(&f->no_names_ns, now + MOUNTS_AGAIN_NS);
	end = atomic_load(&f->names_end_ns) + TAKEN_UP_NS;
	if (now < end)
		clock_sleep_ns(f->clk, end - now);
}

void keep_no_attrs(struct front *f, uint64_t ino)
{
	uint64_t until = clock_now_ns(f->clk) + ATTRS_MAX_NS;
	fuse_ino_t id = front_nodeid(f, ino);

	while (fuse_lowlevel_notify_inval_inode(f->se, id, -1, 0) == -ENOENT &&
	       nodes_known(f->nodes, ino) && clock_now_ns(f->clk) < until)
		clock_sleep_ns(f->clk, ATTRS_NAP_NS);
	if (!nodes_is_fresh(f->nodes, ino))
		return;
	clock_sleep_ns(f->clk, FRESH_NS);
	fuse_lowlevel_notify_inval_inode(f->se, id, -1, 0);
}

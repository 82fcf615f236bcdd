/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inodes that do not decode, and single fields of those that do. A damaged inode is put right field
 * by field where the rest of it makes sense; what other passes know better (counts, sizes, the
 * parent) only gets a value that decodes here, and theirs in a later round.
 */
#include "base/crc.h"
#include "fsck/trees.h"
#include <stdio.h>
#include <string.h>

#define LINKS_MAX 0x7fffffffu
#define NS_PER_S 1000000000u
#define MODE_BITS ((uint32_t)(S_IFMT | 07777))
#define WRONG_MAX 3u /* with a wrong checksum: more is no inode any more */
#define DEPTH_MAX 8

/* ---- one field of a good inode --------------------------------------------------------------- */

int inode_load(struct fsck *f, uint64_t ino, uint8_t *payload)
{
	uint8_t sector[LUNFS_BLOCK_BYTES];

	return peek_cell(f, ino, sector, payload);
}

static int save(struct fsck *f, const struct fsck_inode *fi, struct lunfs_inode_pl *pl)
{
	return write_cell(f, fi->ino, pl, false);
}

int set_nlink(struct fsck *f, struct fsck_inode *fi, uint32_t nlink)
{
	struct lunfs_inode_pl pl;
	int rc = inode_load(f, fi->ino, (void *)&pl);

	fi->nlink = nlink;
	pl.nlink = le32_make(nlink);
	return rc ? rc : save(f, fi, &pl);
}

int set_parent(struct fsck *f, struct fsck_inode *fi, uint64_t parent)
{
	struct lunfs_inode_pl pl;
	int rc = inode_load(f, fi->ino, (void *)&pl);

	fi->parent = parent;
	pl.parent = le64_make(parent);
	return rc ? rc : save(f, fi, &pl);
}

int set_size(struct fsck *f, struct fsck_inode *fi, uint64_t size)
{
	struct lunfs_inode_pl pl;
	int rc = inode_load(f, fi->ino, (void *)&pl);

	fi->size = size;
	pl.size = le64_make(size);
	return rc ? rc : save(f, fi, &pl);
}

int set_blks(struct fsck *f, struct fsck_inode *fi, uint64_t blks)
{
	struct lunfs_inode_pl pl;
	int rc = inode_load(f, fi->ino, (void *)&pl);

	fi->blks = blks;
	pl.blks = le64_make(blks);
	return rc ? rc : save(f, fi, &pl);
}

int set_flags(struct fsck *f, struct fsck_inode *fi, uint32_t flags, uint16_t orphan_slot)
{
	struct lunfs_inode_pl pl;
	int rc = inode_load(f, fi->ino, (void *)&pl);

	fi->flags = flags;
	fi->orphan_slot = orphan_slot;
	pl.flags = le32_make(flags);
	pl.orphan_slot = le16_make(orphan_slot);
	return rc ? rc : save(f, fi, &pl);
}

void clear_inode(struct fsck *f, struct fsck_inode *fi, const struct cell_list *cells)
{
	for (size_t i = 0; cells && i < cells->n; i++)
		drop_cell(f, cells->c[i].addr);
	drop_cell(f, fi->ino);
	fi->gone = true;
}

/* ---- an inode that does not decode ----------------------------------------------------------- */

struct fix {
	struct fsck *f;
	uint64_t addr;
	struct lunfs_inode_pl *pl;
	unsigned wrong;
	bool only_size, only_special; /* so far nothing else was wrong */
	char what[160];
};

static void wrong(struct fix *x, const char *field)
{
	size_t have = strlen(x->what);

	snprintf(x->what + have, sizeof(x->what) - have, "%s%s", have ? ", " : "", field);
	x->wrong++;
}

static bool plausible_root(const uint8_t *area, size_t size)
{
	const struct lunfs_bt_head *h = (const void *)area;
	size_t slot = le16_get(h->level) ? sizeof(struct lunfs_bt_inner_slot)
					 : sizeof(struct lunfs_bt_leaf_slot);

	return le16_get(h->level) < DEPTH_MAX && le16_get(h->items) &&
	       sizeof(*h) + le16_get(h->items) * slot <= le16_get(h->body_off) &&
	       le16_get(h->body_off) <= size;
}

/* A leaf as root tells by its first item what it holds; else nothing is known. */
static size_t first_len(const uint8_t *area, size_t size)
{
	const struct lunfs_bt_head *h = (const void *)area;
	const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));

	return plausible_root(area, size) && le16_get(h->level) == 0 ? le16_get(s[0].len) : 0;
}

static void fix_head(struct fix *x)
{
	struct lunfs_inode_pl *p = x->pl;

	if (le16_get(p->hdr.reserved0) || le32_get(p->hdr.reserved1) ||
	    !mem_is_zero(p->reserved, sizeof(p->reserved))) {
		wrong(x, "reserved bytes");
		p->hdr.reserved0 = le16_make(0);
		p->hdr.reserved1 = le32_make(0);
		memset(p->reserved, 0, sizeof(p->reserved));
	}
	if (le64_get(p->hdr.guard) != x->addr) {
		wrong(x, "guard");
		p->hdr.guard = le64_make(x->addr);
	}
	if (le64_get(p->generation) == 0) {
		wrong(x, "generation");
		p->generation = p->hdr.guard_gen;
	} else if (le64_get(p->generation) != le64_get(p->hdr.guard_gen)) {
		wrong(x, "guard_gen");
		p->hdr.guard_gen = p->generation;
	}
}

static bool is_type(uint32_t mode)
{
	mode &= S_IFMT;
	return mode == S_IFREG || mode == S_IFDIR || mode == S_IFLNK || mode == S_IFCHR ||
	       mode == S_IFBLK || mode == S_IFIFO || mode == S_IFSOCK;
}

/* What else it says of itself: only directories have parents. */
static uint32_t guess_type(const struct fix *x)
{
	const struct lunfs_inode_pl *p = x->pl;
	size_t len =
	    p->data_format == LUNFS_FORK_TREE ? first_len(p->data_fork, sizeof(p->data_fork)) : 0;

	if (len && len != sizeof(struct lunfs_extent))
		return S_IFDIR;
	return le64_get(p->parent) && len == 0 && p->data_format != LUNFS_FORK_INLINE ? S_IFDIR
										      : S_IFREG;
}

static void fix_mode(struct fix *x)
{
	uint32_t mode = le32_get(x->pl->mode) & MODE_BITS;
	bool list = is_orphan_list(x->f, x->addr);

	if ((list || x->addr == x->f->geo.root_ino) && !S_ISDIR(mode))
		mode = S_IFDIR | (mode & 07777);
	else if (!is_type(mode))
		mode = guess_type(x) | (mode & 07777);
	if (mode == le32_get(x->pl->mode))
		return;
	wrong(x, "mode");
	x->pl->mode = le32_make(mode);
}

static void fix_time(struct fix *x, le32 *ns, const char *name)
{
	if (le32_get(*ns) < NS_PER_S)
		return;
	wrong(x, name);
	*ns = le32_make(0);
}

static void fix_counts(struct fix *x)
{
	struct lunfs_inode_pl *p = x->pl;

	fix_time(x, &p->atime_ns, "atime_ns");
	fix_time(x, &p->mtime_ns, "mtime_ns");
	fix_time(x, &p->ctime_ns, "ctime_ns");
	fix_time(x, &p->btime_ns, "btime_ns");
	if (le32_get(p->nlink) > LINKS_MAX) {
		wrong(x, "nlink");
		p->nlink = le32_make(1);
	}
	if (le64_get(p->blks) > x->f->geo.end_blk) {
		wrong(x, "blks");
		p->blks = le64_make(0);
	}
}

static void fix_orphan(struct fix *x)
{
	struct lunfs_inode_pl *p = x->pl;
	uint32_t flags = le32_get(p->flags) & (LUNFS_INODE_ORPHAN | LUNFS_INODE_ORPHAN_DIR);
	uint16_t slot = le16_get(p->orphan_slot);

	if (is_orphan_list(x->f, x->addr))
		flags = LUNFS_INODE_ORPHAN_DIR;
	else
		flags &= ~LUNFS_INODE_ORPHAN_DIR;
	if (flags != le32_get(p->flags)) {
		wrong(x, "flags");
		p->flags = le32_make(flags);
	}
	if (flags & LUNFS_INODE_ORPHAN ? slot >= LUNFS_MAX_SLOTS : slot != 0) {
		wrong(x, "orphan_slot");
		p->orphan_slot = le16_make(0);
	}
}

static void fix_parent(struct fix *x)
{
	const struct geo *g = &x->f->geo;
	struct lunfs_inode_pl *p = x->pl;
	uint64_t parent = le64_get(p->parent), want = parent;

	if (!S_ISDIR(le32_get(p->mode)))
		want = 0;
	else if (parent == 0 ? le32_get(p->flags) == 0
			     : parent < g->group0_blk || !cell_addr_ok(g, parent))
		want = le32_get(p->flags) & LUNFS_INODE_ORPHAN_DIR ? 0 : g->root_ino;
	if (want == parent)
		return;
	wrong(x, "parent");
	p->parent = le64_make(want);
}

static void fix_rdev(struct fix *x)
{
	struct lunfs_inode_pl *p = x->pl;
	uint32_t mode = le32_get(p->mode);

	if (S_ISCHR(mode) || S_ISBLK(mode) ||
	    (le32_get(p->rdev_major) == 0 && le32_get(p->rdev_minor) == 0))
		return;
	wrong(x, "rdev");
	p->rdev_major = p->rdev_minor = le32_make(0);
}

/* ---- forks and size -------------------------------------------------------------------------- */

static uint8_t guess_format(const struct fix *x)
{
	const struct lunfs_inode_pl *p = x->pl;

	if (mem_is_zero(p->data_fork, sizeof(p->data_fork)))
		return LUNFS_FORK_EMPTY;
	if (plausible_root(p->data_fork, sizeof(p->data_fork)) || S_ISDIR(le32_get(p->mode)))
		return LUNFS_FORK_TREE;
	return LUNFS_FORK_INLINE;
}

static bool format_ok(const struct lunfs_inode_pl *p)
{
	uint32_t mode = le32_get(p->mode);

	if (p->data_format > LUNFS_FORK_TREE)
		return false;
	if (S_ISDIR(mode))
		return p->data_format != LUNFS_FORK_INLINE;
	if (S_ISLNK(mode))
		return p->data_format != LUNFS_FORK_EMPTY ||
		       le32_get(p->flags) & LUNFS_INODE_ORPHAN;
	return S_ISREG(mode) || p->data_format == LUNFS_FORK_EMPTY;
}

static void fix_formats(struct fix *x)
{
	struct lunfs_inode_pl *p = x->pl;
	uint32_t mode = le32_get(p->mode);

	if (p->xattr_format != LUNFS_FORK_EMPTY && p->xattr_format != LUNFS_FORK_TREE) {
		wrong(x, "xattr_format");
		p->xattr_format = plausible_root(p->xattr_fork, sizeof(p->xattr_fork))
				      ? LUNFS_FORK_TREE
				      : LUNFS_FORK_EMPTY;
	}
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) {
		if (p->data_format != LUNFS_FORK_EMPTY || le64_get(p->size)) {
			x->only_special = x->wrong == 0;
			wrong(x, "data of a special file");
			p->data_format = LUNFS_FORK_EMPTY;
			p->size = le64_make(0);
		}
	} else if (!format_ok(p)) {
		wrong(x, "data_format");
		p->data_format = guess_format(x);
	}
}

/* Where the last extent of the file ends, by the right edge of its tree. */
static uint64_t end_of_tree(const struct fix *x)
{
	const struct lunfs_inode_pl *p = x->pl;
	const uint8_t *area = p->data_fork;
	size_t size = sizeof(p->data_fork);
	struct lunfs_bt_pl node;

	for (int depth = 0; depth < DEPTH_MAX && plausible_root(area, size); depth++) {
		const struct lunfs_bt_head *h = (const void *)area;
		const struct lunfs_bt_leaf_slot *s = (const void *)(area + sizeof(*h));
		const struct lunfs_bt_inner_slot *c = (const void *)(area + sizeof(*h));
		unsigned last = le16_get(h->items) - 1u;
		struct lunfs_extent e;

		if (le16_get(h->level) == 0) {
			if (le16_get(s[last].len) != sizeof(e) ||
			    le16_get(s[last].off) + sizeof(e) > size)
				return 0;
			memcpy(&e, area + le16_get(s[last].off), sizeof(e));
			return le64_get(s[last].key) + le32_get(e.len);
		}
		if (!tree_node(x->f, le64_get(c[last].child), x->addr, le64_get(p->generation),
			       &node))
			return 0;
		area = node.area;
		size = sizeof(node.area);
	}
	return 0;
}

static uint64_t guess_size(const struct fix *x)
{
	const struct lunfs_inode_pl *p = x->pl;
	uint64_t blks;
	size_t n = sizeof(p->data_fork);

	if (S_ISDIR(le32_get(p->mode)))
		return 0;
	if (p->data_format == LUNFS_FORK_INLINE) {
		while (n && p->data_fork[n - 1] == 0)
			n--;
		return n;
	}
	if (S_ISLNK(le32_get(p->mode)))
		return LUNFS_SYMLINK_MAX; /* the walk finds how much it is */
	blks = end_of_tree(x);
	return blks < INT64_MAX / LUNFS_BLOCK_BYTES ? blks * LUNFS_BLOCK_BYTES : 0;
}

static void fix_size(struct fix *x)
{
	struct lunfs_inode_pl *p = x->pl;
	uint64_t size = le64_get(p->size);

	if (p->data_format == LUNFS_FORK_INLINE && size > sizeof(p->data_fork)) {
		x->only_size = x->wrong == 0;
		wrong(x, "size");
		p->size =
		    le64_make(S_ISLNK(le32_get(p->mode)) ? guess_size(x) : sizeof(p->data_fork));
	} else if (size > INT64_MAX ||
		   (S_ISLNK(le32_get(p->mode)) && (size == 0 || size > LUNFS_SYMLINK_MAX))) {
		wrong(x, "size");
		p->size = le64_make(guess_size(x));
	}
}

/* ---- all of it ------------------------------------------------------------------------------- */

static bool reseals(const struct fsck *f, uint64_t addr, const struct lunfs_inode_pl *pl)
{
	struct lunfs_inode_pl copy = *pl;
	struct inode in;

	blk_seal(&copy);
	return blk_check(&f->geo, &copy, LUNFS_BLK_INODE, addr) == 0 &&
	       inode_decode(&f->geo, &copy, addr, &in) == 0;
}

static bool ask(struct fsck *f, const struct fix *x)
{
	if (x->wrong == 0)
		return problem(&f->problems, PROBLEM_CHECKSUM, x->addr, "inode %llu", ULL(x->addr));
	if (x->wrong == 1 && x->only_size)
		return problem(&f->problems, PROBLEM_INLINE_SIZE, x->addr, "inode %llu",
			       ULL(x->addr));
	if (x->wrong == 1 && x->only_special)
		return problem(&f->problems, PROBLEM_SPECIAL, x->addr, "inode %llu", ULL(x->addr));
	return problem(&f->problems, PROBLEM_INODE_FIELD, x->addr, "inode %llu: %s", ULL(x->addr),
		       x->what);
}

static void fix_fields(struct fix *x)
{
	fix_head(x);
	fix_mode(x);
	fix_counts(x);
	fix_orphan(x);
	fix_parent(x);
	fix_rdev(x);
	fix_formats(x);
	fix_size(x);
}

int fix_inode(struct fsck *f, uint64_t addr, uint8_t *payload)
{
	struct lunfs_inode_pl pl;
	struct fix x = {.f = f, .addr = addr, .pl = &pl};
	bool sealed = crc_ok(payload, LUNFS_PAYLOAD_BYTES, offsetof(struct lunfs_blk_hdr, crc));

	memcpy(&pl, payload, sizeof(pl));
	fix_fields(&x);
	if (reseals(f, addr, &pl) && (sealed || x.wrong <= WRONG_MAX)) {
		if (!ask(f, &x))
			return 1;
		memcpy(payload, &pl, sizeof(pl));
		return write_cell(f, addr, payload, false) ? 1 : 0;
	}
	if (problem(&f->problems, PROBLEM_INODE, addr, "inode %llu", ULL(addr)))
		drop_cell(f, addr);
	return 1;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Directory entries: form, hash, target, type, names that stand twice; counts the names of every
 * inode. What dirents_fix() changes is what was found and not left, so both go by the same rules.
 */
#include "base/log.h"
#include "base/siphash.h"
#include "fsck/trees.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAME_HASH_MAX 128u /* names of one hash */
#define RENAMED_MAX 4096u  /* in one directory: more of the same are an attack, not an accident */

bool is_orphan_list(const struct fsck *f, uint64_t ino)
{
	for (unsigned i = 0; i < f->geo.slots; i++)
		if (f->geo.orphan_ino[i] == ino)
			return true;
	return false;
}

bool is_place(const struct fsck *f, uint64_t cell)
{
	return cell == f->geo.root_ino || is_orphan_list(f, cell);
}

bool is_top(const struct fsck *f, const struct fsck_inode *fi)
{
	return fi->ino == f->geo.root_ino || fi->flags & LUNFS_INODE_ORPHAN_DIR;
}

uint64_t dirent_hash(const struct fsck *f, const uint8_t *name, size_t len)
{
	uint64_t h = siphash24(f->geo.hash_key, name, len) >> 8;

	return h ? h : 1;
}

/* ---- one entry ------------------------------------------------------------------------------- */

static bool type_ok(uint8_t type)
{
	return type == DT_REG || type == DT_DIR || type == DT_LNK || type == DT_CHR ||
	       type == DT_BLK || type == DT_FIFO || type == DT_SOCK;
}

static bool form_ok(const struct lunfs_dirent *de, size_t len)
{
	if (len < sizeof(*de) || de->name_len == 0 || len != sizeof(*de) + de->name_len)
		return false;
	if (memchr(de->name, '/', de->name_len) || memchr(de->name, 0, de->name_len))
		return false;
	return de->name[0] != '.' ||
	       !(de->name_len == 1 || (de->name_len == 2 && de->name[1] == '.'));
}

/* Why @de cannot name @fi, which has its number; NULL: it does. */
static const char *target_wrong(const struct fsck *f, const struct lunfs_dirent *de,
				const struct fsck_inode *fi)
{
	if (!fi)
		return "is none";
	if (fi->gone)
		return "is given up";
	if (is_place(f, fi->ino)) /* the superblock alone does */
		return "is one that no entry may name";
	return fi->generation == le64_get(de->generation) ? NULL : "has another generation";
}

static struct fsck_inode *target_of(struct fsck *f, const struct lunfs_dirent *de)
{
	struct fsck_inode *fi = inode_find(f, le64_get(de->ino));

	return target_wrong(f, de, fi) ? NULL : fi;
}

/* Orphans stand under their number. */
static bool list_name_ok(const struct lunfs_dirent *de)
{
	char name[17];

	snprintf(name, sizeof(name), "%016llx", ULL(le64_get(de->ino)));
	return de->name_len == 16 && memcmp(de->name, name, 16) == 0;
}

static bool same_name(const struct lunfs_dirent *a, const struct lunfs_dirent *b)
{
	return a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
}

/* ---- looking --------------------------------------------------------------------------------- */

struct dirent_ctx { /* names of the hash that was seen last */
	uint64_t hash;
	unsigned n;
	struct {
		uint8_t len, name[LUNFS_NAME_MAX];
	} seen[SAME_HASH_MAX];
};

static bool seen_before(struct dirent_ctx *c, uint64_t hash, const struct lunfs_dirent *de)
{
	if (hash != c->hash)
		c->n = 0;
	c->hash = hash;
	for (unsigned i = 0; i < c->n; i++)
		if (c->seen[i].len == de->name_len &&
		    !memcmp(c->seen[i].name, de->name, de->name_len))
			return true;
	if (c->n < SAME_HASH_MAX) {
		c->seen[c->n].len = de->name_len;
		memcpy(c->seen[c->n++].name, de->name, de->name_len);
	}
	return false;
}

static void extra_add(struct fsck *f, uint64_t dir, uint64_t target)
{
	struct trees *t = f->trees;

	t->extra = room_for_one(t->extra, t->extras, &t->extras_room, sizeof(*t->extra));
	t->extra[t->extras++] = (struct extra_name){dir, target};
}

/* Of several names of one directory the one in its parent counts. */
static void count_name(struct fsck *f, struct fsck_inode *dir, struct fsck_inode *fi)
{
	if (fi->links++ == 0) {
		fi->named_in = dir->ino;
	} else if (S_ISDIR(fi->mode)) {
		bool mine = dir->ino == fi->parent && fi->named_in != dir->ino;

		extra_add(f, mine ? fi->named_in : dir->ino, fi->ino);
		if (mine)
			fi->named_in = dir->ino;
	}
	if (S_ISDIR(fi->mode))
		dir->subdirs++;
}

static void count_listed(struct fsck *f, struct fsck_inode *dir, struct fsck_inode *fi)
{
	bool mine =
	    fi->orphan_slot < f->geo.slots && f->geo.orphan_ino[fi->orphan_slot] == dir->ino;

	if (fi->orphan_refs++ == 0) {
		fi->listed_in = dir->ino;
		return;
	}
	mine = mine && fi->listed_in != dir->ino;
	extra_add(f, mine ? fi->listed_in : dir->ino, fi->ino);
	if (mine)
		fi->listed_in = dir->ino;
}

static void check_target(struct fsck *f, struct tree_visit *v, uint64_t key,
			 const struct lunfs_dirent *de)
{
	struct fsck_inode *dir = v->fi, *fi = inode_find(f, le64_get(de->ino));
	const char *wrong = target_wrong(f, de, fi);

	if (wrong) {
		uint64_t ino = le64_get(de->ino);

		if (!fi && missed_cell(f, ino, ino, le64_get(de->generation))) {
			v->damaged = true; /* counts say nothing */
			return;
		}
		v->rebuild |= problem_item(&f->problems, PROBLEM_DIRENT_TARGET, dir->ino, key,
					   "'%.*s' in directory %llu names inode %llu, which %s",
					   de->name_len, (const char *)de->name, ULL(dir->ino),
					   ULL(le64_get(de->ino)), wrong);
		return;
	}
	if (de->type != IFTODT(fi->mode))
		v->rebuild |= problem_item(
		    &f->problems, PROBLEM_DIRENT_TYPE, dir->ino, key,
		    "'%.*s' in directory %llu says type %u, its inode says %u", de->name_len,
		    (const char *)de->name, ULL(dir->ino), de->type, (unsigned)IFTODT(fi->mode));
	if (!(dir->flags & LUNFS_INODE_ORPHAN_DIR))
		count_name(f, dir, fi);
	else if (list_name_ok(de))
		count_listed(f, dir, fi);
	else
		v->rebuild |=
		    problem_item(&f->problems, PROBLEM_ORPHAN_ENTRY, dir->ino, key,
				 "'%.*s' in list %llu is not the name of inode %llu", de->name_len,
				 (const char *)de->name, ULL(dir->ino), ULL(fi->ino));
}

static void visit_dirent(struct fsck *f, struct tree_visit *v, uint64_t key, const uint8_t *body,
			 size_t len)
{
	const struct lunfs_dirent *de = (const void *)body;
	uint64_t h;

	v->fi->names++;
	if (!form_ok(de, len)) {
		v->rebuild |= problem_item(&f->problems, PROBLEM_DIRENT, v->fi->ino, key,
					   "directory %llu, key %llu", ULL(v->fi->ino), ULL(key));
		return;
	}
	f->names++;
	h = dirent_hash(f, de->name, de->name_len);
	if (key >> 7 != h)
		v->rebuild |= problem_item(&f->problems, PROBLEM_DIRENT_HASH, v->fi->ino, key,
					   "'%.*s' in directory %llu cannot be found by its name",
					   de->name_len, (const char *)de->name, ULL(v->fi->ino));
	else if (seen_before(v->ctx, h, de))
		v->rebuild |= problem_item(&f->problems, PROBLEM_DIRENT_TWICE, v->fi->ino, key,
					   "'%.*s' in directory %llu", de->name_len,
					   (const char *)de->name, ULL(v->fi->ino));
	check_target(f, v, key, de);
}

void check_directory(struct fsck *f, struct fsck_inode *fi, const struct lunfs_inode_pl *pl)
{
	struct dirent_ctx *c = calloc(1, sizeof(*c));
	struct tree_visit v = {.fi = fi, .what = "directory", .item = visit_dirent, .ctx = c};

	lunfs_assert(c);
	if (pl->data_format == LUNFS_FORK_TREE)
		tree_walk(f, &v, pl->data_fork, sizeof(pl->data_fork));
	fi->counted += v.counted;
	fi->damaged |= v.damaged && !v.rebuild;
	if (v.rebuild)
		job_add(f, &v);
	else if (!v.damaged && fi->names != fi->size &&
		 problem(&f->problems, PROBLEM_DIR_SIZE, fi->ino,
			 "directory %llu says %llu entries, it has %llu", ULL(fi->ino),
			 ULL(fi->size), ULL(fi->names)))
		set_size(f, fi, fi->names);
	free(v.cells.c);
	free(c);
}

/* ---- putting right --------------------------------------------------------------------------- */

static bool left(const struct fsck *f, enum problem_code code, const struct fsck_inode *dir,
		 const struct item *it)
{
	return !it->found && problem_left(&f->problems, code, dir->ino, it->key);
}

static void fix_one(struct fsck *f, struct fsck_inode *dir, struct items *l, size_t i)
{
	struct lunfs_dirent *de = (void *)items_body(l, i);
	struct item *it = &l->it[i];
	struct fsck_inode *fi;

	if (!form_ok(de, it->len)) {
		it->drop = !left(f, PROBLEM_DIRENT, dir, it);
		it->aux = it->key >> 7;
		return;
	}
	it->aux = left(f, PROBLEM_DIRENT_HASH, dir, it) ? it->key >> 7
							: dirent_hash(f, de->name, de->name_len);
	fi = target_of(f, de);
	if (!fi) {
		it->drop = !left(f, PROBLEM_DIRENT_TARGET, dir, it);
		return;
	}
	if (!left(f, PROBLEM_DIRENT_TYPE, dir, it) || !type_ok(de->type))
		de->type = (uint8_t)IFTODT(fi->mode);
	if (dir->flags & LUNFS_INODE_ORPHAN_DIR && !list_name_ok(de))
		it->drop |= !left(f, PROBLEM_ORPHAN_ENTRY, dir, it);
}

static void apply_edit(struct fsck *f, struct items *l, const struct dir_edit *e)
{
	bool keep = e->kind == EDIT_DROP_BUT_ONE;
	uint8_t body[sizeof(struct lunfs_dirent) + sizeof(e->name)];
	struct lunfs_dirent *de = (void *)body;
	size_t len = strlen(e->name);

	if (e->kind == EDIT_ADD) {
		de->ino = le64_make(e->target);
		de->generation = le64_make(e->generation);
		de->type = e->type;
		de->name_len = (uint8_t)len;
		memcpy(de->name, e->name, len);
		items_add(l, UINT64_MAX, body, sizeof(*de) + len, false);
		l->it[l->n - 1].aux = dirent_hash(f, de->name, len);
		return;
	}
	for (size_t i = 0; i < l->n; i++) {
		const struct lunfs_dirent *old = (const void *)items_body(l, i);

		if (l->it[i].drop || !form_ok(old, l->it[i].len) || le64_get(old->ino) != e->target)
			continue;
		l->it[i].drop = !keep;
		keep = false;
	}
}

/* By hash; of one hash those that stand there already come before those that have to move there. */
static int by_hash(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	bool x_moves = x->key >> 7 != x->aux, y_moves = y->key >> 7 != y->aux;

	if (x->aux != y->aux)
		return x->aux < y->aux ? -1 : 1;
	if (x->found != y->found)
		return x->found - y->found;
	if (x_moves != y_moves)
		return x_moves - y_moves;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

/* First item of that hash in the first @n, which are sorted. */
static size_t find_hash(const struct items *l, size_t n, uint64_t hash)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->it[mid].aux < hash)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool name_taken(struct fsck *f, const struct items *l, size_t sorted,
		       const struct lunfs_dirent *de)
{
	uint64_t h = dirent_hash(f, de->name, de->name_len);

	for (size_t i = find_hash(l, sorted, h); i < sorted && l->it[i].aux == h; i++)
		if (!l->it[i].drop && form_ok((void *)items_body(l, i), l->it[i].len) &&
		    same_name((void *)items_body(l, i), de))
			return true;
	for (size_t i = sorted; i < l->n; i++) /* those renamed before */
		if (same_name((void *)items_body(l, i), de))
			return true;
	return false;
}

/* Of one hash: the names that stay, and the number that the last one was renamed to. */
struct same {
	uint64_t hash;
	size_t at[SAME_HASH_MAX];
	unsigned n, dup;
};

/*
 * "name" becomes "name.dup1", or the next number that is free. Added at the end of @l. What is not
 * renamed any more is dropped: its inode goes to lost+found.
 */
static void rename_dup(struct fsck *f, struct items *l, size_t sorted, size_t i, struct same *same)
{
	uint8_t body[sizeof(struct lunfs_dirent) + LUNFS_NAME_MAX];
	const struct lunfs_dirent *old = (const void *)items_body(l, i);
	struct lunfs_dirent *de = (void *)body;
	size_t len = old->name_len;
	char suffix[32];

	l->it[i].drop = true;
	if (l->n - sorted >= RENAMED_MAX)
		return;
	memcpy(body, old, sizeof(*old) + old->name_len);
	for (;;) {
		size_t more = (size_t)snprintf(suffix, sizeof(suffix), ".dup%u", ++same->dup);
		size_t keep = len + more > LUNFS_NAME_MAX ? LUNFS_NAME_MAX - more : len;

		memcpy(de->name + keep, suffix, more);
		de->name_len = (uint8_t)(keep + more);
		if (!name_taken(f, l, sorted, de))
			break;
	}
	items_add(l, UINT64_MAX, body, sizeof(*de) + de->name_len, false);
	l->it[l->n - 1].aux = dirent_hash(f, de->name, de->name_len);
}

/* @same: those of its hash before it, as far as there is room for them in a directory. */
static void fix_twice(struct fsck *f, struct fsck_inode *dir, struct items *l, size_t sorted,
		      size_t i, struct same *same)
{
	const struct lunfs_dirent *de = (const void *)items_body(l, i);

	for (unsigned k = same->n; k-- > 0;) {
		const struct lunfs_dirent *first = (const void *)items_body(l, same->at[k]);

		if (!same_name(first, de))
			continue;
		if (le64_get(first->ino) == le64_get(de->ino))
			l->it[i].drop = true;
		else if (l->it[i].found || l->it[i].key == UINT64_MAX ||
			 (l->it[i].key >> 7 == l->it[i].aux &&
			  !left(f, PROBLEM_DIRENT_TWICE, dir, &l->it[i])))
			rename_dup(f, l, sorted, i, same);
		break;
	}
	if (!l->it[i].drop && same->n < SAME_HASH_MAX)
		same->at[same->n++] = i;
}

static void fix_all_twice(struct fsck *f, struct fsck_inode *dir, struct items *l, size_t sorted)
{
	struct same same = {0};

	for (size_t i = 0; i < sorted; i++) {
		if (l->it[i].aux != same.hash)
			same = (struct same){.hash = l->it[i].aux};
		if (!l->it[i].drop && form_ok((void *)items_body(l, i), l->it[i].len))
			fix_twice(f, dir, l, sorted, i, &same);
	}
}

/* Entries of one hash, [from, to): each keeps its key if it may, the others get free ones. */
static void place(struct items *l, size_t from, size_t to)
{
	bool taken[SAME_HASH_MAX] = {false};
	uint64_t hash = l->it[from].aux;
	unsigned n = 0;

	for (size_t i = from; i < to; i++) {
		struct item *it = &l->it[i];
		unsigned own = it->key & (SAME_HASH_MAX - 1);

		if (it->drop || it->key >> 7 != hash || taken[own])
			it->key = UINT64_MAX;
		else
			taken[own] = true;
	}
	for (size_t i = from; i < to; i++) {
		if (l->it[i].drop || l->it[i].key != UINT64_MAX)
			continue;
		while (n < SAME_HASH_MAX && taken[n])
			n++;
		l->it[i].drop = n == SAME_HASH_MAX;
		l->it[i].key = hash << 7 | n;
		if (n < SAME_HASH_MAX)
			taken[n] = true;
	}
}

void dirents_fix(struct fsck *f, struct fsck_inode *dir, struct items *l,
		 const struct dir_edit *edits, size_t n)
{
	size_t sorted;

	for (size_t i = 0; i < l->n; i++)
		fix_one(f, dir, l, i);
	for (size_t i = 0; i < n; i++)
		apply_edit(f, l, &edits[i]);
	if (l->n)
		qsort(l->it, l->n, sizeof(*l->it), by_hash);
	sorted = l->n;
	fix_all_twice(f, dir, l, sorted);
	if (l->n > sorted)
		qsort(l->it, l->n, sizeof(*l->it), by_hash);
	for (size_t i = 0, to; i < l->n; i = to) {
		for (to = i + 1; to < l->n && l->it[to].aux == l->it[i].aux;)
			to++;
		place(l, i, to);
	}
	items_squeeze(l);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists: the items of a node, of a whole directory, of a file; the transactions of a journal. */
#include "cli/dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what an item is ------------------------------------------------------------------------- */

static void put_word(struct json_object *o, const char *key, const struct insp_field *f, uint64_t v)
{
	char text[INSP_TEXT_BYTES];

	insp_meaning(f, v, text, sizeof(text));
	dump_add_str(o, key, text);
}

static const struct insp_field *field_of(const struct insp_struct *st, const char *name)
{
	unsigned i = 0;

	while (strcmp(st->field[i].name, name) != 0)
		i++;
	return &st->field[i];
}

static bool put_dirent(const uint8_t *body, size_t len, struct json_object *o)
{
	const struct lunfs_dirent *de = (const void *)body;

	if (len <= offsetof(struct lunfs_dirent, name) ||
	    len - offsetof(struct lunfs_dirent, name) != de->name_len)
		return false;
	dump_add_bytes(o, "name", de->name, de->name_len);
	dump_add_u64(o, "ino", le64_get(de->ino));
	dump_add_u64(o, "generation", le64_get(de->generation));
	put_word(o, "type", field_of(&insp_dirent, "type"), de->type);
	return true;
}

static bool put_xattr(const uint8_t *body, size_t len, struct json_object *o)
{
	const struct lunfs_xattr *x = (const void *)body;

	if (len < sizeof(*x) || len - sizeof(*x) != (size_t)x->name_len + le16_get(x->part_len) ||
	    x->ns < LUNFS_XATTR_USER || x->ns > LUNFS_XATTR_SYSTEM)
		return false;
	put_word(o, "namespace", field_of(&insp_xattr, "ns"), x->ns);
	if (x->name_len)
		dump_add_bytes(o, "name", x->data, x->name_len);
	dump_add_u64(o, "part_len", le16_get(x->part_len));
	dump_add_u64(o, "value_len", le32_get(x->value_len));
	return true;
}

static bool put_extent(const uint8_t *body, size_t len, struct json_object *o)
{
	const struct lunfs_extent *e = (const void *)body;

	if (len != sizeof(*e))
		return false;
	dump_add_u64(o, "blk", le64_get(e->blk));
	dump_add_u64(o, "len", le32_get(e->len));
	put_word(o, "flags", field_of(&insp_extent, "flags"), le32_get(e->flags));
	return true;
}

/* By its lengths, which hardly ever fit two kinds; an extent is asked for last. */
static void put_body(const uint8_t *body, size_t len, struct json_object *o)
{
	if (!put_dirent(body, len, o) && !put_xattr(body, len, o))
		put_extent(body, len, o);
}

/* ---- a node ---------------------------------------------------------------------------------- */

void dump_items(const struct dump *d, const struct insp_place *p, const uint8_t *buf,
		struct json_object *to)
{
	struct json_object *list = json_object_new_array();
	const struct insp_part *slots = NULL;
	uint32_t area;

	(void)d;
	for (unsigned i = 0; i < p->parts; i++)
		if (p->part[i].array)
			slots = &p->part[i];
	area = slots->off - (uint32_t)sizeof(struct lunfs_bt_head);
	for (uint32_t i = 0; i < slots->count; i++) {
		const uint8_t *at = buf + slots->off + i * slots->st->size;
		struct json_object *o = json_object_new_object();

		dump_add_u64(o, "slot", i);
		if (slots->st == &insp_bt_inner_slot) {
			const struct lunfs_bt_inner_slot *s = (const void *)at;

			dump_add_u64(o, "key", le64_get(s->key));
			dump_add_u64(o, "child", le64_get(s->child));
		} else {
			const struct lunfs_bt_leaf_slot *s = (const void *)at;
			uint32_t off = area + le16_get(s->off), len = le16_get(s->len);

			dump_add_u64(o, "key", le64_get(s->key));
			dump_add_u64(o, "off", le16_get(s->off));
			dump_add_u64(o, "length", len);
			if (off <= p->len_bytes && len <= p->len_bytes - off)
				put_body(buf + off, len, o);
		}
		json_object_array_add(list, o);
	}
	json_object_object_add(to, "items", list);
}

/* ---- a tree ---------------------------------------------------------------------------------- */

struct list {
	struct json_object *items;
	bool (*put)(const uint8_t *body, size_t len, struct json_object *o);
	const char *key; /* what a key is called */
	bool cut;
};

static int add_item(void *ctx, const struct insp_item *it)
{
	struct list *l = ctx;
	struct json_object *o;

	if (json_object_array_length(l->items) >= DUMP_ITEMS_MAX) {
		l->cut = true;
		return 1;
	}
	o = json_object_new_object();
	dump_add_u64(o, l->key, it->key);
	if (!it->len || !l->put(it->body, it->len, o))
		dump_add_str(o, "damaged", "its body makes no sense");
	dump_add_u64(o, "cell", it->cell);
	json_object_array_add(l->items, o);
	return 0;
}

static int list_tree(const struct dump *d, const char *path, enum insp_fork fork, struct list *l,
		     struct json_object *to, char *why, size_t why_len)
{
	struct insp_walk w = {.ctx = l, .item = add_item, .hi = UINT64_MAX};
	struct dump_fresh f = {0};
	uint64_t ino;
	int rc = insp_path(&d->in, path, &ino, why, why_len);

	if (rc)
		return rc;
	dump_add_time(d, to);
	dump_add_u64(to, "ino", ino);
	dump_fresh_begin(d, ino, &f);
	l->items = json_object_new_array();
	json_object_object_add(to, "items", l->items);
	rc = insp_walk(&d->in, ino, fork, &w);
	dump_fresh_end(d, &f);
	dump_add_fresh(d, &f, to);
	dump_add_u64(to, "nodes", w.nodes);
	dump_add_u64(to, "damaged_nodes", w.bad);
	if (l->cut)
		json_object_object_add(to, "more", json_object_new_boolean(true));
	if (rc < 0)
		snprintf(why, why_len, "%s: its tree cannot be walked: %s", path, strerror(-rc));
	return rc < 0 ? rc : 0;
}

/* ---- a journal ------------------------------------------------------------------------------- */

static void put_entries(const struct dump *d, unsigned slot, const struct insp_txn *t,
			struct json_object *to)
{
	struct json_object *list = json_object_new_array();
	struct lunfs_jdesc *desc = dev_buf_alloc(sizeof(*desc));
	uint32_t ring = d->geo.journal_blks - 1;

	for (uint32_t i = 0; i < t->n_entries; i++) {
		const struct lunfs_jentry *e = &desc->entry[i % LUNFS_JDESC_ENTRIES];
		uint64_t blk =
		    d->geo.journal_blk[slot] + 1 + (t->pos + i / LUNFS_JDESC_ENTRIES) % ring;
		struct json_object *o;

		if (i % LUNFS_JDESC_ENTRIES == 0 &&
		    insp_read(&d->in, geo_blk_off(blk), sizeof(*desc), desc))
			break;
		o = json_object_new_object();
		put_word(o, "kind", field_of(&insp_jentry, "kind"), le16_get(e->kind));
		dump_add_u64(o, "addr", le64_get(e->addr));
		dump_add_u64(o, "guard", le64_get(e->guard));
		dump_add_u64(o, "possession_seq", le64_get(e->possession_seq));
		dump_add_u64(o, "version", le64_get(e->version));
		dump_add_u64(o, "off_bytes", le16_get(e->off_bytes));
		dump_add_u64(o, "len_bytes", le16_get(e->len_bytes));
		json_object_array_add(list, o);
	}
	free(desc);
	json_object_object_add(to, "items", list);
}

/* The log from the tail on, as far as transactions follow each other. */
static int list_log(const struct dump *d, const char *arg, struct json_object *to, char *why,
		    size_t why_len)
{
	struct json_object *list = json_object_new_array();
	unsigned long slot;
	struct insp_txn t;
	char *end;
	int rc;

	slot = strtoul(arg, &end, 0);
	json_object_object_add(to, "transactions", list);
	if (end == arg || *end || slot >= LUNFS_MAX_SLOTS || !d->geo.journal_blk[slot]) {
		snprintf(why, why_len, "log:%s: there is no journal of that slot", arg);
		return -ENOENT;
	}
	dump_add_time(d, to);
	rc = insp_journal_first(&d->in, (unsigned)slot, &t);
	for (unsigned n = 0; rc == 0; n++) {
		struct json_object *o = json_object_new_object();

		dump_add_u64(o, "transaction", n);
		dump_add_u64(o, "block", t.pos + 1);
		dump_add_u64(o, "blocks", t.blks);
		dump_add_u64(o, "seq", t.seq);
		dump_add_u64(o, "nonce", t.nonce);
		json_object_object_add(o, "passed", json_object_new_boolean(t.valid));
		if (t.why)
			dump_add_str(o, "text", t.why);
		if (t.blks)
			put_entries(d, (unsigned)slot, &t, o);
		json_object_array_add(list, o);
		rc = t.valid ? insp_journal_next(&d->in, (unsigned)slot, &t) : -ENOENT;
	}
	if (rc && rc != -ENOENT)
		snprintf(why, why_len, "log:%s cannot be read: %s", arg, strerror(-rc));
	return rc == -ENOENT ? 0 : rc;
}

int dump_list(const struct dump *d, const char *what, struct json_object *to, char *why,
	      size_t why_len)
{
	struct list l = {.key = "key"};

	if (strncmp(what, "dir:", 4) == 0) {
		l.put = put_dirent;
		return list_tree(d, what + 4, INSP_DATA, &l, to, why, why_len);
	}
	if (strncmp(what, "extents:", 8) == 0) {
		l.put = put_extent;
		l.key = "lblk";
		return list_tree(d, what + 8, INSP_DATA, &l, to, why, why_len);
	}
	if (strncmp(what, "attributes:", 11) == 0) {
		l.put = put_xattr;
		return list_tree(d, what + 11, INSP_XATTRS, &l, to, why, why_len);
	}
	if (strncmp(what, "log:", 4) == 0)
		return list_log(d, what + 4, to, why, why_len);
	return -EINVAL;
}

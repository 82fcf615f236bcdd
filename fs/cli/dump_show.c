/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One structure as a JSON object: where it stands, its fields, the checks it passes and fails, and
 * how fresh it is. On a volume in use the newest contents of a guarded structure may be in the
 * journal or the memory of the host that holds its lock exclusively: the lock record tells, read
 * before and after the structure itself.
 */
#include "cli/dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READS 3u /* of a structure whose checksum is wrong: a host may be writing it */
#define READ_AGAIN_NS 20000000ull
#define RANGES_MAX 16u
#define BYTES_SHOWN 32u

/* ---- fields ---------------------------------------------------------------------------------- */

static void hex_text(const uint8_t *at, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", at[i]);
	out[2 * len] = '\0';
}

void dump_add_bytes(struct json_object *o, const char *key, const void *at, size_t len)
{
	char *s = calloc(1, len + 1);

	if (!s)
		return;
	memcpy(s, at, len);
	cli_add_text(o, key, s);
	free(s);
}

static void bitmap_text(const uint8_t *at, uint32_t bytes, struct json_object *o)
{
	char text[512] = "";
	unsigned ranges = 0, set = 0;
	size_t n = 0;

	for (uint32_t i = 0; i < bytes * 8;) {
		uint32_t first = i;

		while (i < bytes * 8 && at[i / 8] >> i % 8 & 1)
			i++;
		set += i - first;
		if (i > first && ranges++ < RANGES_MAX)
			n += (size_t)snprintf(text + n, sizeof(text) - n,
					      first + 1 == i ? "%s%u" : "%s%u-%u", n ? "," : "",
					      first, i - 1);
		i += i == first;
	}
	if (ranges > RANGES_MAX)
		snprintf(text + n, sizeof(text) - n, ",... (%u more)", ranges - RANGES_MAX);
	dump_add_u64(o, "value", set);
	dump_add_str(o, "text", text);
}

static bool all_zero(const uint8_t *at, size_t len)
{
	while (len && !at[len - 1])
		len--;
	return len == 0;
}

static void bytes_text(const struct insp_field *f, const uint8_t *at, struct json_object *o)
{
	char hex[2 * LUNFS_BLOCK_BYTES + 1], uuid[37];
	uint32_t n = f->width, show = n;

	if (f->kind == INSP_TEXT) {
		dump_add_bytes(o, "text", at, n);
	} else if (f->kind == INSP_UUID) {
		cli_uuid_string(at, uuid);
		dump_add_str(o, "text", uuid);
	} else if (f->kind == INSP_BITMAP) {
		bitmap_text(at, n, o);
	} else if (all_zero(at, n)) {
		dump_add_str(o, "text", "zero");
	} else {
		if (n > 2 * BYTES_SHOWN)
			show = BYTES_SHOWN;
		hex_text(at, show, hex);
		dump_add_str(o, "text", hex);
		if (f->kind == INSP_ZERO)
			dump_add_str(o, "meaning", "reserved, and not zero");
		else if (show < n)
			dump_add_str(o, "meaning", "the first bytes");
	}
}

static void number_text(const struct insp_field *f, const uint8_t *at, struct json_object *o)
{
	uint64_t v = insp_number(f->kind, at);
	char text[32], meaning[INSP_TEXT_BYTES];

	dump_add_u64(o, "value", v);
	if (f->unit == INSP_HEX || f->unit == INSP_OWNER || f->unit == INSP_FLAGS)
		snprintf(text, sizeof(text), "%#llx", (unsigned long long)v);
	else if (f->unit == INSP_MODE)
		snprintf(text, sizeof(text), "0%llo", (unsigned long long)v);
	else if (f->unit == INSP_TIME)
		snprintf(text, sizeof(text), "%lld", (long long)v);
	else
		snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	dump_add_str(o, "text", text);
	insp_meaning(f, v, meaning, sizeof(meaning));
	if (meaning[0])
		dump_add_str(o, "meaning", meaning);
}

struct printer {
	const struct dump *d;
	const uint8_t *buf;
	struct json_object *fields;
};

static void put_struct(const struct printer *p, const struct insp_struct *st, uint32_t off,
		       const char *prefix, uint32_t tail_len);

static void put_one(const struct printer *p, const struct insp_field *f, uint32_t off,
		    const char *name)
{
	struct json_object *o;

	if (f->kind == INSP_STRUCT) {
		put_struct(p, f->sub, off, name, 0);
		return;
	}
	o = json_object_new_object();
	dump_add_str(o, "name", name);
	dump_add_u64(o, "offset", off);
	dump_add_u64(o, "width", f->width);
	if (f->kind <= INSP_LE64)
		number_text(f, p->buf + off, o);
	else
		bytes_text(f, p->buf + off, o);
	json_object_array_add(p->fields, o);
}

static void put_field(const struct printer *p, const struct insp_field *f, uint32_t off,
		      const char *prefix)
{
	char name[128];

	for (uint32_t i = 0; i < f->count; i++) {
		uint32_t at = off + i * f->width;

		if ((f->array || f->kind == INSP_ZERO) && !p->d->all &&
		    all_zero(p->buf + at, f->width))
			continue;
		if (f->array)
			snprintf(name, sizeof(name), "%s%s%s[%u]", prefix, *prefix ? "." : "",
				 f->name, i);
		else
			snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", f->name);
		put_one(p, f, at, name);
	}
}

static void put_struct(const struct printer *p, const struct insp_struct *st, uint32_t off,
		       const char *prefix, uint32_t tail_len)
{
	for (unsigned i = 0; i < st->n; i++)
		put_field(p, &st->field[i], off + st->field[i].off, prefix);
	if (st->tail && tail_len) {
		struct insp_field f = {.name = st->tail,
				       .width = (uint16_t)tail_len,
				       .count = 1,
				       .kind = st->tail_kind};

		put_field(p, &f, off + st->size, prefix);
	}
}

static void put_fields(const struct dump *d, const struct insp_place *p, const uint8_t *buf,
		       struct json_object *o)
{
	struct printer pr = {.d = d, .buf = buf, .fields = json_object_new_array()};

	for (unsigned i = 0; i < p->parts; i++)
		if (!p->part[i].array && p->part[i].st != &insp_raw &&
		    (d->all || strcmp(p->part[i].name, "inode") != 0))
			put_struct(&pr, p->part[i].st, p->part[i].off, p->part[i].name,
				   p->part[i].tail_len);
	json_object_object_add(o, "fields", pr.fields);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static void add_check(void *ctx, const char *name, bool ok, const char *text)
{
	struct json_object *o = json_object_new_object();

	dump_add_str(o, "name", name);
	json_object_object_add(o, "passed", json_object_new_boolean(ok));
	if (!ok)
		dump_add_str(o, "text", text);
	json_object_array_add(ctx, o);
}

static void put_checks(const struct dump *d, const struct insp_place *p, const uint8_t *buf,
		       struct json_object *o)
{
	struct json_object *list = json_object_new_array();
	struct insp_checks to = {.ctx = list, .check = add_check};

	dump_add_u64(o, "failed", insp_check(&d->in, p, buf, &to));
	json_object_object_add(o, "checks", list);
}

/* ---- how fresh ------------------------------------------------------------------------------- */

static void read_lock(const struct dump *d, uint64_t guard, struct lunfs_lock_rec *out, bool *ok)
{
	*ok = cell_addr_ok(&d->geo, guard) &&
	      insp_read(&d->in, geo_blk_off(guard), sizeof(*out), out) == 0 &&
	      le32_get(out->hdr.magic) == LUNFS_ATS_MAGIC &&
	      le16_get(out->hdr.type) == LUNFS_ATS_LOCK;
}

void dump_fresh_begin(const struct dump *d, uint64_t guard, struct dump_fresh *f)
{
	f->guard = guard;
	read_lock(d, guard, &f->before, &f->known);
}

void dump_fresh_end(const struct dump *d, struct dump_fresh *f)
{
	bool ok;

	read_lock(d, f->guard, &f->after, &ok);
	f->known = f->known && ok;
}

/* The host that holds the guard exclusively: is it there, and does it live in that generation? */
static void say_holder(const struct dump *d, uint64_t owner, struct json_object *o)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);
	struct lunfs_slot_rec s;
	char text[320], host[LUNFS_HOSTNAME_BYTES + 1] = "";
	bool over;

	dump_add_u64(o, "holder_slot", slot);
	dump_add_u64(o, "holder_generation", LUNFS_OWNER_GEN(owner));
	if (slot >= geo_all_slots(&d->geo) ||
	    insp_read(&d->in, geo_slot_off(slot), sizeof(s), &s)) {
		dump_add_str(o, "text",
			     "its lock is held by a slot that cannot be read: what is "
			     "newest cannot be told");
		return;
	}
	memcpy(host, s.hostname, LUNFS_HOSTNAME_BYTES);
	over = le16_get(s.state) == LUNFS_SLOT_FREE ||
	       le64_get(s.generation) != LUNFS_OWNER_GEN(owner);
	json_object_object_add(o, "newest", json_object_new_boolean(over));
	cli_add_text(o, "holder_host", host);
	if (over)
		snprintf(text, sizeof(text),
			 "the newest: slot %u held its lock in generation %llu, which is over",
			 slot, (unsigned long long)LUNFS_OWNER_GEN(owner));
	else
		snprintf(text, sizeof(text),
			 "%s (slot %u, generation %llu, %s) holds its lock exclusively: newer "
			 "contents may be in that host's journal or memory",
			 json_object_get_string(json_object_object_get(o, "holder_host")), slot,
			 (unsigned long long)LUNFS_OWNER_GEN(owner),
			 le16_get(s.state) == LUNFS_SLOT_LIVE ? "live" : "being recovered");
	dump_add_str(o, "text", text);
}

void dump_add_fresh(const struct dump *d, const struct dump_fresh *f, struct json_object *to)
{
	struct json_object *o = json_object_new_object();
	unsigned mode = le16_get(f->after.mode);
	char word[INSP_TEXT_BYTES];

	json_object_object_add(to, "fresh", o);
	if (!f->known) {
		dump_add_str(o, "text",
			     "its lock record cannot be read: what is newest cannot be told");
		return;
	}
	dump_add_u64(o, "guard", f->guard);
	insp_meaning(&insp_lock_rec.field[1], mode, word, sizeof(word));
	dump_add_str(o, "lock_mode", word);
	if (memcmp(&f->before, &f->after, sizeof(f->after)) != 0) {
		dump_add_str(o, "text",
			     "its lock changed while it was read: it may be older already");
	} else if (mode == LUNFS_LOCK_EXCL) {
		say_holder(d, le64_get(f->after.owner), o);
	} else if (mode == LUNFS_LOCK_MULTI) {
		dump_add_str(o, "text", "several hosts write it");
	} else {
		json_object_object_add(o, "newest", json_object_new_boolean(true));
		dump_add_str(o, "text", "the newest: no host holds its lock exclusively");
	}
}

static void say_plain_fresh(const struct insp_place *p, struct json_object *to)
{
	struct json_object *o = json_object_new_object();
	const char *text = "as it stood at that moment";

	if (p->seal == INSP_SEAL_ATS) {
		json_object_object_add(o, "newest", json_object_new_boolean(true));
		text = "the newest at that moment: it only changes on the device";
	} else if (p->journal.blks || p->seal == INSP_SEAL_JHDR || p->seal == INSP_SEAL_JDESC ||
		   p->seal == INSP_SEAL_JCOMMIT) {
		text = "as it stood at that moment; a live host goes on writing its journal";
	}
	dump_add_str(o, "text", text);
	json_object_object_add(to, "fresh", o);
}

void dump_add_time(const struct dump *d, struct json_object *o)
{
	struct timespec ts;
	char text[64], out[96];
	struct tm tm;

	d->clk->ops->realtime(d->clk, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, sizeof(out), "%s.%03uZ", text, (unsigned)(ts.tv_nsec / 1000000));
	dump_add_str(o, "read_at", out);
}

/* ---- a structure ----------------------------------------------------------------------------- */

static bool has_guard(const struct insp_place *p)
{
	return p->seal == INSP_SEAL_BLK && !p->journal.blks;
}

/* Read it, and its guard's lock record before and after. */
static int read_place(const struct dump *d, const struct insp_place *p, uint8_t *buf,
		      struct dump_fresh *f)
{
	const struct lunfs_blk_hdr *h = (const void *)buf;
	int rc = 0;

	for (unsigned i = 0; i < READS; i++) {
		if (i)
			clock_sleep_ns(d->clk, READ_AGAIN_NS);
		rc = insp_read(&d->in, p->off_bytes, p->len_bytes, buf);
		if (rc == 0 && has_guard(p)) {
			dump_fresh_begin(d, le64_get(h->guard), f);
			rc = insp_read(&d->in, p->off_bytes, p->len_bytes, buf);
			dump_fresh_end(d, f);
		}
		if (rc || insp_seal_ok(p, buf))
			break;
	}
	return rc;
}

static void put_block(const struct dump *d, const struct insp_place *p, const uint8_t *buf,
		      struct json_object *o)
{
	char role[INSP_ROLE_BYTES], name[INSP_NAME_BYTES], hex[2 * LUNFS_BLOCK_BYTES + 1];
	struct json_object *inside;

	insp_block_role(&d->in, p->addr, role, name);
	dump_add_str(o, "role", role);
	if (name[0]) {
		char why[256];

		inside = dump_show(d, name, why, sizeof(why));
		if (inside)
			json_object_object_add(o, "structure", inside);
	}
	if (d->all) {
		hex_text(buf, LUNFS_BLOCK_BYTES, hex);
		dump_add_str(o, "bytes", hex);
	}
}

static void put_forks(const struct insp_place *p, const uint8_t *buf, struct json_object *o)
{
	const struct lunfs_inode_pl *pl = (const void *)buf;
	unsigned long long ino = p->addr;
	const char *list = S_ISDIR(le32_get(pl->mode))	 ? "dir"
			   : S_ISREG(le32_get(pl->mode)) ? "extents"
							 : "tree";
	char text[256];
	struct json_object *notes = json_object_new_array();

	if (pl->data_format == LUNFS_FORK_TREE) {
		snprintf(text, sizeof(text),
			 "the data fork is the root of a tree: %s:%llu shows it%s", "tree", ino,
			 list[0] == 't' ? "" : ", and what hangs on it: ");
		if (list[0] != 't')
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s:%llu", list,
				 ino);
		json_object_array_add(notes, json_object_new_string(text));
	}
	if (pl->xattr_format == LUNFS_FORK_TREE) {
		snprintf(text, sizeof(text),
			 "extended attributes: xattrs:%llu shows the root of their tree, "
			 "attributes:%llu them",
			 ino, ino);
		json_object_array_add(notes, json_object_new_string(text));
	}
	json_object_object_add(o, "notes", notes);
}

static void put_rest(const struct dump *d, const struct insp_place *p, const uint8_t *buf,
		     struct json_object *o)
{
	for (unsigned i = 0; i < p->parts; i++)
		if (p->part[i].array && strcmp(p->part[i].name, "slot") == 0)
			dump_items(d, p, buf, o);
	if (p->seal == INSP_SEAL_NONE)
		put_block(d, p, buf, o);
	if (p->parts == 1 && p->part[0].st == &insp_inode_pl && !p->journal.blks)
		put_forks(p, buf, o);
}

static int show_place(const struct dump *d, const struct insp_place *p, struct json_object *o,
		      char *why, size_t why_len)
{
	struct dump_fresh f = {0};
	uint8_t *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int rc;

	dump_add_time(d, o);
	rc = read_place(d, p, buf, &f);
	if (rc) {
		snprintf(why, why_len, "%s cannot be read: %s", p->name,
			 rc == -ENXIO ? "it stands behind the end of the device" : strerror(-rc));
		free(buf);
		return rc;
	}
	if (p->parts)
		dump_add_str(o, "struct", p->part[0].st->name);
	dump_add_u64(o, "block", p->off_bytes / LUNFS_BLOCK_BYTES);
	dump_add_u64(o, "offset_bytes", p->off_bytes);
	dump_add_u64(o, "length_bytes", p->len_bytes);
	if (has_guard(p))
		dump_add_fresh(d, &f, o);
	else
		say_plain_fresh(p, o);
	if (p->seal != INSP_SEAL_NONE) {
		put_fields(d, p, buf, o);
		put_checks(d, p, buf, o);
	}
	put_rest(d, p, buf, o);
	free(buf);
	return 0;
}

struct json_object *dump_show(const struct dump *d, const char *what, char *why, size_t why_len)
{
	struct json_object *o = json_object_new_object();
	struct insp_place *p = calloc(1, sizeof(*p));
	int rc;

	cli_add_text(o, "name", what);
	rc = dump_list(d, what, o, why, why_len);
	if (rc == -EINVAL) {
		rc = insp_find(&d->in, what, p, why, why_len);
		if (rc == 0)
			rc = show_place(d, p, o, why, why_len);
	}
	free(p);
	if (rc == 0)
		return o;
	json_object_put(o);
	return NULL;
}

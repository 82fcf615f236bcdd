/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inputs: made of the names of all structures on the base volume and the tables of their fields,
 * and changed line by line. libFuzzer's entry points.
 */
#include "fuzz.h"
#include "simrand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 4096u
#define NAME_TRIES 40u

struct names {
	char *name[NAMES_MAX];
	unsigned n, preferred; /* the first ones have one of the target's prefixes */
};

static struct names all[BASES];

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two,
				 size_t two_size, uint8_t *out, size_t max_size, unsigned seed);

/* ---- names ----------------------------------------------------------------------------------- */

static const char *const paths[] = {"root",
				    "/d1",
				    "/d1/d2",
				    "/d1/d2/d3",
				    "/d1/d2/d3/deep",
				    "/gone",
				    "/empty",
				    "/inline",
				    "/small",
				    "/big",
				    "/frag",
				    "/hole",
				    "/prealloc",
				    "/many",
				    "/d1/target",
				    "/tall",
				    "/hard1",
				    "/d1/hard2",
				    "/xattr-small",
				    "/xattr-big",
				    "/acl",
				    "/link-short",
				    "/link-long",
				    "/fifo",
				    "/socket",
				    "/char",
				    "/block",
				    "orphan:0",
				    "orphan:1",
				    "/open",
				    "/many/file-000000",
				    "/many/file-000050"};
/* %s: each of the paths */
static const char *const of_paths[] = {"inode:%s",
				       "tree:%s",
				       "xattrs:%s",
				       "dirent:%s",
				       "lock:inode:%s",
				       "extent:%s,0",
				       "extent:%s,5",
				       "extent:%s,77",
				       "piece:%s,0",
				       "piece:%s,1",
				       "xattr:%s,user.a",
				       "xattr:%s,user.big",
				       "xattr:%s,user.big,3",
				       "xattr:%s,user.attribute-0007",
				       "xattr:%s,system.posix_acl_access"};
/* %u: 0 to 9 */
static const char *const of_numbers[] = {"superblock:%u",
					 "slot:%u",
					 "board:0,%u",
					 "board:1,%u",
					 "journal:%u",
					 "journal:0:%u",
					 "journal:1:%u",
					 "journal:0:%u:commit",
					 "journal:0:%u:image:0",
					 "journal:0:%u:image:1",
					 "journal:0:%u:desc:0",
					 "redo:%u",
					 "group:%u",
					 "bitmap:%u,0",
					 "chunk:0,%u",
					 "lock:group:%u",
					 "lock:bitmap:%u,0",
					 "lock:chunk:0,%u"};
static const char *const fixed[] = {"superblock",
				    "superblock:*",
				    "maint",
				    "anchor:volume",
				    "anchor:rename",
				    "anchor:watermark",
				    "lock:anchor:volume",
				    "lock:anchor:rename",
				    "lock:anchor:watermark",
				    "redo"};

static bool preferred(const char *name)
{
	const char *const *p = fuzz_target.prefixes;

	for (; p && *p; p++)
		if (strncmp(name, *p, strlen(*p)) == 0)
			return true;
	return false;
}

static void add(struct bed *b, const char *name)
{
	struct names *l = &all[b->kind];
	struct insp_place p;
	char why[512], *copy;

	if (l->n == NAMES_MAX ||
	    (!strchr(name, '*') && insp_find(&b->in, name, &p, why, sizeof(why))))
		return;
	copy = strdup(name);
	l->name[l->n++] = copy;
	if (preferred(name)) {
		l->name[l->n - 1] = l->name[l->preferred];
		l->name[l->preferred++] = copy;
	}
}

static void add_cells(struct bed *b)
{
	const struct geo *g = &b->geo;
	char name[INSP_NAME_BYTES];

	for (uint64_t addr = g->group0_blk; addr < g->end_blk; addr += g->cell_blks) {
		uint8_t payload[LUNFS_PAYLOAD_BYTES];
		const struct lunfs_blk_hdr *h = (const void *)payload;
		unsigned type;

		if (insp_read(&b->in, geo_payload_off(g, addr), sizeof(payload), payload))
			break;
		type = le16_get(h->type);
		if (blk_check(g, payload, (uint16_t)type, addr))
			continue;
		snprintf(name, sizeof(name), "%s:%llu", type == LUNFS_BLK_BTREE ? "node" : "cell",
			 (unsigned long long)addr);
		if (type != LUNFS_BLK_FREE || addr % 16 == 0)
			add(b, name);
	}
}

static void add_blocks(struct bed *b)
{
	char name[INSP_NAME_BYTES];

	for (unsigned s = 0; s < b->geo.slots; s++)
		for (unsigned i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "block:%llu",
				 (unsigned long long)b->geo.journal_blk[s] + i);
			add(b, name);
		}
}

static struct names *names_of(enum base kind)
{
	struct bed *b = bed_get(kind);
	char name[INSP_NAME_BYTES];

	if (all[kind].n)
		return &all[kind];
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		add(b, fixed[i]);
	for (size_t i = 0; i < sizeof(of_numbers) / sizeof(of_numbers[0]); i++)
		for (unsigned k = 0; k < 10; k++) {
			snprintf(name, sizeof(name), of_numbers[i], k, k);
			add(b, name);
		}
	for (size_t i = 0; i < sizeof(of_paths) / sizeof(of_paths[0]); i++)
		for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
			snprintf(name, sizeof(name), of_paths[i], paths[k]);
			add(b, name);
		}
	add_cells(b);
	add_blocks(b);
	return &all[kind];
}

/* ---- lines ----------------------------------------------------------------------------------- */

struct gen {
	struct bed *b;
	const struct names *l;
	uint64_t rng;
};

static uint64_t below(struct gen *g, uint64_t n)
{
	return sim_rand_below(&g->rng, n);
}

/* One that the target wants: each prefix as often as any other, however many names it has. */
static const char *wanted_name(struct gen *g)
{
	const char *const *prefix = fuzz_target.prefixes;
	unsigned n = 0, at = (unsigned)below(g, g->l->preferred);

	while (prefix[n])
		n++;
	prefix += below(g, n);
	for (unsigned i = 0; i < g->l->preferred; i++) {
		const char *name = g->l->name[(at + i) % g->l->preferred];

		if (strncmp(name, *prefix, strlen(*prefix)) == 0)
			return name;
	}
	return g->l->name[at];
}

static const char *any_name(struct gen *g)
{
	if (g->l->preferred && below(g, 4))
		return wanted_name(g);
	return g->l->name[below(g, g->l->n)];
}

/* Of an array of that many: the first ones are in use more often. */
static unsigned any_index(struct gen *g, unsigned count)
{
	unsigned few = below(g, 2) ? 4 : (count + 7) / 8;

	return (unsigned)below(g, below(g, 6) && few < count ? few : count);
}

/* Append the name of a field of @st; *f is it. @tail_len: of its last member. */
static size_t any_field(struct gen *g, const struct insp_struct *st, uint32_t tail_len, char *out,
			size_t room, const struct insp_field **f)
{
	unsigned i = (unsigned)below(g, st->n + (tail_len ? 1 : 0));
	size_t at;

	if (i == st->n) {
		*f = NULL;
		return (size_t)snprintf(out, room, "%s[%u]", st->tail,
					(unsigned)below(g, tail_len));
	}
	*f = &st->field[i];
	at = (size_t)snprintf(out, room, "%s", (*f)->name);
	if ((*f)->array)
		at += (size_t)snprintf(out + at, room - at, "[%u]", any_index(g, (*f)->count));
	else if ((*f)->kind == INSP_BITMAP)
		at += (size_t)snprintf(out + at, room - at, "[%u]",
				       (unsigned)below(g, (*f)->width * 8u));
	else if ((*f)->kind >= INSP_BYTES && (*f)->kind != INSP_STRUCT)
		at +=
		    (size_t)snprintf(out + at, room - at, "[%u]", (unsigned)below(g, (*f)->width));
	if ((*f)->kind != INSP_STRUCT || at + 64 > room)
		return at;
	at += (size_t)snprintf(out + at, room - at, ".");
	return at + any_field(g, (*f)->sub, 0, out + at, room - at, f);
}

static void any_value(struct gen *g, const struct insp_field *f, char *out, size_t room)
{
	static const uint64_t some[] = {0,    1,     2,	    3,	   7,	  8,	  9,	15,
					16,   255,   256,   511,   512,	  3584,	  4095, 4096,
					8192, 32767, 32768, 65535, 65536, 1 << 31};
	unsigned how = (unsigned)below(g, 12), n = 0;

	if (f && f->names && below(g, 4)) {
		while (f->names[n].name)
			n++;
		snprintf(out, room, "%s", f->names[below(g, n)].name);
		return;
	}
	switch (how) {
	case 0:
		snprintf(out, room, "0x%llx", 1ull << below(g, 64));
		return;
	case 1:
		snprintf(out, room, "-%llu", (unsigned long long)below(g, 20));
		return;
	case 2:
		snprintf(out, room, "%llu", (unsigned long long)below(g, g->b->geo.dev_blks));
		return;
	case 3:
	case 4:
	case 5:
		if (f && f->unit != INSP_ADDR && how != 3)
			break;
		snprintf(out, room, "%s", any_name(g));
		return;
	case 6:
		snprintf(out, room, "0x%llx", (unsigned long long)g->rng);
		return;
	default:
		break;
	}
	snprintf(out, room, "%llu",
		 (unsigned long long)some[below(g, sizeof(some) / sizeof(some[0]))]);
}

/* Two structures of one kind. */
static bool any_copy(struct gen *g, char *out)
{
	const char *to = any_name(g), *colon = strchr(to, ':');
	size_t n = colon ? (size_t)(colon - to) + 1 : 0;

	for (unsigned i = 0; n && i < NAME_TRIES; i++) {
		const char *from = any_name(g);

		if (from != to && strncmp(from, to, n) == 0) {
			snprintf(out, FUZZ_LINE_BYTES, "copy %.200s %.200s", from, to);
			return true;
		}
	}
	return false;
}

/* "NAME.FIELD", false where the structure has no field known. */
static bool any_ref(struct gen *g, char *out, size_t room, const struct insp_field **f)
{
	const char *name = any_name(g);
	const struct insp_part *part;
	struct insp_place p;
	char why[512];
	size_t at;

	if (insp_find(&g->b->in, strchr(name, '*') ? "superblock" : name, &p, why, sizeof(why)) ||
	    !p.parts)
		return false;
	part = &p.part[below(g, p.parts)];
	if (part->array && !part->count)
		return false;
	at = (size_t)snprintf(out, room, "%.200s.", name);
	if (part->array)
		at += (size_t)snprintf(out + at, room - at, "%s[%u].", part->name,
				       any_index(g, part->count));
	else if (part->name[0])
		at += (size_t)snprintf(out + at, room - at, "%s.", part->name);
	any_field(g, part->st, part->tail_len, out + at, room - at, f);
	return true;
}

static void any_line(struct gen *g, char *out)
{
	static const char *const ops[] = {"=", "=", "=", "=", "+=", "-=", "^=", "|=", "&="};
	const struct insp_field *f = NULL;
	char ref[FUZZ_LINE_BYTES / 2], value[FUZZ_LINE_BYTES / 4];
	unsigned how = (unsigned)below(g, 24);

	if (how == 0) {
		snprintf(out, FUZZ_LINE_BYTES, "random %.200s %u", any_name(g),
			 (unsigned)below(g, 1000));
		return;
	}
	if (how == 1) {
		snprintf(out, FUZZ_LINE_BYTES, "zero %.200s", any_name(g));
		return;
	}
	if (how < 4 && any_copy(g, out))
		return;
	while (!any_ref(g, ref, sizeof(ref), &f))
		;
	any_value(g, f, value, sizeof(value));
	snprintf(out, FUZZ_LINE_BYTES, "%s%s%s%s", how == 4 ? "nocrc " : "", ref,
		 ops[below(g, sizeof(ops) / sizeof(ops[0]))], value);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

struct input {
	char line[FUZZ_EDITS + 1][FUZZ_LINE_BYTES];
	unsigned n;
};

static void split(struct input *in, const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size && in->n < FUZZ_EDITS) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t len = end ? (size_t)(end - data) - at : size - at;

		if (len && len < FUZZ_LINE_BYTES && data[at] != '#') {
			memcpy(in->line[in->n], data + at, len);
			in->line[in->n++][len] = '\0';
		}
		at += len + 1;
	}
}

static size_t join(const struct input *in, uint8_t *data, size_t max_size)
{
	size_t at = 0;

	for (unsigned i = 0; i < in->n; i++) {
		size_t len = strlen(in->line[i]);

		if (at + len + 1 > max_size)
			break;
		memcpy(data + at, in->line[i], len);
		data[at + len] = '\n';
		at += len + 1;
	}
	return at;
}

static void put_line(struct input *in, unsigned at, const char *line)
{
	if (in->n == FUZZ_EDITS)
		at = FUZZ_EDITS - 1;
	else
		memmove(in->line[at + 1], in->line[at], (in->n++ - at) * sizeof(in->line[0]));
	snprintf(in->line[at], FUZZ_LINE_BYTES, "%s", line);
}

/* Another value for the same field. */
static void other_value(struct gen *g, char *line)
{
	char *eq = strrchr(line, '='), value[FUZZ_LINE_BYTES / 4];

	if (!eq || eq == line)
		return any_line(g, line);
	any_value(g, NULL, value, sizeof(value));
	snprintf(eq + 1, FUZZ_LINE_BYTES - (size_t)(eq + 1 - line), "%s", value);
}

static void other_base(struct gen *g, struct input *in)
{
	static const char *const name[BASES] = {"base tree", "base dead", "base redo", "base 4k"};
	unsigned k = (unsigned)below(g, BASES);

	if (in->n && strncmp(in->line[0], "base ", 5) == 0)
		snprintf(in->line[0], FUZZ_LINE_BYTES, "%s", name[k]);
	else
		put_line(in, 0, name[k]);
}

static void mutate(struct gen *g, struct input *in)
{
	char line[FUZZ_LINE_BYTES];
	unsigned at = in->n ? (unsigned)below(g, in->n) : 0;

	any_line(g, line);
	switch (in->n ? below(g, 12) : 0) {
	case 0:
	case 1:
	case 2:
	case 3:
		put_line(in, in->n, line);
		break;
	case 4:
		put_line(in, at, line);
		break;
	case 5:
	case 6:
		snprintf(in->line[at], FUZZ_LINE_BYTES, "%s", line);
		break;
	case 7:
		memmove(in->line[at], in->line[at + 1], (--in->n - at) * sizeof(in->line[0]));
		break;
	case 8:
		other_base(g, in);
		break;
	default:
		other_value(g, in->line[at]);
	}
}

static void gen_init(struct gen *g, const char *text, unsigned seed)
{
	g->b = bed_get(bed_choose(text));
	g->l = names_of(g->b->kind);
	g->rng = seed + 0x9e3779b97f4a7c15ull;
	/* Names and fields are those of the undamaged volume. */
	simdev_set_monitor(g->b->medium, NULL, NULL);
	simdev_roll_back(g->b->medium, g->b->made);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	struct input *in;
	struct gen g;
	unsigned n;

	if (fuzz_target.raw)
		return LLVMFuzzerMutate(data, size, max_size);
	in = calloc(1, sizeof(*in));
	split(in, data, size);
	gen_init(&g, in->n ? in->line[0] : "", seed);
	for (n = 1 + (unsigned)below(&g, 3); n; n--)
		mutate(&g, in);
	size = join(in, data, max_size);
	free(in);
	if (below(&g, 30) == 0) /* the language itself */
		size = LLVMFuzzerMutate(data, size, max_size);
	return size;
}

/* The beginning of one, then the end of the other. */
static size_t splice(const uint8_t *one, size_t one_size, const uint8_t *two, size_t two_size,
		     uint8_t *out, size_t max_size, uint64_t *rng)
{
	size_t head = (size_t)sim_rand_below(rng, one_size + 1);
	size_t from = (size_t)sim_rand_below(rng, two_size + 1), tail = two_size - from;

	head = head < max_size ? head : max_size;
	tail = tail < max_size - head ? tail : max_size - head;
	memcpy(out, one, head);
	memcpy(out + head, two + from, tail);
	return head + tail;
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two,
				 size_t two_size, uint8_t *out, size_t max_size, unsigned seed)
{
	struct input *a, *b;
	uint64_t rng = seed;
	size_t size;

	if (fuzz_target.raw)
		return splice(one, one_size, two, two_size, out, max_size, &rng);
	a = calloc(1, sizeof(*a));
	b = calloc(1, sizeof(*b));
	split(a, one, one_size);
	split(b, two, two_size);
	for (unsigned i = 0; i < b->n; i++)
		if (sim_rand_below(&rng, 2))
			put_line(a, (unsigned)sim_rand_below(&rng, a->n + 1), b->line[i]);
	size = join(a, out, max_size);
	free(a);
	free(b);
	return size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	if (!freopen("/dev/null", "w", stdout)) /* what fsck.lunfs tells a person */
		return -1;
	for (unsigned i = 0; i < BASES; i++)
		if (fuzz_target.bases & 1u << i && fuzz_target.raw)
			bed_get((enum base)i);
		else if (fuzz_target.bases & 1u << i)
			names_of((enum base)i);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[FUZZ_INPUT_BYTES + 1];

	if (size > FUZZ_INPUT_BYTES)
		return -1;
	if (fuzz_target.raw) {
		bed_run_raw(data, size);
		return 0;
	}
	memcpy(text, data, size);
	text[size] = '\0';
	bed_run(text);
	return 0;
}

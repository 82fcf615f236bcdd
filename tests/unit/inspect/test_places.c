/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names lead to places; sound structures pass their checks, damaged ones do not, none is trusted.
 */
#include "unit.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each kind of name at least once; of a volume as use_volume() leaves it. */
static const char *const names[] = {
    "superblock",
    "superblock:1",
    "maint",
    "slot:0",
    "slot:1",
    "board:0,1",
    "anchor:volume",
    "anchor:rename",
    "anchor:watermark",
    "journal:0",
    "group:0",
    "bitmap:0,0",
    "chunk:0,0",
    "inode:/f",
    "inode:root",
    "inode:orphan:0",
    "inode:/d/name-0007",
    "lock:inode:/f",
    "lock:group:0",
    "lock:anchor:volume",
    "tree:/",
    "tree:/d",
    "xattrs:/x",
    "dirent:/f",
    "dirent:/d/name-0123",
    "extent:/f,0",
    "extent:/f,149",
    "extent:/f,@298",
    "xattr:/x,user.a",
    "xattr:/x,user.big,2",
    "piece:/l,1",
    "block:16",
};
#define NAMES (sizeof(names) / sizeof(names[0]))

static char why[512];

static void no_check_fails(void *ctx, const char *check, bool ok, const char *text)
{
	if (!ok)
		fail_msg("%s: %s: %s", (const char *)ctx, check, text);
}

static void ignore(void *ctx, const char *check, bool ok, const char *text)
{
	(void)ctx;
	(void)check;
	assert_true(ok || *text);
}

static void find(const struct insp *in, const char *what, struct insp_place *p)
{
	int rc = insp_find(in, what, p, why, sizeof(why));

	if (rc)
		fail_msg("%s: %s (%d)", what, why, rc);
	assert_string_equal(p->name, what);
	assert_true(p->len_bytes <= LUNFS_BLOCK_BYTES && p->parts >= 1);
	assert_true(p->focus_off + p->focus_len <= p->len_bytes);
}

static void sound_body(struct simcluster *t)
{
	struct insp in = insp_of(t);

	use_volume(t);
	sc_down(t, 0);
	for (unsigned i = 0; i < NAMES; i++) {
		struct insp_checks to = {(void *)(uintptr_t)names[i], no_check_fails};
		uint8_t buf[LUNFS_BLOCK_BYTES];
		struct insp_place p;

		find(&in, names[i], &p);
		assert_int_equal(insp_read(&in, p.off_bytes, p.len_bytes, buf), 0);
		assert_int_equal(insp_check(&in, &p, buf, &to), 0);
		/* A sector of the request board that was never used is zero. */
		assert_true(insp_seal_ok(&p, buf) || p.seal == INSP_SEAL_BOARD);
	}
}

static void every_structure_of_a_sound_volume_passes_its_checks(void **s)
{
	(void)s;
	sc_run(sound_body, NULL);
	sc_run(sound_body, &(struct sc_shape){.sector_bytes = 4096});
}

static void flipped_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	struct insp_checks to = {NULL, ignore};

	use_volume(t);
	sc_down(t, 0);
	for (unsigned i = 0; i < NAMES; i++) {
		uint8_t buf[LUNFS_BLOCK_BYTES];
		struct insp_place p;

		find(&in, names[i], &p);
		if (p.seal == INSP_SEAL_NONE || p.seal == INSP_SEAL_BOARD)
			continue;
		assert_int_equal(insp_read(&in, p.off_bytes, p.len_bytes, buf), 0);
		for (uint32_t at = 0; at < p.len_bytes; at += 97) {
			buf[at] ^= 0x10;
			if (insp_check(&in, &p, buf, &to) == 0)
				fail_msg("%s: a bit of byte %#x flipped and nothing noticed",
					 names[i], at);
			buf[at] ^= 0x10;
		}
	}
}

static void a_flipped_bit_fails_a_check(void **s)
{
	(void)s;
	sc_run(flipped_body, NULL);
}

static void note_place(void *ctx, const char *check, bool ok, const char *text)
{
	(void)text;
	if (strcmp(check, "place") == 0)
		*(bool *)ctx = ok;
}

static void expect_misplaced(const struct insp *in, const char *what, const char *where)
{
	bool placed = true;
	struct insp_checks to = {&placed, note_place};
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct insp_place p;

	find(in, what, &p);
	assert_int_equal(insp_read(in, p.off_bytes, p.len_bytes, buf), 0);
	find(in, where, &p);
	insp_check(in, &p, buf, &to);
	assert_false(placed);
}

static void misplaced_body(struct simcluster *t)
{
	struct insp in = insp_of(t);

	use_volume(t);
	sc_down(t, 0);
	expect_misplaced(&in, "inode:/f", "inode:/small");
	expect_misplaced(&in, "lock:inode:/f", "lock:inode:/small");
	expect_misplaced(&in, "slot:0", "slot:1");
}

static void a_structure_in_another_place_is_told(void **s)
{
	(void)s;
	sc_run(misplaced_body, NULL);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static uint64_t field(const struct insp *in, const char *what, const char *name)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct insp_place p;
	struct insp_ref r;

	find(in, what, &p);
	assert_int_equal(insp_read(in, p.off_bytes, p.len_bytes, buf), 0);
	if (insp_field_find(&p, name, &r))
		fail_msg("%s has no %s", what, name);
	return insp_get(&r, buf);
}

static bool no_field(const struct insp *in, const char *what, const char *name)
{
	struct insp_place p;
	struct insp_ref r;

	find(in, what, &p);
	return insp_field_find(&p, name, &r) != 0;
}

static void fields_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	struct insp_place f;
	struct nodeid id;

	use_volume(t);
	SC_OK(t, sc_lookup(t, 0, sc_root_id(t, 0), "f", &id));
	sc_down(t, 0);
	find(&in, "inode:/f", &f);
	assert_int_equal(f.addr, id.ino);
	assert_int_equal(field(&in, "inode:/f", "generation"), id.generation);
	assert_int_equal(field(&in, "inode:/f", "hdr.addr"), id.ino);
	assert_int_equal(field(&in, "inode:/f", "addr"), id.ino);
	assert_int_equal(field(&in, "inode:/f", "size"), 299 * LUNFS_BLOCK_BYTES);
	assert_int_equal(field(&in, "dirent:/f", "ino"), id.ino);
	assert_int_equal(field(&in, "dirent:/f", "name[0]"), 'f');
	assert_int_equal(field(&in, "dirent:/f", "slot.key") & ~127ull,
			 insp_dirent_key(&t->geo, "f", 1));
	assert_int_equal(field(&in, "extent:/f,149", "slot.key"), 298);
	assert_int_equal(field(&in, "extent:/f,@297", "slot.key"), 298);
	assert_int_equal(field(&in, "extent:/f,149", "blk"), field(&in, "extent:/f,@298", "blk"));
	assert_int_equal(field(&in, "xattr:/x,user.big", "value_len"), 3000);
	assert_int_equal(field(&in, "xattr:/x,user.big,2", "part_len"), 3000 - 2048);
	assert_int_equal(field(&in, "tree:/f", "inode.nlink"), 1);
	assert_int_equal(field(&in, "tree:/f", "head.level"), 1);
	assert_int_equal(field(&in, "superblock", "journal_blk[0]"), t->geo.journal_blk[0]);
	assert_int_equal(field(&in, "bitmap:0,0", "bits[0]"), 1);
	assert_true(no_field(&in, "bitmap:0,0", "bits[28160]"));
	assert_true(no_field(&in, "superblock", "journal_blk[128]"));
	assert_true(no_field(&in, "inode:/f", "hdr.nlink"));
	assert_true(no_field(&in, "inode:/f", "nlink[0]"));
	assert_true(no_field(&in, "tree:/f", "slot[99].key"));
}

static void fields_have_the_values_that_the_volume_has(void **s)
{
	(void)s;
	sc_run(fields_body, NULL);
	sc_run(fields_body, &(struct sc_shape){.sector_bytes = 4096});
}

static void set_reads_back(void **s)
{
	struct insp_place p = {.len_bytes = sizeof(struct lunfs_chunk_pl),
			       .parts = 1,
			       .part = {{.name = "", .st = &insp_chunk_pl, .count = 1}}};
	struct lunfs_chunk_pl c = {0};
	struct insp_ref r;

	(void)s;
	assert_int_equal(insp_field_find(&p, "free_cells", &r), 0);
	insp_set(&r, &c, 0x12345678);
	assert_int_equal(le32_get(c.free_cells), 0x12345678);
	assert_int_equal(insp_get(&r, &c), 0x12345678);
	assert_int_equal(insp_field_find(&p, "used[9]", &r), 0);
	insp_set(&r, &c, 1);
	assert_int_equal(c.used[1], 2);
	insp_set(&r, &c, 0);
	assert_int_equal(c.used[1], 0);
}

/* ---- what is not there ----------------------------------------------------------------------- */

static void absent_body(struct simcluster *t)
{
	static const char *const bad[] = {
	    "",
	    "nosuch",
	    "slot",
	    "slot:",
	    "slot:999",
	    "slot:-1",
	    "slot:1x",
	    "superblock:99",
	    "board:1",
	    "board:1,999",
	    "anchor:x",
	    "journal:",
	    "journal:77",
	    "journal:0:5",
	    "journal:0:@9",
	    "group:99999",
	    "bitmap:0",
	    "bitmap:0,7",
	    "chunk:0,1023",
	    "chunk:0,9999",
	    "inode:",
	    "inode:/no",
	    "inode:/f/no",
	    "inode:orphan:99",
	    "inode:-3",
	    "inode:99999999999999999999",
	    "inode:3",
	    "node:3",
	    "cell:1",
	    "lock:slot:0",
	    "lock:block:9",
	    "lock:nosuch",
	    "dirent:f",
	    "dirent:/no",
	    "extent:/f",
	    "extent:/f,150",
	    "extent:/f,@999",
	    "xattr:/x,a",
	    "xattr:/x,user.no",
	    "xattr:/x,user.big,3",
	    "piece:/l,9",
	    "block:999999999",
	    "redo",
	    "redo:1",
	};
	struct insp in = insp_of(t);

	use_volume(t);
	sc_down(t, 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct insp_place p;

		why[0] = '\0';
		if (strcmp(bad[i], "inode:") == 0)
			continue; /* the root, as "inode:/" */
		if (insp_find(&in, bad[i], &p, why, sizeof(why)) >= 0)
			fail_msg("'%s' was found", bad[i]);
		if (!why[0])
			fail_msg("'%s': no reason was given", bad[i]);
	}
}

static void a_name_of_nothing_is_refused_with_a_reason(void **s)
{
	(void)s;
	sc_run(absent_body, NULL);
}

/* ---- hostile trees --------------------------------------------------------------------------- */

static void poke(const struct insp *in, const char *what, const char *name, uint64_t v)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];
	struct insp_place p;
	struct insp_ref r;

	find(in, what, &p);
	assert_int_equal(insp_read(in, p.off_bytes, p.len_bytes, buf), 0);
	assert_int_equal(insp_field_find(&p, name, &r), 0);
	insp_set(&r, buf, v);
	insp_seal(&p, buf);
	assert_int_equal(insp_write(in, p.off_bytes, p.len_bytes, buf), 0);
}

static void loop_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	struct insp_walk w = {.hi = UINT64_MAX};
	struct nodeid id;
	uint64_t child;
	char node[32];

	t->no_fsck = true;
	use_volume(t);
	SC_OK(t, sc_lookup(t, 0, sc_root_id(t, 0), "d", &id));
	sc_down(t, 0);
	child = field(&in, "tree:/d", "slot[0].child");
	snprintf(node, sizeof(node), "node:%llu", (unsigned long long)child);
	poke(&in, "tree:/d", "head.level", 7);
	poke(&in, node, "level", 6);
	poke(&in, node, "body_off", 3520);
	for (unsigned i = 0; i < 5; i++) {
		char name[32];

		snprintf(name, sizeof(name), "slot[%u].child", i);
		poke(&in, node, name, child);
	}
	assert_int_equal(insp_walk(&in, id.ino, INSP_DATA, &w), 0);
	assert_true(w.bad > 0 && w.nodes < 1000);
}

static void a_tree_that_refers_to_itself_ends(void **s)
{
	(void)s;
	sc_run(loop_body, NULL);
}

static int no_body(void *ctx, const struct insp_item *it)
{
	unsigned *seen = ctx;

	if (it->key == 2) {
		assert_int_equal(it->len, 0);
		assert_null(it->body);
		(*seen)++;
	}
	return 0;
}

static void outside_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	unsigned seen = 0;
	struct insp_walk w = {.ctx = &seen, .item = no_body, .hi = UINT64_MAX};
	struct insp_place p;
	struct nodeid id;

	t->no_fsck = true;
	use_volume(t);
	SC_OK(t, sc_lookup(t, 0, sc_root_id(t, 0), "f", &id));
	sc_down(t, 0);
	poke(&in, "extent:/f,1", "slot.off", 3519);
	assert_int_equal(insp_walk(&in, id.ino, INSP_DATA, &w), 0);
	assert_int_equal(seen, 1);
	assert_int_equal(insp_find(&in, "extent:/f,1", &p, why, sizeof(why)), -EUCLEAN);
}

static void an_item_outside_its_node_has_no_body(void **s)
{
	(void)s;
	sc_run(outside_body, NULL);
}

/* Whatever stands in the blocks: no name crashes, no check does, every walk ends. */
static void noise_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	struct insp_checks to = {NULL, ignore};

	t->no_fsck = true;
	use_volume(t);
	sc_down(t, 0);
	for (unsigned round = 0; round < 300; round++) {
		uint64_t cell = t->geo.root_ino + sc_random(t, 40);
		uint8_t buf[LUNFS_BLOCK_BYTES];
		struct insp_place p;

		assert_int_equal(
		    insp_read(&in, geo_payload_off(&t->geo, cell), LUNFS_PAYLOAD_BYTES, buf), 0);
		for (unsigned i = 0; i < 8; i++)
			buf[sc_random(t, round % 2 ? 0x400 : LUNFS_PAYLOAD_BYTES)] =
			    (uint8_t)sc_random(t, 256);
		assert_int_equal(
		    insp_write(&in, geo_payload_off(&t->geo, cell), LUNFS_PAYLOAD_BYTES, buf), 0);
		for (unsigned i = 0; i < NAMES; i++) {
			if (insp_find(&in, names[i], &p, why, sizeof(why)))
				continue;
			assert_int_equal(insp_read(&in, p.off_bytes, p.len_bytes, buf), 0);
			insp_check(&in, &p, buf, &to);
		}
	}
}

static void noise_in_the_metadata_is_survived(void **s)
{
	(void)s;
	sc_run_seeds(noise_body, 2);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void role_is(const struct insp *in, uint64_t blk, const char *name)
{
	char role[INSP_ROLE_BYTES], is[INSP_NAME_BYTES];

	insp_block_role(in, blk, role, is);
	assert_true(role[0]);
	assert_string_equal(is, name);
}

static void roles_body(struct simcluster *t)
{
	struct insp in = insp_of(t);
	const struct geo *g = &t->geo;
	char name[64];

	use_volume(t);
	sc_down(t, 0);
	role_is(&in, 0, "");
	role_is(&in, 16, "superblock");
	role_is(&in, 256, "maint");
	role_is(&in, 272, "anchor:volume");
	role_is(&in, 513, "slot:1");
	role_is(&in, g->journal_blk[0], "journal:0");
	role_is(&in, geo_group_header(g, 0), "group:0");
	role_is(&in, geo_group_bitmap(g, 0, 0), "bitmap:0,0");
	role_is(&in, sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES) / LUNFS_BLOCK_BYTES,
		"superblock:1");
	snprintf(name, sizeof(name), "cell:%llu", (unsigned long long)g->root_ino);
	role_is(&in, g->root_ino, name);
	role_is(&in, field(&in, "extent:/f,0", "blk"), "");
	role_is(&in, g->dev_blks - 1, "");
}

static void a_block_is_called_what_it_serves_as(void **s)
{
	(void)s;
	sc_run(roles_body, NULL);
	sc_run(roles_body, &(struct sc_shape){.sector_bytes = 4096});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_structure_of_a_sound_volume_passes_its_checks),
	    cmocka_unit_test(a_flipped_bit_fails_a_check),
	    cmocka_unit_test(a_structure_in_another_place_is_told),
	    cmocka_unit_test(fields_have_the_values_that_the_volume_has),
	    cmocka_unit_test(set_reads_back),
	    cmocka_unit_test(a_name_of_nothing_is_refused_with_a_reason),
	    cmocka_unit_test(a_tree_that_refers_to_itself_ends),
	    cmocka_unit_test(an_item_outside_its_node_has_no_body),
	    cmocka_unit_test(noise_in_the_metadata_is_survived),
	    cmocka_unit_test(a_block_is_called_what_it_serves_as),
	};

	log_open("test", LOG_LVL_ERR, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

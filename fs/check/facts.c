/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the device and this machine's kernel say about it: identity, paths, sectors, and the claim
 * to know COMPARE AND WRITE, set against what became of it when it was tried.
 */
#include "check/check_impl.h"

static const char *kind_name(enum dev_kind k)
{
	switch (k) {
	case DEV_KIND_FILE:
		return "a file, or a device without COMPARE AND WRITE";
	case DEV_KIND_SG:
		return "a SCSI disk of this machine's kernel";
	case DEV_KIND_ISCSI:
		return "iSCSI by a session of lunfs's own";
	case DEV_KIND_SIM:
		return "simulated";
	}
	return "unknown";
}

static void test_identity(struct check *c)
{
	const struct dev_identity *id = &c->s[0].dev->id;
	const struct check_facts *f = &c->facts;
	struct check_result r;

	result_init(&r, "identity");
	result_value(&r, "size_bytes", id->size_bytes);
	if (id->one_machine) {
		result_say(&r, CHECK_LIMIT, "Fit for one machine only: it is %s.",
			   kind_name(id->kind));
		result_advise(&r,
			      "Its locks hold between the processes of this machine; for several "
			      "machines use a LUN with COMPARE AND WRITE.");
	} else {
		bool more = f->transport[0] && id->kind == DEV_KIND_SG;

		result_say(&r, CHECK_OK, "%s%s%s%s%s (%s%s%s).", f->vendor, f->vendor[0] ? " " : "",
			   f->product[0] ? f->product : "unnamed product",
			   f->revision[0] ? ", revision " : "", f->revision, kind_name(id->kind),
			   more ? ", " : "", more ? f->transport : "");
	}
	result_add(c, &r);
}

/* Nothing is tried that would bring it about, see reserve.c. */
static void say_known_fault(struct check *c)
{
	struct check_result r;

	if (strcmp(c->facts.vendor, "LIO-ORG") != 0)
		return;
	result_init(&r, "known-fault");
	result_say(
	    &r, CHECK_NOTE,
	    "This is Linux's own target (LIO). On kernel 6.1 its COMPARE AND WRITE stops being "
	    "atomic once one was refused by a reservation or met a unit attention.");
	result_advise(&r, "After a host was fenced or the LUN was reset, check it again; if that "
			  "says unfit, unmount it everywhere and restart the target.");
	result_add(c, &r);
}

static bool path_good(const struct disk_path *p)
{
	return (!p->state[0] || !strcmp(p->state, "running")) &&
	       strcmp(p->access, "unavailable") != 0 && strcmp(p->access, "standby") != 0;
}

static void test_paths(struct check *c)
{
	const struct disk_facts *f = &c->facts.disk;
	unsigned bad = 0, slow = 0, depth = 0, long_s = 0;
	const struct disk_path *worst = NULL;
	struct check_result r;

	if (!f->paths)
		return;
	result_init(&r, "paths");
	for (unsigned i = 0; i < f->paths; i++) {
		const struct disk_path *p = &f->path[i];

		if (!path_good(p)) {
			bad++;
			worst = p;
		}
		slow += p->queue_depth == 1;
		if (p->queue_depth && (!depth || p->queue_depth < depth))
			depth = p->queue_depth;
		long_s = p->timeout_s > long_s ? p->timeout_s : long_s;
	}
	result_value(&r, "paths", f->paths);
	result_value(&r, "paths_not_running", bad);
	result_value(&r, "queue_depth", depth);
	result_value(&r, "timeout_s", long_s);
	if (bad) {
		result_say(&r, CHECK_LIMIT, "%u of %u paths do not carry commands: %s is %s%s%s.",
			   bad, f->paths, worst->node, worst->state, worst->access[0] ? ", " : "",
			   worst->access);
		result_advise(&r, "Look at its cable, port and zoning, and at multipath -ll.");
	} else {
		result_say(
		    &r, slow ? CHECK_NOTE : CHECK_OK,
		    "%u path%s, all running; queue depth %u, the kernel gives a command %u s.",
		    f->paths, f->paths > 1 ? "s" : "", depth, long_s);
		if (slow)
			result_advise(&r, "With a queue depth of 1 beats wait behind data: raise "
					  "/sys/block/.../device/queue_depth.");
	}
	result_add(c, &r);
}

static void test_sectors(struct check *c)
{
	const struct dev_identity *id = &c->s[0].dev->id;
	struct check_result r;

	result_init(&r, "sectors");
	result_value(&r, "sector_bytes", id->sector_bytes);
	result_value(&r, "physical_bytes", id->phys_bytes);
	result_value(&r, "misaligned_bytes", c->facts.disk.misaligned_bytes);
	if (id->size_bytes < LUNFS_MIN_BYTES) {
		result_say(
		    &r, CHECK_BAD, "The device has %llu bytes; a volume needs %llu MiB at least.",
		    (unsigned long long)id->size_bytes, (unsigned long long)LUNFS_MIN_BYTES >> 20);
		result_advise(&r, "Use a larger LUN.");
	} else if (c->facts.disk.misaligned_bytes) {
		result_say(&r, CHECK_LIMIT,
			   "The device begins %u bytes off a physical block, so that one block of "
			   "the volume is two of the disk and a power cut can tear it.",
			   c->facts.disk.misaligned_bytes);
		result_advise(&r, "Use the whole LUN, or partition it on physical blocks.");
	} else if (c->cfg.volume_cell_bytes && id->phys_bytes > c->cfg.volume_cell_bytes / 2 &&
		   id->phys_bytes > 512 && id->phys_bytes > id->sector_bytes) {
		result_say(
		    &r, CHECK_LIMIT,
		    "The volume was made for smaller physical blocks than the %u bytes that "
		    "the device has now: a power cut can tear a lock and its payload at once.",
		    id->phys_bytes);
		result_advise(&r, "Make the volume anew on this device.");
	} else {
		result_say(&r, CHECK_OK, "Sectors of %u bytes in physical blocks of %u, aligned.",
			   id->sector_bytes, id->phys_bytes);
	}
	result_add(c, &r);
}

void test_facts(struct check *c)
{
	test_identity(c);
	say_known_fault(c);
	test_paths(c);
	test_sectors(c);
}

/* A claim alone proves nothing, and so does its absence. */
void test_claim(struct check *c)
{
	const struct dev_identity *id = &c->s[0].dev->id;
	unsigned claim = id->caw_claim_sectors;
	bool works = c->caw_tried;
	struct check_result r;

	if (id->kind == DEV_KIND_FILE)
		return;
	result_init(&r, "claim");
	result_value(&r, "max_compare_and_write_sectors", claim);
	result_value(&r, "tried", c->cfg.may_write);
	result_value(&r, "works", works);
	if (!c->cfg.may_write)
		result_say(
		    &r, CHECK_NOTE,
		    "The device %s support for COMPARE AND WRITE (VPD page B0: %u sectors at "
		    "most). That proves nothing until it is tried.",
		    claim ? "claims" : "does not claim", claim);
	else if (claim && works)
		result_say(&r, CHECK_OK,
			   "The device claims COMPARE AND WRITE of up to %u sectors (VPD page B0); "
			   "lunfs needs one, and that works.",
			   claim);
	else if (claim)
		result_say(&r, CHECK_NOTE,
			   "The device claims COMPARE AND WRITE of up to %u sectors (VPD page B0), "
			   "and that claim is false: not even one was done.",
			   claim);
	else
		result_say(&r, CHECK_NOTE,
			   "The device does not claim COMPARE AND WRITE (VPD page B0)%s.",
			   works ? ", yet does it" : ", and does not do it");
	result_add(c, &r);
}

# SPDX-License-Identifier: GPL-2.0-or-later
"""
Ways to weaken the production code, each of which the simulator must notice.

Each entry: what the weakened code does wrong, the profiles of lunfs-sim that should notice ("cuts":
the crash points of lunfs-crash; "locks:NAME" and the like: the directed test NAME of a program that run.py lists), the
file, the text that is replaced and the text that replaces it, and how many seeds of each profile may
pass before it must have been noticed. The text must stand in the file exactly once, so that a
mutation never silently stops to apply.
"""

from collections import namedtuple

CUTS = "cuts"
Mutation = namedtuple("Mutation", "name profiles file old new seeds", defaults=[150])

MUTATIONS = [
    Mutation(
        "a plain write instead of a test and set",
        ["calm", "mixed"],
        "fs/cluster/ats.c",
        "dev_caw_batch(e->dev, &io, 1);",
        "io.result = dev_write(e->dev, t->s->off_bytes, e->geo->sector_bytes, t->set);",
    ),
    Mutation(
        "a miscompare is taken for success without reading again",
        ["calm", "mixed"],
        "fs/cluster/ats.c",
        "	case DEV_CAW_MISCOMPARE:\n		return judge(t, true);",
        "	case DEV_CAW_MISCOMPARE:\n		return ATS_DONE_LATE;",
    ),
    Mutation(
        "a read settles an ATS of unknown fate",
        ["locks:a_release_that_timed_out_and_lands_later_gives_the_lock_to_nobody_twice"],
        "fs/cluster/settle.c",
        "	o = ats_resolve(ls->ats, &l->sec, keep_content, l, found, &error);\n",
        "	o = dev_read(ls->env.dev, lock_off(l->addr), ls->env.geo->sector_bytes, found)\n"
        "		? ATS_UNKNOWN : ATS_DONE;\n	(void)keep_content;\n	l->sec.unresolved = 0;\n",
    ),
    Mutation(
        "an own image that had no answer is replaced whatever it says",
        ["ats:an_own_image_that_gave_the_lock_away_is_found_and_not_replaced", "flaky"],
        "fs/cluster/ats.c",
        "	return t->op != HEALTH_LOCK ||\n",
        "	return true ||\n",
    ),
    Mutation(
        "recovery begins before the lease of the dead host has ended",
        ["mixed", "zombie"],
        "fs/cluster/watch.c",
        "		return now >= s->since_ns + watch_allowance_ns(&s->hi) &&",
        "		return now >= s->since_ns + watch_allowance_ns(&s->hi) / 4 &&",
    ),
    Mutation(
        "locks of a host that is being recovered count as free",
        ["crash", "mixed"],
        "fs/cluster/acquire.c",
        "	else if (st == OWNER_RECOVERING)\n		v->act = V_WAIT;",
        "	else if (st == OWNER_RECOVERING)\n"
        "		v->act = a->w->mode == LOCK_EX ? V_TAKE_EX : V_JOIN_SH;",
    ),
    Mutation(
        "a lock is given up before its blocks stand in place",
        ["calm", "crash"],
        "fs/txn/checkpoint.c",
        "	if (!r)\n		r = checkpoint_guard_locked(t, guard_addr);\n",
        "",
    ),
    Mutation(
        "a lock is given up before the transaction that changed its blocks is committed",
        ["calm", "crash"],
        "fs/txn/checkpoint.c",
        "r = t->failed ? -EIO : txn_wait_done(t, g->last_tid, false);",
        "r = t->failed ? -EIO : 0;",
    ),
    Mutation(
        "a commit is acknowledged before the journal is flushed",
        ["power", "crash"],
        "fs/txn/commit.c",
        "	if (!r && entries)\n		r = flush_now(t);\n",
        "",
    ),
    Mutation(
        "the tail of the journal moves before the checkpoint is flushed",
        ["power", "crash"],
        "fs/txn/checkpoint.c",
        "	r = write_in_place(t, &p);\n	if (!r)\n		r = flush_now(t);\n",
        "	r = write_in_place(t, &p);\n",
    ),
    Mutation(
        "replay takes a log record whatever its sequence",
        ["replay:a_transaction_out_of_sequence_or_of_another_incarnation_ends_the_log", "crash", "mixed"],
        "fs/txn/scan.c",
        "	if (!r && desc_ok(rp, d, 0)) {\n",
        "	rp->seq = le64_get(d->seq);\n	if (!r && desc_ok(rp, d, 0)) {\n",
    ),
    Mutation(
        "replay takes the log records of an older incarnation",
        ["journal:the_journal_of_an_older_incarnation_in_a_reused_slot_is_dead", "crash", "mixed"],
        "fs/txn/scan.c",
        "	if (!r && desc_ok(rp, d, 0)) {\n",
        "	rp->nonce = le64_get(d->nonce);\n	if (!r && desc_ok(rp, d, 0)) {\n",
    ),
    Mutation(
        "a dead host is not fenced",
        ["zombie"],
        "fs/cluster/recover.c",
        "	if (fence_host(h, j, &j->dead))\n		return STEP_RETRY;\n",
        "",
    ),
    Mutation(
        "a lock is taken as held when its ATS had no answer",
        ["flaky"],
        "fs/cluster/settle.c",
        "	case ATS_UNKNOWN:\n		set_unsettled(ls, l);\n		return -EINPROGRESS;\n",
        "	case ATS_UNKNOWN:\n		(void)set_unsettled;\n"
        "		memcpy(&r, op->set, sizeof(r));\n		adopt(ls, l, &r, LOCK_EX, true);\n		return 0;\n",
    ),
    Mutation(
        "replay takes the first mention of a block instead of the last",
        ["crash"],
        "fs/txn/scan.c",
        "	if (!m->img)\n		m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);\n",
        "	if (m->img)\n		return true;\n	m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);\n",
    ),
    Mutation(
        "replay writes images whose guard has moved on",
        ["replay:images_of_a_guard_that_moved_on_are_not_written", "power"],
        "fs/txn/replay.c",
        "m->live = g && g->live && g->possession == m->possession;",
        "m->live = g != NULL;",
    ),
    Mutation(
        "replay writes nothing at all",
        ["crash"],
        "fs/txn/replay.c",
        "	if (!r)\n		r = write_live(rp);\n",
        "	(void)write_live;\n",
    ),
    Mutation(
        "a revoked block is replayed",
        ["replay:a_revoke_ends_all_earlier_mentions", "power", "crash"],
        "fs/txn/scan.c",
        "	if (le16_get(e->kind) == LUNFS_JENT_REVOKE) {\n",
        "	if (le16_get(e->kind) == LUNFS_JENT_REVOKE && m->img)\n		return true;\n"
        "	if (le16_get(e->kind) == LUNFS_JENT_REVOKE) {\n",
    ),
    Mutation(
        "writes start whatever is left of the lease",
        ["zombie", "mixed"],
        "fs/cluster/host.c",
        "	if (host_lease_left_ns(h) >= need_ns && host_lease_ok(h))\n		return 0;\n",
        "	(void)need_ns;\n	if (atomic_load(&h->state) != HOST_LOST)\n		return 0;\n",
    ),
    Mutation(
        "the payload is not read again after another host held the lock",
        ["calm"],
        "fs/txn/checkpoint.c",
        "	if (!r && keep == LOCK_NONE)\n		drop_guard_locked(t, guard_addr);\n",
        "	(void)keep;\n	(void)drop_guard_locked;\n",
    ),
    Mutation(
        "an open file is not marked in the record when its lock is given up",
        ["calm", "mixed"],
        "fs/cluster/settle.c",
        "		me.open = ls->cb.is_open(ls->cb.ctx, addr);",
        "		me.open = false;",
    ),
    Mutation(
        "an upgrade keeps the possession number of before",
        ["crash", "mixed"],
        "fs/cluster/record.c",
        "	r->possession_seq = le64_make(le64_get(r->possession_seq) + 1);\n",
        "",
    ),
    Mutation(
        "the exclusive lock is taken although others share it",
        ["calm"],
        "fs/cluster/acquire.c",
        "	if (!v->n)\n		v->act = V_TAKE_EX;",
        "	if (v->n < BOARD_COLS)\n		v->act = V_TAKE_EX;",
    ),
    Mutation(
        "a transaction is written to the journal before the data that it refers to is flushed",
        [CUTS],
        "fs/txn/commit.c",
        "	int r = flush ? flush_now(t) : 0;\n\n	if (!r && entries)\n		r = write_log",
        "	int r = 0;\n\n	if (!r && entries)\n		r = write_log",
    ),
    Mutation(
        "data that came back does not count as written",
        [CUTS],
        "fs/cluster/host.c",
        "	atomic_fetch_add(&h->written, 1);\n",
        "",
    ),
    Mutation(
        "the log relies on the record of a lock that nobody may have flushed",
        ["txn:a_commit_costs_one_log_write_and_one_flush_or_two_if_something_was_written_before"],
        "fs/txn/commit.c",
        " ||\n	       t->flush_unproven != locks_unproven(t->locks)",
        "",
    ),
    Mutation(
        "a lock that was handed over counts as durable",
        ["lock:a_lock_that_was_only_seen_to_be_ours_is_counted"],
        "fs/cluster/acquire.c",
        "	if (says == LOCK_EX)\n		atomic_fetch_add(&a->ls->unproven, 1);\n",
        "",
    ),
    Mutation(
        "the same, in whole clusters whose power goes",
        ["power"],
        "fs/cluster/acquire.c",
        "	if (says == LOCK_EX)\n		atomic_fetch_add(&a->ls->unproven, 1);\n",
        "",
        600,
    ),
    Mutation(
        "a test and set that is seen to be done late counts as durable",
        ["lock:a_lock_that_was_only_seen_to_be_ours_is_counted"],
        "fs/cluster/settle.c",
        "op->outcome == ATS_DONE);",
        "true);",
    ),
    Mutation(
        "an fsync is answered before the commit block is flushed",
        [CUTS],
        "fs/txn/commit.c",
        "	if (!r && entries)\n		r = flush_now(t);\n",
        "",
    ),
    Mutation(
        "a checkpoint is not flushed before the tail moves and locks leave",
        [CUTS],
        "fs/txn/checkpoint.c",
        "	r = write_in_place(t, &p);\n	if (!r)\n		r = flush_now(t);\n",
        "	r = write_in_place(t, &p);\n",
    ),
    Mutation(
        "the tail of the journal moves over transactions that were not checkpointed",
        [CUTS],
        "fs/txn/checkpoint.c",
        "	return x ? x->log_pos : t->head;\n",
        "	(void)x;\n	return t->head;\n",
    ),
    Mutation(
        "replay takes a transaction that is not whole",
        [CUTS],
        "fs/txn/scan.c",
        "	if (!descs_ok(rp, x) || !commit_ok(rp, x))\n		return false;\n"
        "	if (entries_ok(rp, x))\n		return true;\n",
        "	(void)commit_ok;\n	if (entries_ok(rp, x) || descs_ok(rp, x))\n		return true;\n",
    ),
    Mutation(
        "replay applies transactions in the wrong order",
        [CUTS],
        "fs/txn/scan.c",
        "	if (!m->img)\n		m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);\n",
        "	if (m->img)\n		return true;\n	m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);\n",
    ),
    Mutation(
        "blocks are used again before the transaction that freed them is durable",
        [CUTS],
        "fs/alloc/blocks.c",
        "	txn_on_commit(h, blocks_durable, p);\n",
        "	blocks_durable(p, true);\n",
    ),
    Mutation(
        "an unlinked file is not put among the orphans",
        [CUTS],
        "fs/vol/giveup.c",
        "		rc = orphan_insert(ch, i, p->odir);\n",
        "		rc = 0;\n",
    ),
    Mutation(
        "a lock is handed over before its transaction is committed and in place",
        [CUTS],
        "fs/txn/checkpoint.c",
        "r = t->failed ? -EIO : txn_wait_done(t, g->last_tid, false);",
        "r = t->failed ? -EIO : 0;",
    ),
    Mutation(
        "a lock is handed over while its blocks stand in the journal alone",
        [CUTS],
        "fs/txn/checkpoint.c",
        "	if (!r)\n		r = checkpoint_guard_locked(t, guard_addr);\n",
        "",
    ),
    Mutation(
        "a lock in a queue is sent back to a host that did not want it the last time",
        ["turns:lock_that_is_used_unevenly_is_not_sent_back_in_vain_each_time"],
        "fs/cluster/queue.c",
        "	p->turns = -p->penalty;\n",
        "",
    ),
    Mutation(
        "a queue that stands still is relied on",
        ["turns:queue_goes_on_past_a_host_that_gave_up"],
        "fs/cluster/queue.c",
        "	return PATIENCE_NS + PATIENCE_STEPS * step",
        "	return 1000 * PATIENCE_NS + PATIENCE_STEPS * step",
    ),
    Mutation(
        "a pin is raised while others still work under the lock",
        ["raise:a_pin_is_raised_when_all_others_are_parked", "calm", "mixed"],
        "fs/cluster/lock.c",
        "	while (l->pin_excl || l->pins_shared)\n		cond_wait(&cond,",
        "	while (l->pin_excl)\n		cond_wait(&cond,",
    ),
    Mutation(
        "a file changes between the data of a first write and its commit",
        ["raise:nobody_has_it_alone_between_parking_and_the_last_unpin", "calm", "mixed"],
        "fs/cluster/lock.c",
        "!(l->pins_shared || l->pins_parked)",
        "!l->pins_shared",
    ),
    Mutation(
        "first writes to the same blocks go side by side",
        ["calm", "mixed"],
        "fs/vol/first.c",
        "	clear = !overlaps(f->crew, &f->p);",
        "	clear = true;",
    ),
    Mutation(
        "a lock that is taken ahead is taken from whoever has it",
        ["ahead:locks_of_others_are_left_to_them", "calm", "mixed"],
        "fs/cluster/acquire.c",
        "	return v.act == (mode == LOCK_EX ? V_TAKE_EX : V_JOIN_SH) ? 0 : -EAGAIN;",
        "	return 0;",
    ),
    Mutation(
        "a payload counts that was read before its holder was known to be gone",
        ["ahead:a_payload_read_before_its_holder_was_known_to_be_gone_does_not_count"],
        "fs/cluster/owner.c",
        "	return s.since_ns <= ns && judge(",
        "	return judge(",
    ),
    Mutation(
        "a payload counts that is older than its lock record says",
        ["ahead:a_payload_read_before_its_holder_was_known_to_be_gone_does_not_count"],
        "fs/cluster/acquire.c",
        "		return le64_get(h->version) >= recorded && known_over(a, v->who[0]);",
        "		return known_over(a, v->who[0]);",
    ),
    Mutation(
        "a lock that is taken ahead is given to others while its command is under way",
        ["ahead:who_comes_meanwhile_waits_for_it", "calm", "mixed"],
        "fs/cluster/ahead.c",
        "		l->state = LST_ACQUIRE;\n",
        "",
    ),
]

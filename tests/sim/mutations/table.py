# SPDX-License-Identifier: GPL-2.0-or-later
"""
Ways to weaken the production code, each of which the simulator must notice.

Each entry: what the weakened code does wrong, the profiles of lunfs-sim that should notice, the
file, the text that is replaced and the text that replaces it, and how many seeds of each profile may
pass before it must have been noticed. The text must stand in the file exactly once, so that a
mutation never silently stops to apply.
"""

from collections import namedtuple

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
        "r = t->failed ? -EIO : txn_wait_done(t, g->last_tid);",
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
        ["crash", "mixed"],
        "fs/txn/scan.c",
        "	if (!r && desc_ok(rp, d, 0)) {\n",
        "	rp->seq = le64_get(d->seq);\n	if (!r && desc_ok(rp, d, 0)) {\n",
    ),
    Mutation(
        "replay takes the log records of an older incarnation",
        ["crash", "mixed"],
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
        "		memcpy(&r, op->set, sizeof(r));\n		adopt(ls, l, &r, LOCK_EX);\n		return 0;\n",
    ),
    Mutation(
        "replay takes the first mention of a block instead of the last",
        ["crash"],
        "fs/txn/scan.c",
        "	if (!m->img)\n		m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);\n",
        "	if (m->img)\n		return true;\n	m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);\n",
    ),
    Mutation(
        "replay writes nothing at all",
        ["crash"],
        "fs/txn/replay.c",
        "	if (!r)\n		r = write_live(rp);\n",
        "	(void)write_live;\n",
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
]

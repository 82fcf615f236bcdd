#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Three hosts on a real iSCSI target that carries out COMPARE AND WRITE (the kernel's, in a small virtual
# machine): the tests three_hosts and kill_one over three iscsi:// mounts.
. "$(dirname "$0")/lib.sh"

HERE=$(cd "$(dirname "$0")" && pwd)
rc=0
out=$(LUN_MB=1024 "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
[ $rc -ne 77 ] || skip "$out"
[ $rc -eq 0 ] || fail "the iSCSI target did not start: $out"
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
read -r url <"$WORK/target/urls"

# The emulated machine answers in milliseconds, not microseconds, and stalls for longer when this one
# is busy: what the recovery's own I/O takes on top of the lease is the machine's, not the protocol's.
for t in three_hosts kill_one; do
	say "$t over $(echo "$url" | sed 's,127.0.0.1:[0-9]*,HOST,')"
	LUNFS_DEV=$url LUNFS_TIMING=600,1500,3000 LUNFS_SLACK_MS=3000 timeout 300 bash "$HERE/$t.sh" >"$WORK/$t.out" 2>&1 || {
		tail -n 30 "$WORK/$t.out"
		fail "$t over iSCSI"
	}
	grep '^  ' "$WORK/$t.out" | sed 's/^/  /'
done
pass "three hosts share a LUN of a real iSCSI target, and survive the death of one"

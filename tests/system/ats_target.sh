#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The outcomes of test and sets on the kernel's iSCSI target: a second session writes the sector in
# between, puts an older image back, scribbles over it, reserves the LUN; the network loses an answer.
. "$(dirname "$0")/lib.sh"

HERE=$(dirname "$0")
LIVE=$BUILD/tests/unit/cluster/test_ats_live
[ -x "$LIVE" ] || skip "libcmocka is missing, so test_ats_live was not built"

rc=0
out=$(LUN_MB=64 LUNS=2 LUN_SECTOR="512 4096" "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
[ $rc -ne 77 ] || skip "$out"
[ $rc -eq 0 ] || fail "the iSCSI target did not start"
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
python3 "$HERE/tcp_proxy.py" "$WORK/port" 127.0.0.1 "$(cat "$WORK/target/port")" &
proxy=$!
CLEANUP+=("kill $proxy 2>/dev/null")
wait_until 10 [ -s "$WORK/port" ] || fail "the proxy did not start"

for i in 1 2; do
	via=$(sed -n "${i}s,127.0.0.1:[0-9]*,127.0.0.1:$(cat "$WORK/port"),p" "$WORK/target/urls")
	TEST_SAY=1 timeout 120 "$LIVE" "$via" "kill -USR1 $proxy" "kill -HUP $proxy" >"$WORK/live.log" 2>&1 ||
		fail "test_ats_live on LUN $i"
	# What is for SCSI disks of the kernel's is skipped, and nothing else.
	[ "$(grep -c '^\[  SKIPPED \] [a-z]' "$WORK/live.log")" = 4 ] || fail "something was skipped on LUN $i"
	grep -E '^(ats-|cut:|LIO)' "$WORK/live.log" | sed "s/^/  /"
done
pass "the outcomes of test and sets on a real target are told apart, counted and said"

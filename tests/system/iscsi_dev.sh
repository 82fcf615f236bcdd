#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The iscsi backend against the kernel's target: COMPARE AND WRITE is atomic between sessions, and a
# connection that is cut or goes silent is survived with honest answers.
. "$(dirname "$0")/lib.sh"

HERE=$(dirname "$0")
LIVE=$BUILD/tests/unit/dev/test_dev_live
[ -x "$LIVE" ] || skip "libcmocka is missing, so test_dev_live was not built"

for sector in 512 4096; do
	rc=0
	out=$(LUN_MB=256 LUN_SECTOR=$sector "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
	[ $rc -ne 77 ] || skip "$out"
	[ $rc -eq 0 ] || fail "the iSCSI target did not start"
	CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
	python3 "$HERE/tcp_proxy.py" "$WORK/port" 127.0.0.1 "$(cat "$WORK/target/port")" &
	proxy=$!
	CLEANUP+=("kill $proxy 2>/dev/null")
	wait_until 10 [ -s "$WORK/port" ] || fail "the proxy did not start"
	via=$(sed "s,127.0.0.1:[0-9]*,127.0.0.1:$(cat "$WORK/port")," "$WORK/target/urls")

	timeout 120 "$LIVE" "$via" "kill -USR1 $proxy" "kill -USR2 $proxy" >"$WORK/live.log" 2>&1 ||
		fail "test_dev_live on sectors of $sector bytes"
	grep -E 'writes answered|sectors' "$WORK/live.log" | sed 's/^/  /' || true

	kill $proxy
	wait $proxy 2>/dev/null || true
	rm "$WORK/port"
	"$HERE/iscsi_target.sh" stop "$WORK/target"
done
pass "iscsi backend on the kernel's target, 512- and 4096-byte sectors"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A host killed in the middle of writing: the others go on within the lease plus a second, what it
# had fsynced is there, it comes back.
. "$(dirname "$0")/lib.sh"

make_image 1G --hosts 4
for h in a b c; do mount_host $h; done
mkdir "$(mnt a)/shared"
for round in 1 2 3; do
	python3 "$(dirname "$0")/fsync_writer.py" write "$(mnt b)/shared" "$WORK/acked.$round" b$round &
	writer=$!
	wait_until 20 test -s "$WORK/acked.$round" || fail "the writer on b did not start"
	sleep 0.3 # let it get into its stride; nothing is waited for
	kill_host b
	t0=$(now_ms)
	touch "$(mnt a)/shared/by-a.$round" "$(mnt c)/shared/by-c.$round"
	ls -l "$(mnt a)/shared" >/dev/null
	took=$(($(now_ms) - t0))
	kill "$writer" 2>/dev/null || true
	wait "$writer" 2>/dev/null || true
	say "round $round: a and c went on $took ms after the death of b"
	((took < LEASE_MS + SLACK_MS)) || fail "a and c stood still for $took ms (lease $LEASE_MS ms)"
	python3 "$(dirname "$0")/fsync_writer.py" verify "$(mnt a)/shared" "$WORK/acked.$round" ||
		fail "something that b had fsynced is missing"
	mount_host b
	echo back >"$(mnt b)/shared/back.$round"
	[ "$(cat "$(mnt c)/shared/back.$round")" = back ] || fail "c does not see b's work after its return"
done
umount_all
check_clean
pass "a killed host stops nobody for longer than the lease plus a second and loses nothing fsynced"

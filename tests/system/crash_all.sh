#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every host killed at once in the middle of a mixed load, again and again: the next mount recovers,
# fsck is clean, nothing that was fsynced is lost.
. "$(dirname "$0")/lib.sh"

ROUNDS=${LUNFS_CRASH_ROUNDS:-20}
HERE=$(dirname "$0")
all_free_but_one() {
	[ "$("$LUNFS" hosts "$DEV" --json | jq '[.hosts[] | select(.state != "free")] | length')" = 1 ]
}

make_image 2G --hosts 4
for ((round = 1; round <= ROUNDS; round++)); do
	jobs=()
	for h in a b c; do mount_host $h; done
	mkdir -p "$(mnt a)/r$round/shared"
	for h in a b c; do
		mkdir -p "$(mnt $h)/r$round/own.$h"
		python3 "$HERE/fsync_writer.py" write "$(mnt $h)/r$round/own.$h" "$WORK/own.$h.$round" "o$h" &
		jobs+=($!)
		python3 "$HERE/fsync_writer.py" write "$(mnt $h)/r$round/shared" "$WORK/shared.$h.$round" "s$h" &
		jobs+=($!)
		python3 "$HERE/churn.py" "$(mnt $h)/r$round/shared" "c$h" >/dev/null 2>&1 &
		jobs+=($!)
	done
	wait_until 30 test -s "$WORK/shared.c.$round" || fail "the load did not start"
	sleep "0.$((RANDOM % 8 + 1))" # the moment of death is random
	kill -9 "$(pid_of a)" "$(pid_of b)" "$(pid_of c)"
	for h in a b c; do kill_host $h 2>/dev/null || { umount -l "$(mnt $h)"; drop_host $h; }; done
	for j in "${jobs[@]}"; do
		kill -9 "$j" 2>/dev/null || true
		wait "$j" 2>/dev/null || true
	done
	mount_host d
	for h in a b c; do
		python3 "$HERE/fsync_writer.py" verify "$(mnt d)/r$round/own.$h" "$WORK/own.$h.$round" >>"$WORK/verify.out" ||
			fail "round $round: host $h lost something in its own directory: $(tail -n 3 "$WORK/verify.out")"
		python3 "$HERE/fsync_writer.py" verify "$(mnt d)/r$round/shared" "$WORK/shared.$h.$round" >>"$WORK/verify.out" ||
			fail "round $round: host $h lost something in the shared directory: $(tail -n 3 "$WORK/verify.out")"
	done
	((round % 3 == 0)) && rm -rf "$(mnt d)/r$round"
	wait_until 20 all_free_but_one || fail "round $round: dead hosts were not all recovered"
	umount_host d
	check_clean
done
say "$(awk '{s += $1} END {print s}' "$WORK/verify.out") acknowledged promises held over $ROUNDS rounds"
pass "killing all hosts at once loses nothing that was fsynced and leaves a clean volume"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Many reads and writes are on their way while others of the same file have to wait for the log, for
# them, or for another host: nobody waits for himself, and each block is what was written last.
. "$(dirname "$0")/lib.sh"

make_image 512M --hosts 3
if [ -z "${LUNFS_DEV:-}" ]; then # only block devices take them without a thread each
	DEV=$(losetup -f --show --direct-io=on "$DEV") || skip "no loop device"
	CLEANUP+=("losetup -d $DEV")
fi

PROGRAM=$(dirname "$0")/in_flight.py

run() { # SECONDS HOST..
	local s=$1 h files=()
	shift
	for h; do files+=("$(mnt "$h")/f"); done
	timeout -k 10 120 python3 "$PROGRAM" "$s" "${files[@]}" || fail "$# host(s): exit code $?"
	rm "${files[0]}"
}

written() { [ "$(stat -c %b "$(mnt a)/f" 2>/dev/null || echo 0)" -gt 2000 ]; }

# The daemon is told to end, or dies, in the middle of it.
stop_amid() { # SIGNAL
	mount_host a
	rm -f "$(mnt a)/f"
	timeout -k 10 120 python3 "$PROGRAM" 60 "$(mnt a)/f" >"$WORK/load.log" 2>&1 &
	LOAD=$!
	wait_until 30 written || fail "nothing was written in 30 s"
	kill "-$1" "$(pid_of a)"
	wait_until 30 gone a || fail "the daemon outlives SIG$1 by 30 s"
	wait "$LOAD" && fail "the load has not noticed SIG$1"
	wait "$(pid_of a)" 2>/dev/null || true
	umount -l "$(mnt a)" 2>>"$WORK/load.log" || true # of a killed one it is left, and no stat(2) shows it
	drop_host a
}

mount_host a
run 3 a
mount_host b
run 5 a b
umount_all
check_clean
for _ in 1 2 3; do
	stop_amid TERM
	check_clean
done
stop_amid KILL
mount_host b
run 1 b
umount_all
check_clean
pass "reads and writes on their way are in nobody's way"

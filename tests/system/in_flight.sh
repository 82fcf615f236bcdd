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

run() { # SECONDS HOST..
	local s=$1 h files=()
	shift
	for h; do files+=("$(mnt "$h")/f"); done
	timeout 120 python3 "$(dirname "$0")/in_flight.py" "$s" "${files[@]}" || fail "$# host(s): exit code $?"
	rm "${files[0]}"
}

mount_host a
run 3 a
mount_host b
run 5 a b
umount_all
check_clean
pass "reads and writes on their way are in nobody's way"

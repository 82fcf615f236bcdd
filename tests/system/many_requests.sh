#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Hundreds of requests at once, again and again, leave a daemon that serves: workers that go away when
# a burst is over never are the last ones.
. "$(dirname "$0")/lib.sh"
command -v qemu-img >/dev/null || skip "qemu-img is not installed"

make_image 512M --hosts 2
if [ -z "${LUNFS_DEV:-}" ]; then # a device that takes its time, so that requests pile up
	DEV=$(losetup -f --show --direct-io=on "$DEV") || skip "no loop device"
	CLEANUP+=("losetup -d $DEV")
fi
mount_host a
F=$(mnt a)/image
head -c 64M /dev/zero >"$F"
sync "$F"
alive() { mountpoint -q "$(mnt a)" || fail "the daemon ended by itself: $(tail -n 1 "$(log_of a)")"; }

burst() { # six readers at once, 64 requests each
	local pids=() p
	for _ in 1 2 3 4 5 6; do
		qemu-img bench -U -n -t none -f raw -c 12000 -d 64 -s 4096 "$F" >>"$WORK/bench.log" 2>&1 &
		pids+=($!)
	done
	for p in "${pids[@]}"; do wait "$p" || fail "qemu-img bench: $(tail -n 1 "$WORK/bench.log")"; done
	alive
}

for _ in 1 2 3; do burst; done
umount_all
check_clean
pass "bursts of 384 requests leave a daemon that serves"

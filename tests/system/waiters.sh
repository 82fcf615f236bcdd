#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# However many requests of a host wait for another one, somebody reads the next, which may be what that
# host waits for: pages that were stored to have to be written back before their file is given up.
. "$(dirname "$0")/lib.sh"

TIMING=1500,4000,8000 # a host is stopped for a second or two and must not lose its lease
make_image 512M --hosts 2
for h in a b; do mount_host $h; done

turns() { # COUNT [CGROUP]
	mkdir "$(mnt a)/$1"
	timeout -k 10 300 python3 "$(dirname "$0")/waiters.py" "$(mnt a)/$1" "$(mnt b)/$1" \
		"$(pid_of a)" "$@" || fail "two hosts wait for each other"
}

own_cgroup() { # of host a; prints its directory
	local base dir
	for base in /sys/fs/cgroup/pids /sys/fs/cgroup; do
		dir=$base/lunfs-test.$$
		mkdir "$dir" 2>/dev/null || continue
		if [ -w "$dir/pids.max" ] && pid_of a >"$dir/cgroup.procs"; then
			echo "$dir"
			return
		fi
		rmdir "$dir"
	done
}

turns 800
CGROUP=$(own_cgroup)
if [ -n "$CGROUP" ]; then
	CLEANUP+=("wait_until 5 rmdir $CGROUP 2>/dev/null")
	turns 200 "$CGROUP"
	grep -q no-thread "$(log_of a)" || fail "that there was no thread was not said"
else
	say "there is no cgroup to limit threads with"
fi
umount_all
check_clean
pass "requests that wait for another host leave somebody who reads"

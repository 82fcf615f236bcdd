#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fallocate, sparse files, xattrs, ACLs, special files, rename flags, locks, mmap, long symlinks: on one host,
# seen from another.
. "$(dirname "$0")/lib.sh"

make_image 1G --hosts 2
mount_host a
mount_host b
python3 "$(dirname "$0")/features.py" "$(mnt a)" "$(mnt b)" || fail "see above"
A=$(mnt a) B=$(mnt b)
if command -v setfacl >/dev/null; then
	mkdir "$A/acl"
	setfacl -m u:1234:rwx,d:u:1234:rw,d:g::r "$A/acl"
	getfacl -pc "$B/acl" | grep -q '^user:1234:rwx' || fail "b does not see the ACL set by a"
	(umask 077 && touch "$A/acl/f" && mkdir "$A/acl/d")
	getfacl -pc "$B/acl/f" | grep -q '^user:1234:rw' || fail "a default ACL is not inherited"
	getfacl -pc "$B/acl/d" | grep -q '^default:user:1234:rw' || fail "a default ACL is not passed on"
	chmod 600 "$A/acl/f"
	getfacl -pc "$B/acl/f" | grep -q '^mask::---' || fail "chmod does not change the ACL's mask"
	[ "$(stat -c %a "$B/acl/f")" = 600 ] || fail "mode after chmod with an ACL"
	setfacl -b "$B/acl/f"
	getfacl -pc "$A/acl/f" | grep -q mask && fail "setfacl -b leaves a mask"
	say "POSIX ACLs are kept, inherited, and follow chmod"
fi
dd if=/dev/urandom of="$A/d" bs=1M count=20 oflag=direct status=none
dd if="$B/d" iflag=direct bs=64k status=none | cmp - "$A/d" || fail "O_DIRECT data differs"
fusermount3 -u "$A" || umount "$A"
wait_until 30 gone a || fail "the daemon outlives fusermount3 -u"
drop_host a
mount_host a
kill -TERM "$(pid_of a)"
wait_until 30 gone a || fail "the daemon outlives SIGTERM"
mountpoint -q "$A" && fail "still mounted after SIGTERM"
drop_host a
umount_all
check_clean
# The default: a daemon in the background that returns once the mount works, with mount(8)'s options.
"$MOUNT" "$DEV" "$A" -o rw,noatime,_netdev,host=bg,logfile="$WORK/bg.log"
echo works >"$A/bg"
[ "$(cat "$A/bg")" = works ] || fail "the background mount"
grep -q " $A fuse.lunfs rw" /proc/mounts || fail "/proc/mounts: $(grep "$A" /proc/mounts)"
umount "$A"
free_again() { [ "$("$LUNFS" hosts "$DEV" --json | jq '[.hosts[] | select(.state != "free")] | length')" = 0 ]; }
wait_until 30 free_again || fail "the slot is not free after umount"
check_clean
pass "the operations of a file system, on one host and seen from another"

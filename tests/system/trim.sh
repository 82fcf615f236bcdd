#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Space of removed, truncated and punched files goes back to the device with lunfs trim and fstrim,
# and nothing else does, while two hosts write.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "needs root"
IMG=$WORK/lun.img
truncate -s 3G "$IMG"
if [ -z "${LUNFS_DEV:-}" ]; then
	DEV=$(losetup -f --show --direct-io=on "$IMG") || skip "no loop device"
	CLEANUP+=("losetup -d $DEV")
fi
"$MKFS" -q -f --timing "$TIMING" --hosts 3 "$DEV"
mount_host a
mount_host b
A=$(mnt a)
B=$(mnt b)
used_mib() { echo $(($(stat -c %b "$IMG") / 2048)); }

mkdir "$A/d" "$B/e"
for k in 1 2 3 4; do
	head -c 40M /dev/urandom >"$A/d/big$k"
	head -c 40M /dev/urandom >"$B/e/big$k"
	head -c 3M /dev/urandom >"$A/d/keep$k"
	head -c 3M /dev/urandom >"$B/e/keep$k"
done
head -c 60M /dev/urandom >"$A/cut"
head -c 60M /dev/urandom >"$B/holes"
sums() { (cd "$1" && sha256sum d/keep? e/keep? && head -c 1M cut | sha256sum &&
	head -c 2M holes | sha256sum && tail -c 2M holes | sha256sum); }
truncate -s 1M "$A/cut"
fallocate -p -o 2M -l 56M "$B/holes"
sums "$A" >"$WORK/before"
rm "$A"/d/big? "$B"/e/big?
sync -f "$A"
full=$(used_mib)

# Beside a host that writes and removes all the time.
churn() {
	while [ ! -e "$WORK/stop" ]; do
		head -c 5M "$B/e/keep1" >"$B/e/churn"
		cmp -s -n 3M "$B/e/keep1" "$B/e/churn" || {
			echo "churn read something else" >"$WORK/churn.bad"
			return
		}
		rm "$B/e/churn"
	done
}
churn &
writer=$!
"$LUNFS" trim --json "$A" >"$WORK/out.json" || fail "lunfs trim ended with $?"
touch "$WORK/stop"
wait $writer
[ ! -e "$WORK/churn.bad" ] || fail "$(cat "$WORK/churn.bad")"
given=$(jq .trimmed_bytes "$WORK/out.json")
say "the image had $full MiB, $(used_mib) MiB after $((given >> 20)) MiB were given back"
if [ -z "${LUNFS_DEV:-}" ]; then
	(($(used_mib) < full - 400)) || fail "the image did not shrink: $full -> $(used_mib) MiB"
fi
(($(stat_of a dev_discards) > 0)) || fail "no discard was counted"

fstrim -v "$B" >"$WORK/fstrim" || fail "fstrim"
fstrim -v -m 4G "$B" | grep -q '(0 bytes)' || fail "fstrim took runs that are too short"
# Neither a user nor a root without the privilege may.
chmod 755 "$WORK" "$A"
! setpriv --reuid 65534 --clear-groups fstrim "$A" 2>/dev/null || fail "a user trimmed"
! setpriv --bounding-set -sys_admin --inh-caps -sys_admin fstrim "$A" 2>/dev/null ||
	fail "root without CAP_SYS_ADMIN trimmed"
rc=0
"$LUNFS" trim -m 1x "$A" 2>/dev/null || rc=$?
[ $rc = 2 ] || fail "a wrong number ended with $rc"
rc=0
"$LUNFS" trim "$WORK" 2>/dev/null || rc=$?
[ $rc = 1 ] || fail "another file system ended with $rc"

umount_host b
umount_host a
mount_host a
sums "$(mnt a)" >"$WORK/after"
cmp "$WORK/before" "$WORK/after" || fail "files have changed"
umount_host a
mount_host a ro
rc=0
"$LUNFS" trim "$(mnt a)" 2>"$WORK/ro" || rc=$?
[ $rc = 1 ] && grep -q read-only "$WORK/ro" || fail "read-only: $rc, $(cat "$WORK/ro")"
umount_all
check_clean
pass "free space goes back to the device, and nothing else"

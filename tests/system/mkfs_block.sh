#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mkfs.lunfs on block devices: partitions, both sector sizes, write protection, devices in use.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "loop devices need root"
IMG=$WORK/img
truncate -s 256M "$IMG"

LOOP=
# shellcheck disable=SC2016 # expanded when it is run
CLEANUP+=('[ -z "$LOOP" ] || losetup -d "$LOOP"')
attach() { # losetup's options; the device stands in LOOP
	LOOP=$(losetup --show -f "$@" "$IMG" 2>/dev/null) || skip "there are no loop devices"
}
detach() {
	losetup -d "$LOOP"
	LOOP=
}
refused() { # pattern command...
	local rc=0 pattern=$1
	shift
	timeout 60 "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || rc=$?
	[ $rc -eq 1 ] || fail "'$*' ended with $rc, not 1: $(cat "$WORK/out" "$WORK/err")"
	grep -qiE -- "$pattern" "$WORK/err" || fail "'$*' does not say /$pattern/ but: $(cat "$WORK/err")"
}

# sector sizes: the device's own, and no other
for sector in 512 4096; do
	attach -b $sector
	"$MKFS" --json -f "$LOOP" >"$WORK/json" || fail "sectors of $sector"
	jq -e ".sector_bytes == $sector and .topology.logical_bytes == $sector and .discard.bytes > 0" \
		"$WORK/json" >/dev/null || fail "sectors of $sector: $(cat "$WORK/json")"
	"$FSCK" -n "$LOOP" >"$WORK/out" 2>&1 || fail "sectors of $sector: $(tail -n 3 "$WORK/out")"
	refused 'sectors of' "$MKFS" -f --sector-size $((512 * 4096 / sector)) "$LOOP"
	"$MKFS" -q -f -K "$LOOP" || fail "sectors of $sector, again"
	detach
done
say "512 and 4096"

# write-protected
attach -r
cp --sparse=always "$IMG" "$IMG.was"
refused 'read-only|write-protect' "$MKFS" -f "$LOOP"
"$MKFS" -n -f "$LOOP" >"$WORK/out" || fail "-n on a write-protected device"
cmp "$IMG" "$IMG.was" || fail "a write-protected device was written"
detach
say "a write-protected device"

# partitions: a table with one of 100 MiB
truncate -s 0 "$IMG"
truncate -s 256M "$IMG"
python3 - "$IMG" <<'P'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    f.seek(446)
    f.write(struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x83, b"\0\0\0", 2048, 204800))
    f.seek(510)
    f.write(b"\x55\xaa")
P
attach -P
part=${LOOP}p1
in_kernel() { grep -q " ${part##*/}$" /proc/partitions; }
in_kernel || addpart "$LOOP" 1 2048 204800 || true # a kernel that reads no tables
if [ ! -b "$part" ] && in_kernel; then		    # no udev
	IFS=: read -r major minor <"/sys/class/block/${part##*/}/dev"
	mknod "$part" b "$major" "$minor" && CLEANUP+=("rm -f $part")
fi
refused 'partition table' "$MKFS" "$LOOP"
"$MKFS" -n -f --json "$LOOP" | jq -e '.holds | test("dos partition table")' >/dev/null ||
	fail "--json does not name the partition table"
if [ -b "$part" ]; then
	"$MKFS" -q "$part" || fail "a partition was refused"
	"$FSCK" -n "$part" >"$WORK/out" 2>&1 || fail "on a partition: $(tail -n 3 "$WORK/out")"
	mkfs.ext4 -q -F "$part" >/dev/null 2>&1
	mkdir -p "$WORK/m"
	if mount "$part" "$WORK/m" 2>/dev/null; then
		CLEANUP+=("umount $WORK/m 2>/dev/null")
		refused 'in use' "$MKFS" -f "$part"
		refused 'in use' "$MKFS" -f "$LOOP"
		umount "$WORK/m"
		unset 'CLEANUP[-1]'
		say "a mounted partition, and the disk under it"
	fi
	refused 'ext4' "$MKFS" "$part"
fi
"$MKFS" -q -f "$LOOP" || fail "-f on a disk with partitions"
blkid -p "$LOOP" 2>/dev/null | grep -qE 'dos|ext4' && fail "blkid still finds the old contents"
part_gone() { ! in_kernel; }
wait_until 5 part_gone || fail "the kernel still shows the partition of a disk that holds a volume"
"$FSCK" -n "$LOOP" >"$WORK/out" 2>&1 || fail "on the disk: $(tail -n 3 "$WORK/out")"
detach
say "partitions"

# every kind of signature goes, at the beginning and at the end
for other in ext4 swap xfs btrfs; do
	truncate -s 0 "$IMG"
	truncate -s 256M "$IMG"
	case $other in
	swap) mkswap "$IMG" >/dev/null 2>&1 || continue ;;
	*) "mkfs.$other" -q "$IMG" >/dev/null 2>&1 || continue ;;
	esac
	refused "$other" "$MKFS" "$IMG"
	"$MKFS" -q -f -K "$IMG"
	[ -z "$(blkid -p -o value -s TYPE "$IMG" 2>/dev/null)" ] || fail "$other is still found"
done
say "other signatures"

# a live host, and a repair that is at work
make_image 256M -f --hosts 2
mount_host a
refused 'host a is live' "$MKFS" -f "$DEV"
echo kept >"$(mnt a)/file"
umount_host a
mount_host a
[ "$(cat "$(mnt a)/file")" = kept ] || fail "a refused mkfs.lunfs destroyed something"
kill_host a
t0=$(now_ms)
"$MKFS" -q -f "$DEV" || fail "a dead host is in the way"
(($(now_ms) - t0 < LEASE_MS + SLACK_MS + 2000)) || fail "a dead host costs $(($(now_ms) - t0)) ms"
check_clean
pass "mkfs.lunfs on devices of both sector sizes, with partitions, protected, or in use"

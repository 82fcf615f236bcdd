#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bad input gets one clear sentence and a right exit code, never a crash or a half-made thing.
. "$(dirname "$0")/lib.sh"

# expect CODE PATTERN command...: the exit code, and standard error matches, in few lines.
expect() {
	local want=$1 pattern=$2 rc=0
	shift 2
	timeout 60 "$@" >"$WORK/out" 2>"$WORK/err" || rc=$?
	[ $rc -eq "$want" ] || fail "'${*##*/}' ended with $rc, not $want: $(cat "$WORK/err")"
	grep -qiE -- "$pattern" "$WORK/err" || fail "'${*##*/}' does not say /$pattern/ but: $(cat "$WORK/err")"
	(($(wc -l <"$WORK/err") <= 3)) || fail "'${*##*/}' says too much: $(cat "$WORK/err")"
}
refuse_mount() { # pattern, device, [options]
	mkdir -p "$WORK/m"
	expect 32 "$1" "$MOUNT" -o "host=x,timeout=1${3:+,$3}" "$2" "$WORK/m"
	! mountpoint -q "$WORK/m" || fail "$2 was mounted"
}

# mkfs
expect 1 'no such' "$MKFS" "$WORK/nothing"
truncate -s 63M "$WORK/small"
expect 1 'small' "$MKFS" "$WORK/small"
truncate -s 128M "$WORK/ext4"
mkfs.ext4 -q "$WORK/ext4"
cp --sparse=always "$WORK/ext4" "$WORK/ext4.before"
expect 1 'ext4' "$MKFS" "$WORK/ext4"
cmp "$WORK/ext4" "$WORK/ext4.before" || fail "mkfs.lunfs wrote to a device that it refused"
"$MKFS" -q -n -f "$WORK/ext4"
cmp "$WORK/ext4" "$WORK/ext4.before" || fail "mkfs.lunfs -n wrote"
"$MKFS" -q -f "$WORK/ext4" || fail "mkfs.lunfs -f"
blkid -p "$WORK/ext4" 2>/dev/null | grep -q ext4 && fail "the old signature is still there"
expect 1 '.' "$MKFS" --hosts 0 "$WORK/small"
expect 1 '.' "$MKFS" --hosts 1000 "$WORK/small"
expect 1 '.' "$MKFS" --timing 1,2 "$WORK/small"
expect 1 '.' "$MKFS" --timing 9000,8000,1000 "$WORK/small"
expect 1 '.' "$MKFS" --sector-size 1000 "$WORK/small"
expect 1 '.' "$MKFS" -L "$(printf 'l%.0s' $(seq 1 100))" "$WORK/small"
expect 1 'UTF-8' "$MKFS" -L $'\xff' "$WORK/small"
expect 1 '.' "$MKFS" -U nonsense "$WORK/small"
expect 1 '.' "$MKFS"
say "mkfs.lunfs refuses what it must, and names it"

# mount
make_image 128M --hosts 2 -L testlabel
refuse_mount 'no such' "$WORK/nothing"
truncate -s 100M "$WORK/empty"
refuse_mount 'not a lunfs|no lunfs' "$WORK/empty"
refuse_mount '.' /dev/null
refuse_mount '.' "$WORK"
expect 32 'no such' "$MOUNT" "$DEV" "$WORK/no-such-directory"
expect 32 'not a directory' "$MOUNT" "$DEV" "$DEV"
expect 1 'unknown mount option' "$MOUNT" -o nonsense "$DEV" "$WORK"
expect 1 'host' "$MOUNT" -o "host=$(printf 'h%.0s' $(seq 1 80))" "$DEV" "$WORK"
expect 1 'host' "$MOUNT" -o host=$'\xff' "$DEV" "$WORK"
mkdir -p "$WORK/m"
expect 32 'logfile' "$MOUNT" -o "host=x,logfile=$WORK/no/log" "$DEV" "$WORK/m"
mountpoint -q "$WORK/m" && fail "mounted without the log file that was asked for"
expect 1 '.' "$MOUNT" "$DEV"
expect 32 'too long' "$MOUNT" "$WORK/$(printf 'd/%.0s' $(seq 1 2500))" "$WORK"
cp --sparse=always "$DEV" "$WORK/cut"
truncate -s 100M "$WORK/cut"
refuse_mount 'shrunk|too small' "$WORK/cut"
say "mount.lunfs refuses what is no volume and no mount point"

if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
	expect 32 'not-served.*cannot be taken' strace -f -qq -o /dev/null -P /dev/fuse -e trace=read \
		-e inject=read:error=EPERM "$MOUNT" -o host=x "$DEV" "$WORK/m"
	! mountpoint -q "$WORK/m" || fail "mounted although no request can be read"
	say "a kernel's device that fails is named"
fi

mount_host a
mount_host b
refuse_mount 'slots|hosts' "$DEV"
umount_host b
expect 32 "name|'a'|host a" "$MOUNT" -o host=a,timeout=3 "$DEV" "$WORK/m"
expect 32 'mount point' "$MOUNT" -o host=z "$DEV" "$(mnt a)"
expect 1 'live|in use|mounted' "$MKFS" -f "$DEV"
cat "$(mnt a)/nothing" 2>/dev/null && fail "a file that is not there"
echo x >"$(mnt a)/x"
umount_host a
check_clean
say "all slots taken, a name twice, a used mount point, mkfs on a live volume: all refused"

# read-only
mount_host a
echo data >"$(mnt a)/f"
umount_host a
mount_host r ro
[ "$(cat "$(mnt r)/f")" = data ] || fail "a read-only mount does not read"
if touch "$(mnt r)/g" 2>/dev/null; then fail "a read-only mount writes"; fi
umount_host r
if [ "$(id -u)" = 0 ] && loop=$(losetup -r --show -f "$DEV" 2>/dev/null); then
	CLEANUP+=("losetup -d $loop")
	refuse_mount 'read-only|write-protect' "$loop"
	expect 1 'read-only|write-protect' "$MKFS" -f "$loop"
	losetup -d "$loop"
	unset 'CLEANUP[-1]'
fi
say "read-only mounts and devices behave"

# superblock: damaged -> the copy; unknown feature -> refused
cp --sparse=always "$DEV" "$WORK/bad"
dd if=/dev/urandom of="$WORK/bad" bs=4096 seek=16 count=1 conv=notrunc status=none
mkdir -p "$WORK/m"
"$MOUNT" -o host=x "$WORK/bad" "$WORK/m" || fail "the copy of a damaged superblock is not used"
[ "$(cat "$WORK/m/f")" = data ] || fail "mounted by the copy, but the data is not there"
umount "$WORK/m"
finds_errors() { # once the daemon that served it is gone
	local rc=0
	"$FSCK" -n "$1" >"$WORK/out" 2>&1 || rc=$?
	[ $rc -eq 4 ]
}
wait_until 10 finds_errors "$WORK/bad" || fail "fsck.lunfs finds no error in a damaged superblock"
grep -q SB_DAMAGED "$WORK/out" || fail "fsck.lunfs does not name the damaged superblock"
python3 "$(dirname "$0")/set_incompat.py" "$DEV" "$WORK/future"
refuse_mount 'feature' "$WORK/future"
expect 8 'feature' "$FSCK" -n "$WORK/future"
expect 8 '.' "$FSCK" -n "$WORK/empty"
expect 8 'no such' "$FSCK" -n "$WORK/nothing"
expect 16 '.' "$FSCK"
expect 1 '.' "$LUNFS" info "$WORK/empty"
expect 2 'unknown command' "$LUNFS" nonsense x
expect 1 'not the mount point' "$LUNFS" stats "$WORK"
say "damaged superblocks and unknown features are handled"

# random damage never crashes anything
for seed in 1 2 3 4 5 6; do
	cp --sparse=always "$DEV" "$WORK/bad"
	python3 "$(dirname "$0")/scribble.py" "$WORK/bad" $seed
	rc=0
	timeout 60 "$FSCK" -n "$WORK/bad" >"$WORK/out" 2>&1 || rc=$?
	case $rc in 0 | 4 | 8) ;; *) fail "fsck.lunfs ended with $rc on a scribbled volume (seed $seed)" ;; esac
	if timeout 60 "$MOUNT" -o host=x,timeout=5 "$WORK/bad" "$WORK/m" >"$WORK/out" 2>&1; then
		ls -lR "$WORK/m" >/dev/null 2>&1 || true
		touch "$WORK/m/t" 2>/dev/null || true
		stat -f "$WORK/m" >/dev/null || fail "the daemon died on a scribbled volume (seed $seed)"
		umount "$WORK/m"
	fi
done
check_clean
pass "bad input gets one sentence and the right exit code"

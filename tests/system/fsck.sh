#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fsck.lunfs and the rest of the world: it leaves a mounted volume alone, recovers the dead, wins or loses
# cleanly against a mount, may be killed at any time, and can be taken back.
. "$(dirname "$0")/lib.sh"

EDIT=$BUILD/tests/images/lunfs-edit

fsck() { # expected exit code, options...
	local want=$1 rc=0
	shift
	timeout 120 "$FSCK" "$@" "$DEV" >"$WORK/fsck.log" 2>&1 </dev/null || rc=$?
	[ $rc -eq "$want" ] || {
		head -n 20 "$WORK/fsck.log"
		fail "fsck.lunfs $* ended with $rc, not $want"
	}
}

says() { grep -q -- "$1" "$WORK/fsck.log" || fail "fsck.lunfs does not say '$1': $(head -n 5 "$WORK/fsck.log")"; }

tree_sum() { # host: names, kinds, contents
	(cd "$(mnt "$1")" && find . -path ./lost+found -prune -o -type f -exec sha256sum {} + -o -type d -print) | sort | sha256sum
}

damage() { # blocks of 4096 bytes...
	local b
	for b in "$@"; do
		dd if=/dev/urandom of="$DEV" bs=4096 seek="$b" count=1 conv=notrunc status=none
	done
}

make_image 256M --hosts 4
mount_host a
mkdir "$(mnt a)/d"
for i in $(seq 200); do echo "file $i" >"$(mnt a)/d/$i"; done
head -c 3000000 /dev/urandom >"$(mnt a)/big"

# Mounted: refused, by name, and the host does not notice.
fsck 8 -y
says "mounted by host a"
fsck 8 -p
"$EDIT" "$DEV" 'superblock.vol_id[7]^=8' # neither by a superblock that would make its slot look foreign
fsck 8 -y
says "mounted by host a"
"$EDIT" "$DEV" 'superblock.vol_id[7]^=8'
echo more >"$(mnt a)/d/more"

# Its host dead: recovered, what was fsynced is there.
sync "$(mnt a)/d/more" "$(mnt a)/big"
kill_host a
fsck 4 -n
says HOST_NOT_FREE
fsck 0 -p
check_clean
mount_host b
[ "$(cat "$(mnt b)/d/more")" = more ] || fail "what was fsynced is gone after the recovery by fsck.lunfs"
say "a dead host was recovered by fsck.lunfs -p"
umount_host b

# A mount and a check at the same time: one of them may lose, with a sentence; neither does harm.
both=0 lost=0
for _ in $(seq 15); do
	"$FSCK" -y "$DEV" >"$WORK/race.log" 2>&1 </dev/null &
	f=$!
	mkdir -p "$(mnt r)"
	"$MOUNT" -o host=r "$DEV" "$(mnt r)" >"$WORK/mount.log" 2>&1 &
	m=$! frc=0 mrc=0
	wait $f || frc=$?
	wait $m || mrc=$?
	[ $frc -eq 0 ] || [ $frc -eq 8 ] || fail "fsck.lunfs ended with $frc beside a mount: $(cat "$WORK/race.log")"
	[ $mrc -eq 0 ] || grep -q "being checked, repaired\|in time" "$WORK/mount.log" || fail "mount said: $(cat "$WORK/mount.log")"
	[ $frc -eq 0 ] || [ $mrc -eq 0 ] || lost=$((lost + 1))
	if [ $frc -eq 0 ] && [ $mrc -eq 0 ]; then both=$((both + 1)); fi
	if [ $mrc -eq 0 ]; then
		umount "$(mnt r)"
		wait_until 20 "$LUNFS" hosts "$DEV" --json >/dev/null
	fi
	free_of_hosts() { [ "$("$LUNFS" hosts "$DEV" --json | jq '[.hosts[] | select(.state != "free")] | length')" = 0 ]; }
	wait_until 30 free_of_hosts || fail "a slot is still taken after the race"
done
check_clean
say "15 races of a mount and a check: $both times one after the other, $lost times both withdrew"

# Killed at any time: the next run ends where an undisturbed one would have.
cp "$DEV" "$WORK/good.img"
mount_host c
good=$(tree_sum c)
umount_host c
cp "$DEV" "$WORK/good.img"
group=$("$LUNFS" dump "$DEV" group:0 --json | jq '.structures[0].block')
[ -n "$group" ] && [ "$group" != null ] || fail "where group 0 stands is not to be had"
killed=0
for i in $(seq 20); do
	cp "$WORK/good.img" "$DEV"
	damage $((group + 1)) $((group + 2)) 16 276
	"$FSCK" -y "$DEV" >"$WORK/kill.log" 2>&1 </dev/null &
	f=$!
	sleep "0.00$((i % 10))$((RANDOM % 10))"
	kill -9 $f 2>/dev/null && killed=$((killed + 1))
	wait $f 2>/dev/null || true
	rc=0
	timeout 120 "$FSCK" -y "$DEV" >"$WORK/fsck.log" 2>&1 </dev/null || rc=$?
	[ $rc -le 1 ] || fail "after being killed fsck.lunfs -y ended with $rc: $(cat "$WORK/fsck.log")"
	check_clean
done
mount_host c
[ "$(tree_sum c)" = "$good" ] || fail "the tree is not what it was"
umount_host c
say "$killed of 20 runs were killed"

# An undo file puts everything back, and is not overwritten.
cp "$WORK/good.img" "$DEV"
damage $((group + 1)) 16
cp "$DEV" "$WORK/bad.img"
fsck 1 -y --undo "$WORK/undo"
check_clean
fsck 8 -y --undo "$WORK/undo"
head -c 10000 "$WORK/undo" >"$WORK/undo.short"
fsck 8 --put-back "$WORK/undo.short"
grep -q 'cut short: 1 of' "$WORK/fsck.log" || fail "an undo file that was cut short is not refused: $(cat "$WORK/fsck.log")"
fsck 1 --put-back "$WORK/undo"
for b in 16 $((group + 1)); do
	cmp <(dd if="$DEV" bs=4096 skip="$b" count=1 status=none) <(dd if="$WORK/bad.img" bs=4096 skip="$b" count=1 status=none) ||
		fail "block $b is not what it was before the repair"
done
"$MOUNT" -o host=x "$DEV" "$(mnt x)" 2>"$WORK/mount.log" && fail "a volume that was put back was mounted without a check"
fsck 1 -y
check_clean
mount_host c
[ "$(tree_sum c)" = "$good" ] || fail "the tree is not what it was after putting back and repairing again"
umount_host c
fsck 8 --put-back "$WORK/undo"
grep -q 'mounted the volume since' "$WORK/fsck.log" || fail "what was written since is torn by putting back: $(cat "$WORK/fsck.log")"
check_clean

# Closed standard files, a descriptor for progress that is none: what is said does not go to the device.
printed_on() { ! cmp -n 65536 "$DEV" /dev/zero; }
cp "$DEV" "$WORK/good.img"
"$EDIT" "$DEV" 'superblock:*.hash_key[0]^=1' # there is much to say then
rc=0
timeout 120 "$FSCK" -y "$DEV" </dev/null >&- || rc=$?
[ $rc -eq 1 ] || fail "with its standard output closed fsck.lunfs -y ended with $rc"
if printed_on; then fail "fsck.lunfs prints on the device"; fi
damage 16
rc=0
timeout 120 "$FSCK" -y -C 4 "$DEV" 4>&- >"$WORK/fsck.log" 2>&1 </dev/null || rc=$?
[ $rc -eq 16 ] || fail "with a closed descriptor for progress fsck.lunfs -y ended with $rc"
if printed_on; then fail "fsck.lunfs prints its progress on the device"; fi
fsck 1 -y
rc=0
timeout 120 "$FSCK" -y --json "$DEV" 2>"$WORK/fsck.log" </dev/null | true || rc=$?
check_clean
"$LUNFS" hosts "$DEV" --json | jq -e '[.hosts[] | select(.state != "free")] == []' >/dev/null || fail "a reader that left kept the claim"
mkdir -p "$(mnt s)"
"$MOUNT" -o host=s "$DEV" "$(mnt s)" <&- >&- 2>&- || fail "with closed standard files the mount failed"
echo kept >"$(mnt s)/kept" || fail "a host with closed standard files has no device"
sync "$(mnt s)/kept" || fail "a host with closed standard files has no device"
umount "$(mnt s)"
wait_until 30 free_of_hosts || fail "a host with closed standard files does not leave"
check_clean
mount_host c
[ "$(cat "$(mnt c)/kept")" = kept ] || fail "a host with closed standard files did not write"
umount_host c
cp "$WORK/good.img" "$DEV"
say "nothing is printed on a device"

# Features of a newer version: what may only be read is not repaired, what it keeps in the superblock stays.
"$EDIT" "$DEV" 'superblock:*.ro_compat=4' 'superblock:*.reserved[100]=7'
cp "$DEV" "$WORK/bad.img"
for how in -p -y; do
	fsck 8 $how
	says "features (ro-compat 0x4) that this version of fsck.lunfs may only read"
	cmp "$DEV" "$WORK/bad.img" || fail "fsck.lunfs $how changed a volume that it may only read"
done
fsck 0 -n
cp "$WORK/good.img" "$DEV"
"$EDIT" "$DEV" 'superblock:*.compat=4' 'superblock:*.reserved[100]=7'
cp "$DEV" "$WORK/bad.img"
check_clean
fsck 0 -y
damage 16
fsck 1 -y
for b in 16 $(($(stat -c %s "$DEV") / 4096 - 16)); do
	cmp <(dd if="$DEV" bs=4096 skip="$b" count=1 status=none) <(dd if="$WORK/bad.img" bs=4096 skip="$b" count=1 status=none) ||
		fail "the superblock in block $b has lost what a feature keeps there"
done
cp "$WORK/good.img" "$DEV"
say "features of a newer version"

# A superblock that all its copies agree with and nothing else does: not followed, and not mounted.
"$EDIT" "$DEV" 'superblock:*.vol_id[7]^=8'
cp "$DEV" "$WORK/bad.img"
for how in -n -p -y "-y -b 16"; do
	# shellcheck disable=SC2086 # options
	fsck 8 $how
	says "names volume id .*, but [0-9]* of [0-9]* sectors at fixed places name .*; nothing was changed; 'fsck.lunfs --find-superblock"
	cmp "$DEV" "$WORK/bad.img" || fail "fsck.lunfs $how changed a volume whose superblock is contradicted"
done
"$MOUNT" -o host=x "$DEV" "$(mnt x)" 2>"$WORK/mount.log" && fail "a volume whose superblock is contradicted was mounted"
fsck 1 -y --find-superblock
check_clean
mount_host c
[ "$(tree_sum c)" = "$good" ] || fail "the tree is not what it was after a superblock was made anew"
umount_host c
say "a superblock that is contradicted is not followed"
pass "fsck.lunfs leaves the living alone, recovers the dead, can be killed and taken back"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lunfs dump and lunfs image, on a volume in use and on one at rest, whole and damaged: what they say is so, they
# write nothing to the device, and an image holds no contents of files, and no names if so asked.
. "$(dirname "$0")/lib.sh"
EDIT=$BUILD/tests/images/lunfs-edit

dump() { "$LUNFS" dump "$@"; }
field() { dump --json "$1" "$2" | jq -e --arg f "$3" '.structures[0].fields[] | select(.name == $f) | .value'; }
same() { [ "$1" = "$2" ] || fail "$3: '$1' instead of '$2'"; }

make_image 128M
mount_host a
mount_host b
A=$(mnt a)
mkdir "$A/dir-of-people"
for i in $(seq 1 400); do echo "private words $i" >"$A/dir-of-people/name-of-somebody-$i"; done
head -c 300000 /dev/zero | tr '\0' 'P' >"$A/private-file"
ln -s /home/somebody/else "$A/private-link"
ln -s "$(head -c 3000 /dev/zero | tr '\0' 'L')somebody" "$A/long-link"
setfattr -n user.comment -v "private attribute" "$A/private-file"
for n in a b x; do touch "$A/$n"; done
for i in $(seq 1 40); do rm "$A/dir-of-people/name-of-somebody-$i"; done # their bytes stay in the nodes
stat "$(mnt b)/private-file" >/dev/null # so it is in its place
chmod 600 "$A/private-file" # and changed again, in the memory or journal of host a

# In use: the same numbers as stat, and who may have newer ones.
ino=$(stat -c %i "$A/private-file")
dump --json "$DEV" inode:/private-file >"$WORK/json"
jq -e --argjson ino "$ino" '.structures[0] | .fresh.guard == $ino and .failed == 0 and .fresh.newest == false and
	.fresh.holder_host == "a" and .fresh.lock_mode == "EXCL"' "$WORK/json" >/dev/null ||
	fail "the holder of a file's lock is not told: $(jq .structures[0].fresh "$WORK/json")"
dump "$DEV" inode:/private-file | grep -q "a (slot [0-9]*, generation 1, live) holds its lock exclusively" ||
	fail "the text does not name the holder"
same "$(field "$DEV" inode:/private-file size)" 300000 "size"
same "$(field "$DEV" inode:/private-file mode)" $((0100644)) "the mode before the change that is not in place"
"$LUNFS" image -q "$DEV" "$WORK/live.img" >"$WORK/live.txt"
grep -q "while the slots of 2 hosts were live" "$WORK/live.txt" || fail "the image of a volume in use does not say so"
umount_host b
umount_host a

# In a node, between its slots and its items, stands what was there before.
gap=$(($(field "$DEV" superblock root_ino) * 4096 + $(field "$DEV" superblock payload_off) + 0x300 + 1400))
printf 'somebody gone' | dd of="$DEV" bs=1 seek="$gap" conv=notrunc status=none
"$EDIT" "$DEV" 'seal inode:root'

# At rest: nothing is written, everything passes.
sum=$(sha256sum "$DEV")
for what in superblock superblock:1 maint slot:0 board:0,1 anchor:volume anchor:rename anchor:watermark journal:0 group:0 \
	bitmap:0,0 chunk:0,0 inode:root tree:/dir-of-people dirent:/private-file extent:/private-file,0 \
	xattr:/private-file,user.comment piece:/long-link,1 lock:inode:/private-file block:16 "cell:$ino"; do
	dump --json "$DEV" "$what" >"$WORK/json" || fail "$what cannot be shown"
	jq -e '[.. | .failed? // 0] | add == 0' "$WORK/json" >/dev/null || fail "$what fails a check"
	dump "$DEV" "$what" | grep -q "FAILED" && fail "$what fails a check"
done
dump "$DEV" inode:/private-file | grep -q "; the newest" || fail "at rest what is shown is not called the newest"
same "$(dump --json "$DEV" dir:/dir-of-people | jq '.structures[0].items | length')" 360 "entries"
same "$(dump --json "$DEV" attributes:/private-file | jq -r '.structures[0].items[0].name')" comment "attribute"
same "$(dump --json "$DEV" extents:/private-file | jq '[.structures[0].items[].len] | add')" 74 "blocks"
dump "$DEV" inode:/nobody >/dev/null 2>"$WORK/err" && fail "a file that is not there was shown"
grep -q "nobody" "$WORK/err" || fail "no reason was given"

"$LUNFS" image -q "$DEV" "$WORK/plain.img" >/dev/null
"$LUNFS" image -q --scramble-names "$DEV" "$WORK/scrambled.img" >/dev/null
same "$(sha256sum "$DEV")" "$sum" "the device was written to"
"$FSCK" -n "$DEV" >"$WORK/fsck.dev" || fail "the volume is not clean: $(cat "$WORK/fsck.dev")"
for i in plain scrambled; do
	"$FSCK" -n "$WORK/$i.img" >"$WORK/fsck.$i" || fail "the $i image is not clean: $(cat "$WORK/fsck.$i")"
	grep -aq -e "private words" -e PPPPPPPP -e "private attribute" "$WORK/$i.img" && fail "the $i image has contents in it"
	[ "$(stat -c %b "$WORK/$i.img")" -lt $((16 * 2048)) ] || fail "the $i image is not sparse"
done
grep -aq "private words" "$DEV" || fail "the contents looked for are not on the device either"
mkdir -p "$(mnt x)"
"$MOUNT" -o host=x "$WORK/plain.img" "$(mnt x)" 2>"$WORK/mount.log" && fail "an image without contents was mounted"
grep -q "image of a volume's metadata" "$WORK/mount.log" || fail "why it is not mounted is not said: $(cat "$WORK/mount.log")"
grep -aq "name-of-somebody-77" "$WORK/plain.img" || fail "the plain image lost a name"
grep -aq -e somebody -e private -e LLLLLL "$WORK/scrambled.img" && fail "the scrambled image has names in it"
same "$(dump --json "$WORK/scrambled.img" "dir:$(field "$DEV" dirent:/dir-of-people ino)" |
	jq '[.structures[0].items[].name | length] | unique | length')" 2 "lengths of names"
"$LUNFS" image -q "$DEV" "$WORK/plain.img" 2>/dev/null && fail "a file was overwritten"
"$LUNFS" image -q "$WORK/plain.img" "$WORK/plain.img" 2>/dev/null && fail "an image was overwritten by itself"

# Damaged: shown as it is, and as damaged in the image.
"$EDIT" "$DEV" 'nocrc inode:/private-file.nlink=9' 'zero superblock' 'lock:inode:/x.mode=7'
for img in "$DEV" "$WORK/damaged.img"; do
	[ -e "$img" ] || "$LUNFS" image -q "$DEV" "$img" >/dev/null 2>&1
	dump "$img" inode:/private-file 2>/dev/null | grep -q "FAILED: checksum" || fail "$img: a wrong checksum is not told"
	same "$(field "$img" inode:/private-file nlink 2>/dev/null)" 9 "a damaged field"
	same "$(dump --json "$img" lock:inode:/x 2>/dev/null | jq '.structures[0].failed')" 1 "checks failed of a bad lock"
done
# A leaf that calls itself an inner node with more children than fit: nothing of what it was is kept.
node=$(dump --json "$WORK/plain.img" tree:/dir-of-people | jq -e '.structures[0].items[0].child')
cp --sparse=always "$WORK/plain.img" "$WORK/bad-node.img"
"$EDIT" "$WORK/bad-node.img" "node:$node.head.level=1" "node:$node.head.items=60000"
grep -aq name-of-somebody "$WORK/bad-node.img" || fail "the names looked for are not in the damaged volume either"
"$LUNFS" image -q --scramble-names "$WORK/bad-node.img" "$WORK/bad-node.scrambled" >/dev/null 2>&1 || true
[ -e "$WORK/bad-node.scrambled" ] || fail "no image of a volume with a damaged node"
grep -aq name-of-somebody "$WORK/bad-node.scrambled" && fail "a damaged inner node is copied as it is"

# A block among the cells of a chunk that is none of them holds data.
blk=$(($(field "$DEV" superblock:1 group0_blk 2>/dev/null) + 255 * $(field "$DEV" superblock:1 cell_blks 2>/dev/null)))
"$EDIT" "$DEV" "chunk:0,0.valid[255]=0" 'chunk:0,0.used[255]=0' 'chunk:0,0.cells-=1' 2>/dev/null
head -c 4096 < <(yes "private words") | dd of="$DEV" bs=4096 seek="$blk" conv=notrunc status=none
"$LUNFS" image -q "$DEV" "$WORK/hole.img" >/dev/null 2>&1
grep -aq "private words" "$WORK/hole.img" && fail "a data block between the cells of a chunk is in the image"

"$EDIT" "$DEV" 'zero superblock:*' 2>/dev/null
dump "$DEV" slot:0 2>"$WORK/err" | grep -q lunfs_slot_rec || fail "without a superblock nothing is shown"
grep -q "fixed places" "$WORK/err" || fail "that there is no superblock is not said"
dump "$DEV" inode:root >/dev/null 2>&1 && fail "an inode was found without a superblock"
pass "dump and image of a volume in use, at rest and damaged"

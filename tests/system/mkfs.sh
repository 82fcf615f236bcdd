#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mkfs.lunfs as an admin meets it: what it prints, asks, keeps, discards, and refuses.
. "$(dirname "$0")/lib.sh"

IMG=$WORK/img
refused() { # pattern command...: exit code 1 and one sentence
	local rc=0 pattern=$1
	shift
	timeout 60 "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || rc=$?
	[ $rc -eq 1 ] || fail "'$*' ended with $rc, not 1: $(cat "$WORK/out" "$WORK/err")"
	grep -qiE -- "$pattern" "$WORK/err" || fail "'$*' does not say /$pattern/ but: $(cat "$WORK/err")"
	[ "$(wc -l <"$WORK/err")" -eq 1 ] || fail "'$*' says more than a sentence: $(cat "$WORK/err")"
}
same() { cmp "$IMG" "$IMG.was" || fail "$1"; }
keep_copy() { cp --sparse=always "$IMG" "$IMG.was"; }
is_volume() { "$LUNFS" info "$IMG" >/dev/null 2>&1; }
blocks_of() { stat -c %b "$1"; }

# sizes
for size in 0 1 512 4095 1M $(((64 << 20) - 1)); do
	truncate -s 0 "$IMG"
	truncate -s "$size" "$IMG"
	refused 'too small' "$MKFS" "$IMG"
	[ "$(blocks_of "$IMG")" -eq 0 ] || fail "something was written to an image of $size"
done
for size in 64M 67108865 100000001 3333333333 100T 4P; do
	rm -f "$IMG"
	truncate -s "$size" "$IMG" 2>/dev/null || continue
	t0=$(now_ms)
	"$MKFS" -q "$IMG" || fail "an image of $size bytes was refused"
	is_volume || fail "an image of $size holds no volume"
	(($(now_ms) - t0 < 10000)) || fail "an image of $size took $(($(now_ms) - t0)) ms"
	(($(blocks_of "$IMG") < 10 * 2048)) || fail "an image of $size took $(blocks_of "$IMG") sectors"
	"$MKFS" -q -f "$IMG" || fail "an image of $size could not be made again"
done
rm -f "$IMG"
say "odd, small and huge sizes"

# what is printed, and -n
truncate -s 300M "$IMG"
keep_copy
"$MKFS" -n -L label "$IMG" >"$WORK/out"
grep -q 'Nothing was written' "$WORK/out" || fail "-n does not say that nothing was written"
grep -qE 'superblock$' "$WORK/out" || fail "-n prints no layout"
same "-n wrote"
"$MKFS" --json -n -L 'a "label"' "$IMG" >"$WORK/n.json"
same "-n --json wrote"
"$MKFS" --json -L 'a "label"' --hosts 5 "$IMG" >"$WORK/json"
jq -se 'length == 1 and .[0].made and .[0].hosts == 5 and .[0].label == "a \"label\"" and
	(.[0].journals | length) == 5 and .[0].superblocks[0] == 65536 and .[0].holds == ""' \
	"$WORK/json" >/dev/null || fail "--json: $(cat "$WORK/json")"
jq -se 'length == 1 and (.[0].made | not) and .[0].dry_run and .[0].groups > 1' "$WORK/n.json" \
	>/dev/null || fail "--json -n: $(cat "$WORK/n.json")"
[ "$(jq -r .uuid "$WORK/json")" = "$("$LUNFS" info --json "$IMG" | jq -r .uuid)" ] ||
	fail "--json names another UUID than the volume has"
while read -r off; do
	[ "$(dd if="$IMG" bs=8 skip=$((off / 8)) count=1 status=none)" = LUNFSVOL ] ||
		fail "there is no superblock at $off, as --json says"
done < <(jq '.superblocks[]' "$WORK/json")
rc=0
"$MKFS" --json "$IMG" >"$WORK/json" 2>/dev/null || rc=$?
[ $rc -eq 1 ] || fail "--json without -f on a volume ended with $rc"
jq -se 'length == 1 and (.[0].error | test("holds")) and (.[0].made | not)' "$WORK/json" >/dev/null ||
	fail "--json of a refusal: $(cat "$WORK/json")"
[ -z "$("$MKFS" -q -f "$IMG" 2>&1)" ] || fail "-q says something"
say "layout, -n, -q, --json"

# discard and -K
rm -f "$IMG"
dd if=/dev/urandom of="$IMG" bs=1M count=96 status=none
full=$(blocks_of "$IMG")
"$MKFS" -q -K "$IMG"
(($(blocks_of "$IMG") > full * 9 / 10)) || fail "-K discarded"
"$MKFS" -q -f "$IMG"
(($(blocks_of "$IMG") < full / 4)) || fail "nothing was discarded: $(blocks_of "$IMG") of $full sectors"
"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 || fail "after a discard: $(tail -n 3 "$WORK/out")"
dd if=/dev/urandom of="$IMG" bs=1M count=96 status=none
"$MKFS" -q -K "$IMG" || fail "random bytes were refused"
"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 || fail "on random bytes with -K: $(tail -n 3 "$WORK/out")"
say "discard, -K"

# asked on a terminal
if command -v script >/dev/null; then
	on_terminal() { # answer, options
		local answer=$1
		shift
		printf '%s' "$answer" | timeout 60 script -qec "$MKFS $* $IMG" /dev/null >"$WORK/out" 2>&1
	}
	mkfs.ext4 -q -F -L 'my files' "$IMG" >/dev/null 2>&1
	keep_copy
	for answer in $'n\n' $'\n' $'no\n' $'\004' $'Ny\n'; do
		if on_terminal "$answer"; then fail "went on after the answer '$answer'"; fi
		grep -q 'Proceed anyway? (y,N)' "$WORK/out" || fail "no question: $(cat "$WORK/out")"
		grep -q 'ext4 (label "my files")' "$WORK/out" || fail "the question does not name what is there"
		same "written in spite of the answer '$answer'"
	done
	if on_terminal $'y\n' -n; then fail "-n does not say that it would be refused or asked"; fi
	same "-n wrote after a yes"
	on_terminal $'y\n' || fail "refused after a yes: $(cat "$WORK/out")"
	is_volume || fail "no volume after a yes"
	grep -q '100%' "$WORK/out" || fail "no progress on a terminal: $(cat "$WORK/out")"
	on_terminal '' -F || fail "asked or refused with -F: $(cat "$WORK/out")"
	if grep -q 'Proceed' "$WORK/out"; then fail "asked with -F"; fi
	say "the question on a terminal"
fi
mkfs.ext4 -q -F "$IMG" >/dev/null 2>&1
keep_copy
refused 'ext4.*-f' "$MKFS" "$IMG"
same "written without a terminal and without -f"

# a ZFS pool counts as long as four of its up to 512 uberblocks are left
rm -f "$IMG"
truncate -s 128M "$IMG"
python3 - "$IMG" <<'P'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    end = f.seek(0, 2)
    for label in 0, 256 << 10, end - (512 << 10), end - (256 << 10):
        for i in range(128):
            f.seek(label + (128 << 10) + i * 1024)
            f.write(struct.pack("<QQQ", 0xbab10c, 5000, i + 1))
    f.seek(100 << 10)
    f.write(b"what no probe knows")
P
if blkid -p "$IMG" 2>/dev/null | grep -q zfs_member; then
	refused 'zfs_member' "$MKFS" "$IMG"
	"$MKFS" -q -f -K "$IMG"
	if blkid -p "$IMG" 2>/dev/null | grep zfs_member; then fail "the pool is still found"; fi
	cmp -i $((68 << 10)):0 -n $((956 << 10)) "$IMG" /dev/zero || fail "something is left before 1 MiB"
	say "all uberblocks of a ZFS pool"
fi

# standard output that is closed, full, or leaves
"$MKFS" -f "$IMG" >&- || fail "a closed standard output"
"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 || fail "printed on the device: $(tail -n 3 "$WORK/out")"
cmp -n 65536 "$IMG" /dev/zero || fail "printed on the device"
"$MKFS" -f "$IMG" <&- >&- 2>&- || fail "all standard files closed"
"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 || fail "printed on the device: $(tail -n 3 "$WORK/out")"
"$MKFS" -f "$IMG" >/dev/full || true
"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 || fail "a full standard output: $(tail -n 3 "$WORK/out")"
"$MKFS" -f "$IMG" | true
is_volume || fail "a reader that leaves ended it"

# what is no device
refused 'no such' "$MKFS" "$WORK/nothing"
refused 'directory' "$MKFS" "$WORK"
refused 'neither' "$MKFS" /dev/null
refused '.' "$MKFS" ''
mkfifo "$WORK/fifo"
refused 'neither' "$MKFS" "$WORK/fifo"
refused 'iscsi' "$MKFS" iscsi://127.0.0.1:1/iqn.2024-01.example:none/0
for tool in "$MKFS" "$FSCK -n"; do
	# shellcheck disable=SC2086 # options
	$tool --json iscsi://user%secret@127.0.0.1:1/iqn.2024-01.example:none/0 >"$WORK/out" 2>&1 && fail "$tool: no such target"
	grep -q 'iscsi:.*127.0.0.1' "$WORK/out" || fail "$tool does not name the device: $(cat "$WORK/out")"
	if grep secret "$WORK/out"; then fail "$tool shows the password of a URL"; fi
done
say "closed files, no devices"

# several at once: one volume, or none
rm -f "$IMG"
for round in 1 2 3 4 5 6; do
	truncate -s 256M "$IMG"
	pids=()
	for h in 1 2 3 4; do
		"$MKFS" -q -f --hosts $h "$IMG" 2>>"$WORK/err" &
		pids+=($!)
	done
	good=0
	for p in "${pids[@]}"; do
		if wait "$p"; then good=$((good + 1)); fi
	done
	((good > 0)) || fail "none of 4 at once succeeded: $(cat "$WORK/err")"
	"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 ||
		fail "$good of 4 at once, round $round, left a mixture: $(head -n 5 "$WORK/out")"
done
say "four at once leave a whole volume"

# killed at every system call that changes the image
killed_everywhere() { # calls, from which one on: numbers of kills that left no volume
	local n rc none=0
	for ((n = 1; n < 200; n++)); do
		cp --sparse=always "$IMG.was" "$IMG"
		rc=0
		strace -f -qq -o /dev/null -e "trace=$1" -e "inject=$1:signal=KILL:when=$n" \
			"$MKFS" -q -f --hosts 3 "$IMG" 2>/dev/null || rc=$?
		if "$LUNFS" info --json "$IMG" >"$WORK/info" 2>/dev/null; then
			"$FSCK" -n "$IMG" >"$WORK/out" 2>&1 || grep -q SB_ "$WORK/out" ||
				fail "killed at $1 $n: a mixture: $(head -n 5 "$WORK/out")"
		else
			none=$((none + 1))
		fi
		[ $rc -ne 0 ] || break
	done
	[ $rc -eq 0 ] || fail "mkfs.lunfs was never finished"
	((none > 0)) || fail "no kill at $1 was in the middle"
	echo $((n - 1)) $none
}
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
	rm -f "$IMG"
	truncate -s 128M "$IMG"
	"$MKFS" -q --hosts 2 "$IMG"
	keep_copy
	for call in pwrite64 fallocate fdatasync; do
		read -r kills none <<<"$(killed_everywhere $call)"
		[ -n "$none" ] || fail "killed at $call"
		say "killed at each of $kills calls of $call: $none left no volume, none a mixture"
	done
	cp --sparse=always "$IMG.was" "$IMG"
	strace -f -qq -o /dev/null -e trace=fallocate -e inject=fallocate:signal=INT:when=4 \
		"$MKFS" -q -f "$IMG" 2>"$WORK/err" && fail "an interrupt was ignored"
	grep -q 'Interrupted' "$WORK/err" || fail "interrupted, it says: $(cat "$WORK/err")"
fi

# a full file system beneath a sparse image
if [ "$(id -u)" = 0 ] && mkdir "$WORK/full" && mount -t tmpfs -o size=1M none "$WORK/full" 2>/dev/null; then
	CLEANUP+=("umount $WORK/full")
	truncate -s 1G "$WORK/full/img"
	refused 'no room' "$MKFS" "$WORK/full/img"
	if "$LUNFS" info "$WORK/full/img" >/dev/null 2>&1; then fail "half a volume on a full file system"; fi
	mount -o remount,size=64M "$WORK/full"
	"$MKFS" -q "$WORK/full/img" || fail "no volume although there is room again"
	umount "$WORK/full"
	unset 'CLEANUP[-1]'
	say "a full file system"
fi
pass "mkfs.lunfs shows, asks, discards, refuses, and can be killed anywhere"

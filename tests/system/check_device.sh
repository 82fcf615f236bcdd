#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lunfs check-device on real devices: tgt, which claims COMPARE AND WRITE and rejects it, is unfit; the
# kernel's target is fit, alone, by two checks at once, and while hosts have the volume mounted and
# work, which does no harm; a file is for one machine only.
. "$(dirname "$0")/lib.sh"

HERE=$(cd "$(dirname "$0")" && pwd)
S=3 # seconds of a check

check() { # wanted-exit-code what lunfs-check-device-arguments...
	local want=$1 what=$2 rc=0
	shift 2
	timeout 120 "$LUNFS" check-device --json "$@" >"$WORK/out.json" 2>"$WORK/err" </dev/null || rc=$?
	if [ $rc -ne "$want" ]; then
		show "$WORK/out.json"
		cat "$WORK/err"
		fail "$what: exit code $rc, not $want"
	fi
	[ ! -s "$WORK/out.json" ] || show "$WORK/out.json" | tail -n 1 | sed "s/^/  $what: /"
}

show() { # json
	jq -r '(.results[] | "\(.grade) \(.name): \(.text)"), .verdict' "$1" 2>/dev/null || cat "$1"
}

graded() { # name grade [json]: the last check's result
	local is
	is=$(jq -r --arg n "$1" '[.results[] | select(.name == $n)][0].grade' "${3:-$WORK/out.json}")
	[ "$is" = "$2" ] || {
		show "${3:-$WORK/out.json}"
		fail "$1 is \"$is\", not \"$2\""
	}
}

value() { jq -r --arg n "$1" --arg k "$2" '[.results[] | select(.name == $n)][0].values[$k]' "$WORK/out.json"; }

# ---- files ------------------------------------------------------------------------------------------

truncate -s 100M "$WORK/raw.img"
before=$(sha1sum <"$WORK/raw.img")
check 5 "a file without a volume" "$WORK/raw.img"
graded trial unknown
[ "$before" = "$(sha1sum <"$WORK/raw.img")" ] || fail "a look has changed the file"
check 1 "destructive, nobody to ask" --destructive "$WORK/raw.img"
grep -q -- --yes "$WORK/err" || fail "it does not say how to go on: $(cat "$WORK/err")"
check 3 "a file, destructive" --destructive --yes --seconds 1 "$WORK/raw.img"
graded atomic ok
graded identity limit
mkfs.ext4 -q -F "$WORK/raw.img"
check 1 "another file system" --destructive --yes --seconds 1 "$WORK/raw.img"
grep -q ext4 "$WORK/err" || fail "it does not say what stands there: $(cat "$WORK/err")"
for size in 0 512 4K 68K 1M 8M 63M; do # too small for a volume, not for somebody else
	rm "$WORK/raw.img"
	truncate -s $size "$WORK/raw.img"
	check 4 "an empty file of $size, destructive" --destructive --yes --seconds 1 "$WORK/raw.img"
	[ $size = 8M ] || [ $size = 63M ] || continue
	mkfs.ext4 -q -F "$WORK/raw.img"
	check 1 "another file system in $size" --destructive --yes --seconds 1 "$WORK/raw.img"
	grep -q ext4 "$WORK/err" || fail "it does not say what stands there: $(cat "$WORK/err")"
done

make_image 200M
# what is left of a volume beneath a new use of the device gives no leave to write
untouched() { # what sentence
	local before
	before=$(sha1sum <"$WORK/old.img")
	check 5 "$1" --seconds 1 "$WORK/old.img"
	jq -e --arg s "$2" '.volume_error | contains($s)' "$WORK/out.json" >/dev/null ||
		fail "$1: it does not say \"$2\": $(jq .volume_error "$WORK/out.json")"
	check 1 "$1, destructive" --destructive --yes --seconds 1 "$WORK/old.img"
	[ "$before" = "$(sha1sum <"$WORK/old.img")" ] || fail "$1: it was written to"
}
overwrite() { dd of="$WORK/old.img" bs=1 seek="$1" conv=notrunc status=none; }
cp --sparse=always "$DEV" "$WORK/old.img"
{ printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\0\001\0' && head -c 48 /dev/zero && printf '\125\252'; } | overwrite 446
untouched "a volume, and a partition table before it" "dos partition table"
cp --sparse=always "$DEV" "$WORK/old.img"
head -c 512 /dev/urandom | overwrite $((1 << 20))
untouched "the superblock of a volume that is gone" "maintenance sector"
cp --sparse=always "$DEV" "$WORK/old.img"
head -c 4096 /dev/zero | overwrite $((64 << 10))
untouched "the copy of a superblock" "only a copy"
rm "$WORK/old.img"
check 3 "a file with a volume" --seconds 1 "$DEV"
check 5 "a look only" -n "$DEV"
check_clean
check 1 "a device that is not there" "$WORK/nothing"
check 1 "a folder" "$WORK"
check 2 "nonsense" --hosts 0 "$DEV"
mkdir "$WORK/ro"
mount --bind "$WORK" "$WORK/ro"
CLEANUP+=("umount '$WORK/ro' 2>/dev/null")
mount -o remount,ro,bind "$WORK/ro"
check 4 "a volume that cannot be written to" --seconds 1 "$WORK/ro/lun.img"
umount "$WORK/ro"

mount_host one
mount_host two
dd if=/dev/zero of="$(mnt one)/load" bs=64k count=200 conv=fsync status=none &
load=$!
check 3 "a file that two hosts have mounted" --seconds 1 "$DEV"
check 1 "the same, destructive" --destructive --yes --seconds 1 "$DEV"
grep -q "in use" "$WORK/err" || fail "it does not say that it is in use: $(cat "$WORK/err")"
wait $load
umount_all
check_clean
check 3 "the same, destructive, when nobody uses it" --destructive --yes --seconds 1 "$DEV"
check_clean

# ---- a target that claims what it does not do -----------------------------------------------------

start_tgt() { # prints its port
	local port
	for _ in 1 2 3 4 5; do
		port=$((20000 + RANDOM % 12000)) # at most 32767, for -C
		# Its control socket is numbered: one of our own beside a tgtd of this machine.
		tgtd -f -C "$port" --iscsi "portal=127.0.0.1:$port" >"$WORK/tgtd.out" 2>&1 &
		tgtd=$!
		disown $tgtd
		if wait_until 5 tgtadm -C "$port" --op show --mode sys >/dev/null 2>&1; then return 0; fi
		kill -9 $tgtd 2>/dev/null
	done
	return 1
}

if PATH=$PATH:/usr/sbin command -v tgtd >/dev/null; then
	PATH=$PATH:/usr/sbin
	truncate -s 100M "$WORK/tgt.img"
	start_tgt || fail "tgtd does not start: $(tail -n 3 "$WORK/tgtd.out")"
	port=$(tr '\0' '\n' <"/proc/$tgtd/cmdline" | sed -n 's/^portal=.*://p')
	CLEANUP+=("kill -9 $tgtd 2>/dev/null")
	iqn=iqn.2026-01.test.lunfs:claims
	adm() { tgtadm -C "$port" --lld iscsi "$@"; }
	adm --op new --mode target --tid 1 -T $iqn
	adm --op new --mode logicalunit --tid 1 --lun 1 -b "$WORK/tgt.img"
	adm --op bind --mode target --tid 1 -I ALL
	check 4 "tgt" --destructive --yes --seconds $S "iscsi://127.0.0.1:$port/$iqn/1"
	graded caw-match unfit
	[ "$(value claim max_compare_and_write_sectors)" -gt 0 ] || fail "tgt does not claim it any more"
	kill -STOP $tgtd
	# shellcheck disable=SC2016 # a session of ours is cut off in the middle, not this shell
	check 1 "a target that hangs" --destructive --yes --seconds 1 "iscsi://127.0.0.1:$port/$iqn/1"
	kill -9 $tgtd
else
	say "tgt is not installed: left out"
fi

# ---- a target that does -----------------------------------------------------------------------------

rc=0
out=$(LUN_MB=200 LUNS=2 "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
if [ $rc -eq 77 ]; then
	pass "check-device on files and tgt; without a virtual machine no more: $out"
	exit 0
fi
[ $rc -eq 0 ] || fail "the iSCSI target did not start: $out"
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
mapfile -t url <"$WORK/target/urls"

check 5 "the kernel's target, untouched" "${url[1]}"
check 0 "the kernel's target, destructive" --destructive --yes --seconds $S "${url[1]}"
graded atomic ok
graded reservations ok
[ "$(value reservations fencing_tried)" = 1 ] || fail "fencing was not tried"
graded discard ok

DEV=${url[0]}
"$MKFS" -q "$DEV"
check 0 "the kernel's target with a volume" --seconds $S "$DEV"

timeout 120 "$LUNFS" check-device --json --hosts 2 --seconds $S "$DEV" >"$WORK/other.json" 2>&1 </dev/null &
other=$!
check 0 "two checks at once" --hosts 2 --seconds $S "$DEV"
wait $other || fail "the other of two checks: $(show "$WORK/other.json")"
graded hosts ok
graded hosts ok "$WORK/other.json"
[ "$(value hosts succeeded)" = "$(jq '[.results[] | select(.name == "hosts")][0].values.succeeded' "$WORK/other.json")" ] ||
	fail "the two checks do not agree on the sum"

mount_host one
mount_host two
python3 "$HERE/churn.py" "$(mnt one)" ca >/dev/null 2>&1 &
churn1=$!
python3 "$HERE/churn.py" "$(mnt two)" cb >/dev/null 2>&1 &
churn2=$!
CLEANUP+=("kill $churn1 $churn2 2>/dev/null")
keys=$("$LUNFS" hosts --json "$DEV" | jq '.keys | length')
check 0 "a volume that two hosts have mounted and work on" --seconds $S "$DEV"
graded atomic ok
graded reservations ok
kill -0 $churn1 && kill -0 $churn2 || fail "the load did not survive the check"
[ "$("$LUNFS" hosts --json "$DEV" | jq '.keys | length')" = "$keys" ] || fail "a key was left behind"
check 1 "the same, destructive" --destructive --yes "$DEV"
kill $churn1 $churn2
wait $churn1 $churn2 2>/dev/null || true
umount_all
check_clean

# Some kernels' target loses its atomicity by a command that it refuses (reserve.c): then that is said.
rc=0
timeout 120 "$LUNFS" check-device --json --destructive --yes --provoke --seconds $S "${url[1]}" \
	>"$WORK/out.json" </dev/null || rc=$?
case $rc in
0) graded atomic-after-refusal ok ;;
4) graded atomic-after-refusal unfit && graded atomic ok ;;
*) fail "provoked: exit code $rc" ;;
esac
say "this kernel's target after a refused COMPARE AND WRITE: $(jq -r .verdict "$WORK/out.json")"
pass "check-device: tgt unfit, the kernel's target fit, also between two checks and on a mounted volume"

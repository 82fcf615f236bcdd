#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Fencing by persistent reservations on a real iSCSI target (the kernel's, in a small virtual
# machine): a daemon that is stopped under load is fenced by another one; when it goes on, the target
# refuses its writes, it says by whom it was fenced, answers EIO, and mounts again at once. What was
# synced stands, nothing of the stopped one lands late, and in the end no key is left. And mkfs.lunfs
# fences nobody who mounted while it asked.
. "$(dirname "$0")/lib.sh"

HERE=$(cd "$(dirname "$0")" && pwd)
command -v jq >/dev/null || skip "jq is not installed"
rc=0
out=$(LUN_MB=512 "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
[ $rc -ne 77 ] || skip "$out"
[ $rc -eq 0 ] || fail "the iSCSI target did not start: $out"
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
read -r DEV <"$WORK/target/urls"
export LUNFS_DEV=$DEV
TIMING=600,1500,3000
LEASE_MS=3000

hosts() { "$LUNFS" hosts --json "$DEV"; }
slot_of() { hosts | jq ".hosts[] | select(.host == \"$1\") | $2"; }
is() { [ "$(slot_of "$1" "$2")" = "$3" ]; }
logged() { grep -q "$2" "$(log_of "$1")"; }

load() { # host: writes on and on, until it cannot
	local i=0
	while dd if=/dev/zero of="$(mnt "$1")/load.$1" bs=64k count=16 conv=fsync,notrunc oflag=direct \
		status=none 2>/dev/null; do i=$((i + 1)); done
	echo "$i" >"$WORK/load.$1"
}

make_image 512M
for tool in dump "check-device --dry-run" "image $WORK/image"; do
	read -ra words <<<"$tool"
	"$LUNFS" --json "${words[0]}" "iscsi://user%secret@${DEV#iscsi://}" "${words[@]:1}" >"$WORK/out" 2>&1 ||
		[ $? -eq 5 ] || # undecided, of a check that writes nothing
		fail "lunfs $tool: $(cat "$WORK/out")"
	[ "$(jq -r .device "$WORK/out")" = "$DEV" ] || fail "lunfs $tool does not name the device: $(cat "$WORK/out")"
	if grep secret "$WORK/out"; then fail "lunfs $tool shows the password of a URL"; fi
done
say "no password of a URL is shown"

for h in a b c; do mount_host "$h" fence=pr; done
for h in a b c; do
	is "$h" .fence '"pr"' || fail "host $h is not fenced by pr: $(hosts)"
	is "$h" .registered true || fail "the key of host $h is not registered: $(hosts)"
done
[ "$(hosts | jq '.reserved, .reservation_type')" = $'true\n7' ] || fail "not reserved: $(hosts)"
say "three hosts are registered, the device is reserved"

"$MOUNT" -f -o host=d,fence=timer "$DEV" "$(mkdir -p "$WORK/mnt.d" && echo "$WORK/mnt.d")" 2>"$WORK/d.out" &&
	fail "fence=timer was let in"
grep -q "persistent reservations" "$WORK/d.out" || fail "no sentence: $(cat "$WORK/d.out")"
say "a host with fence=timer is refused"

# Stopped under load for more than its lease, and recovered meanwhile.
load a &
load_pid=$!
sleep 0.5
kill -STOP "$(pid_of a)"
start=$(now_ms)
wait_until 30 is a .state '"free"' || fail "host a was not recovered: $(hosts)"
say "recovered $(($(now_ms) - start)) ms after it was stopped (lease $LEASE_MS ms)"
is a .registered false || fail "the key of host a is still registered"
by=b
logged b 'host-fenced: host a' || by=c
logged $by 'host-fenced: host a' || fail "nobody says that it fenced host a"
echo "theirs" >"$(mnt $by)/load.a" # blocks that a was writing to are free now
sync "$(mnt $by)/load.a"
kill -CONT "$(pid_of a)"
wait_until 30 logged a 'host-lost' || fail "host a does not notice that it was fenced"
grep -m1 'host-lost' "$(log_of a)" | grep -q "fenced and recovered by host $by" ||
	fail "host a does not say by whom: $(grep host-lost "$(log_of a)")"
wait $load_pid
err=$(cat "$(mnt a)/load.a" 2>&1 >/dev/null) && fail "host a still reads"
grep -q 'Input/output error' <<<"$err" || fail "host a answers '$err'"
say "$(grep -m1 -o 'it did not beat.*' "$(log_of a)" | sed 's/\. Everything.*//')"

umount "$(mnt a)" || fail "the lost mount cannot be unmounted"
wait_until 30 gone a || fail "the daemon of the lost mount did not end"
wait "$(pid_of a)" && fail "the lost daemon says all was well"
drop_host a
start=$(now_ms)
mount_host a fence=pr
say "mounted again within $(($(now_ms) - start)) ms"
for h in a b c; do
	[ "$(cat "$(mnt "$h")/load.a")" = "theirs" ] || fail "host $h reads something else than was synced"
done

# Dead with its connection: no key of it stays, and its name comes back.
load c &
load_pid=$!
sleep 0.5
kill_host c
wait $load_pid
wait_until 30 is c .state '"free"' || fail "host c was not recovered: $(hosts)"
is c .registered false || fail "the key of host c is still registered"
mount_host c
is c .fence '"pr"' || fail "host c came back without reservations: $(tail -n 3 "$(log_of c)")"

umount_all
[ "$(hosts | jq -c '[.reserved, (.keys | length)]')" = '[false,0]' ] || fail "keys are left: $(hosts)"
check_clean

# The password of a URL is for the target alone.
DEV=${DEV/:\/\//://somebody%hush@} mount_host masked
! grep -q hush /proc/self/mountinfo "/proc/$(pid_of masked)/cmdline" || fail "mountinfo or ps show a password"
umount_host masked
grep -q unmounted "$(log_of masked)" || fail "host masked does not say that it ends"
! grep hush "$(log_of masked)" || fail "the log shows a password"
say "no password is shown"

# A host that mounts while mkfs.lunfs waits for an answer is not fenced by it.
if command -v script >/dev/null; then
	mkfifo "$WORK/answer"
	timeout 120 script -qec "$MKFS $DEV" /dev/null <"$WORK/answer" >"$WORK/asked" 2>&1 &
	asked=$!
	exec 3>"$WORK/answer"
	wait_until 30 grep -q 'Proceed anyway' "$WORK/asked" || fail "no question: $(cat "$WORK/asked")"
	mount_host late fence=pr
	echo y >&3
	exec 3>&-
	wait $asked && fail "mkfs.lunfs went on beside host late"
	grep -q 'host late is live' "$WORK/asked" || fail "it does not name host late: $(cat "$WORK/asked")"
	is late .registered true || fail "mkfs.lunfs took the key of host late: $(hosts)"
	echo kept | dd of="$(mnt late)/kept" conv=fsync status=none || fail "host late was fenced"
	umount_all
	check_clean
	say "mkfs.lunfs leaves the key of a host that mounts while it asks"
fi

# Linux's own target loses its one lock for COMPARE AND WRITE when it refuses one; the stopped daemon
# must have found out in another way (fs/dev/scout.h).
live=$BUILD/tests/unit/dev/test_dev_live
if [ -x "$live" ]; then
	timeout 120 "$live" "$DEV" >"$WORK/live.log" 2>&1 || fail "COMPARE AND WRITE is atomic no more"
	say "and COMPARE AND WRITE is atomic still"
fi
pass "a stopped daemon is fenced by the target, says by whom, and mounts again"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lunfs stats in all its forms, of a host that has worked against another and was stopped for a while:
# each form is read by a strict parser, and every key and metric stands in the man page and nothing else.
. "$(dirname "$0")/lib.sh"
CHECK=$(dirname "$0")/stats_check.py
MAN=$TOP/fs/cli/lunfs.8

check() { # kind file
	local found
	found=$(python3 "$CHECK" "$1" "$2" "$MAN") || fail "$1: $found"
	say "$1: $found"
}

make_image 256M
mount_host a
mount_host b
for i in $(seq 1 50); do echo "$i" >"$(mnt a)/f$i"; done
cat "$(mnt b)"/f* >/dev/null
dd if=/dev/zero of="$(mnt b)/big" bs=1M count=8 conv=fsync status=none

"$LUNFS" stats "$(mnt b)" >"$WORK/table"
found=$(python3 "$CHECK" table "$WORK/table") || fail "table: $found"
"$LUNFS" stats --json "$(mnt b)" >"$WORK/json"
check json "$WORK/json"
"$LUNFS" --json stats "$(mnt b)" | jq -e '.latency.beat.device.count > 0 and .latency.lock.device.count > 0
	and .latency.write.device.count > 0 and .latency.read.device.count > 0
	and .latency.flush.device.count > 0 and .beats.lease_left.count > 0 and .ats.done > 0' >/dev/null ||
	fail "something that happened was not counted"
"$LUNFS" stats --prometheus "$(mnt b)" >"$WORK/prom"
check prometheus "$WORK/prom"

# A counter in the one form is the same in the other.
grep -q "^lunfs_locks_handed_over_total{.*} $(stat_of a locks.handed_over)$" \
	<("$LUNFS" stats --prometheus "$(mnt a)") || fail "JSON and Prometheus differ"

# Live: the first line since the mount, then what happens in between.
"$LUNFS" stats --interval 0.3 --count 3 "$(mnt b)" >"$WORK/live"
found=$(python3 "$CHECK" table "$WORK/live") || fail "live: $found"
[ "$(wc -l <"$WORK/live")" = 4 ] || fail "3 lines and a heading were asked for"
(for i in $(seq 1 200); do echo "$i" >"$(mnt b)/f$i" || exit; done; sync "$(mnt b)/f1") &
writer=$!
"$LUNFS" stats --interval 0.3 --count 3 --json "$(mnt b)" >"$WORK/rates"
wait $writer
check rates "$WORK/rates"
[ "$(wc -l <"$WORK/rates")" = 3 ] || fail "3 lines were asked for"
head -n 1 "$WORK/rates" | jq -e '.write_mib_per_s > 0' >/dev/null || fail "nothing since the mount"
tail -n 1 "$WORK/rates" | jq -e '.seconds > 0.2 and .seconds < 5' >/dev/null || fail "not an interval"

# Usage.
usage() { # words...
	local rc=0
	"$LUNFS" stats "$@" >/dev/null 2>&1 || rc=$?
	[ $rc = 2 ] || fail "'stats $*' ended with $rc, not 2"
}
usage
usage --count 3 "$(mnt b)"
usage --interval 0 "$(mnt b)"
usage --interval nan "$(mnt b)"
usage --interval 1 --count 0 "$(mnt b)"
usage --prometheus --json "$(mnt b)"
rc=0
"$LUNFS" stats --interval 1 "$WORK" >/dev/null 2>&1 || rc=$?
[ $rc = 1 ] || fail "a directory that is no mount point ended with $rc, not 1"

# A daemon that was stopped for more than a lease knows that it was not the device.
kill -STOP "$(pid_of b)"
sleep "$(awk "BEGIN { print $LEASE_MS / 1000 * 0.6 }")"
kill -CONT "$(pid_of b)"
wait_until 10 grep -q "beat-unscheduled: " "$(log_of b)" || fail "the host did not notice that it was stopped"
[ "$(stat_of b 'warnings["beat-unscheduled"]')" -ge 1 ] || fail "the warning was not counted"
! grep -q "beat-late: " "$(log_of b)" || fail "the device was blamed for it"
grep "beat-unscheduled: " "$(log_of b)" | head -n 1 | sed 's/^/  /'
umount_all
check_clean
pass "lunfs stats: table, JSON, Prometheus and live rates are well-formed and documented"

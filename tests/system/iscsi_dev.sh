#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The iscsi backend against the kernel's target: COMPARE AND WRITE is atomic between sessions, and a
# connection that is cut or goes silent is survived with honest answers; persistent reservations keep
# out who is not registered, and what a preempted session had on its way.
. "$(dirname "$0")/lib.sh"

HERE=$(dirname "$0")
LIVE=$BUILD/tests/unit/dev/test_dev_live
[ -x "$LIVE" ] || skip "libcmocka is missing, so test_dev_live was not built"

rc=0
out=$(LUN_MB=128 LUNS=3 LUN_SECTOR="512 4096 512" "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
[ $rc -ne 77 ] || skip "$out"
[ $rc -eq 0 ] || fail "the iSCSI target did not start"
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
mapfile -t url <"$WORK/target/urls"

python3 "$HERE/tcp_proxy.py" "$WORK/port" 127.0.0.1 "$(cat "$WORK/target/port")" &
proxy=$!
CLEANUP+=("kill $proxy 2>/dev/null")
wait_until 10 [ -s "$WORK/port" ] || fail "the proxy did not start"
via=$(sed "s,127.0.0.1:[0-9]*,127.0.0.1:$(cat "$WORK/port"),;q" "$WORK/target/urls")

# Who waits for what when a test does not come to its end: its threads, the connections, the target.
show_waiting() { # pid
	local t
	echo "Process $1 does not end:"
	for t in /proc/"$1"/task/*; do
		echo "  thread $(cat "$t/comm") in $(cat "$t/wchan"), $(cut -d' ' -f1 "$t/syscall")"
	done
	ss -tn "( sport = :$(cat "$WORK/port") or dport = :$(cat "$WORK/port") )" \
		"or ( sport = :$(cat "$WORK/target/port") or dport = :$(cat "$WORK/target/port") )"
	tail -n 8 "$WORK/target/console.log"
}

live=
ended() { ! kill -0 "$1" 2>/dev/null; }
end_live() { ended "$live" || kill -9 "$live"; }
CLEANUP+=(end_live)

try() { # what program arguments...
	local what=$1 rc=0
	shift
	"$@" >"$WORK/live.log" 2>&1 &
	live=$!
	wait_until 120 ended $live || {
		show_waiting $live >&2 || true
		kill -9 $live
	}
	wait $live || rc=$?
	[ $rc -eq 0 ] || fail "${1##*/} on $what: exit code $rc"
	grep -E 'writes answered|sectors|fenced in' "$WORK/live.log" | sed 's/^/  /' || true
}

try "sectors of 512 bytes" "$LIVE" "$via" "kill -USR1 $proxy" "kill -USR2 $proxy"
try "a LUN that is reserved" "$BUILD/tests/unit/dev/test_dev_reserve" "$via" "$via" "kill -USR1 $proxy"
try "a LUN that was reserved" "$LIVE" "${url[0]}"
try "sectors of 4096 bytes" "$LIVE" "${url[1]}"
try "a LUN that rejects FUA" "$LIVE" "${url[2]}"
grep -q 'with FUA bit set, but' "$WORK/target/console.log" || fail "no LUN was asked for FUA in vain"
pass "iscsi backend on the kernel's target: 512- and 4096-byte sectors, with and without FUA; persistent reservations"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# When umount.lunfs returns 0, all is on the device and the host's slot is free; else it says why not. It waits for
# nobody who has no end. umount(8) finds it.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip "needs root"
[ -d /sys/class/bdi ] || skip "no /sys/class/bdi"
UMOUNT=$BUILD/fs/umount.lunfs
TIMING=1000,5000,60000 # a host may be stopped for a while here
make_image 256M --hosts 4

live_hosts() { "$LUNFS" hosts --json "$DEV" | jq '[.hosts[] | select(.state != "free")] | length'; }
files() { # host: nothing of them is committed yet
	mkdir -p "$(mnt "$1")/$2"
	seq -f "$(mnt "$1")/$2/f%g" 1500 | xargs touch
}
said() { grep -q "$1" "$WORK/said"; }
still_mounted() { mountpoint -q "$(mnt "$1")"; }
not_mounted() { ! still_mounted "$1"; }
ended_well() { # host: the daemon, with nothing left to do
	gone "$1" || fail "umount.lunfs returned before the daemon of $1 had ended"
	wait "$(pid_of "$1")" || fail "the daemon of $1 ended with $?"
	drop_host "$1"
	[ "$(live_hosts)" = "${2:-0}" ] || fail "the slot of $1 is not free: $("$LUNFS" hosts "$DEV")"
}

# The daemon is a child of this shell and stays a zombie until `wait`.
gone() { [ ! -e "/proc/$(pid_of "$1")" ] || grep -q '^State:.Z' "/proc/$(pid_of "$1")/status"; }

mount_host a
files a one
"$UMOUNT" "$(mnt a)" 2>"$WORK/said" || fail "umount.lunfs ended with $?: $(cat "$WORK/said")"
ended_well a
check_clean
[ ! -s "$WORK/said" ] || fail "an unmount like others was talked about: $(cat "$WORK/said")"

# Flags as umount(8) passes them, behind the directory; blanks in its name. That it is told of shows that it was found.
mount_host a
mkdir "$WORK/a b"
mount --bind "$(mnt a)" "$WORK/a b"
(cd "$WORK" && "$UMOUNT" "a b/" -n -v -r -t fuse.lunfs >/dev/null 2>"$WORK/said") ||
	fail "umount.lunfs ended with $?: $(cat "$WORK/said")"
said "in use elsewhere" || fail "a mount was not found: $(cat "$WORK/said")"

# In use: the same as umount(8) says, and nothing is lost.
exec 7<"$(mnt a)/one/f1"
rc=0
"$UMOUNT" "$(mnt a)" 2>"$WORK/said" || rc=$?
[ $rc = 32 ] && still_mounted a || fail "a mount in use: $rc, $(cat "$WORK/said")"

# Open elsewhere, mounted elsewhere: the daemon goes on, and nobody waits.
"$UMOUNT" "$(mnt a)" -l 2>"$WORK/said" || fail "umount.lunfs -l ended with $?"
said "in use elsewhere" && not_mounted a && ! gone a || fail "lazily: $(cat "$WORK/said")"
exec 7<&-
wait_until 30 gone a || fail "the daemon did not end with the last file"
ended_well a
mount_host a
mkdir "$WORK/bind"
mount --bind "$(mnt a)" "$WORK/bind"
CLEANUP+=("umount -i -l $WORK/bind 2>/dev/null")
timeout 20 "$UMOUNT" "$(mnt a)" 2>"$WORK/said" || fail "beside a bind mount it ended with $?"
said "in use elsewhere" || fail "a bind mount was not told of: $(cat "$WORK/said")"
gone a && fail "the daemon ended under a bind mount"
files_there=$(find "$WORK/bind/one" -type f | wc -l)
[ "$files_there" = 1500 ] || fail "$files_there of 1500 files"
"$UMOUNT" "$WORK/bind" || fail "umount.lunfs of the last mount ended with $?"
ended_well a

# Slow: caught with its work undone by a stop, the daemon of $1 is in $WORK/rc what umount.lunfs says of it.
stop_while_ending() { # host
	local try
	for try in 1 2 3 4 5 6; do
		mount_host "$1"
		files "$1" "slow$try"
		rm -f "$WORK/rc"
		(
			rc=0
			"$UMOUNT" "$(mnt "$1")" 2>"$WORK/said" || rc=$?
			echo $rc >"$WORK/rc.new" && mv "$WORK/rc.new" "$WORK/rc"
		) &
		while grep -q " $(mnt "$1") " /proc/self/mountinfo; do :; done
		kill -STOP "$(pid_of "$1")" 2>/dev/null && sleep 0.2
		gone "$1" || return 0
		wait_until 30 test -e "$WORK/rc" || fail "umount.lunfs did not notice the end"
		[ "$(cat "$WORK/rc")" = 0 ] || fail "$(cat "$WORK/said")"
		ended_well "$1"
	done
	fail "the daemon was always faster than the stop"
}
stop_while_ending b
wait_until 15 said "waiting for its daemon" || fail "nothing is said of what is waited for"
[ ! -e "$WORK/rc" ] || fail "umount.lunfs did not wait for a daemon that is slow"
kill -CONT "$(pid_of b)"
wait_until 30 test -e "$WORK/rc" || fail "umount.lunfs did not notice the end"
[ "$(cat "$WORK/rc")" = 0 ] || fail "of a slow daemon: $(cat "$WORK/rc"), $(cat "$WORK/said")"
ended_well b
check_clean

stop_while_ending c
kill -9 "$(pid_of c)"
wait_until 30 test -e "$WORK/rc" || fail "umount.lunfs waits for a daemon that was killed"
[ "$(cat "$WORK/rc")" = 32 ] && said "not everything was written" ||
	fail "of a killed daemon: $(cat "$WORK/rc"), $(cat "$WORK/said")"
wait "$(pid_of c)" 2>/dev/null || true
drop_host c

# Dead before: there is nothing left to wait for.
mount_host c # and recovers it
kill -9 "$(pid_of c)"
wait "$(pid_of c)" 2>/dev/null || true
"$UMOUNT" "$(mnt c)" 2>"$WORK/said" || fail "umount.lunfs of a dead mount ended with $?"
said "gone already" && not_mounted c || fail "a dead mount: $(cat "$WORK/said")"
drop_host c
rc=0
"$UMOUNT" "$(mnt c)" 2>/dev/null || rc=$?
[ $rc = 32 ] || fail "of what is not mounted: $rc"
mount_host c
"$UMOUNT" "$(mnt c)" || fail "umount.lunfs ended with $?"
ended_well c
check_clean

# umount(8) by itself, with the helper in a /sbin of this part's own; nothing is installed.
by_umount() {
	mkdir "$WORK/sbin" && mount -t tmpfs none "$WORK/sbin" && mkdir "$WORK/sbin/up" "$WORK/sbin/work" || return 7
	printf '#!/bin/sh\necho called >>%s/called\nexec %s "$@"\n' "$WORK" "$UMOUNT" >"$WORK/sbin/up/umount.fuse.lunfs"
	chmod 755 "$WORK/sbin/up/umount.fuse.lunfs"
	mount -t overlay none -o "lowerdir=$SBIN,upperdir=$WORK/sbin/up,workdir=$WORK/sbin/work" "$SBIN" || return 7
	for how in "" -c; do
		"$MOUNT" -o host=d "$DEV" "$(mnt a)" || return 1
		files a "by-umount$how"
		# shellcheck disable=SC2086
		umount $how "$(mnt a)" || return 2
		[ -e "$WORK/called" ] && rm "$WORK/called" && [ "$(live_hosts)" = 0 ] || return 3
	done
	! grep -qF "$(mnt a)" /run/mount/utab || return 4
}
SBIN=$(readlink -f /sbin)
export -f by_umount live_hosts files mnt
export WORK UMOUNT MOUNT LUNFS DEV SBIN
rc=0
unshare -m bash -c by_umount 2>"$WORK/said" || rc=$?
case $rc in
0) ;;
7) say "umount(8) itself was not tried: no overlay in this machine" ;;
*) fail "by umount(8): step $rc, $(cat "$WORK/said")" ;;
esac
check_clean
pass "umount.lunfs returns when all is written, or says why not"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The kernel keeps names and attributes for as long as the lock is held here, and not for longer: what one host
# changes, others see at once; processes stay in their directories, and mounts on directories stay; a daemon that
# was stopped past its lease shows nothing old.
. "$(dirname "$0")/lib.sh"

make_image 1G --hosts 4
for h in a b c; do mount_host $h; done


python3 "$(dirname "$0")/kept_names.py" "${LUNFS_ROUNDS:-60}" "$(mnt a)" "$(mnt b)" || fail "stale on two hosts"
python3 "$(dirname "$0")/kept_names.py" "${LUNFS_ROUNDS:-30}" "$(mnt a)" "$(mnt b)" "$(mnt c)" ||
	fail "stale on three hosts"
say "every change is seen at once"

# A process in a directory whose names were dropped.
mkdir -p "$(mnt a)/d/e"
(
	cd "$(mnt b)/d/e"
	stat . .. "$(mnt b)/d/e" >/dev/null
	for i in 1 2 3; do
		touch "$(mnt a)/d/f$i" "$(mnt a)/d/e/f$i"
		[ -e "f$i" ] || fail "a process in a directory does not see its names"
		stat "$(mnt b)/d/e/f$i" >/dev/null
		[ "$(env -u PWD /bin/pwd)" = "$(mnt b)/d/e" ] || fail "a process lost its directory: $(env -u PWD /bin/pwd)"
		sleep 2.2 # names are kept again
		stat "$(mnt b)/d/e/f$i" >/dev/null
	done
)
say "a process stays in its directory"

# Something mounted on a directory, here and in a name space of its own.
mounted_on() { # directory that another host changes beside
	touch "$(mnt a)/d/beside-$2"
	stat "$(mnt b)/d" "$(mnt b)/d/beside-$2" >/dev/null
	[ -e "$1/inside" ] || fail "what was mounted on $1 is gone"
}
mkdir "$(mnt a)/d/m"
stat "$(mnt b)/d/m" >/dev/null
mount -t tmpfs none "$(mnt b)/d/m"
CLEANUP+=("umount '$(mnt b)/d/m'")
touch "$(mnt b)/d/m/inside"
mounted_on "$(mnt b)/d/m" 1
mounted_on "$(mnt b)/d/m" 2
umount "$(mnt b)/d/m"
unset 'CLEANUP[-1]'
say "a mount on a directory stays"

umount_host b
mount_host b
stat "$(mnt b)/d" "$(mnt b)/d/m" >/dev/null
mkfifo "$WORK/go" "$WORK/went"
# shellcheck disable=SC2016 # the inner shell expands it
unshare -m --propagation private bash -c 'mount -t tmpfs none "$1" && touch "$1/inside" && echo >"$3" &&
	read -r <"$2" && [ -e "$1/inside" ]; echo $? >"$3"' - "$(mnt b)/d/m" "$WORK/go" "$WORK/went" &
read -r <"$WORK/went"
touch "$(mnt a)/d/beside-3"
stat "$(mnt b)/d" "$(mnt b)/d/beside-3" "$(mnt b)/d/m" >/dev/null
echo >"$WORK/go"
read -r rc <"$WORK/went"
[ "$rc" -eq 0 ] || fail "what a container mounted on a directory is gone"
wait $!
say "a mount in another name space stays"

# A daemon that stands still past its lease: others take its locks, and its kernel must not go on answering.
umount_host b
mount_host b
touch "$(mnt b)/d/old"
sync "$(mnt b)/d/old"
stat "$(mnt b)/d/old" >/dev/null
kill -STOP "$(pid_of b)"
CLEANUP+=("kill -CONT $(pid_of b) 2>/dev/null")
mv "$(mnt a)/d/old" "$(mnt a)/d/new" # after the recovery of b
timeout 1 stat "$(mnt b)/d/old" >/dev/null 2>&1 && fail "a kernel whose daemon stands still shows a name that is gone"
kill -9 "$(pid_of b)" 2>/dev/null || true # a has done it already
unset 'CLEANUP[-1]'
wait "$(pid_of b)" 2>/dev/null || true
umount -l "$(mnt b)"
drop_host b
say "a daemon that stood still past its lease shows nothing old"

umount_all
check_clean
pass "names and attributes are kept for as long as the lock is"

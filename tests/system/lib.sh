#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the system tests share: images, hosts that come and go, bounded waits, cleaning up by id.
# A test sources this, does its work, and ends with `pass`; anything that fails ends it at once.
# shellcheck disable=SC2034
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${LUNFS_BUILD:-$TOP/build}
MKFS=$BUILD/mkfs/mkfs.lunfs
FSCK=$BUILD/fsck/fsck.lunfs
MOUNT=$BUILD/fs/mount.lunfs
LUNFS=$BUILD/fs/lunfs
TIMING=${LUNFS_TIMING:-150,400,800} # beat, deadline, lease: milliseconds
LEASE_MS=${TIMING##*,}
SLACK_MS=${LUNFS_SLACK_MS:-1000} # after the lease, others go on within this

if [ -z "${LUNFS_TEST_DIR:-}" ]; then
	if [ -w /dev/shm ]; then LUNFS_TEST_DIR=/dev/shm; else LUNFS_TEST_DIR=${TMPDIR:-/tmp}; fi
fi
WORK=$(mktemp -d "$LUNFS_TEST_DIR/lunfs-test.XXXXXX")
DEV=${LUNFS_DEV:-$WORK/lun.img} # a device that is there already, or an image of our own
HOSTS=() # names mounted now
CLEANUP=() # commands, run last first

say() { echo "  $*"; }
fail() {
	echo "FAIL: $*" >&2
	exit 1
}
skip() {
	echo "SKIP: $*"
	exit 77
}
pass() { echo "ok: $*"; }

mnt() { echo "$WORK/mnt.$1"; }
log_of() { echo "$WORK/$1.log"; }
pid_of() { cat "$WORK/$1.pid"; }

cleanup() {
	local rc=$? i h
	set +e
	for h in "${HOSTS[@]}"; do
		kill -9 "$(pid_of "$h")" 2>/dev/null
		umount -l "$(mnt "$h")" 2>/dev/null
	done
	for ((i = ${#CLEANUP[@]} - 1; i >= 0; i--)); do eval "${CLEANUP[i]}"; done
	if [ $rc -ne 0 ] && [ $rc -ne 77 ]; then
		tail -n 15 "$WORK"/*.log 2>/dev/null
	fi
	[ -n "${LUNFS_KEEP:-}" ] || rm -rf "$WORK"
	exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wait_until() { # seconds command...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.02
	done
}

now_ms() { date +%s%3N; }

make_image() { # size [mkfs options]; more options from LUNFS_MKFS_ARGS
	local more
	read -ra more <<<"${LUNFS_MKFS_ARGS:-}"
	[ -n "${LUNFS_DEV:-}" ] || truncate -s "$1" "$DEV"
	shift
	"$MKFS" -q ${LUNFS_DEV:+-f} --timing "$TIMING" "$@" "${more[@]}" "$DEV"
}

# The daemon in the foreground mode of a background job: its pid is known for sure.
mount_host() { # name [options]
	local h=$1 opts=${2:+,$2}
	mkdir -p "$(mnt "$h")"
	"$MOUNT" -f -o "host=$h$opts" "$DEV" "$(mnt "$h")" >>"$(log_of "$h")" 2>&1 &
	echo $! >"$WORK/$h.pid"
	HOSTS+=("$h")
	wait_until 30 mounted_or_dead "$h" || fail "host $h did not mount in 30 s"
	mountpoint -q "$(mnt "$h")" || fail "host $h: $(tail -n 1 "$(log_of "$h")")"
}

mounted_or_dead() { mountpoint -q "$(mnt "$1")" || ! kill -0 "$(pid_of "$1")" 2>/dev/null; }
gone() { ! kill -0 "$(pid_of "$1")" 2>/dev/null; }

drop_host() { # forget the name
	local h keep=()
	for h in "${HOSTS[@]}"; do [ "$h" = "$1" ] || keep+=("$h"); done
	HOSTS=("${keep[@]}")
}

umount_host() {
	local rc=0
	umount "$(mnt "$1")"
	wait_until 30 gone "$1" || fail "the daemon of host $1 did not end in 30 s after umount"
	wait "$(pid_of "$1")" || rc=$?
	[ $rc -eq 0 ] || fail "the daemon of host $1 ended with $rc"
	drop_host "$1"
}

kill_host() { # as if the machine had lost power
	kill -9 "$(pid_of "$1")"
	wait "$(pid_of "$1")" 2>/dev/null || true
	umount -l "$(mnt "$1")"
	drop_host "$1"
}

umount_all() {
	local h
	for h in "${HOSTS[@]}"; do umount_host "$h"; done
}

check_clean() {
	local rc=0
	"$FSCK" -n "$DEV" >"$WORK/fsck.out" 2>&1 || rc=$?
	if [ $rc -ne 0 ]; then
		head -n 30 "$WORK/fsck.out"
		fail "fsck.lunfs -n ended with $rc"
	fi
}

stat_of() { "$LUNFS" stats "$(mnt "$1")" --json | jq ".$2"; }

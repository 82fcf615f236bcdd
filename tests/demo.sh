#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The main job of lunfs, narrated: three hosts on one shared LUN (a sparse image), one of them dies.
# Installs what is missing (Debian 12, as root), builds, and cleans up after itself.
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/setup.sh
. "$TOP/tests/setup.sh"
install_missing "${BUILD_PACKAGES[@]}" jq python3 procps || exit 1
echo "Building lunfs ..."
build_lunfs "$TOP" || exit 1
export LUNFS_BUILD=$TOP/build
# shellcheck source=tests/system/lib.sh
. "$TOP/tests/system/lib.sh"

step() { printf '\n== %s\n' "$*"; }
SOURCE=${1:-/usr/include}

step "A sparse file of 8 GiB stands for the shared LUN; mkfs.lunfs formats it once."
make_image 8G --hosts 4 -L demo
"$LUNFS" info "$DEV" | sed 's/^/   /'

step "Three hosts, a, b and c, mount it at the same time (three daemons; only the LUN between them)."
for h in a b c; do mount_host $h; done
"$LUNFS" hosts "$DEV" | sed 's/^/   /'

step "Host a copies $SOURCE in ($(find "$SOURCE" -type f | wc -l) files); host b compares it with diff -r."
t0=$(now_ms)
cp -a "$SOURCE" "$(mnt a)/tree"
say "copied through a in $(($(now_ms) - t0)) ms"
t0=$(now_ms)
diff -r --no-dereference "$SOURCE" "$(mnt b)/tree" || fail "b sees another tree than a copied"
say "b sees exactly the same, compared in $(($(now_ms) - t0)) ms"

step "All three work at once, in a shared directory and each in its own."
mkdir "$(mnt a)/shared"
jobs=()
for h in a b c; do
	(
		mkdir "$(mnt $h)/own.$h"
		for i in $(seq 1 200); do
			echo "$h $i" >"$(mnt $h)/own.$h/$i"
			echo "$h $i" >"$(mnt $h)/shared/$h.$i"
		done
	) &
	jobs+=($!)
done
for j in "${jobs[@]}"; do wait "$j" || fail "a host could not do its work"; done
say "each host counts $(find "$(mnt b)/shared" -type f | wc -l) files in shared/"
[ "$(find "$(mnt a)/shared" -type f | wc -l)" = 600 ] || fail "files are missing"

step "Host b writes and fsyncs; kill -9 hits it in the middle."
python3 "$TOP/tests/system/fsync_writer.py" write "$(mnt b)/shared" "$WORK/acked" b &
writer=$!
wait_until 20 test -s "$WORK/acked" || fail "the writer did not start"
sleep 1
kill_host b
t0=$(now_ms)
touch "$(mnt a)/shared/a-goes-on" "$(mnt c)/shared/c-goes-on"
ls -l "$(mnt a)/shared" >/dev/null
took=$(($(now_ms) - t0))
kill $writer 2>/dev/null || true
wait $writer 2>/dev/null || true
say "a and c went on after $took ms (the lease is $LEASE_MS ms)"
((took < LEASE_MS + 1000)) || fail "that is longer than the lease and a second"
grep -h -e recover -e dead "$(log_of a)" "$(log_of c)" | sed 's/^/   /' | head -n 6
python3 "$TOP/tests/system/fsync_writer.py" verify "$(mnt c)/shared" "$WORK/acked" ||
	fail "something that b had fsynced is missing"
say "everything that b had fsynced is there"

step "Host b comes back."
mount_host b
echo "b is back" >"$(mnt b)/shared/back"
say "c reads what b wrote: $(cat "$(mnt c)/shared/back")"
say "host a's counters: $(stat_of a ats_commands) ATS commands, $(stat_of a dev_writes) writes, $(stat_of a dev_flushes) flushes"

step "All unmount; fsck.lunfs -n checks every structure and reference."
umount_all
"$FSCK" -n "$DEV" | sed 's/^/   /'
check_clean
printf '\nThat was the main job.\n'

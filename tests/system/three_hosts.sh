#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What one of three hosts has finished, the others see in their next system call.
. "$(dirname "$0")/lib.sh"

make_image 1G --hosts 4
for h in a b c; do mount_host $h; done
A=$(mnt a) B=$(mnt b) C=$(mnt c)

for i in $(seq 1 20); do
	echo "hello $i" >"$A/f$i"
	[ "$(cat "$B/f$i")" = "hello $i" ] || fail "b does not see what a wrote to f$i"
	echo "more $i" >>"$B/f$i"
	[ "$(tail -n 1 "$C/f$i")" = "more $i" ] || fail "c does not see what b appended to f$i"
	mv "$C/f$i" "$C/g$i"
	[ ! -e "$A/f$i" ] || fail "a still sees f$i after c renamed it"
	[ "$(stat -c %s "$A/g$i")" = "$(stat -c %s "$C/g$i")" ] || fail "sizes of g$i differ"
	chmod 640 "$A/g$i"
	[ "$(stat -c %a "$B/g$i")" = 640 ] || fail "b does not see the mode set by a"
	rm "$B/g$i"
	[ ! -e "$C/g$i" ] || fail "c still sees g$i after b removed it"
done
say "names, sizes, data, attributes and deletions are seen at once"

# Pages that b has cached must not outlive a write by a, even if the times are put back.
head -c 100000 /dev/zero >"$A/page"
touch -d @1000000000 "$A/page"
exec 9<"$B/page"
[ "$(head -c 100000 <&9 | tr -d '\0' | wc -c)" = 0 ]
head -c 100000 /dev/zero | tr '\0' x | dd of="$A/page" conv=notrunc status=none
touch -d @1000000000 "$A/page"
[ "$(tr -d x <"$B/page" | wc -c)" = 0 ] || fail "b reads old data from its page cache"
python3 - <<PY || fail "b reads old data through a descriptor that was open all the time"
import os
data = os.pread(9, 100000, 0)
raise SystemExit(data != b'x' * 100000)
PY
exec 9<&-
say "cached pages do not outlive a change made elsewhere"

python3 "$(dirname "$0")/append_all.py" 400 "$A/log" "$B/log" "$C/log" ||
	fail "appends of three hosts to one file were lost or torn"
say "O_APPEND is atomic between hosts"

head -c 3000000 /dev/urandom >"$A/open"
sum=$(sha256sum <"$A/open")
exec 8<"$A/open"
rm "$B/open"
[ ! -e "$A/open" ] || fail "a still sees a name that b removed"
[ "$(sha256sum <&8)" = "$sum" ] || fail "a file that a has open lost its data when b unlinked it"
exec 8<&-
say "an unlinked file lives on while another host has it open"

for h in a b c; do
	(mkdir "$(mnt $h)/own.$h" && cd "$(mnt $h)/own.$h" &&
		for i in $(seq 1 100); do echo "$i" >"f$i"; done) &
	(for i in $(seq 1 50); do
		mkdir -p "$(mnt $h)/shared" && echo "$h $i" >"$(mnt $h)/shared/$h.$i"
	done) &
done
for job in $(jobs -p); do
	grep -qx "$job" "$WORK"/*.pid || wait "$job" || fail "a worker failed"
done
[ "$(find "$A/shared" -type f | wc -l)" = 150 ] || fail "a does not see all files in shared/"
diff -r "$A" "$C" || fail "a and c see different trees"

# A directory that is looked through is read ahead: what a has changed, b lists; what nobody has, c takes many at once.
mkdir "$A/many"
for i in $(seq 1 300); do head -c "$i" /dev/zero >"$A/many/f$i"; done
sizes_by() { # mount point
	find "$1/many" -type f -printf '%f %s\n' | sort
}
for round in 1 2 3; do
	want=$(for i in $(seq 1 300); do echo "f$i $((i + round - 1))"; done | sort)
	[ "$(sizes_by "$B")" = "$want" ] || fail "b does not list what a has written, in round $round"
	for i in $(seq 1 300); do printf x >>"$A/many/f$i"; done
done
asked=$(stat_of b locks.asked_ahead)
[ "$asked" -gt 20 ] || fail "b asked for only $asked of 900 locks ahead of their use"
umount_all
for h in a b c; do mount_host $h; done
[ "$(sizes_by "$C")" = "$(sizes_by "$B")" ] || fail "b and c list different sizes"
taken=$(stat_of c locks.ahead)
[ "$taken" -gt 20 ] || fail "c took only $taken of 300 locks ahead of their use"
rm -rf "$B/many"
[ ! -e "$A/many" ] || fail "a still sees a directory that b removed"
say "directories that are looked through are right, and read ahead"
umount_all
check_clean
pass "three hosts see each other's finished work at once"

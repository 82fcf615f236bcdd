#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Crash points: the power is cut at every point of recorded workloads; what is left is recovered, checked by fsck and
# compared with the model. The workloads that always run, then fresh ones, whose seed is printed. Fails when a cut is
# not clean, when there were too few, or when the same workloads were not cut twice in the same way.
# LUNFS_CRASH_PLAN and LUNFS_CRASH_FRESH choose others (lunfs-crash --help).
set -uo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
CRASH=${LUNFS_BUILD:-$TOP/build}/tests/crash/lunfs-crash
JOBS=$(nproc)
WANTED=${LUNFS_CRASH_WANTED:-5000}
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
rc=0

field() { # file, name
	sed -n "s/^ *\"$2\": *\([0-9]*\),\{0,1\}\$/\1/p" "$1"
}

"$CRASH" --plan "${LUNFS_CRASH_PLAN:-one,two:4,two-host:2,three:60,random:40}" --jobs "$JOBS" --json >"$OUT/fixed" || rc=1
cat "$OUT/fixed"
seed=$((RANDOM * 32768 + RANDOM + 2))
"$CRASH" --plan "${LUNFS_CRASH_FRESH:-three:20,random:12}" --seed $seed --jobs "$JOBS" || rc=1

"$CRASH" --plan one --json >"$OUT/one" || rc=1
"$CRASH" --plan one --json --jobs "$JOBS" >"$OUT/again" || rc=1
for n in commands cuts images recoveries_cut; do
	if [ "$(field "$OUT/one" $n)" != "$(field "$OUT/again" $n)" ]; then
		echo "the same workloads, another number of $n: $(field "$OUT/one" $n), then $(field "$OUT/again" $n)"
		rc=1
	fi
done
cuts=$(field "$OUT/fixed" cuts)
if [ "${cuts:-0}" -lt "$WANTED" ]; then
	echo "only ${cuts:-0} cuts, $WANTED are wanted"
	rc=1
fi
echo "${cuts:-0} crash cuts, $(field "$OUT/fixed" images) different images, fresh seed $seed"
exit $rc

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzzes every target of tests/fuzz for LUNFS_FUZZ_SECONDS each (default 25), from the recipes' edits. A finding
# fails; its input is kept in LUNFS_FUZZ_KEEP (default: fuzz-found in the build folder). LUNFS_FUZZ_BUILD: that folder.
# Arguments: the targets, instead of all. Last line: what was executed.
set -uo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${LUNFS_FUZZ_BUILD:-$TOP/build-fuzz}
KEEP=${LUNFS_FUZZ_KEEP:-$BUILD/fuzz-found}
SECONDS_EACH=${LUNFS_FUZZ_SECONDS:-25}
ALL=(decode undo check repair redo journal mount)

command -v clang >/dev/null || {
	echo "clang is not installed: nothing was fuzzed"
	exit 77
}
[ -f "$BUILD/build.ninja" ] ||
	CC=clang meson setup "$BUILD" "$TOP" -Dc_args=-fsanitize=fuzzer-no-link -Db_lundef=false \
		-Db_sanitize=address,undefined >/dev/null || exit 1
(($# > 0)) || set -- "${ALL[@]}"
ninja -C "$BUILD" "${@/#/tests/fuzz/fuzz_}" >"$BUILD/fuzz.log" 2>&1 || {
	tail -n 40 "$BUILD/fuzz.log"
	exit 1
}
WORK=$(mktemp -d "${LUNFS_TEST_DIR:-/dev/shm}/lunfs-fuzz.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$KEEP"
python3 "$TOP/tests/fuzz/seeds.py" "$WORK" || exit 1

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
total=0 found=0
for t in "$@"; do
	mkdir -p "$WORK/$t"
	rc=0
	"$BUILD/tests/fuzz/fuzz_$t" -max_total_time="$SECONDS_EACH" -timeout=60 -rss_limit_mb=3000 -max_len=4096 \
		-print_final_stats=1 -artifact_prefix="$KEEP/$t-" "$WORK/$t" >"$WORK/$t.log" 2>&1 </dev/null || rc=$?
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$WORK/$t.log")
	cov=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$WORK/$t.log" | tail -n 1)
	total=$((total + ${n:-0}))
	if [ $rc -eq 0 ]; then
		echo "$t: ${n:-0} executions, ${cov:-0} edges"
		continue
	fi
	found=$((found + 1))
	echo "$t: FOUND after ${n:-?} executions (exit code $rc):"
	grep -vE '^#[0-9]+\s+(NEW|REDUCE|pulse|RELOAD)' "$WORK/$t.log" | tail -n 40
done
echo "$total executions of $# fuzz targets, $found with findings (inputs are kept in $KEEP)"
[ "$found" -eq 0 ]

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzzes the targets of tests/fuzz (tests/README.md, "Fuzzing"), from the recipes' edits, for LUNFS_FUZZ_SECONDS in all
# (default 100). A finding fails; its input is kept in LUNFS_FUZZ_KEEP (default: fuzz-found in the build folder).
# LUNFS_FUZZ_BUILD: that folder. LUNFS_FUZZ_CORPUS: a folder in which inputs that reach something new are kept for the
# next time. Arguments: the targets, instead of all. Last line: what was executed.
set -uo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${LUNFS_FUZZ_BUILD:-$TOP/build-fuzz}
KEEP=${LUNFS_FUZZ_KEEP:-$BUILD/fuzz-found}
SECONDS_ALL=${LUNFS_FUZZ_SECONDS:-100}
ALL=(decode undo check repair redo journal mount look)
# Inputs are mutated by what structures look like, not by comparisons seen, which would only take time.
COVERAGE="-fsanitize-coverage=inline-8bit-counters,pc-table -fsanitize-coverage-ignorelist=$TOP/tests/fuzz/uncovered.txt"

command -v clang >/dev/null || {
	echo "clang is not installed: nothing was fuzzed"
	exit 1
}
[ -f "$BUILD/build.ninja" ] ||
	CC=clang meson setup "$BUILD" "$TOP" -Dc_args="$COVERAGE" -Db_lundef=false -Db_sanitize=address,undefined \
		>/dev/null || exit 1
(($# > 0)) || set -- "${ALL[@]}"
t0=$SECONDS
ninja -C "$BUILD" "${@/#/tests/fuzz/fuzz_}" >"$BUILD/fuzz.log" 2>&1 || {
	tail -n 40 "$BUILD/fuzz.log"
	exit 1
}
echo "built in $((SECONDS - t0)) s"
WORK=$(mktemp -d "${LUNFS_TEST_DIR:-/dev/shm}/lunfs-fuzz.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
CORPUS=${LUNFS_FUZZ_CORPUS:-$WORK/corpus}
mkdir -p "$KEEP" "$CORPUS"
python3 "$TOP/tests/fuzz/seeds.py" "$WORK/seeds" || exit 1

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
total=0 found=0
for t in "$@"; do
	mkdir -p "$CORPUS/$t"
	rc=0
	"$BUILD/tests/fuzz/fuzz_$t" -max_total_time=$((SECONDS_ALL / $#)) -timeout=60 -rss_limit_mb=3000 -max_len=4096 \
		-entropic=0 -reload=0 -print_final_stats=1 -artifact_prefix="$KEEP/$t-" "$CORPUS/$t" "$WORK/seeds/$t" \
		>"$WORK/$t.log" 2>&1 </dev/null || rc=$?
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$WORK/$t.log")
	cov=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$WORK/$t.log" | tail -n 1)
	total=$((total + ${n:-0}))
	if [ $rc -eq 0 ] && [ "${n:-0}" -gt 0 ]; then
		echo "$t: $n executions, ${cov:-0} edges"
		continue
	fi
	found=$((found + 1))
	echo "$t: FOUND after ${n:-?} executions (exit code $rc):"
	grep -vE '^#[0-9]+\s+(NEW|REDUCE|pulse|RELOAD)' "$WORK/$t.log" | tail -n 40
done
echo "$total executions of $# fuzz targets, $found with findings (inputs are kept in $KEEP)"
[ "$found" -eq 0 ]

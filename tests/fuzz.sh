#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzzes the targets of tests/fuzz (tests/README.md, "Fuzzing"), from the recipes' edits, each for LUNFS_FUZZ_SECONDS
# (default 120), as many side by side as there are processors. A finding fails; its input is kept in LUNFS_FUZZ_KEEP
# (default: fuzz-found in the build folder). LUNFS_FUZZ_BUILD: that folder. LUNFS_FUZZ_CORPUS: a folder in which inputs
# that reach something new are kept for the next time. LUNFS_FUZZ_SEED: of the changes (default 1, so that a run can be
# repeated; 0: another one each time). Arguments: the targets, instead of all. Last line: what was executed.
set -uo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${LUNFS_FUZZ_BUILD:-$TOP/build-fuzz}
KEEP=${LUNFS_FUZZ_KEEP:-$BUILD/fuzz-found}
SECONDS_EACH=${LUNFS_FUZZ_SECONDS:-120}
SEED=${LUNFS_FUZZ_SEED:-1}
ALL=(decode undo check repair redo journal mount look)
# Inputs are mutated by what structures look like, not by comparisons seen, which would only take time.
COVERAGE="-fsanitize-coverage=inline-8bit-counters,pc-table -fsanitize-coverage-ignorelist=$TOP/tests/fuzz/uncovered.txt"

command -v clang >/dev/null || {
	echo "clang is not installed: nothing was fuzzed"
	exit 1
}
[ -f "$BUILD/build.ninja" ] || {
	said=$(CC=clang meson setup "$BUILD" "$TOP" -Dc_args="$COVERAGE" -Db_lundef=false -Db_sanitize=address,undefined 2>&1) || {
		tail -n 10 <<<"$said"
		exit 1
	}
}
(($# > 0)) || set -- "${ALL[@]}"
t0=$SECONDS
ninja -C "$BUILD" "${@/#/tests/fuzz/fuzz_}" >"$BUILD/fuzz.log" 2>&1 || {
	tail -n 40 "$BUILD/fuzz.log"
	exit 1
}
echo "built in $((SECONDS - t0)) s"
WORK=$(mktemp -d "${LUNFS_TEST_DIR:-/dev/shm}/lunfs-fuzz.XXXXXX")
CORPUS=${LUNFS_FUZZ_CORPUS:-$WORK/corpus}
mkdir -p "$KEEP" "$CORPUS"
declare -A pid=()
cleanup() {
	((${#pid[@]} == 0)) || kill "${pid[@]}" 2>/dev/null
	wait
	rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
python3 "$TOP/tests/fuzz/seeds.py" "$WORK/seeds" || exit 1

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
# What is freed is kept from use for longer than any run takes, and no longer: memory that was touched before is faster.
export ASAN_OPTIONS=quarantine_size_mb=32${ASAN_OPTIONS:+:$ASAN_OPTIONS}
total=0 found=0

start() { # target
	mkdir -p "$CORPUS/$1"
	"$BUILD/tests/fuzz/fuzz_$1" -seed="$SEED" -max_total_time="$SECONDS_EACH" -timeout=60 -rss_limit_mb=3000 -max_len=4096 \
		-entropic=0 -reload=0 -print_final_stats=1 -artifact_prefix="$KEEP/$1-" "$CORPUS/$1" "$WORK/seeds/$1" \
		>"$WORK/$1.log" 2>&1 </dev/null &
	pid[$1]=$!
}

tell() { # target exit-code
	local n cov
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$WORK/$1.log")
	cov=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$WORK/$1.log" | tail -n 1)
	total=$((total + ${n:-0}))
	if [ "$2" -eq 0 ] && [ "${n:-0}" -gt 0 ]; then
		echo "$1: $n executions, ${cov:-0} edges"
		return
	fi
	found=$((found + 1))
	echo "$1: FOUND after ${n:-?} executions (exit code $2):"
	sed -n 's/^\(Base64: .*\)/    \1/p' "$WORK/$1.log" # the input, for who has only this output
	grep -vE '^#[0-9]+\s+(NEW|REDUCE|pulse|RELOAD)|^\s*NEW_FUNC|^INFO|^(0x..,)+|^Base64|^stat::' "$WORK/$1.log" |
		cut -c 1-200 | tail -n 34
}

# The next one of those that run to end.
await() {
	local t over rc=0
	wait -n -p over "${pid[@]}" || rc=$?
	for t in "${!pid[@]}"; do
		[ "${pid[$t]}" = "$over" ] || continue
		unset "pid[$t]"
		tell "$t" "$rc"
	done
}

for t in "$@"; do
	((${#pid[@]} < $(nproc))) || await
	start "$t"
done
while ((${#pid[@]} > 0)); do await; done
echo "$total executions of $# fuzz targets, $found with findings (inputs are kept in $KEEP)"
[ "$found" -eq 0 ]

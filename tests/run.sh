#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs what is missing (Debian 12, as root), builds, runs every test. Last line: N passed, N failed,
# N skipped. Exit code 1 if anything failed. Arguments: names of system tests to run instead of all, or
# protocol for the simulator, the crash points, the mutation check and the model, images for damaged volumes,
# fuzz for fuzzing.
set -uo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/setup.sh
. "$TOP/tests/setup.sh"

passed=0 failed=0 skipped=0
LOG=$(mktemp -d)
trap 'rm -rf "$LOG"' EXIT

finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
	exit
}

install_missing "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" || {
	echo "Packages could not be installed."
	failed=1
	finish
}
build_lunfs "$TOP" || {
	failed=1
	finish
}
export LUNFS_BUILD=$TOP/build

unit_tests() {
	local line
	meson test -C "$LUNFS_BUILD" --no-rebuild --print-errorlogs --timeout-multiplier 4 >"$LOG/unit" 2>&1
	while read -r line; do
		case $line in
		*" OK "*) passed=$((passed + 1)) ;;
		*" SKIP "*) skipped=$((skipped + 1)) ;;
		*" FAIL "* | *" TIMEOUT "* | *" ERROR "*) failed=$((failed + 1)) ;;
		*) continue ;;
		esac
		echo "$line"
	done < <(grep -E '^ *[0-9]+/[0-9]+ ' "$LOG/unit")
	grep -qE ' (FAIL|TIMEOUT|ERROR) ' "$LOG/unit" && tail -n 80 "$LOG/unit"
	return 0
}

run_test() { # name command...
	local name=$1 rc=0 t0=$SECONDS
	shift
	timeout -k 30 "${LUNFS_TEST_SECONDS:-900}" "$@" >"$LOG/$name" 2>&1 </dev/null || rc=$?
	case $rc in
	0)
		passed=$((passed + 1))
		echo "PASS $name ($((SECONDS - t0)) s): $(tail -n 1 "$LOG/$name")"
		;;
	77)
		skipped=$((skipped + 1))
		echo "SKIP $name: $(tail -n 1 "$LOG/$name")"
		;;
	*)
		failed=$((failed + 1))
		echo "FAIL $name ($((SECONDS - t0)) s), exit code $rc:"
		sed 's/^/    /' "$LOG/$name" | tail -n 40
		;;
	esac
}

system_test() { # script
	run_test "$(basename "$1" .sh)" bash "$1"
}

# What proves the protocol: whole clusters in a simulator, crash points, weakened code that they must notice, a model.
protocol_tests() {
	run_test simulate bash "$TOP/tests/simulate.sh"
	run_test crash bash "$TOP/tests/crash.sh"
	run_test mutations python3 "$TOP/tests/sim/mutations/run.py" "$TOP"
	run_test spin python3 "$TOP/tests/spin/run.py"
}

# Damaged volumes: found, repaired, and clean afterwards.
image_tests() {
	run_test images python3 "$TOP/tests/images/run.py" "$LUNFS_BUILD"
}

# Damage at random, with sanitizers and coverage; has a build of its own.
fuzz_tests() {
	run_test fuzz bash "$TOP/tests/fuzz.sh"
	grep -E ' executions, ' "$LOG/fuzz" | sed 's/^/    /'
}

is_test() { # a test says so by sourcing lib.sh
	grep -q '/lib.sh"$' "$1"
}

if [ $# -eq 0 ]; then
	unit_tests
	protocol_tests
	image_tests
	fuzz_tests
	for t in "$TOP"/tests/system/*.sh; do is_test "$t" && system_test "$t"; done
else
	for t in "$@"; do
		case $t in
		protocol) protocol_tests ;;
		images) image_tests ;;
		fuzz) fuzz_tests ;;
		*) system_test "$TOP/tests/system/$t.sh" ;;
		esac
	done
fi
finish

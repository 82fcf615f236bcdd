#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Whole clusters on the simulated LUN: the seeds that always run, and fresh ones, which are printed. Fails
# when a run fails, or when something that should be met (an outcome, a slot transition, a step of a
# recovery, a fault) never was.
set -uo pipefail
TOP=$(cd "$(dirname "$0")/.." && pwd)
SIM=${LUNFS_BUILD:-$TOP/build}/tests/sim/run/lunfs-sim
JOBS=$(nproc)
rc=0

"$SIM" --seeds "1..${LUNFS_SIM_SEEDS:-1200}" --jobs "$JOBS" --require-coverage || rc=1
"$SIM" --random "${LUNFS_SIM_RANDOM:-60}" --jobs "$JOBS" || rc=1
exit $rc

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The meson test of lunfs-sim: a fixed set of seeds of each profile (LUNFS_SIM_EACH, 25 by default), those that
# once failed, and fresh random ones (LUNFS_SIM_FRESH many, 20 by default; they are printed). LUNFS_SIM_JOBS at a time.
set -eu
sim=$1
jobs=${LUNFS_SIM_JOBS:-2}
fresh=${LUNFS_SIM_FRESH:-20}
for profile in calm crash zombie flaky power outage mixed liar; do
	"$sim" --seeds "1..${LUNFS_SIM_EACH:-25}" --profile "$profile" --jobs "$jobs" --quiet
done
# profile:seed
for was in crash:31 crash:4 flaky:26 mixed:2100 power:3129 power:10101 liar:4173 liar:5028; do
	"$sim" --seed "${was#*:}" --profile "${was%:*}"
done
a=$("$sim" --seed 77 --profile mixed | tail -n 1)
b=$("$sim" --seed 77 --profile mixed --trace | tail -n 1)
if [ "$a" != "$b" ]; then
	echo "seed 77 is not the same run twice: '$a', then '$b'"
	exit 1
fi
if [ "$fresh" -gt 0 ]; then
	"$sim" --random "$fresh" --jobs "$jobs"
fi

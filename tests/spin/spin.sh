#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# All checks of the Spin models, as a test of tests/run.sh: exit code 77 where Spin is missing.
exec python3 "$(dirname "$0")/run.py" "$@"

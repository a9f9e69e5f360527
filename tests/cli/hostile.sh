#!/bin/sh
# hostile.sh - files of a second implementation of our containers, sound and
# broken (tests/hostile_files.py); needs any python3.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
exec python3 "$top_srcdir/tests/hostile_files.py" "$top_builddir/bise"

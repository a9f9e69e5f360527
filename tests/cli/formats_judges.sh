#!/bin/sh
# formats_judges.sh - containers against other programs' readers and writers;
# needs BISE_JUDGES (a python with safetensors, gguf and numpy).
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/judge_formats.py" "$top_builddir/bise"

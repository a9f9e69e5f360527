#!/bin/sh
# sign.sh - bise sign and verify --key against model_signing (PyPI), both ways;
# needs BISE_JUDGES (a python with model_signing).
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/judge_signing.py" "$top_builddir/bise"

#!/bin/sh
# families.sh - transformers and llama.cpp give the logits that bise gives, for
# every family and layout; needs BISE_JUDGES and ../shared.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-}
shared=${BISE_SHARED:-$top_srcdir/../shared}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
[ -f "$shared/tools/engine.py" ] || { echo "skipped: no $shared"; exit 77; }
"$python" -c 'import xllamacpp, transformers, peft, gguf' 2>/dev/null ||
    { echo "skipped: $python lacks a judge"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
PYTHONPATH=$top_srcdir/tests:$shared/tools "$python" \
    "$top_srcdir/tests/judge_families.py" "$top_builddir/bise" \
    "$top_builddir/tests/logits_tool" "$top_srcdir" "$dir"

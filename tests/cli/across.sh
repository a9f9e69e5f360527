#!/bin/sh
# across.sh - vision towers and float8 codes from layout to layout and back:
# equal bytes, equal logits in transformers; needs BISE_JUDGES and gguf-py.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
"$python" -c 'import transformers, gguf' 2>/dev/null ||
    { echo "skipped: $python lacks a judge"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
"$python" "$top_srcdir/tests/judge_across.py" \
    "$top_builddir/bise" "$top_srcdir" "$dir"

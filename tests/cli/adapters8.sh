#!/bin/sh
# adapters8.sh - adapter files in llama.cpp equal merging, several adapters and
# float8 become Q8_0 as gguf-py makes it; needs BISE_JUDGES and ../shared.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-}
shared=${BISE_SHARED:-$top_srcdir/../shared}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
[ -f "$shared/tools/engine.py" ] || { echo "skipped: no $shared"; exit 77; }
"$python" -c 'import xllamacpp, transformers, gguf' 2>/dev/null ||
    { echo "skipped: $python lacks a judge"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
PYTHONPATH=$shared/tools "$python" "$top_srcdir/tests/judge_adapters.py" \
    "$top_builddir/bise" "$top_srcdir" "$dir"

#!/bin/sh
# quantize_oracle.sh - whole quantized files against ggml's own encoders and a
# second writing of the type rules; needs BISE_JUDGES (a python with xllamacpp,
# gguf, safetensors) and ../shared. All mixtures: judge_quantize.py --full.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-}
shared=${BISE_SHARED:-$top_srcdir/../shared}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
[ -f "$shared/tools/ggml_oracle.py" ] || { echo "skipped: no $shared"; exit 77; }
"$python" -c 'import xllamacpp, gguf, safetensors' 2>/dev/null ||
    { echo "skipped: $python lacks a judge"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
PYTHONPATH=$shared/tools "$python" "$top_srcdir/tests/judge_quantize.py" \
    "$top_builddir/bise" "$top_srcdir" "$dir" "$@"

#!/bin/sh
# tokenizer_files.sh - out of a GGUF come tokenizer files that transformers,
# mistral-common and sentencepiece load, with the ids of the original. Needs
# BISE_JUDGES and ../shared.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
python=${BISE_JUDGES:-}
shared=${BISE_SHARED:-$top_srcdir/../shared}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
[ -d "$shared/data/tokenizers" ] || { echo "skipped: no $shared"; exit 77; }
"$python" -c 'import transformers, sentencepiece, mistral_common' \
    2>/dev/null || { echo "skipped: $python lacks a judge"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
"$python" "$top_srcdir/tests/judge_tokenizer_files.py" "$top_builddir/bise" \
    "$top_srcdir" "$shared" "$dir"

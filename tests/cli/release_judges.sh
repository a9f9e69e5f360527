#!/bin/sh
# release_judges.sh - folders of bise release in huggingface_hub, transformers,
# PEFT, llama.cpp's server and litellm; needs BISE_JUDGES (a python with them).
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
[ -n "${BISE_JUDGES:-}" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
"$BISE_JUDGES" "$top_srcdir/tests/judge_release.py" "$top_builddir/bise" \
    "$top_srcdir" "$dir"

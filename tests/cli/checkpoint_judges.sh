#!/bin/sh
# checkpoint_judges.sh - checkpoints of every family as transformers saves them
# (text, tied, sharded, both wrapper schemes, experts, latent attention) are
# recognized, complete and counted right. Needs BISE_JUDGES with transformers.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
python=${BISE_JUDGES:-}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
"$python" -c 'import transformers, torch' 2>/dev/null ||
    { echo "skipped: $python lacks transformers"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
"$python" "$top_srcdir/tests/judge_checkpoints.py" "$bise" "$dir/work" \
    2>"$dir/err" || { tail -5 "$dir/err"; exit 1; }

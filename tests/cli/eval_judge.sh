#!/bin/sh
# eval_judge.sh - losses, divergence and greedy text against llama.cpp and
# transformers (tests/judge_eval.py); needs BISE_JUDGES, a python with them,
# and ../shared (BISE_SHARED).
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
shared=${BISE_SHARED:-$top_srcdir/../shared}
python=${BISE_JUDGES:-}
skip() { echo "skipped: $1"; exit 77; }
test -n "$python" || skip "BISE_JUDGES is not set"
test -f "$shared/tools/engine.py" || skip "no $shared/tools/engine.py"
"$python" -c 'import xllamacpp, transformers, tokenizers' 2>/dev/null ||
    skip "$python lacks xllamacpp, transformers or tokenizers"
exec "$python" "$top_srcdir/tests/judge_eval.py" "$top_builddir/bise" \
    "$top_srcdir/examples/tiny-mistral3" "$shared/tools/engine.py" \
    "$shared/data/models/babyllama-tok105"

#!/bin/sh
# calibrate.sh - bise calibrate on the embedded model: both file forms, resume,
# plans, chat rows, refusals; with BISE_JUDGES the sums are compared with
# PyTorch hooks, and the importance must help.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() {
    words=$1; shift
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err" && fail "bise $* succeeded"
    grep -q -e "$words" "$dir/err" || fail "bise $*: no '$words'"
}
head -c 6000 "$model/valid.txt" >"$dir/text.txt"

# one run, and the same in two parts
ok calibrate "$model" --data "$dir/text.txt" -o "$dir/a.gguf" --ctx 128 --chunks 6
grep -q '42 tensors, 6 chunks' "$dir/out" || fail "what was written"
ok calibrate "$model" --data "$dir/text.txt" -o "$dir/b.gguf" --ctx 128 --chunks 3
ok calibrate "$model" --data "$dir/text.txt" -o "$dir/b.gguf" --ctx 128 \
    --chunks 6 --resume
[ "$(wc -c <"$dir/a.gguf")" = "$(wc -c <"$dir/b.gguf")" ] || fail resume
# threads do not change the file
ok --threads 1 calibrate "$model" --data "$dir/text.txt" -o "$dir/t1.gguf" \
    --ctx 128 --chunks 2
ok --threads 3 calibrate "$model" --data "$dir/text.txt" -o "$dir/t3.gguf" \
    --ctx 128 --chunks 2
cmp "$dir/t1.gguf" "$dir/t3.gguf" || fail threads
# the old form gives the same file when quantizing
ok calibrate "$model" --data "$dir/text.txt" -o "$dir/a.dat" --ctx 128 --chunks 6
ok quantize "$model" -o "$dir/qa.gguf" --type Q4_K_M --imatrix "$dir/a.gguf"
ok quantize "$model" -o "$dir/qd.gguf" --type Q4_K_M --imatrix "$dir/a.dat"
ok quantize "$model" -o "$dir/q.gguf" --type Q4_K_M
cmp -s "$dir/qa.gguf" "$dir/q.gguf" && fail "the importance changed nothing"
tail -c 2000000 "$dir/qa.gguf" >"$dir/x"; tail -c 2000000 "$dir/qd.gguf" >"$dir/y"
cmp "$dir/x" "$dir/y" || fail "forms differ"
# chat rows
cat >"$dir/rows.jsonl" <<'ROWS'
{"messages": [{"role": "user", "content": "Who goes there?"}, {"role": "assistant", "content": "Nobody but the wind."}]}
{"messages": [{"role": "user", "content": "And who else?"}, {"role": "assistant", "content": "The rain, and the night that follows it."}]}
ROWS
ok calibrate "$model" --data "$dir/rows.jsonl" -o "$dir/c.gguf" --ctx 64
# JSON and plan
"$bise" --json -f calibrate "$model" --data "$dir/text.txt" -o "$dir/a.gguf" \
    --ctx 128 --chunks 1 >"$dir/out" 2>"$dir/err" || fail json
for key in tokens chunks tensors; do
    grep -q "\"$key\":" "$dir/out" || fail "no key $key"
done
ok calibrate "$model" --data "$dir/text.txt" --plan --ctx 128
grep -q 'chunks of 128 tokens' "$dir/out" || fail plan
# refusals
no 'exists' calibrate "$model" --data "$dir/text.txt" -o "$dir/a.gguf"
no 'data' calibrate "$model" -o "$dir/n.gguf"
no 'ctx' calibrate "$model" --data "$dir/text.txt" -o "$dir/n.gguf" --ctx 4
no 'tokens' calibrate "$model" --data "$dir/text.txt" -o "$dir/n.gguf" \
    --ctx 100000
no 'nowhere' calibrate "$model" --data "$dir/nowhere.txt" -o "$dir/n.gguf"
no 'chunks of 128' calibrate "$model" --data "$dir/text.txt" \
    -o "$dir/b.gguf" --ctx 64 --resume
[ ! -e "$dir/n.gguf" ] || fail "left behind"

python=${BISE_JUDGES:-}
[ -n "$python" ] && "$python" -c 'import torch, transformers, gguf' \
    2>/dev/null || exit 0
"$python" "$top_srcdir/tests/judge_imatrix.py" "$bise" "$model" "$dir"

#!/bin/sh
# eval.sh - `bise eval` on the embedded model: losses that transformers 5.23
# gives for the same windows in float32, divergence from itself, JSONL rows,
# results independent of threads and CPU level, and wrong input.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }

# near FOUND WANT TOLERANCE
near() {
    awk -v a="$1" -v b="$2" -v t="$3" \
        'BEGIN { d = a - b; exit !(a != "" && d <= t && -d <= t) }'
}
# key NAME < JSON: the number of a top-level key
key() { sed -n "s/.*\"$1\":\\([-0-9.e+]*\\).*/\\1/p"; }

run() { "$bise" eval "$model" --quiet --json "$@"; }

# Four windows, every token scored, and the second halves.
out=$(run --data "$model/valid.txt" --chunks 4) || fail "eval: $out"
near "$(echo "$out" | key loss)" 4.3829771 1e-5 || fail "plain: $out"
test "$(echo "$out" | key tokens)" = 2044 || fail "tokens: $out"
out=$(run --data "$model/valid.txt" --ctx 96 --chunks 3 --threads 2)
for threads in 1 5; do
    other=$(run --data "$model/valid.txt" --ctx 96 --chunks 3 \
        --threads $threads)
    test "$(echo "$other" | key loss)" = "$(echo "$out" | key loss)" ||
        fail "$threads threads: $other, not $out"
done
ref=$(BISE_CPU=ref run --data "$model/valid.txt" --ctx 96 --chunks 2)
top=$(run --data "$model/valid.txt" --ctx 96 --chunks 2)
near "$(echo "$ref" | key loss)" "$(echo "$top" | key loss)" 1e-5 ||
    fail "reference kernels: $ref, not $top"
out=$(run --data "$model/valid.txt" --chunks 4 --windows halves)
near "$(echo "$out" | key loss)" 4.2755119 1e-5 || fail "halves: $out"

# bf16 products stay within 1 % of float32; --plan computes nothing.
out=$(run --data "$model/valid.txt" --chunks 1 --compute bf16) || fail bf16
top=$(run --data "$model/valid.txt" --chunks 1)
near "$(echo "$out" | key loss)" "$(echo "$top" | key loss)" 0.02 ||
    fail "bf16: $out, not $top"
out=$(run --data "$model/valid.txt" --plan) || fail "plan: $out"
test "$(echo "$out" | key peak)" -gt "$(echo "$out" | key weights)" ||
    fail "plan: $out"
case $out in *'"loss"'*) fail "plan computes: $out" ;; esac
text=$("$bise" eval "$model" --data "$model/valid.txt" --plan --quiet)
echo "$text" | grep -q '^peak  *[0-9]' || fail "plan as text: $text"

# Against itself nothing differs.
out=$(run --data "$model/valid.txt" --chunks 1 --base "$model")
near "$(echo "$out" | key mean)" 0 1e-9 || fail "kld: $out"
test "$(echo "$out" | key same_top)" = 1.0 || fail "same top: $out"
near "$(echo "$out" | key ppl_ratio)" 1 1e-9 || fail "ratio: $out"
near "$(echo "$out" | key ln_ppl_correlation)" 1 1e-9 || fail "corr: $out"

# All of llama-perplexity's report is there, as keys and as lines.
for key in base_ppl base_ppl_error ln_ppl_correlation ln_ppl_ratio \
    ln_ppl_ratio_error ppl_ratio ppl_ratio_error ppl_diff ppl_diff_error \
    same_top same_top_error dp_mean dp_error dp_rms dp_rms_error; do
    test -n "$(echo "$out" | key $key)" || fail "no $key: $out"
done
for key in min p0_1 p1 p5 p10 p25 median p75 p90 p95 p99 p999 max; do
    for of in kld dp; do
        echo "$out" | grep -q "\"$of\":{[^}]*\"$key\":" ||
            fail "no $key of $of: $out"
    done
done
text=$("$bise" eval "$model" --data "$model/valid.txt" --chunks 1 --quiet \
    --base "$model") || fail "text: $text"
for line in 'base ppl' corr 'ln ratio' ratio diff 'same top' mean rms max \
    '99\.9 %' '99 %' '95 %' '90 %' median '10 %' '5 %' '1 %' min; do
    echo "$text" | grep -q "^$line  *-*[0-9]" || fail "no $line: $text"
done
echo "$text" | awk 'length > 80 { exit 1 }' || fail "too wide: $text"

# A row is scored as the same text is: a window from BOS (and EOS after it).
text="The old man went to the sea and did not come back for many years."
printf '{"text": "%s"}\n' "$text" >"$tmp/rows.jsonl"
printf '%s' "$text" >"$tmp/rows.txt"
out=$(run --data "$tmp/rows.jsonl") || fail "rows: $out"
txt=$(run --data "$tmp/rows.txt") || fail "text: $txt"
n=$(echo "$txt" | key tokens)
test "$(echo "$out" | key tokens)" = $((n + 1)) || fail "rows: $out, $txt"

# Wrong input: exit 1 and a message, or 2 for wrong usage.
run --data "$tmp/none.txt" >/dev/null 2>&1 && fail "missing file accepted"
run >/dev/null 2>&1 && fail "no data accepted"
echo '{"text": ' >"$tmp/bad.jsonl"
out=$(run --data "$tmp/bad.jsonl" 2>&1) && fail "bad row accepted"
echo "$out" | grep -q 'bad.jsonl' || fail "message names no file: $out"
echo "too short" >"$tmp/short.txt"
run --data "$tmp/short.txt" --windows halves >/dev/null 2>&1 &&
    fail "short text accepted"
echo PASS

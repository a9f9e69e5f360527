#!/bin/sh
# run_errors.sh - what eval, generate and chat say to wrong input: exit 1 for a
# fault of the input, 2 for wrong usage, one error line that names the place,
# nothing on stdout but JSON under --json.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
golden=$top_srcdir/tests/golden
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0

# expect STATUS PATTERN ARGS...: bise ARGS must end so and say so.
expect() {
    status=$1 pattern=$2
    shift 2
    "$bise" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if test $got -ne "$status"; then
        echo "FAIL: exit $got, not $status: bise $*"
        cat "$tmp/err"
        bad=1
    elif ! grep -q -e "$pattern" "$tmp/err"; then
        echo "FAIL: no '$pattern' in the message of: bise $*"
        cat "$tmp/err"
        bad=1
    elif test -s "$tmp/out"; then
        echo "FAIL: something on stdout: bise $*"
        bad=1
    fi
}

echo "some text to score, long enough for a window or two of it" >"$tmp/t.txt"
echo '{"messages": []}' >"$tmp/empty.jsonl"
mkdir "$tmp/dir"

# A tokenizer of a larger model.
mkdir "$tmp/wide"
cp "$model/config.json" "$model/model.safetensors" "$tmp/wide"
sed 's/"default_vocab_size": 4096/"default_vocab_size": 4128/
s/"default_num_special_tokens": 32/"default_num_special_tokens": 64/' \
    "$model/tekken.json" >"$tmp/wide/tekken.json"
echo '{"prompt": "a", "completion": "b"}' >"$tmp/row.jsonl"
for cmd in "generate $tmp/wide -p x" "eval $tmp/wide --data $tmp/t.txt" \
    "finetune $tmp/wide --data $tmp/row.jsonl -o $tmp/ft --steps 1"; do
    expect 1 "tekken.json has 4128 ids, the embedding 4096 rows" $cmd
done

# Wrong usage.
expect 2 "MODEL" eval
expect 2 "win" eval "$model" --data "$tmp/t.txt" --windows half
expect 2 "ctx" eval "$model" --data "$tmp/t.txt" --ctx many
expect 2 "option" generate "$model" --tmp 1
expect 2 "top-p" generate "$model" -p x --top-p lots

# Faults of the input (1), and arguments that make no sense (2).
expect 1 "nothing-here" eval "$tmp/nothing-here" --data "$tmp/t.txt"
expect 1 "none.txt" eval "$model" --data "$tmp/none.txt"
expect 2 "context of 2" eval "$model" --data "$tmp/t.txt" --ctx 2
expect 1 "too few" eval "$model" --data "$tmp/t.txt" --windows halves
expect 1 "empty.jsonl:1" eval "$model" --data "$tmp/empty.jsonl"
expect 2 "one text file" eval "$model" --data "$tmp/t.txt" "$tmp/none.txt"
expect 2 "max-len" eval "$model" --data "$tmp/empty.jsonl" --max-len 1
expect 2 "compared" eval "$model" --data "$tmp/t.txt" \
    --base "$golden/models/ministral3"
expect 1 "tokenizer" eval "$golden/models/ministral3" --data "$tmp/t.txt"
expect 1 "adapter" generate "$model" -p x --adapter "$tmp/dir"
expect 2 "-n of -3" generate "$model" -p x -n -3
expect 2 "temperature" generate "$model" -p x --temp=-0.5
expect 2 "top-p" generate "$model" -p x --top-p 1.5
expect 2 "top-k" generate "$model" -p x --top-k -1
expect 1 "prompt.txt" generate "$model" --file "$tmp/prompt.txt"
expect 2 "ctx" chat "$model" --ctx 3

# An adapter of another model does not fit.
expect 1 "" generate "$model" -p x --adapter "$golden/lora/plain"

# Under --json the error is the result.
"$bise" generate "$model" -p x --top-k -1 --json >"$tmp/out" 2>/dev/null &&
    { echo "FAIL: accepted"; bad=1; }
grep -q '^{"error":{"status":"' "$tmp/out" ||
    { echo "FAIL: json: $(cat "$tmp/out")"; bad=1; }

# A full pipe is not an error to hide: stdout is checked at the end.
if test -e /dev/full; then
    "$bise" eval "$model" --data "$tmp/t.txt" --quiet >/dev/full 2>/dev/null &&
        { echo "FAIL: a full disk goes unnoticed"; bad=1; }
fi
test $bad = 0 && echo PASS
exit $bad

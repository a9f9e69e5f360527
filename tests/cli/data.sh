#!/bin/sh
# data.sh - `bise data`: counts and keys of check, exit codes, the cleaned file,
# messages of bad rows, compressed and weighted files, show in a pipe, equal
# output for any number of threads; with the judges, counts of mistral-common.
# SPDX-License-Identifier: Apache-2.0
bise=${bise:-${top_builddir:-build}/bise}
top=${top_srcdir:-.}
model=$top/examples/tiny-mistral3
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0

fail() { echo "FAIL: $*"; failed=1; }
# has TEXT WHAT: the last output holds TEXT
has() { grep -qF -- "$1" "$tmp/out" || { fail "$2: no '$1' in:"; cat "$tmp/out"; }; }
# run CODE ARGS...: exit code and output of bise
run() {
    want=$1; shift
    "$bise" "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    [ $got = "$want" ] || { fail "exit $got, not $want: $*"; cat "$tmp/err"; }
}

# --- check
run 0 data check "$top/examples/sql/train.jsonl" --model "$model"
has "1,000 (0 bad)" "rows"
has "steps of a run" "estimate"
[ "$(awk 'length > 80' "$tmp/out" | grep -v / | wc -l)" = 0 ] || fail "lines over 80 columns"
run 0 data check "$top/examples/sql" --model "$model" --json
for key in format rows bad tokens supervised_tokens longest truncated; do
    has "\"$key\":" "JSON"
done
has '"rows":1000' "rows"

# every bad row, in order, and exit 1; training would stop at the first
printf '%s\n' '{"text":"a b c"}' '{"text":' '' '{"messages":[]}' \
    '{"text":"a b c"}' '{"x":1}' >"$tmp/bad.jsonl"
run 1 data check "$tmp/bad.jsonl" --model "$model"
has "bad.jsonl:2: invalid JSON" "bad row"
has "bad.jsonl:4: the message list is empty" "bad row"
has "bad.jsonl:6: no known format" "bad row"
has "bad.jsonl:5 repeats" "duplicate"
run 1 data check "$tmp/bad.jsonl" --model "$model" --json
has '"line":4,"reason":"the message list is empty"' "JSON"
run 0 data check "$tmp/bad.jsonl" --model "$model" --write "$tmp/clean.jsonl"
[ "$(cat "$tmp/clean.jsonl")" = '{"text":"a b c"}' ] || fail "cleaned file"
run 1 data check "$tmp/bad.jsonl" --model "$model" --write "$tmp/clean.jsonl"
run 0 data check "$tmp/bad.jsonl" --model "$model" --write "$tmp/clean.jsonl" --force

# compressed, weighted and together
gzip -c "$top/examples/sql/valid.jsonl" >"$tmp/rows.gz"
run 0 data check "$tmp/rows.gz:0.5" "$top/examples/sql/train.jsonl" --model "$model" --json
has '"rows":1100' "two files"
head -c 3000 "$tmp/rows.gz" >"$tmp/cut.gz"
run 1 data check "$tmp/cut.gz" --model "$model"
grep -q "cut.gz" "$tmp/err" || fail "cut gzip: no path in the message"

# wrong use
run 2 data check "$tmp/bad.jsonl"
run 2 data chekc "$tmp/bad.jsonl" --model "$model"
run 1 data check "$tmp/absent.jsonl" --model "$model"

# --- memory does not grow with the file, and it is fast
if command -v yes >/dev/null; then
    yes '{"prompt":"What is the capital of France?","completion":"Paris, since 987."}' |
        head -n 150000 >"$tmp/big.jsonl"
    run 0 data check "$tmp/big.jsonl" --model "$model/tekken.json" --json
    has '"rows":150000' "large file"
    has '"duplicates":149999' "large file"
    rss=$(sed 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/' "$tmp/out")
    if [ -n "${BISE_SAN:-}" ]; then
        echo "skipped: memory figures mean nothing under sanitizers"
    else
        [ "$rss" -lt 100000000 ] || fail "$rss bytes for a file of 12 MB"
    fi
    rm "$tmp/big.jsonl"
fi

# the size of the issue: 1 GB of different rows, in 200 MB
if [ -n "${BISE_LARGE:-}" ]; then
    awk 'BEGIN { for (i = 0; i < 7000000; i++) printf "{\"prompt\":\"What is " \
        "the square of the number %d, and why is it so?\",\"completion\":" \
        "\"It is %.0f: multiply the number by itself, as one does.\"}\n", i, i * i }' \
        >"$tmp/gb.jsonl"
    run 0 data check "$tmp/gb.jsonl" --model "$model/tekken.json" --json
    has '"rows":7000000' "1 GB"
    has '"duplicates":0' "1 GB"
    rss=$(sed 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/' "$tmp/out")
    echo "$(wc -c <"$tmp/gb.jsonl") bytes of rows in $rss bytes of memory"
    [ "$rss" -lt 200000000 ] || fail "$rss bytes for 1 GB"
    run 0 finetune "$model" --data "$tmp/gb.jsonl" -o "$tmp/run" --steps 1 --batch 1 --json
    rss=$(sed 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/' "$tmp/out")
    echo "$rss bytes to train on them"
    [ "$rss" -lt 500000000 ] || fail "$rss bytes to train on 1 GB"
    rm "$tmp/gb.jsonl"
fi

# --- show: brackets in a pipe, the trained part only
printf '%s\n' '{"prompt":"Hello","completion":"Good day"}' >"$tmp/one.jsonl"
run 0 data show "$tmp/one.jsonl" --model "$model"
has "[INST]Hello[/INST][[Good day</s>]]" "show"
run 0 data show "$tmp/one.jsonl" --model "$model" --train-on all
has "<s>[[[INST]Hello[/INST]Good day</s>]]" "show --train-on all"
run 0 data show "$top/examples/sql/train.jsonl" --model "$model/tekken.json" -n 2
[ "$(grep -c '^---' "$tmp/out")" = 2 ] || fail "show -n 2"

# a bad row is told and passed over; --line begins where check pointed
printf '%s\n' '{"prompt":"a","completion":"b"}' '{"x":1}' \
    '{"prompt":"c","completion":"d","id":3}' >"$tmp/some.jsonl"
run 0 data show "$tmp/some.jsonl" --model "$model"
[ "$(grep -c '^---' "$tmp/out")" = 2 ] || fail "show passes over a bad row"
grep -q "some.jsonl:2: no known format" "$tmp/err" || fail "show: bad row"
run 0 data show "$tmp/some.jsonl" --model "$model" --line 2
[ "$(grep -c '^---' "$tmp/out")" = 1 ] || fail "show --line"
has "some.jsonl:3" "show --line"
run 1 data show "$tmp/some.jsonl" --model "$model" --line 4
grep -q "no row to show" "$tmp/err" || fail "show: nothing"

# --- a tokenizer that is broken or of another model is told at once
sed 's/"rank": *300,/"rank": 301,/' "$model/tekken.json" >"$tmp/ranks.json"
run 1 data check "$tmp/one.jsonl" --model "$tmp/ranks.json"
grep -q "field 'vocab\[300\].rank' is 301, must be 300" "$tmp/err" ||
    fail "a broken tokenizer file: $(cat "$tmp/err")"
mkdir "$tmp/small"
cp "$model"/*.json "$model/model.safetensors" "$tmp/small"
chmod -R u+w "$tmp/small"
sed -i 's/"vocab_size": 4096/"vocab_size": 4000/' "$tmp/small/config.json"
run 1 data check "$tmp/one.jsonl" --model "$tmp/small"
grep -q "4096 ids, the embedding 4000 rows ('vocab_size')" "$tmp/err" ||
    fail "a vocabulary larger than the embedding: $(cat "$tmp/err")"
run 0 convert "$model" -o "$tmp/m.gguf"
run 0 data check "$tmp/one.jsonl" --model "$tmp/m.gguf"
has "on this machine" "time of a run for a GGUF"

# --- what a row holds beside its format, and files without a row
run 1 data check "$tmp/some.jsonl" --model "$model"
has "keys not used      id" "ignored keys"
run 1 data check "$tmp/some.jsonl" --model "$model" --json
has '"ignored_keys":{"id":1}' "ignored keys"
: >"$tmp/empty.jsonl"
run 1 data check "$tmp/empty.jsonl" --model "$model"
has "no row has anything to train" "empty file"
printf '{\n  "prompt": "a",\n  "completion": "b"\n}\n' >"$tmp/pretty.json"
run 0 data check "$tmp/pretty.json" --model "$model" --json
has '"rows":1,' "an object over several lines"
printf '\377\376{\0' >"$tmp/utf16.jsonl"
run 1 data check "$tmp/utf16.jsonl" --model "$model"
has "utf16.jsonl:1: the file is UTF-16" "UTF-16"
run 1 data check "$tmp/one.jsonl" --model "$model" --reasoning-effort high
has "'reasoning_effort' cannot be expressed in v13" "effort before v15"

# --- threads change nothing
for n in 1 2 5; do
    "$bise" --threads $n data check "$top/examples/sql/train.jsonl" --model \
        "$model" | grep -v "steps of a run" >"$tmp/threads.$n"
done
cmp "$tmp/threads.1" "$tmp/threads.2" && cmp "$tmp/threads.1" "$tmp/threads.5" ||
    fail "output depends on threads"

# --- counts of mistral-common
shared=${BISE_SHARED:-$top/../shared}
instruct=$shared/data/instruct
if [ -n "$BISE_JUDGES" ] && [ -d "$instruct" ]; then
    for rows in gsm8k-train wikisql-train wikisql-valid; do
        "$BISE_JUDGES" "$top/tests/cli/data_counts.py" "$model/tekken.json" \
            "$instruct/$rows.jsonl" >"$tmp/want" || fail "data_counts.py"
        run 0 data check "$instruct/$rows.jsonl" --model "$model" --max-len 0 --json
        has "$(cat "$tmp/want")" "counts of mistral-common: $rows"
    done
    "$BISE_JUDGES" "$top/tests/cli/data_formats.py" "$bise" "$model" ||
        fail "formats differ from mistral-common"
else
    echo "skipped: counts of mistral-common (BISE_JUDGES, BISE_SHARED)"
fi
exit $failed

#!/bin/sh
# gptq.sh - bise quantize --method gptq on the embedded model: nearer to the
# original than plain rounding with the importance of the same data, the same
# types and sizes, bytes that do not depend on threads, what stays plain, and
# refusals; with BISE_JUDGES llama.cpp loads the files.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() { # status, words of the message
    want=$1; words=$2; shift 2
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err"
    status=$?
    [ $status = "$want" ] || fail "bise $*: status $status, not $want"
    grep -q -e "$words" "$dir/err" || fail "bise $*: no '$words'"
}
head -c 30000 "$model/valid.txt" >"$dir/data.txt"
tail -c 8000 "$model/valid.txt" >"$dir/other.txt"
gptq() { # type, output, more options
    type=$1; out=$2; shift 2
    ok quantize "$model" -o "$dir/$out" --type "$type" --method gptq \
        --data "$dir/data.txt" --ctx 128 "$@"
}
# mean divergence from the original on text that was not seen
divergence() {
    "$bise" -q --json eval "$dir/$1" --base "$model" --ctx 128 \
        --data "$dir/other.txt" >"$dir/out" 2>"$dir/err" || fail "eval $1"
    sed 's/.*"kld":{//; s/.*"mean":\([-0-9.e+]*\).*/\1/' "$dir/out"
}

ok calibrate "$model" --data "$dir/data.txt" -o "$dir/imatrix.gguf" --ctx 128 \
    --chunks 24
for type in Q4_K Q3_K Q2_K; do
    gptq $type gptq.gguf --chunks 24 --force
    ok quantize "$model" -o "$dir/rtn.gguf" --type $type --force \
        --imatrix "$dir/imatrix.gguf" --method rtn
    with=$(divergence gptq.gguf) without=$(divergence rtn.gguf)
    awk -v a="$with" -v b="$without" 'BEGIN { exit !(a > 0 && a < 0.8 * b) }' ||
        fail "$type: divergence $with with feedback, $without without"
done

# the same tensors of the same types
types() { grep -o '"name":"[^"]*","type":"[^"]*"' "$dir/out"; }
ok --json quantize "$model" -o "$dir/a.gguf" --type Q4_K_M --method gptq \
    --data "$dir/data.txt" --ctx 128 --chunks 4
grep -q '"method":"gptq"' "$dir/out" || fail "no method"
grep -q '"rmse":0.0[0-9]*[1-9]' "$dir/out" || fail "no rmse"
types >"$dir/types.gptq"
ok --json quantize "$model" -o "$dir/b.gguf" --type Q4_K_M
grep -q '"method":"rtn"' "$dir/out" || fail "no method"
types >"$dir/types.rtn"
[ "$(wc -l <"$dir/types.rtn")" -gt 40 ] || fail "no types"
cmp "$dir/types.rtn" "$dir/types.gptq" || fail "types differ"
[ "$(wc -c <"$dir/a.gguf")" -lt "$(($(wc -c <"$dir/b.gguf") + 200))" ] ||
    fail "sizes differ"

# threads change nothing; the history says how many, so only data is compared
for threads in 1 2 3; do
    ok --threads $threads quantize "$model" -o "$dir/t$threads.gguf" \
        --type Q3_K_M --method gptq --data "$dir/data.txt" --ctx 128 --chunks 3
    tail -c 800000 "$dir/t$threads.gguf" >"$dir/tail$threads"
done
cmp "$dir/tail1" "$dir/tail2" || fail "2 threads"
cmp "$dir/tail1" "$dir/tail3" || fail "3 threads"

# what has no grid is rounded plainly, and said to be; a mixture keeps the rest
"$bise" quantize "$model" -o "$dir/m.gguf" --type Q4_K_M --method gptq \
    --data "$dir/data.txt" --ctx 128 --chunks 2 \
    --tensor-type 'ffn_down=TQ2_0' --tensor-type 'attn_k\.=Q8_0' \
    >"$dir/out" 2>"$dir/err" || fail "mixed types"
grep -q '36 tensors by 2 chunks of 128 tokens; others have' "$dir/err" ||
    fail "what stays plain is not said"
ok inspect "$dir/m.gguf" --verbose
# an adapter is merged and rounded together; a target chooses, gptq rounds
ok quantize "$model" -o "$dir/s.gguf" --target-bpw 4.5 --method gptq \
    --data "$dir/data.txt" --ctx 128 --chunks 2
ok eval "$dir/s.gguf" --data "$dir/other.txt" --ctx 128 --chunks 1
# JSONL rows, an archive
cat >"$dir/rows.jsonl" <<'ROWS'
{"messages": [{"role": "user", "content": "Who goes there?"}, {"role": "assistant", "content": "Nobody but the wind."}]}
{"messages": [{"role": "user", "content": "And who else?"}, {"role": "assistant", "content": "The rain, and the night that follows it."}]}
ROWS
ok quantize "$model" -o "$dir/c.gguf.tar.zst" --type Q4_K --method gptq \
    --data "$dir/rows.jsonl" --ctx 64
ok verify "$dir/c.gguf.tar.zst"
# a GGUF in its own row order gives the same weights as the directory
ok convert "$model" -o "$dir/f.gguf" --to gguf --dtype bf16
ok quantize "$dir/f.gguf" -o "$dir/fq.gguf" --type Q3_K_M --method gptq \
    --data "$dir/data.txt" --ctx 128 --chunks 3
tail -c 800000 "$dir/fq.gguf" >"$dir/x"
cmp "$dir/x" "$dir/tail1" || fail "from GGUF: other bytes"

# plans read no data and write nothing
ok quantize "$model" -o "$dir/n.gguf" --type Q4_K --method gptq \
    --data "$dir/nowhere.txt" --plan
grep -q '^gptq memory  *[0-9]' "$dir/out" || fail "no memory in the plan"
ok quantize "$model" --type Q4_K --method gptq --data x --dry-run

# refusals
no 2 'needs --data' quantize "$model" -o "$dir/n.gguf" --type Q4_K --method gptq
grep -q hint "$dir/err" || fail "no hint"
no 2 'for --method gptq' quantize "$model" -o "$dir/n.gguf" --type Q4_K \
    --data "$dir/data.txt"
no 2 'method' quantize "$model" -o "$dir/n.gguf" --type Q4_K --method best
no 2 'ctx' quantize "$model" -o "$dir/n.gguf" --type Q4_K --method gptq \
    --data "$dir/data.txt" --ctx 3
no 1 'nowhere' quantize "$model" -o "$dir/n.gguf" --type Q4_K --method gptq \
    --data "$dir/nowhere.txt"
no 1 'exists' quantize "$model" -o "$dir/a.gguf" --type Q4_K --method gptq \
    --data "$dir/data.txt"
no 2 'tokens' quantize "$model" -o "$dir/n.gguf" --type Q4_K --method gptq \
    --data "$dir/data.txt" --ctx 100000
# a weight that is not a number is named, not what it makes of the activations
cp -r "$model" "$dir/bad" && chmod -R u+w "$dir/bad"
printf '\377\377' | dd of="$dir/bad/model.safetensors" bs=1 seek=13000000 \
    conv=notrunc 2>/dev/null
no 1 'weight [0-9]* (row [0-9]*, column [0-9]*) is NaN' quantize "$dir/bad" \
    -o "$dir/n.gguf" --type Q4_K --method gptq --data "$dir/data.txt" \
    --ctx 64 --chunks 1
grep -q 'blk\.[0-9]\.' "$dir/err" || fail "no tensor is named"
[ ! -e "$dir/n.gguf" ] || fail "left behind"
ls -a "$dir" | grep -e '\.part' -e 'gguf\.......$' && fail "scratch left behind"

# killed in the middle: nothing under the name, nothing beside it
( exec "$bise" -q quantize "$model" -o "$dir/k.gguf" --type Q4_K --method gptq \
    --data "$dir/data.txt" --ctx 128 ) >/dev/null 2>&1 &
pid=$!
sleep 1
kill -9 $pid
wait $pid 2>/dev/null
[ ! -e "$dir/k.gguf" ] || fail "a killed run left its name"
ls -a "$dir" | grep 'k\.gguf\.......$' && fail "a killed run left scratch"

python=${BISE_JUDGES:-}
shared=${BISE_SHARED:-$top_srcdir/../shared}
[ -n "$python" ] && [ -f "$shared/tools/engine.py" ] &&
    "$python" -c 'import xllamacpp' 2>/dev/null || exit 0
for f in gptq m s; do
    "$python" "$shared/tools/engine.py" ppl "$dir/$f.gguf" "$dir/other.txt" \
        --ctx 128 --limit 512 >"$dir/out" 2>"$dir/err" ||
        fail "the engine refuses $f.gguf"
    "$bise" -q --json eval "$dir/$f.gguf" --data "$dir/other.txt" --ctx 128 \
        --activations q8 --chunks 4 >"$dir/json" 2>"$dir/err" || fail "eval $f"
    sed 's/.*"ppl":\([0-9.]*\).*/\1/' "$dir/json" >>"$dir/out"
    awk '{ for (i = 1; i <= NF; i++) if ($i + 0 > 1) last = $i }
         NR == 1 { a = last } END { exit !(last < a * 1.05 && a < last * 1.05) }' \
        "$dir/out" || fail "perplexity in the engine: $(cat "$dir/out")"
done

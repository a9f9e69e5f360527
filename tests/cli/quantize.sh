#!/bin/sh
# quantize.sh - bise quantize on the embedded model: every type, options that
# choose types, dry runs, equal files for any thread count and from any layout,
# refusals, and interruptions that leave nothing whole.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
. "$top_srcdir/tests/cli/same.inc"
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() {
    want=$1 words=$2; shift 2
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err"; got=$?
    [ "$got" = "$want" ] || fail "bise $*: exit $got, not $want"
    grep -q -e "$words" "$dir/err" || fail "bise $*: no '$words'"
}
type_of() { # tensor name, in the dry run in $dir/out
    awk -v n="$1" '$NF == n { sub("[*]", "", $3); print $3 }' "$dir/out"
}

# choosing types
ok quantize "$model" --type Q4_K_M --dry-run
[ "$(type_of token_embd.weight)" = Q6_K ] || fail "tied embedding"
[ "$(type_of blk.0.attn_q.weight)" = Q4_K ] || fail attn_q
[ "$(type_of blk.2.attn_v.weight)" = Q6_K ] || fail "attn_v of block 2"
[ "$(type_of blk.0.attn_norm.weight)" = F32 ] || fail norm
awk 'length > 80 { exit 1 }' "$dir/out" || fail "wider than 80 columns"
ok quantize "$model" --type Q4_K_M --pure --dry-run
[ "$(type_of token_embd.weight)" = Q4_K ] || fail pure
ok quantize "$model" --type Q4_K_M --dry-run --tensor-type 'ffn_down=Q8_0' \
    --tensor-type 'blk\.1\.=Q5_K' --token-embedding-type Q4_0
[ "$(type_of blk.1.ffn_down.weight)" = Q8_0 ] || fail "first rule wins"
[ "$(type_of blk.1.attn_q.weight)" = Q5_K ] || fail "second rule"
[ "$(type_of blk.2.attn_q.weight)" = Q4_K ] || fail "no rule"
[ "$(type_of token_embd.weight)" = Q4_0 ] || fail "--token-embedding-type"

# the same file from any layout and with any number of threads
ok --threads 1 quantize "$model" -o "$dir/1.gguf" --type Q4_K_M
for n in 2 3 8; do
    ok --threads $n quantize "$model" -o "$dir/$n.gguf" --type Q4_K_M
    cmp "$dir/1.gguf" "$dir/$n.gguf" || fail "threads $n"
done
ok convert "$model" -o "$dir/b.gguf" --dtype bf16
ok quantize "$dir/b.gguf" -o "$dir/g.gguf" --type Q4_K_M
same_gguf "$dir/1.gguf" "$dir/g.gguf" "from GGUF"
BISE_CPU=ref "$bise" -q quantize "$model" -o "$dir/ref.gguf" --type Q4_K_M \
    >/dev/null 2>"$dir/err" || fail ref
cmp "$dir/1.gguf" "$dir/ref.gguf" || fail "BISE_CPU=ref"

# every type that needs no imatrix
for t in F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L \
    Q4_K_S Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE; do
    ok -f quantize "$model" -o "$dir/q.gguf" --type $t
done
"$bise" --json -f quantize "$model" -o "$dir/q.gguf" --type IQ4_XS \
    >"$dir/out" 2>"$dir/err" || fail json
for key in type bits_per_weight bytes_in bytes_out tensors rmse; do
    grep -q "\"$key\":" "$dir/out" || fail "no key $key"
done

# types for a size or for bits per weight: never above, close below, and the
# same with any number of threads
for bits in 3 4.5 6.2; do
    ok --threads 1 -f quantize "$model" -o "$dir/q.gguf" --target-bpw $bits
    awk -v b=$bits '/bits per weight/ { for (i = 2; i <= NF; i++)
        if ($i == "bits" && $(i-1) <= b && $(i-1) > 0.985 * b) good = 1 }
        END { exit !good }' "$dir/out" || fail "--target-bpw $bits"
done
for size in 3M 4567890; do
    ok --threads 1 -f quantize "$model" -o "$dir/q.gguf" --target-size $size
    ok --threads 3 -f quantize "$model" -o "$dir/x.gguf" --target-size $size
    cmp "$dir/q.gguf" "$dir/x.gguf" || fail "threads and --target-size"
    n=$(wc -c <"$dir/q.gguf") most=$(echo $size | sed 's/M/000000/')
    [ "$n" -le "$most" ] && [ $((n * 100)) -ge $((most * 98)) ] ||
        fail "$n bytes, --target-size $size"
done
rm "$dir/x.gguf"
ok quantize "$model" --target-size 3M --dry-run --tensor-type 'attn_v=Q8_0'
[ "$(type_of blk.0.attn_v.weight)" = Q8_0 ] || fail "a rule beside a target"
ok quantize "$model" --target-size 4M --plan
grep -q 'write  *[34][.0-9]* MB' "$dir/out" || fail "--plan of a target"
ok quantize "$model" --target-bpw 5 --type Q5_K_M --dry-run
grep -q '^Q5_K_M, ' "$dir/out" || fail "the label of --type"
no 2 'together' quantize "$model" -o "$dir/x.gguf" --target-size 4M \
    --target-bpw 4
no 2 'pure' quantize "$model" -o "$dir/x.gguf" --target-bpw 4 --pure
no 2 'not quantized' quantize "$model" -o "$dir/x.gguf" --target-bpw 4 \
    --type BF16
no 2 'above 0' quantize "$model" -o "$dir/x.gguf" --target-bpw 0
no 2 'smallest types need' quantize "$model" -o "$dir/x.gguf" --target-size 9k
[ ! -e "$dir/x.gguf" ] || fail "a refused target left a file"

# refusals
no 2 'Q4_K_M' quantize "$model" -o "$dir/x.gguf" --type Q4_K_XXL
no 1 'allow-requantize' quantize "$dir/1.gguf" -o "$dir/x.gguf" --type Q8_0
ok quantize "$dir/1.gguf" -o "$dir/x.gguf" --type Q8_0 --allow-requantize
rm "$dir/x.gguf"
no 1 'imatrix' quantize "$model" -o "$dir/x.gguf" --type Q2_K_S
no 1 'imatrix' quantize "$model" -o "$dir/x.gguf" --type Q4_K_M \
    --imatrix "$model/config.json"

# killed at any moment: nothing under the output's name
for i in 1 2 3 4 5 6; do
    "$bise" -q --threads 1 quantize "$model" -o "$dir/k.gguf" --type Q2_K \
        >/dev/null 2>&1 &
    pid=$!
    sleep 0.0$i
    kill -9 $pid 2>/dev/null && [ -e "$dir/k.gguf" ] &&
        ! "$bise" -q quantize "$dir/k.gguf" --type Q2_K --dry-run >/dev/null &&
        fail "a broken file looks whole"
    wait $pid 2>/dev/null
    rm -f "$dir/k.gguf" "$dir/k.gguf.part"
done
"$bise" -q --threads 1 quantize "$model" -o "$dir/k.gguf" --type Q2_K \
    >/dev/null 2>"$dir/err" &
pid=$!
sleep 0.05
if kill -INT $pid 2>/dev/null; then
    wait $pid; got=$?
    [ $got = 130 ] || [ $got = 0 ] || fail "SIGINT: exit $got"
    [ $got = 0 ] || [ ! -e "$dir/k.gguf" ] || fail "SIGINT left a file"
    [ ! -e "$dir/k.gguf.part" ] || fail "SIGINT left a .part"
fi
exit 0

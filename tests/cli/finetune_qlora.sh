#!/bin/sh
# finetune_qlora.sh - training on a quantized copy of the layers: each type
# learns, run.yaml and the log name it, resume and threads give the same bytes,
# a .gguf trains as it is, and what does not go together is refused.
# SPDX-License-Identifier: Apache-2.0
set -u
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-.}/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

fail()
{
    echo "FAILED: $*"
    failed=1
}

has()
{
    grep -qF -e "$2" "$1" || { fail "no '$2' in $1:"; head -5 "$1"; }
}

# status WANT COMMAND...: exit status and stderr in $dir/err
status()
{
    want=$1; shift
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got -eq "$want" ] || { fail "exit $got, expected $want: $*"
                              head -5 "$dir/err"; }
}

head -40 "$top_srcdir/examples/sql/train.jsonl" >"$dir/train.jsonl"
head -4 "$top_srcdir/examples/sql/valid.jsonl" >"$dir/valid.jsonl"
short="--data $dir/train.jsonl --max-len 24 --batch 2 --steps 4 --lora-r 2
       --lr 1e-3 --lora-dropout 0.1 --save-every 2 --optimizer adamw8
       --eval-data $dir/valid.jsonl --eval-every 4"

# value KEY: a number of the last JSON result
value()
{
    sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" "$dir/out"
}

# The plain run, to compare with.
status 0 "$bise" finetune "$model" $short -o "$dir/plain" --json
plain=$(value eval_loss_last)

# Every type trains to nearly the loss of the stored weights.
for type in nf4 q8_0 q4_k q6_k iq4_xs; do
    status 0 "$bise" finetune "$model" $short -o "$dir/$type" \
        --compute bf16 --quantize-base $type --json
    loss=$(value eval_loss_last)
    awk "BEGIN { d = ($loss - $plain) / $plain
                 exit !(d < 0.02 && d > -0.02) }" ||
        fail "$type: evaluation loss $loss, plain $plain"
    has "$dir/$type/run.yaml" "quantize-base: $type"
    has "$dir/$type/report.html" "Matrix products run at"
    grep -q '"layers_quantized_to": *"'"$(echo $type | tr a-z A-Z)"'"' \
        "$dir/$type/log.jsonl" || fail "$type is not in the log"
done
has "$dir/nf4/README.md" "NF4"

# Threads change nothing; nor do a stop and a resume.
base="--quantize-base nf4 --compute bf16"
for n in 1 2 3; do
    status 0 "$bise" finetune "$model" $short $base -o "$dir/t$n" --threads $n
    cmp -s "$dir/t1/adapter_model.safetensors" \
        "$dir/t$n/adapter_model.safetensors" || fail "$n threads differ"
done
cp -r "$dir/t1" "$dir/again"
rm -rf "$dir/again/checkpoints/4" "$dir/again/adapter_model.safetensors"
status 0 "$bise" finetune -o "$dir/again" --resume
cmp -s "$dir/t1/adapter_model.safetensors" \
    "$dir/again/adapter_model.safetensors" || fail "resumed adapter differs"

# In int8 the copy has a scale per row: near the plain run, any threads, and no
# other copy beside it.
for n in 1 2; do
    status 0 "$bise" finetune "$model" $short --compute int8 -o "$dir/i$n" \
        --threads $n --json
done
loss=$(value eval_loss_last)
awk "BEGIN { d = ($loss - $plain) / $plain; exit !(d < 0.01 && d > -0.01) }" ||
    fail "int8: evaluation loss $loss, plain $plain"
cmp -s "$dir/i1/adapter_model.safetensors" \
    "$dir/i2/adapter_model.safetensors" || fail "int8: threads differ"
status 2 "$bise" finetune "$model" $short --compute int8 --quantize-base nf4 \
    -o "$dir/no"
has "$dir/err" "makes its own copy"

# Another base is another run.
rm -rf "$dir/again/checkpoints/4"
status 2 "$bise" finetune -o "$dir/again" --resume --quantize-base q8_0
has "$dir/err" "quantize-base"

# The plan shows the copy.
status 0 "$bise" finetune "$model" $short --quantize-base nf4 --plan --json
[ "$(value base_bytes)" -gt 1000000 ] || fail "plan: $(value base_bytes)"

# A base that is quantized already is taken as it is, and only so.
status 0 "$bise" quantize "$model" --type Q8_0 -o "$dir/m.gguf"
status 0 "$bise" finetune "$dir/m.gguf" $short --compute bf16 -o "$dir/gguf"
status 1 "$bise" finetune "$dir/m.gguf" $short $base -o "$dir/no"
has "$dir/err" "quantized already"
has "$dir/err" "leave out --quantize-base"
[ -e "$dir/no" ] && fail "a refused run left its directory"

# Usage.
status 2 "$bise" finetune "$model" $short --quantize-base q5 -o "$dir/no"
has "$dir/err" "nf4"

[ $failed -eq 0 ] && echo "finetune_qlora: all passed"
exit $failed

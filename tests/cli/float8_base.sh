#!/bin/sh
# float8_base.sh - FP8 as a MODEL and as the frozen base of training. The scales
# are powers of two, so that decoding to bf16 is exact: evaluation, training in
# every arithmetic, quantized bases and merging must give exactly what the bf16
# checkpoint gives, for scales of tensors, rows and blocks, in HF and native files.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
tiny=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; tail -5 "$dir/err" 2>/dev/null; exit 1; }
. "${top_srcdir:-.}/tests/cli/same.inc"
ok() { "$bise" -q -f "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }

python3 - "$top_srcdir/tests" "$dir" <<'PY' || fail make
import copy, sys
sys.path.insert(0, sys.argv[1])
import make_real
for name in "tensor", "rows", "block":
    c = copy.deepcopy(make_real.RELEASES["Ministral-3-8B-Instruct-2512"][0])
    # heads of 128 rows, so that blocks survive the other row order
    c["text_config"].update(vocab_size=4096, hidden_size=128, head_dim=128, num_attention_heads=2, num_key_value_heads=1)
    if name == "block":
        c["quantization_config"].update(weight_block_size=[128, 128], activation_scheme="dynamic")
    if name == "rows":
        args = {"num_bits": 8, "type": "float", "symmetric": True}
        c["quantization_config"] = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                                    "config_groups": {"group_0": {
                                        "targets": ["Linear"], "weights": dict(args, strategy="channel", dynamic=False),
                                        "input_activations": dict(args, strategy="token", dynamic=True)}}}
    make_real.make(sys.argv[2] + "/" + name, c)
PY
for i in 1 2 3 4 5 6; do
    echo "{\"prompt\": \"question number $i of six\", \"completion\": \"the answer is $i\"}"
done >"$dir/data.jsonl"
head -c 3000 "$tiny/valid.txt" >"$dir/text.txt"

for s in tensor rows block; do
    cp "$tiny"/tekken.json "$tiny"/chat_template.jinja "$dir/$s"
    ok convert "$dir/$s" -o "$dir/bf16"
    ok convert "$dir/$s" -o "$dir/native" --to native --dtype keep
    for m in bf16 "$s" native; do
        ok eval "$dir/$m" --data "$dir/text.txt" --ctx 64 --json
        loss=$(python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["loss"])' "$dir/out")
        [ "$m" = bf16 ] && want=$loss
        [ "$loss" = "$want" ] || fail "$s: eval of $m is $loss, not $want"
    done
    for how in "--compute f32" "--compute bf16" "--compute int8" \
        "--quantize-base nf4" "--quantize-base q8_0 --compute bf16"; do
        for m in bf16 "$s" native; do
            # shellcheck disable=SC2086
            ok finetune "$dir/$m" --data "$dir/data.jsonl" -o "$dir/run-$m" \
                --steps 2 --lora-r 2 --max-len 64 --batch 2 --lr 1e-3 $how
        done
        for m in "$s" native; do
            same_st "$dir/run-bf16/adapter_model.safetensors" \
                "$dir/run-$m/adapter_model.safetensors" \
                "$s $how: another adapter from $m"
        done
    done
    # the adapter merged into FP8 is the one merged into bf16
    for m in bf16 "$s"; do
        ok merge "$dir/$m" --adapter "$dir/run-$m" -o "$dir/out-$m" \
            --dtype bf16
    done
    same_st "$dir/out-bf16/model.safetensors" "$dir/out-$s/model.safetensors" \
        "$s: merged"
    rm -rf "$dir"/run-* "$dir"/out-* "$dir/bf16" "$dir/native"
done
exit 0

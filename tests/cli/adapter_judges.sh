#!/bin/sh
# adapter_judges.sh - adapters judged by the tools that will load them: PEFT
# loads what bise writes and computes its golden logits, and an adapter GGUF in
# llama.cpp equals the merged model (KL divergence below 1e-4) for plain, for rsLoRA
# with rank patterns, and on the experts of a Mixtral. Needs BISE_JUDGES (a python with peft, xllamacpp).
# SPDX-License-Identifier: Apache-2.0
set -e
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-.}/bise
python=${BISE_JUDGES:-}
tools=${BISE_SHARED:-$top_srcdir/../shared}/tools
model=$top_srcdir/examples/tiny-mistral3
golden=$top_srcdir/tests/golden
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
"$python" -c "import peft, xllamacpp" 2>/dev/null ||
    { echo "skipped: no python with peft and xllamacpp (BISE_JUDGES)"; exit 77; }
[ -f "$tools/engine.py" ] || { echo "skipped: no $tools/engine.py"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

for a in plain rslora qv-rank-pattern; do
    "$bise" -q adapter convert "$golden/lora/$a" -o "$dir/$a" --to peft \
        --base "$golden/models/ministral3" >/dev/null 2>&1
done
"$bise" -q adapter convert "$golden/lora/qv-rank-pattern" -o "$dir/uniform" \
    --to peft --uniform >/dev/null 2>&1
"$bise" -q adapter convert "$golden/lora/plain" -o "$dir/wrapper" --to peft \
    --prefix wrapper --base "$golden/models/ministral3" >/dev/null 2>&1
"$python" "$top_srcdir/tests/peft_loads.py" "$golden" "$dir" ||
    fail "PEFT disagrees"

# A Mixtral with the embedded model's tokenizer: adapters on its experts.
"$python" - "$model" "$dir/moe" >/dev/null 2>&1 <<'PY' || fail "no Mixtral"
import shutil, sys, torch, transformers as tf
torch.manual_seed(0)
tf.MixtralForCausalLM(tf.MixtralConfig(
    vocab_size=4096, hidden_size=128, intermediate_size=160, head_dim=32,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    num_local_experts=4, num_experts_per_tok=2, bos_token_id=1,
    eos_token_id=2, initializer_range=0.08)).save_pretrained(sys.argv[2])
for name in ("tekken.json", "tokenizer.json", "tokenizer_config.json"):
    shutil.copy(sys.argv[1] + "/" + name, sys.argv[2] + "/" + name)
PY
tiny=$model
for v in "" "--rslora --patterns" --experts; do
    [ "$v" = --experts ] && model=$dir/moe
    "$bise" -q convert "$model" -o "$dir/base.gguf" --dtype f32 --force \
        >/dev/null 2>&1
    "$python" "$top_srcdir/tests/make_adapter.py" "$model" "$dir/a" $v
    "$bise" -q adapter convert "$dir/a" -o "$dir/a.gguf" --to gguf --force \
        --base "$model" >/dev/null 2>&1
    "$bise" -q merge "$model" --adapter "$dir/a" -o "$dir/m.gguf" --force \
        --dtype f32 >/dev/null 2>&1
    line=$("$python" "$tools/engine.py" kld "$dir/m.gguf" "$dir/base.gguf" \
        "$tiny/valid.txt" --lora "$dir/a.gguf" --limit 512)
    echo "adapter $v: $line"
    echo "$line" | awk '{ for (i = 1; i < NF; i++) if ($i == "mean")
        exit !($(i + 1) < 1e-4); exit 1 }' || fail "adapter $v in llama.cpp"
done

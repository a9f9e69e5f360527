#!/bin/sh
# adapter.sh - bise adapter on PEFT's own adapters (golden/lora): every format
# and back equal byte for byte, refusals with their exact reason, the check of
# targets; what PEFT loads and llama.cpp computes is in adapter_judges.sh.
# SPDX-License-Identifier: Apache-2.0
set -e
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-.}/bise
golden=$top_srcdir/tests/golden
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
. "$top_srcdir/tests/cli/same.inc"
quiet() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err"; }

# 1. Round trips; settings come back as well.
for case in plain:ministral3 rslora:ministral3 tied:ministral3-tied \
            window:mistral-window qv-rank-pattern:ministral3 dora:ministral3; do
    a=${case%:*} m=$golden/models/${case#*:}
    quiet adapter convert "$golden/lora/$a" -o "$dir/$a" --to peft --base "$m" ||
        fail "$a to peft"
    for f in gguf native mlx; do
        if [ $a = dora ] && [ $f != mlx ]; then
            quiet adapter convert "$golden/lora/$a" -o "$dir/$a.$f" --to $f \
                --base "$m" && fail "$f took DoRA"
            grep -q "DoRA magnitudes" "$dir/err" || fail "no reason for DoRA"
            [ ! -e "$dir/$a.$f" ] || fail "$a.$f was left behind"
            continue
        fi
        quiet adapter convert "$golden/lora/$a" -o "$dir/$a.$f" --to $f \
            --base "$m" || fail "$a to $f"
        quiet adapter convert "$dir/$a.$f" -o "$dir/$a.$f.back" --to peft \
            --base "$m" || fail "$a from $f"
        same_st "$golden/lora/$a/adapter_model.safetensors" \
            "$dir/$a.$f.back/adapter_model.safetensors" "$a over $f"
        cmp "$dir/$a/adapter_config.json" \
            "$dir/$a.$f.back/adapter_config.json" || fail "$a settings, $f"
    done
done

# 2. Whole tensors fit PEFT only.
for f in gguf native mlx; do
    quiet adapter convert "$golden/lora/save-lm-head" -o "$dir/s.$f" --to $f \
        --base "$golden/models/ministral3" && fail "$f took lm_head"
    grep -q "modules_to_save" "$dir/err" || fail "no reason for lm_head"
done

# 3. A base is needed where rows are ordered by its heads.
quiet adapter convert "$golden/lora/plain" -o "$dir/n.gguf" --to gguf &&
    fail "GGUF without a base"
grep -q -e "--base MODEL" "$dir/err" || fail "no hint at --base"

# 4. An output that exists is kept.
quiet adapter convert "$golden/lora/plain" -o "$dir/plain.gguf" --to gguf \
    --base "$golden/models/ministral3" && fail "replaced without --force"
quiet adapter convert "$golden/lora/plain" -o "$dir/plain.gguf" --to gguf \
    --base "$golden/models/ministral3" --force || fail "--force"

# 5. One rank and alpha for tools that read one.
quiet adapter convert "$golden/lora/qv-rank-pattern" -o "$dir/u" --to peft \
    --uniform || fail "--uniform"
grep -q '"r": 8' "$dir/u/adapter_config.json" || fail "rank of --uniform"
grep -q '"rank_pattern": {}' "$dir/u/adapter_config.json" || fail "pattern"
quiet adapter check "$dir/u" --for vllm || fail "vllm after --uniform"
quiet adapter check "$golden/lora/qv-rank-pattern" --for vllm &&
    fail "vllm reads no patterns"
grep -q -e "--uniform" "$dir/err" || fail "no advice for patterns"

# 6. What each target says; JSON is one object.
"$bise" adapter check "$golden/lora/dora" --json >"$dir/out" 2>/dev/null ||
    fail "check"
for word in '"format"' '"rank"' '"alpha"' '"targets"' '"problems"' 'DoRA is'; do
    grep -q "$word" "$dir/out" || fail "no $word in JSON"
done
quiet adapter check "$golden/lora/plain" --for nowhere && fail "target nowhere"
grep -q "known are vllm" "$dir/err" || fail "no list of targets"
quiet adapter check "$dir/plain.gguf" --base "$golden/models/ministral3" \
    --for llama.cpp || fail "llama.cpp"
quiet adapter check "$dir/plain.mlx" --for mlx || fail "mlx"

# 7. A wrong base is named with both shapes.
quiet adapter check "$golden/lora/window" --base "$golden/models/ministral3" &&
    fail "fits a wrong base"
grep -q "lora_B is 64x4, the base needs 96x4" "$dir/err" || fail "reason"

# 8. The real adapter of another family.
real=${BISE_SHARED:-$top_srcdir/../shared}/data/adapters/qwen2.5-3b-r4
if [ -d "$real" ]; then
    quiet adapter check "$real" --base "$golden/models/ministral3" &&
        fail "a Mistral base took the Qwen adapter"
    grep -q "lora_A is 4x2048, the base needs 4x64" "$dir/err" || fail "shape"
    grep -q "Qwen/Qwen2.5-3B-Instruct" "$dir/err" || fail "its base"
    grep -q "peft adapter of 72 modules, rank 4" "$dir/out" || fail "what it is"
else
    echo "skipped: no real adapter at $real"
fi

# 9. Wrong use.
quiet adapter shrink x && fail "unknown verb"
quiet adapter convert "$golden/lora/plain" -o "$dir/z" && fail "no --to"
quiet adapter convert "$dir/nothing" -o "$dir/z" --to peft && fail "no input"
[ ! -e "$dir/z" ] || fail "output of a failed run"
exit 0

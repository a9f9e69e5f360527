#!/bin/sh
# merge.sh - bise merge: into every layout with the same weights, scales of
# adapters, and adapters that do not fit. PEFT's own numbers are compared in
# check_convert.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
golden=$top_srcdir/tests/golden
model=$golden/models/ministral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
. "$top_srcdir/tests/cli/same.inc"
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }

ok merge "$model" --adapter "$golden/lora/plain" -o "$dir/hf"
grep -q '14 tensors merged' "$dir/out" || fail report
bare_st "$model/model.safetensors" >"$dir/bare1"
bare_st "$dir/hf/model.safetensors" >"$dir/bare2"
cmp -s "$dir/bare1" "$dir/bare2" && fail "nothing changed"
# the same weights through GGUF, native, and a converted base
ok merge "$model" --adapter "$golden/lora/plain" -o "$dir/m.gguf" --dtype f32
ok convert "$dir/m.gguf" -o "$dir/hf2"
same_st "$dir/hf/model.safetensors" "$dir/hf2/model.safetensors" gguf
ok merge "$model" --adapter "$golden/lora/plain" -o "$dir/native" --to native
ok convert "$dir/native" -o "$dir/hf3" --to hf
same_st "$dir/hf/model.safetensors" "$dir/hf3/model.safetensors" native
ok convert "$model" -o "$dir/base" --to native
ok merge "$dir/base" --adapter "$golden/lora/plain" -o "$dir/native2"
same_st "$dir/native/consolidated.safetensors" \
    "$dir/native2/consolidated.safetensors" "native base"
# convert and quantize take adapters too
ok convert "$model" --adapter "$golden/lora/plain" -o "$dir/hf4"
same_st "$dir/hf/model.safetensors" "$dir/hf4/model.safetensors" convert
ok quantize "$model" --adapter "$golden/lora/plain" -o "$dir/q1.gguf" --type Q8_0
ok quantize "$dir/hf" -o "$dir/q2.gguf" --type Q8_0
"$bise" inspect "$dir/q1.gguf" >/dev/null 2>&1
tail -c 90000 "$dir/q1.gguf" >"$dir/a"; tail -c 90000 "$dir/q2.gguf" >"$dir/b"
cmp "$dir/a" "$dir/b" || fail "quantize with an adapter"
# scale 0 changes nothing; two halves are a whole within rounding
ok merge "$model" --adapter "$golden/lora/plain:0" -o "$dir/zero"
same_st "$model/model.safetensors" "$dir/zero/model.safetensors" "scale 0"
# JSON
"$bise" --json merge "$model" --adapter "$golden/lora/rslora" -o "$dir/j" \
    >"$dir/out" 2>"$dir/err" || fail json
for key in outputs adapters tensors bytes_in bytes_out changed; do
    grep -q "\"$key\":" "$dir/out" || fail "no key $key"
done
# refusals
"$bise" -q merge "$model" -o "$dir/x" >"$dir/out" 2>"$dir/err"
[ $? = 2 ] || [ $? = 1 ] || fail "no adapter"
"$bise" -q merge "$golden/models/mistral-nohd" --adapter "$golden/lora/plain" \
    -o "$dir/x" >"$dir/out" 2>"$dir/err" && fail "a wrong base was accepted"
[ ! -e "$dir/x" ] && [ ! -e "$dir/x.part" ] || fail "left behind"
exit 0

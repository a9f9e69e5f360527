#!/bin/sh
# pack_direct.sh - -o NAME.tar.zst of convert, merge, quantize and finetune: the
# archive is byte for byte what `pack` makes of their output, is a model (or an
# adapter) wherever one is read, and nothing is left when making it fails.
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
no() { # words of the message, arguments
    words=$1; shift
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err" && fail "bise $* succeeded"
    cat "$dir/err" "$dir/out" | grep -q "$words" || fail "bise $*: no '$words'"
}
same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }

# directories, also in shards; one thread or several
ok convert "$model" -o "$dir/hf"
ok pack "$dir/hf" -o "$dir/hf1.tar.zst"
ok convert "$model" -o "$dir/hf2.tar.zst" --threads 1
same "$dir/hf1.tar.zst" "$dir/hf2.tar.zst"
ok convert "$model" -o "$dir/shards" --split-max-size 4M --to native
ok pack "$dir/shards" -o "$dir/shards1.tar.zst"
ok convert "$model" -o "$dir/shards2.tar.zst" --split-max-size 4M --to native
same "$dir/shards1.tar.zst" "$dir/shards2.tar.zst"

# GGUF, also split, with the card of the model beside it
mkdir "$dir/q" "$dir/qs"
ok quantize "$model" --type Q4_K_M -o "$dir/q/m.gguf"
cp "$model/README.md" "$dir/q"
ok pack "$dir/q" -o "$dir/q1.tar.zst"
ok quantize "$model" --type Q4_K_M -o "$dir/m.tar.zst"
"$bise" inspect "$dir/m.tar.zst" >"$dir/out" || fail inspect
grep -q "m.gguf" "$dir/out" || fail "no m.gguf inside"
ok unpack "$dir/m.tar.zst" -o "$dir/q2"
same "$dir/q/m.gguf" "$dir/q2/m.gguf"
ok convert "$model" --dtype bf16 -o "$dir/qs/m.gguf" --split-max-size 5M
ok convert "$model" --dtype bf16 -o "$dir/m.gguf.tar.zst" --split-max-size 5M
ok unpack "$dir/m.gguf.tar.zst" -o "$dir/qs2"
for f in "$dir"/qs/*.gguf; do same "$f" "$dir/qs2/$(basename "$f")"; done
ok convert "$dir/q/m.gguf" -o "$dir/again.tar.zst"
ok unpack "$dir/again.tar.zst" -o "$dir/again"
same_gguf "$dir/q/m.gguf" "$dir/again/again.gguf" packed

# each is a model
for a in hf2 shards2 m m.gguf; do
    ok verify "$dir/$a.tar.zst"
    ok generate "$dir/$a.tar.zst" -p Bonjour -n 4
    cp "$dir/out" "$dir/text.$a"
done
ok generate "$dir/q/m.gguf" -p Bonjour -n 4
same "$dir/out" "$dir/text.m"
same "$dir/text.hf2" "$dir/text.shards2"
same "$dir/text.hf2" "$dir/text.m.gguf"

# an adapter, trained into an archive, and merged into one
train() {
    ok finetune "$model" --data "$top_srcdir/examples/sql/valid.jsonl" \
        --lora-r 4 --steps 2 --batch 2 -o "$@"
}
train "$dir/a.tar.zst"
[ ! -e "$dir/a.run" ] || fail "the folder of the run was left"
train "$dir/adapter"
ok unpack "$dir/a.tar.zst" -o "$dir/a"
same "$dir/a/adapter_model.safetensors" "$dir/adapter/adapter_model.safetensors"
[ ! -e "$dir/a/checkpoints" ] || fail "checkpoints were packed"
ok verify "$dir/a.tar.zst"
no "exists already" finetune "$model" --data "$top_srcdir/examples/sql/valid.jsonl" \
    -o "$dir/a.tar.zst"
train "$dir/a.tar.zst" --force
ok merge "$model" --adapter "$dir/a.tar.zst" -o "$dir/merged.tar.zst"
ok merge "$model" --adapter "$dir/adapter" -o "$dir/merged"
ok pack "$dir/merged" -o "$dir/merged1.tar.zst"
ok unpack "$dir/merged.tar.zst" -o "$dir/merged2"
# but for the adapter's name in the history
same_st "$dir/merged/model.safetensors" "$dir/merged2/model.safetensors" merged
diff -r -x model.safetensors "$dir/merged" "$dir/merged2" >"$dir/out" ||
    fail "merged differ: $(cat "$dir/out")"
ok adapter convert "$dir/a.tar.zst" -o "$dir/a.gguf" --to gguf --base "$model"
ok pack "$dir/a.gguf" -o "$dir/ag.tar.zst"
for a in a.tar.zst a.gguf ag.tar.zst; do
    ok quantize "$model" --adapter "$dir/$a" --type Q8_0 -o "$dir/$a.out.gguf"
    same_gguf "$dir/$a.out.gguf" "$dir/a.tar.zst.out.gguf" "adapter $a"
done
mkdir "$dir/text"
echo hello >"$dir/text/hello.txt"
ok pack "$dir/text" -o "$dir/text.tar.zst"
no "no adapter" quantize "$model" --adapter "$dir/text.tar.zst" --type Q8_0 \
    -o "$dir/none.gguf"

# what fails leaves nothing
no "exists already" convert "$model" -o "$dir/m.tar.zst"
ok convert "$model" -o "$dir/m.tar.zst" --force
no "do not agree" convert "$model" --to hf -o "$dir/none.gguf.tar.zst"
cp -r "$model" "$dir/nan"
printf '\377\377' | dd of="$dir/nan/model.safetensors" bs=1 seek=13000000 \
    conv=notrunc 2>/dev/null
no "NaN" quantize "$dir/nan" --type Q4_K_M -o "$dir/none.tar.zst"
ls "$dir" | grep -E "none|part$" && fail "something was left"
ok quantize "$model" --type Q4_K_M -o "$dir/none.tar.zst" --plan
[ ! -e "$dir/none.tar.zst" ] || fail "--plan wrote"
exit 0

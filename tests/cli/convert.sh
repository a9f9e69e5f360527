#!/bin/sh
# convert.sh - bise convert on the embedded model: layouts there and back are
# equal byte for byte, JSON keys, plans that write nothing, refused outputs,
# and broken inputs that leave nothing behind.
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
no() { # exit status, words of the message, arguments
    want=$1 words=$2; shift 2
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err"; got=$?
    [ "$got" = "$want" ] || fail "bise $*: exit $got, not $want"
    grep -q "$words" "$dir/err" || fail "bise $*: no '$words'"
}

# HF -> native -> HF and HF -> GGUF -> HF: the same weights file
ok convert "$model" -o "$dir/native" --to native
ok convert "$dir/native" -o "$dir/hf" --to hf
same_st "$model/model.safetensors" "$dir/hf/model.safetensors" native
ok convert "$model" -o "$dir/bf16.gguf" --dtype bf16
ok convert "$dir/bf16.gguf" -o "$dir/hf2" --dtype bf16
same_st "$model/model.safetensors" "$dir/hf2/model.safetensors" gguf
ok convert "$model" -o "$dir/f32.gguf" --dtype f32
ok convert "$dir/f32.gguf" -o "$dir/hf3" --dtype bf16
same_st "$model/model.safetensors" "$dir/hf3/model.safetensors" f32
ok convert "$model" -o "$dir/half" --dtype f16
ok convert "$dir/half" -o "$dir/half.gguf"
ok convert "$dir/half.gguf" -o "$dir/hf4" --dtype f16
same_st "$dir/half/model.safetensors" "$dir/hf4/model.safetensors" f16
# HF -> HF keeps the file and its side files
ok convert "$model" -o "$dir/copy"
same_st "$model/model.safetensors" "$dir/copy/model.safetensors" copy
for f in tekken.json tokenizer.json chat_template.jinja generation_config.json
do cmp "$model/$f" "$dir/copy/$f" || fail "$f"; done
# sharded, then one file again
ok convert "$model" -o "$dir/shards" --split-max-size 4M
[ -f "$dir/shards/model.safetensors.index.json" ] || fail index
ok convert "$dir/shards" -o "$dir/joined"
same_st "$model/model.safetensors" "$dir/joined/model.safetensors" shards
# split GGUF and back
ok convert "$dir/bf16.gguf" -o "$dir/parts.gguf" --split-max-size 4M
ok convert "$dir"/parts-00001-of-*.gguf -o "$dir/again.gguf"
same_gguf "$dir/bf16.gguf" "$dir/again.gguf" split
# a vocabulary padded and cut again
ok convert "$model" -o "$dir/padded" --vocab-size 4160
ok convert "$dir/padded" -o "$dir/cut" --vocab-size tokenizer
same_st "$model/model.safetensors" "$dir/cut/model.safetensors" vocab
no 2 "would cut off ids" convert "$model" -o "$dir/no" --vocab-size 4000
no 1 "of a GGUF is not resized" convert "$dir/bf16.gguf" -o "$dir/no" \
    --vocab-size 4160
[ ! -e "$dir/no" ] || fail "--vocab-size wrote"
# edited metadata: the tensors stay, the key changes, the way back is the file
ok convert "$dir/bf16.gguf" -o "$dir/named.gguf" \
    --override-kv general.name=str:Tuned --override-kv x.y=int:3
grep -q Tuned "$dir/named.gguf" || fail "no new name"
ok convert "$dir/named.gguf" -o "$dir/back.gguf" --remove-kv x.y \
    --override-kv "general.name=str:$(basename "$model")"
same_gguf "$dir/bf16.gguf" "$dir/back.gguf" "edited and back"
no 2 "does not start with a type" convert "$dir/bf16.gguf" \
    -o "$dir/no.gguf" --override-kv general.name=Tuned
no 2 "the output is a directory" convert "$model" -o "$dir/no" --remove-kv x
# threads do not change the file
for n in 1 2 3 8; do
    ok --threads $n convert "$model" -o "$dir/t$n.gguf" --dtype q8_0
    cmp "$dir/t1.gguf" "$dir/t$n.gguf" || fail "threads $n"
done

# JSON and plans
"$bise" --json convert "$model" -o "$dir/j.gguf" --dtype f16 \
    >"$dir/out" 2>"$dir/err" || fail json
for key in outputs tensors bytes_in bytes_out seconds peak_rss_bytes; do
    grep -q "\"$key\":" "$dir/out" || fail "no key $key"
done
ok convert "$model" -o "$dir/none.gguf" --plan
[ ! -e "$dir/none.gguf" ] || fail "--plan wrote"
awk 'length > 80 { exit 1 }' "$dir/out" || fail "--plan is wider than 80"

# refusals
no 1 'exists' convert "$model" -o "$dir/bf16.gguf"
ok -f convert "$model" -o "$dir/bf16.gguf" --dtype bf16
no 2 '.' convert "$model" -o "$dir/x.gguf" --dtyp f32
no 1 '.' convert "$dir/nowhere" -o "$dir/x.gguf"
no 1 'licence' convert "$model" -o "$dir/x.gguf" --require-licence mit
mkdir "$dir/broken"
cp "$model/config.json" "$dir/broken"
head -c 2000000 "$model/model.safetensors" >"$dir/broken/model.safetensors"
no 1 'model.safetensors' convert "$dir/broken" -o "$dir/x.gguf"
[ ! -e "$dir/x.gguf" ] && [ ! -e "$dir/x.gguf.part" ] || fail "left behind"
# windows that differ between layers: config.json holds those of one kind
sed 's/"dim"/"sliding_window": [4, 8, null], "dim"/' "$dir/native/params.json" \
    >"$dir/p.json"
cp -r "$dir/native" "$dir/windows" && cp "$dir/p.json" "$dir/windows/params.json"
no 1 'ministral3 cannot' convert "$dir/windows" -o "$dir/x" --to hf
tr -d '\n' <"$dir/p.json" | sed 's/, *"yarn".*/}/' >"$dir/windows/params.json"
no 1 'window of 4 and others of 8' convert "$dir/windows" -o "$dir/x" --to hf
[ ! -e "$dir/x" ] || fail "left behind"
# a full disk, played by a file size limit
( ulimit -f 4000; "$bise" -q convert "$model" -o "$dir/x.gguf" --dtype f32 ) \
    >"$dir/out" 2>"$dir/err" && fail "wrote past the limit"
[ ! -e "$dir/x.gguf" ] && [ ! -e "$dir/x.gguf.part" ] || fail "left behind"
exit 0

#!/bin/sh
# inspect.sh - bise inspect on every kind of file: what it says of a model, an
# adapter, a GGUF, data and archives, the keys of --json, and how it refuses.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
golden=$top_srcdir/tests/golden
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() { # exit status, words of the message, arguments
    want=$1 words=$2; shift 2
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err"; got=$?
    [ "$got" = "$want" ] || fail "bise $*: exit $got, not $want"
    grep -q "$words" "$dir/err" || fail "bise $*: no '$words'"
}
has() { for w in "$@"; do
    grep -q -- "$w" "$dir/out" || fail "no '$w' in: $(head -30 "$dir/out")"
done; }

# a model: text, tensors, JSON
ok inspect "$model"
has "format  *safetensors" "family  *ministral3" "6 layers, hidden 256" \
    "4 query and 2 key heads of 128" "YaRN factor 4" "vocabulary  *4096" \
    "tied to the embedding" "tekken" "BF16 *56 *6950144"
[ "$(awk '{ if (length > n) n = length } END { print n }' "$dir/out")" -le 80 ] ||
    fail "wider than 80 columns"
ok inspect "$model" --tensors
has "model.layers.5.mlp.down_proj.weight" "4096x256" "512x256"
[ "$(grep -c 'model\.layers\.' "$dir/out")" = 54 ] || fail "54 tensors of layers"
ok inspect "$model" --json
has '"format":"safetensors"' '"family":"ministral3"' '"parameters":6950144' \
    '"num_hidden_layers":6' '"shape":\[4096,256\]' '"dtype":"BF16"' \
    '"licence":' '"offset":' '"peak_rss_bytes":'
[ "$(wc -l <"$dir/out")" = 1 ] || fail "--json is not one line"

# the same weights as GGUF
ok convert "$model" -o "$dir/m.gguf" --dtype f16
ok inspect "$dir/m.gguf"
has "format  *gguf" "kind  *model" "family  *ministral3" "F16" "file type"
ok inspect "$dir/m.gguf" --tensors
has "blk.5.ffn_down.weight" "token_embd.weight"
cp "$dir/m.gguf" "$dir/renamed"
ok inspect "$dir/renamed"
has "format  *gguf"
mkdir "$dir/folder"
mv "$dir/renamed" "$dir/folder/x.gguf"
ok inspect "$dir/folder"
has "format  *gguf"

# families, an adapter
ok inspect "$golden/models/mixtral"
has "family  *mixtral" "experts  *4, 2 for each token"
ok inspect "$golden/lora/dora"
has "kind  *adapter" "DoRA" "rank  *4, alpha 8" "q_proj"
ok inspect "$golden/lora/dora" --json
has '"targets":\[' '"rank":4' '"kind":"adapter"'
ok inspect "$golden/lora/rslora"
has "rsLoRA"

# data and other files
printf '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n' \
    >"$dir/rows.jsonl"
ok inspect "$dir/rows.jsonl"
has "rows  *2" "completion"
printf '{"messages": [{"role": "user", "content": "x"}]}' >"$dir/one.jsonl"
ok inspect "$dir/one.jsonl"
has "rows  *1" "messages"
printf 'just text' >"$dir/text"
no 1 "not a safetensors" inspect "$dir/text"
printf '' >"$dir/empty.safetensors"
no 1 "no header" inspect "$dir/empty.safetensors"
printf '{"a": }\n' >"$dir/bad.jsonl"
no 1 "invalid JSON" inspect "$dir/bad.jsonl"
no 1 "cannot open" inspect "$dir/nothing"
mkdir "$dir/void"
no 1 "no model here" inspect "$dir/void"
touch "$dir/void/pytorch_model.bin"
no 1 "pickle" inspect "$dir/void"
"$bise" inspect >/dev/null 2>&1 && fail "no argument"
"$bise" inspect "$model" --tensor >/dev/null 2>"$dir/err" && fail "--tensor"
grep -q -- "--tensors" "$dir/err" || fail "does not name the nearest option"

# the chat format beside the template
ok inspect "$model"
has "chat format  *v13, chat_template.jinja agrees"
ok inspect "$model" --json
has '"chat":{"format":"v13","template":"chat_template.jinja"' '"agrees":true'
mkdir "$dir/other"
for f in config.json tekken.json tokenizer.json model.safetensors; do
    cp "$model/$f" "$dir/other"
done
ok inspect "$dir/other"
has "chat format  *v13, no template"
printf "{{ '[INST] ' + m + ' [/INST]' }}default_system_message" \
    >"$dir/other/chat_template.jinja"
ok inspect "$dir/other"
has "chat format  *v13, chat_template.jinja is v1" "adds a system prompt"
"$bise" inspect "$dir/other" 2>&1 >/dev/null | grep -q "template in" ||
    fail "no warning of a template of another version"
# files of the tokenizer that disagree, and one that cannot be read
sed 's/"\[INST\]"/"[Inst]"/g' "$model/tokenizer.json" >"$dir/other/tokenizer.json"
"$bise" inspect "$dir/other" 2>&1 >/dev/null |
    grep -q "tekken.json and tokenizer.json disagree about 1 ids" ||
    fail "no word of disagreeing tokenizers"
echo '{"config": 1}' >"$dir/other/tekken.json"
ok inspect "$dir/other"
has "tokenizer  *not readable"
# the template goes through a GGUF and comes back
ok convert "$model" -o "$dir/t.gguf"
ok inspect "$dir/t.gguf"
has "chat format  *v13, tokenizer.chat_template agrees"
ok convert "$dir/t.gguf" --to hf -o "$dir/back"
cmp "$dir/back/chat_template.jinja" "$model/chat_template.jinja" ||
    fail "template of a GGUF"

# archives: of a model, of anything
ok pack "$dir/rows.jsonl" "$dir/text" -o "$dir/files.tar.zst"
ok inspect "$dir/files.tar.zst"
has "2 files" "rows.jsonl" "jsonl" "text"
ok inspect "$dir/files.tar.zst" --json
has '"format":"archive"' '"sha256":' '"path":"text"'
ok verify "$dir/files.tar.zst"
has "2 files as in the manifest"
exit 0

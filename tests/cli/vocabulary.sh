#!/bin/sh
# vocabulary.sh - embeddings larger and smaller than the tokenizer, added tokens
# in adapters, a tied head that the file stores: padded, cut, kept or refused,
# and said.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
tiny=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/out" "$dir/err" 2>/dev/null; exit 1; }
. "${top_srcdir:-.}/tests/cli/same.inc"
ok() { "$bise" -f "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() { "$bise" -f "$@" >"$dir/out" 2>"$dir/err" && fail "bise $*"; :; }
said() { grep -q "$1" "$dir/err" || fail "no '$1'"; }
python3 - "$top_srcdir/tests" "$dir" <<'PY' || fail make
import json, os, struct, sys
sys.path.insert(0, sys.argv[1])
import make_real
out = sys.argv[2]

def read(folder):
    with open(folder + "/model.safetensors", "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        return json.loads(f.read(n)), f.read()

def write(path, tensors):
    head, at = {}, 0
    for name, (dtype, dims, data) in tensors.items():
        head[name] = {"dtype": dtype, "shape": dims, "data_offsets": [at, at + len(data)]}
        at += len(data)
    h = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h + b"".join(t[2] for t in tensors.values()))

for name, vocab, tied in ("small", 4000, False), ("equal", 4096, False), ("large", 4200, False), ("tied", 4096, True):
    make_real.make(out + "/" + name, make_real.dense(
        64, 128, 4, 2, 16, vocab, max_position_embeddings=64, rope_theta=1e4, sliding_window=None, tie_word_embeddings=tied,
        **make_real.V4))
# the tied embedding stored once more as a head; and one that differs
for name, change in ("same", 0), ("other", 1):
    os.makedirs(out + "/" + name)
    head, body = read(out + "/tied")
    head.pop("__metadata__")
    t = {k: (v["dtype"], v["shape"], body[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in head.items()}
    e = t["model.embed_tokens.weight"]
    t["lm_head.weight"] = (e[0], e[1], bytes(len(e[2])) if change else e[2])
    write(out + "/" + name + "/model.safetensors", t)
    with open(out + "/tied/config.json") as f, open(out + "/" + name + "/config.json", "w") as g:
        g.write(f.read())
# an adapter that was trained with four added tokens
os.makedirs(out + "/added")
rows = 4100
one = struct.pack("<f", 1.0)
write(out + "/added/adapter_model.safetensors", {
    "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight": ("F32", [2, 64], one * 128),
    "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight": ("F32", [32, 2], one * 64),
    "base_model.model.model.embed_tokens.weight": ("F32", [rows, 64], one * rows * 64),
    "base_model.model.lm_head.weight": ("F32", [rows, 64], one * rows * 64)})
with open(out + "/added/adapter_config.json", "w") as f:
    json.dump({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["v_proj"],
               "modules_to_save": ["embed_tokens", "lm_head"]}, f)
PY
for m in small equal large tied same other; do
    cp "$tiny/tekken.json" "$tiny/tokenizer.json" "$dir/$m"
done
# rows that the tokenizer does not use: padded with tokens in a GGUF, kept in
# a folder, cut on request
ok convert "$dir/large" -o "$dir/l.gguf"
said "padded with unused tokens"
ok convert "$dir/l.gguf" -o "$dir/l" --to hf --dtype bf16
same_st "$dir/l/model.safetensors" "$dir/large/model.safetensors" large
ok convert "$dir/large" -o "$dir/cut" --vocab-size tokenizer
said "4200 rows cut to 4096"
grep -q '"vocab_size": 4096' "$dir/cut/config.json" || fail "cut config"
# fewer rows than ids: no GGUF, which could not look them all up; padding helps
no convert "$dir/small" -o "$dir/s.gguf"
said "the tokenizer has 4096 ids"
said "vocab-size tokenizer pads"
[ ! -e "$dir/s.gguf" ] || fail "small wrote"
ok convert "$dir/small" -o "$dir/s.gguf" --vocab-size tokenizer
said "4000 rows padded to 4096 with zeros"
no convert "$dir/equal" -o "$dir/x" --vocab-size 4000
said "would cut off ids"
# tokens that an adapter added
no merge "$dir/equal" --adapter "$dir/added" -o "$dir/x"
said "4100x64, the base needs 4096x64"
said "bise convert BASE --vocab-size 4100"
ok convert "$dir/equal" -o "$dir/grown" --vocab-size 4100
said "4096 rows padded to 4100 with zeros"
ok merge "$dir/grown" --adapter "$dir/added" -o "$dir/merged"
ok --json inspect "$dir/merged"
grep -q '"vocab_size": *4100' "$dir/out" || fail "merged rows"
# a head beside a tied embedding
ok convert "$dir/same" -o "$dir/t"
said "'lm_head.weight' is left out, the head is tied"
bare_st "$dir/t/model.safetensors" >"$dir/bare1"
bare_st "$dir/tied/model.safetensors" >"$dir/bare2"
cmp "$dir/bare1" "$dir/bare2" ||
    { ok --json inspect "$dir/t"; grep -q lm_head "$dir/out" && fail same; }
ok convert "$dir/other" -o "$dir/t"
said "it is kept, the tie is not"
grep -q '"tie_word_embeddings": false' "$dir/t/config.json" || fail "other"
exit 0

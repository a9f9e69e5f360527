#!/bin/sh
# release.sh - bise release: what each kind of release says of itself, files
# unchanged and hashed, nothing private, equal bytes, refusals, no socket.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
data=$top_srcdir/examples/sql
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/out" "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() {
    text=$1; shift
    "$bise" "$@" >"$dir/out" 2>"$dir/err" && fail "accepted: bise $*"
    grep -q -e "$text" "$dir/err" || fail "no '$text': bise $*"
}
has() { grep -q -e "$2" "$1" || fail "no '$2' in $1"; }
hasnt() { grep -q -e "$2" "$1" && fail "'$2' in $1"; :; }
SOURCE_DATE_EPOCH=1700000000; export SOURCE_DATE_EPOCH

ok finetune "$model" --data "$data/train.jsonl" --eval-data \
    "$data/valid.jsonl" -o "$dir/ad" --lora-r 4 --steps 2 --eval-every 1 \
    --batch 2 --max-len 64
ok merge "$model" --adapter "$dir/ad" -o "$dir/merged"
ok quantize "$model" --type Q4_K_M -o "$dir/m.gguf"
"$bise" --json -q eval "$dir/m.gguf" --data "$model/valid.txt" --chunks 1 \
    >"$dir/ev.json" 2>"$dir/err" || fail eval

# an adapter: PEFT's base is the Hub's, figures of the log, no paths
ok release "$dir/ad" -o "$dir/r1" --repo acme/sql-lora --base acme/tiny \
    --dataset acme/sql --require-licence apache-2.0
for f in adapter_config.json adapter_model.safetensors run.yaml log.jsonl \
    loss.svg README.md LICENSE provenance.json .gitattributes; do
    [ -s "$dir/r1/$f" ] || fail "adapter: no $f"
done
has "$dir/r1/README.md" '^base_model_relation: adapter$'
has "$dir/r1/README.md" '^base_model: acme/tiny$'
has "$dir/r1/README.md" '^library_name: peft$'
has "$dir/r1/README.md" '^license: apache-2.0$'
has "$dir/r1/README.md" '^- acme/sql$'
has "$dir/r1/README.md" 'evaluation loss |'
has "$dir/r1/README.md" 'max-lora-rank 8 '
has "$dir/r1/README.md" '2023-11-14'
has "$dir/r1/adapter_config.json" '"base_model_name_or_path": "acme/tiny"'
has "$dir/r1/run.yaml" '^model: tiny-mistral3$'
cmp "$dir/ad/adapter_model.safetensors" "$dir/r1/adapter_model.safetensors" ||
    fail "adapter changed"
cmp "$top_srcdir/COPYING" "$dir/r1/LICENSE" || fail "licence text"
[ -e "$dir/r1/checkpoints" ] && fail checkpoints
[ -e "$dir/r1/NOTICE" ] && fail "a NOTICE that the source does not have"

# quants only: named for the Hub, figures of eval beside the file
mv "$dir/m.gguf" "$dir/q.gguf"; sed 's/m\.gguf/q.gguf/' "$dir/ev.json" >"$dir/e.json"
ok release "$dir/q.gguf" "$dir/e.json" -o "$dir/r2" --repo acme/tiny-GGUF \
    --base acme/tiny
cmp "$dir/q.gguf" "$dir/r2/tiny-Q4_K_M.gguf" || fail "name of a GGUF"
has "$dir/r2/README.md" '^base_model_relation: quantized$'
has "$dir/r2/README.md" '^library_name: gguf$'
has "$dir/r2/README.md" '^quantized_by: acme$'
has "$dir/r2/README.md" '^| `tiny-Q4_K_M.gguf` | Q4_K_M | 4.98 | 4.49 MB | [0-9]'
has "$dir/r2/Modelfile" '^FROM ./tiny-Q4_K_M.gguf$'

# a conversion without loss is none of the Hub's relations
ok convert "$model" -o "$dir/tiny-BF16.gguf"
ok release "$dir/tiny-BF16.gguf" -o "$dir/r3" --repo acme/t --base acme/tiny
hasnt "$dir/r3/README.md" base_model_relation

# a merged model with quants and adapter beside it; NOTICE is carried over
echo "Tiny, copyright its authors" >"$dir/merged/NOTICE"
echo secret >"$dir/merged/notes.txt"
echo x >"$dir/merged/pytorch_model.bin"
for out in r4 r5; do
    "$bise" --json -q release "$dir/merged" "$dir/ad" "$dir/q.gguf" -o \
        "$dir/$out" --repo acme/tuned --base acme/tiny >"$dir/$out.json" \
        2>"$dir/err" || fail "release of all"
done
diff -r "$dir/r4" "$dir/r5" || fail "two releases differ"
has "$dir/r4/README.md" '^base_model_relation: finetune$'
has "$dir/r4/README.md" '^library_name: transformers$'
cmp "$dir/merged/NOTICE" "$dir/r4/NOTICE" || fail NOTICE
cmp "$dir/merged/model.safetensors" "$dir/r4/model.safetensors" || fail copy
[ -f "$dir/r4/ad/adapter_config.json" ] || fail "the adapter's folder"
[ -e "$dir/r4/notes.txt" ] && fail "a file nobody named was published"
[ -e "$dir/r4/pytorch_model.bin" ] && fail "a pickle was published"
has "$dir/r4.json" '"path":"pytorch_model.bin","message":"left out'
has "$dir/r4.json" '"licence":"apache-2.0"'
ok verify "$dir/r4"
ok release "$dir/merged" -o "$dir/r6" --repo acme/m --base acme/tiny \
    --relation merge
has "$dir/r6/README.md" '^base_model_relation: merge$'

# adapters merged on the way to a GGUF are known from its keys
ok quantize "$model" --adapter "$dir/ad" --type Q8_0 -o "$dir/s-Q8_0.gguf"
ok release "$dir/s-Q8_0.gguf" -o "$dir/r8" --repo acme/s --base acme/tiny
has "$dir/r8/README.md" '^base_model_relation: finetune$'
ok quantize "$model" --adapter "$dir/ad:0.5" --adapter "$dir/r1:0.5" \
    --type Q8_0 -o "$dir/d-Q8_0.gguf"
ok release "$dir/d-Q8_0.gguf" -o "$dir/r9" --repo acme/d --base acme/tiny
has "$dir/r9/README.md" '^base_model_relation: merge$'

# every file but itself is in the statement with its sha256
(cd "$dir/r4" && find . -type f ! -name provenance.json | sed 's|^\./||' |
    sort) | while read -r f; do
    sum=$(sha256sum "$dir/r4/$f" | cut -d' ' -f1)
    grep -q "$sum" "$dir/r4/provenance.json" || { echo "no sha of $f"; exit 1; }
done || fail provenance
has "$dir/r4/provenance.json" 'https://in-toto.io/Statement/v1'
host=$(cat /proc/sys/kernel/hostname 2>/dev/null)
for r in r1 r2 r3 r4 r6; do
    grep -rlF -e "$dir" -e /home/ -e /root/ "$dir/$r" && fail "a path in $r"
    [ ${#host} -gt 5 ] && grep -rlF "$host" "$dir/$r" && fail "host in $r"
done

# no licence: told, no LICENSE file claims one; refused when one is required
cp -r "$model" "$dir/bare"; rm "$dir/bare/README.md" "$dir/bare"/*.txt
"$bise" --json -q release "$dir/bare" -o "$dir/r7" --repo acme/b --base \
    acme/tiny >"$dir/out" 2>"$dir/err" || fail bare
has "$dir/out" 'no licence is known'
has "$dir/out" '"licence":null'
hasnt "$dir/r7/README.md" '^license:'
has "$dir/r7/README.md" 'not known'
[ -e "$dir/r7/LICENSE" ] && fail "LICENSE without a licence"
no "'apache-2.0' is required" release "$dir/bare" -o "$dir/x" --repo a/b \
    --require-licence apache-2.0
# refusals leave nothing
no 'ORG/NAME' release "$dir/ad" -o "$dir/x" --repo name
no 'is no relation' release "$dir/ad" -o "$dir/x" --repo a/b --relation sibling
no 'no such file' release "$dir/none" -o "$dir/x" --repo a/b
no 'both be' release "$dir/q.gguf" "$dir/q.gguf" -o "$dir/x" --repo a/b
no 'not a result' release "$model/config.json" -o "$dir/x" --repo a/b
no exists release "$dir/ad" -o "$dir/r1" --repo a/b
sed 's|"tokens":0|"note":"/home/me/x","tokens":0|' "$dir/ad/log.jsonl" >"$dir/l"
mv "$dir/l" "$dir/ad/log.jsonl"
no 'would publish a path' release "$dir/ad" -o "$dir/x" --repo a/b
ls -d "$dir"/x* >/dev/null 2>&1 && fail "a refused release left something"

# no command opens a socket
command -v strace >/dev/null || { echo "skipped: strace"; exit 0; }
strace -f -o "$dir/trace" -e trace=%network true 2>/dev/null ||
    { echo "skipped: strace may not trace here"; exit 0; }
t() {
    strace -f -o "$dir/trace" -e trace=%network "$bise" -q "$@" >/dev/null 2>&1
    grep -qE '^[0-9 ]*(socket|connect|bind|sendto)\(' "$dir/trace" &&
        fail "a socket call: bise $*"; :
}
t release "$dir/merged" -o "$dir/t1" --repo a/b
t inspect "$model"
t convert "$model" -o "$dir/t2.gguf"
t merge "$model" --adapter "$dir/r1" -o "$dir/t3"
t quantize "$model" --type Q8_0 -o "$dir/t4.gguf"
t calibrate "$model" --data "$model/valid.txt" --chunks 1 -o "$dir/t5.gguf"
t finetune "$model" --data "$data/train.jsonl" --steps 1 --batch 1 \
    --max-len 32 -o "$dir/t6"
t eval "$model" --data "$model/valid.txt" --chunks 1
t generate "$model" -p a -n 2
t tokenize "$model" a
t data check "$data/valid.jsonl" --model "$model"
t adapter check "$dir/r1"
t pack "$dir/r1" -o "$dir/t7.tar.zst"
t unpack "$dir/t7.tar.zst" -o "$dir/t8"
t verify "$dir/r1"
t report "$dir/r1"
t help release
[ -s "$dir/t4.gguf" ] && [ -s "$dir/t6/log.jsonl" ] || fail "strace runs failed"
exit 0

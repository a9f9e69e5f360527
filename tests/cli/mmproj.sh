#!/bin/sh
# mmproj.sh - convert --mmproj: refused before the model is written when it
# cannot be made, planned with it, counted and listed with it, its losses in F16
# told as the model's are.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/out" "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() {
    want=$1; text=$2; shift 2
    "$bise" "$@" >"$dir/out" 2>"$dir/err"
    [ $? = "$want" ] || fail "not $want: bise $*"
    grep -q -e "$text" "$dir/err" || fail "no '$text': bise $*"
    [ ! -e "$dir/m.gguf" ] && [ ! -e "$dir/m.gguf.part" ] ||
        fail "the model was written: bise $*"
}
# value KEY: of the JSON result
value() { python3 -c '
import json, sys
r = json.load(open(sys.argv[1]))
print(json.dumps(r.get(sys.argv[2]), sort_keys=True))' "$dir/out" "$1"; }
python3 - "$top_srcdir/tests" "$dir" <<'PY' || fail make
import json, struct, sys
sys.path.insert(0, sys.argv[1])
import make_real as m
folder = sys.argv[2] + "/eye"
m.make(folder, m.wrapper(m.text3(32, 160, 1e6, True), vision_config=m.TOWER5, tie_word_embeddings=True, **m.V5))
m.make(sys.argv[2] + "/text", m.dense(64, 128, 4, 2, 16, 128, max_position_embeddings=64, rope_theta=1e4,
                                      sliding_window=None, tie_word_embeddings=False, **m.V4))
with open(folder + "/model.safetensors", "r+b") as f:
    n, = struct.unpack("<Q", f.read(8))
    head = json.loads(f.read(n))
    name = next(k for k in head if "vision_tower" in k and k.endswith("attention.v_proj.weight"))
    f.seek(8 + n + head[name]["data_offsets"][0])
    f.write(b"".join(struct.pack("<f", v)[2:] for v in [1e-9, -1e-9, 1e-9]))
PY
m=$dir/m.gguf v=$dir/v.gguf
# what cannot be is said before the model is written
no 1 "no vision part" convert "$dir/text" -o "$m" --mmproj "$v"
no 1 "no vision part" convert "$dir/text" --plan --mmproj "$v"
echo there >"$v"
no 1 "exists already" convert "$dir/eye" -o "$m" --mmproj "$v"
[ "$(cat "$v")" = there ] || fail "replaced without --force"
no 2 "are one file" convert "$dir/eye" -o "$m" --mmproj "$m"

# the plan tells of both files
ok --json convert "$dir/eye" --plan --to gguf --mmproj "$v"
both=$(value tensors)
ok --json convert "$dir/eye" --plan --to gguf
model=$(value tensors)
[ "$both" -gt "$model" ] || fail "tensors of the plan"
ok convert "$dir/eye" --plan --to gguf --mmproj "$v"
grep -q "^vision .* tensors, .* in $v$" "$dir/out" || fail "plan"

# the result lists both, with their losses
ok -f --json convert "$dir/eye" -o "$m" --mmproj "$v" --dtype f16
[ "$(value tensors)" = "$both" ] || fail "tensors"
[ "$(value flushed)" = 3 ] || fail flushed
value f16 | grep -q '^\[{"flushed": 3, "name": "v.blk.0.attn_v.weight"' ||
    fail "name of the tensor"
value outputs >"$dir/list"
for f in "$m" "$v"; do
    grep -q "{\"bytes\": $(wc -c <"$f"), \"path\": \"$f\"}" "$dir/list" ||
        fail "no $f in outputs"
done
ok -f convert "$dir/eye" -o "$m" --mmproj "$v" --dtype f16
grep -q "3 weights of 1 tensors became zero in F16" "$dir/err" || fail told
ok -f --json convert "$dir/eye" -o "$m" --mmproj "$v"
[ "$(value flushed)" = null ] || fail "nothing is rounded to F16"
exit 0

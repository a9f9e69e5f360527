#!/bin/sh
# half.sh - what float16 cannot hold is told: values that become zero are
# counted by tensor, values that overflow stop the job by name and place, or are
# counted when --allow-nonfinite makes them infinite. Convert, merge, quantize.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/out" "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -f "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() { "$bise" -f "$@" >"$dir/out" 2>"$dir/err" && fail "bise $*"; :; }
said() { grep -q "$1" "$dir/err" || fail "no '$1'"; }
json() { python3 -c '
import json, sys
r = json.load(open(sys.argv[1]))
for pair in sys.argv[2:]:
    k, want = pair.split("=", 1)
    if json.dumps(r.get(k), sort_keys=True) != want:
        sys.exit("%s is %s, not %s" % (k, json.dumps(r.get(k)), want))
' "$dir/out" "$@" || fail json; }
python3 - "$top_srcdir/tests" "$dir" <<'PY' || fail make
import struct, sys
sys.path.insert(0, sys.argv[1])
import make_real
c = make_real.dense(64, 128, 4, 2, 16, 128, max_position_embeddings=64, rope_theta=1e4, sliding_window=None,
                    tie_word_embeddings=False, **make_real.V4)
for name, small, large in ("small", 5, 0), ("large", 3, 2):
    folder = sys.argv[2] + "/" + name
    make_real.make(folder, c)
    with open(folder + "/model.safetensors", "r+b") as f:
        n, = struct.unpack("<Q", f.read(8))
        import json
        head = json.loads(f.read(n))
        def put(tensor, values):
            f.seek(8 + n + head[tensor]["data_offsets"][0])
            f.write(b"".join(struct.pack("<f", v)[2:] for v in values))
        put("lm_head.weight", [1e-9] * small + [0.0])      # zero itself is not lost
        put("model.layers.1.mlp.up_proj.weight", [-1e-9] * (small - 2) + [1e6] * large)
PY
# flushed: text and JSON, directory and GGUF
for out in "$dir/o" "$dir/o.gguf"; do
    ok convert "$dir/small" -o "$out" --dtype f16
    said "8 weights of 2 tensors became zero in F16"
    ok --json convert "$dir/small" -o "$out" --dtype f16
    json flushed=8 overflowed=0
done
ok --json convert "$dir/small" -o "$dir/o" --dtype f16
json 'f16=[{"flushed": 5, "name": "lm_head.weight", "overflowed": 0}, {"flushed": 3, "name": "model.layers.1.mlp.up_proj.weight", "overflowed": 0}]'
# nothing is said of types that lose nothing so
ok convert "$dir/small" -o "$dir/o" --dtype bf16
grep -q "became" "$dir/err" && fail "bf16 reports"
ok --json convert "$dir/small" -o "$dir/o" --dtype f32
json flushed=null
# overflow: by name, place and type, with what to do; nothing is left
no convert "$dir/large" -o "$dir/x.gguf" --dtype f16
said "blk.1.ffn_up.weight"
said "row 0, column 1) overflow the float16 range of type F16"
said "BF16 or F32; --allow-nonfinite makes them infinite"
[ ! -e "$dir/x.gguf" ] && [ ! -e "$dir/x.gguf.part" ] || fail "left behind"
ok convert "$dir/large" -o "$dir/x.gguf" --dtype f16 --allow-nonfinite
said "4 weights of 2 tensors became zero"
said "2 weights of 1 tensors became infinite in F16, most in 'blk.1.ffn_up.weight'"
ok --json quantize "$dir/large" -o "$dir/q.gguf" --type F16 --allow-nonfinite
json flushed=4 overflowed=2
ok quantize "$dir/small" -o "$dir/q.gguf" --type F16
said "8 weights of 2 tensors became zero"
exit 0

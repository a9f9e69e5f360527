#!/bin/sh
# real_configs.sh - small checkpoints with the configurations of real releases
# (make_real.py): each is recognized with its numbers, goes to GGUF, and to the
# other layout and back without a changed byte, float8 kept.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
. "${top_srcdir:-.}/tests/cli/same.inc"
ok() { "$bise" -q -f "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
python3 "$top_srcdir/tests/make_real.py" "$dir/m" || fail make_real

# same WHAT KEY=VALUE...: fields of the last JSON result, as expected.txt writes
# numbers; - is not asked for
same() { what=$1; shift
    python3 -c '
import json, sys
with open(sys.argv[1]) as f:
    result = json.load(f)
for pair in sys.argv[2:]:
    key, want = pair.split("=")
    v = result
    for k in key.split("."):
        v = v.get(k)
    v = int(v or 0) if v is None or isinstance(v, bool) else v
    if isinstance(v, (int, float)):
        v = "%g" % v if v < 1e6 else "%d" % v
        want = want if want == "-" or float(want) >= 1e6 else "%g" % float(want)
    if want not in ("-", v):
        sys.exit("%s is %s, not %s" % (key, v, want))' "$dir/out" "$@" ||
        fail "$what"
}

n=0
while read -r name family count theta head window tied context; do
    m=$dir/m/$name
    ok --json inspect "$m"
    same "$name" "family=$family" "parameters=$count" \
        "config.rope_theta=$theta" "config.head_dim=$head" \
        "config.sliding_window=$window" "config.tie_word_embeddings=$tied" \
        "config.max_position_embeddings=$context"
    ok convert "$m" -o "$dir/m.gguf"
    ok quantize "$m" -o "$dir/q.gguf" --type Q8_0
    case $name in
    native-*) there=hf back=native file=consolidated.safetensors ;;
    *) there=native back=hf file=model.safetensors ;;
    esac
    ok convert "$m" -o "$dir/there" --to $there --dtype keep
    ok convert "$dir/there" -o "$dir/back" --to $back --dtype keep
    same_st "$m/$file" "$dir/back/$file" "$name to $there and back"
    # what was written is recognized with the same numbers
    for d in there back m.gguf; do
        ok --json inspect "$dir/$d"
        same "$name as $d" "parameters=$count" "config.rope_theta=$theta" \
            "config.head_dim=$head" "config.sliding_window=$window" \
            "config.tie_word_embeddings=$tied"
    done
    rm -rf "$dir/there" "$dir/back"
    n=$((n + 1))
done <"$dir/m/expected.txt"
[ "$n" = 26 ] || fail "$n releases"
echo "$n configurations"

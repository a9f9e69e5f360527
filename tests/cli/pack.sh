#!/bin/sh
# pack.sh - bise pack, unpack, verify and inspect on the embedded model: the
# archive is a model, tar and zstd accept it, damage and bombs are refused, and
# every failure leaves nothing behind.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
no() { # exit status, words of the message, arguments
    want=$1 words=$2; shift 2
    "$bise" -q "$@" >"$dir/out" 2>"$dir/err"; got=$?
    [ "$got" = "$want" ] || fail "bise $*: exit $got, not $want"
    cat "$dir/err" "$dir/out" | grep -q "$words" || fail "bise $*: no '$words'"
}
has() { grep -q "$1" "$dir/out" || fail "no '$1' in: $(cat "$dir/out")"; }

# there and back, twice the same, smaller than 0.70 of the model
ok pack "$model" -o "$dir/m.tar.zst"
ok pack "$model" -o "$dir/again.tar.zst" --threads 1
cmp "$dir/m.tar.zst" "$dir/again.tar.zst" || fail "not reproducible"
ok unpack "$dir/m.tar.zst" -o "$dir/m"
diff -r "$model" "$dir/m" || fail "unpack differs"
size=$(wc -c <"$model/model.safetensors")
[ $(($(wc -c <"$dir/m.tar.zst") * 10)) -lt $((size * 7)) ] ||
    fail "archive too large"
ok verify "$dir/m.tar.zst"; has "no problem"
no 1 "licence" verify "$dir/m.tar.zst" --require-licence mit
ok inspect "$dir/m.tar.zst"; has "ministral3"; has "model.safetensors"
ok inspect --json "$model"
for key in format family parameters tensors config licence; do
    has "\"$key\":"
done
ok inspect "$model" --tensors; has "model.embed_tokens.weight"

# a packed model is a model
printf 'the quick brown fox' >"$dir/text"
a=$("$bise" -q tokenize "$model" --file "$dir/text") || fail tokenize
b=$("$bise" -q tokenize "$dir/m.tar.zst" --file "$dir/text") || fail tokenize
[ "$a" = "$b" ] || fail "tokens differ from the packed model's"

# other programs
if command -v zstd >/dev/null; then
    zstd -qt "$dir/m.tar.zst" || fail "zstd -t"
    ok pack --plain "$model" -o "$dir/p.tar.zst"
    mkdir "$dir/tar"
    zstd -dcq "$dir/p.tar.zst" | tar -xf - -C "$dir/tar" || fail "tar"
    ok verify "$dir/tar"; has "files as in the manifest"
    rm "$dir/tar/manifest.json"
    diff -r "$model" "$dir/tar" || fail "tar -x differs"
fi

# damage
cp "$dir/m.tar.zst" "$dir/bad"
printf 'xyz' | dd of="$dir/bad" bs=1 seek=3000000 conv=notrunc 2>/dev/null
no 1 "damaged frame" unpack "$dir/bad" -o "$dir/none"
no 1 "model.safetensors: damaged" verify "$dir/bad"
no 1 '"ok":false' verify --json "$dir/bad"
head -c 100000 "$dir/m.tar.zst" >"$dir/cut"
no 1 "seek table" unpack "$dir/cut" -o "$dir/none"
no 1 "seek table" verify "$dir/cut"
no 1 "at most" unpack "$dir/m.tar.zst" -o "$dir/none" --max-size 1M
no 2 "1 to 19" pack "$model" -o "$dir/none" --level 30
"$bise" -q pack "$dir/nothing" -o "$dir/none" 2>/dev/null && fail "no input"
"$bise" -q pack "$model" -o "$dir/m.tar.zst" 2>/dev/null && fail "overwrote"
ls "$dir" | grep -q "none" && fail "something was left"

# a folder whose files are damaged, a truncated safetensors, NaN
head -c 9000000 "$model/model.safetensors" >"$dir/m/model.safetensors"
no 1 "data section" verify "$dir/m"
cp "$model/model.safetensors" "$dir/m/model.safetensors"
printf '\377\377' | dd of="$dir/m/model.safetensors" bs=1 \
    seek=13000000 conv=notrunc 2>/dev/null
no 1 "not finite" verify "$dir/m"
exit 0

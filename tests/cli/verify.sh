#!/bin/sh
# verify.sh - bise verify lists every problem: all bad shapes, missing tensors,
# weights that are not finite in folders and in archives (found while these are
# unpacked once), and the missing licence beside any of them.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
tiny=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/out" "$dir/err" 2>/dev/null; exit 1; }
bad() { # number of problems, arguments: exit 1 and so many lines
    want=$1; shift
    "$bise" verify "$@" >"$dir/out" 2>"$dir/err"
    [ $? = 1 ] || fail "verify $*: exit status"
    got=$(wc -l <"$dir/out")
    [ "$got" = "$want" ] || fail "verify $*: $got problems, not $want"
}
has() { grep -q -e "$1" "$dir/out" "$dir/err" || fail "no '$1'"; }

# a configuration of another model: each of the 6 layers has 3 wrong shapes
mkdir "$dir/m"; cp "$tiny"/*.json "$tiny"/*.safetensors "$tiny"/*.jinja "$dir/m"
sed 's/"intermediate_size": 768/"intermediate_size": 512/' "$tiny/config.json" \
    >"$dir/m/config.json"
cmp -s "$tiny/config.json" "$dir/m/config.json" && fail "nothing was changed"
bad 18 "$dir/m"
has "layers.5.mlp.up_proj"
has "layers.0.mlp.down_proj"
has "no licence"
# ... and NaN in two tensors, and a layer that is not there
printf '\377\377' | dd of="$dir/m/model.safetensors" bs=1 seek=13000000 \
    conv=notrunc 2>/dev/null
printf '\377\377' | dd of="$dir/m/model.safetensors" bs=1 seek=1000000 \
    conv=notrunc 2>/dev/null
bad 20 "$dir/m"
has "is not finite"
sed 's/"num_hidden_layers": 6/"num_hidden_layers": 7/' "$tiny/config.json" \
    >"$dir/m/config.json"
bad 11 "$dir/m"
has "layers.6.input_layernorm.weight. is missing"

# the same weights in an archive, in planes and plain: the same two places
cp "$tiny/config.json" "$dir/m"
bad 2 "$dir/m"
sed 's/^[^ ]*model.safetensors: //' "$dir/out" >"$dir/want"
for how in "" --plain; do
    # shellcheck disable=SC2086
    "$bise" -q pack $how "$dir/m" -o "$dir/a.tar.zst" --force 2>/dev/null \
        >/dev/null || fail pack
    bad 2 "$dir/a.tar.zst"
    sed 's/^[^ ]*model.safetensors: //' "$dir/out" >"$dir/got"
    cmp "$dir/want" "$dir/got" || fail "other places in the archive ($how)"
    has "no licence"
done
# below a folder beside other files, as blocks of 210 bytes cut by pieces
mkdir "$dir/g"
"$bise" -q quantize "$tiny" --type Q6_K --pure -o "$dir/g/m.gguf" >/dev/null ||
    fail quantize
echo text >"$dir/notes"
"$bise" -q pack "$dir/notes" "$dir/g" -o "$dir/g.tar.zst" >/dev/null || fail pack
"$bise" verify "$dir/g.tar.zst" >"$dir/out" 2>"$dir/err" || fail "sound GGUF"
has "no problem found"
size=$(wc -c <"$dir/g/m.gguf")
for at in $((size - 2)) $((size - 1500002)); do
    cp "$dir/g/m.gguf" "$dir/keep"
    # the scale of a block: the last two bytes of 210
    printf '\377\377' | dd of="$dir/g/m.gguf" bs=1 seek="$at" conv=notrunc \
        2>/dev/null
    if "$bise" verify "$dir/g/m.gguf" >"$dir/out" 2>"$dir/err"; then
        want=0
    else
        want=1
    fi
    sed -n 's/.*gguf: //p' "$dir/out" | grep finite >"$dir/want"
    "$bise" -q pack "$dir/notes" "$dir/g" -o "$dir/g.tar.zst" --force \
        >/dev/null || fail pack
    "$bise" verify "$dir/g.tar.zst" >"$dir/out" 2>"$dir/err"
    [ $? = $want ] || fail "GGUF in an archive, byte $at: not $want"
    sed -n 's/.*gguf: //p' "$dir/out" | grep finite >"$dir/got"
    cmp "$dir/want" "$dir/got" || fail "GGUF in an archive, byte $at"
    mv "$dir/keep" "$dir/g/m.gguf"
done

# a damaged archive: what is damaged, and still the licence
cp "$tiny/config.json" "$dir/m"; cp "$tiny/model.safetensors" "$dir/m"
"$bise" -q pack "$dir/m" -o "$dir/a.tar.zst" --force >/dev/null 2>&1 || fail pack
size=$(wc -c <"$dir/a.tar.zst")
printf '\001\002\003' | dd of="$dir/a.tar.zst" bs=1 seek=$((size / 2)) \
    conv=notrunc 2>/dev/null
bad 1 "$dir/a.tar.zst"
has "model.safetensors"
has "no licence"
# a folder whose manifest disagrees, with wrong shapes beside it
rm -rf "$dir/u"
"$bise" -q pack --plain "$tiny" -o "$dir/t.tar.zst" --force >/dev/null || fail pack
mkdir "$dir/u" && tar --zstd -xf "$dir/t.tar.zst" -C "$dir/u" || fail tar
"$bise" verify "$dir/u" >"$dir/out" 2>"$dir/err" || fail "as tar unpacked it"
sed 's/"intermediate_size": 768/"intermediate_size": 512/' "$tiny/config.json" \
    >"$dir/u/config.json"
sed '/^license:/d' "$tiny/README.md" >"$dir/u/README.md"
bad 20 "$dir/u"
has "config.json: s[ih][za].* differs from the manifest"
has "README.md: size differs from the manifest"
has "no licence"
exit 0

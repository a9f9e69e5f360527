#!/bin/sh
# packed_model.sh - an archive is a MODEL: convert, quantize, eval, generate and
# tokenize give from a packed model what they give from its folder, with byte
# planes and without, and a packed GGUF is read as one.
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

ok pack "$model" -o "$dir/planes.tar.zst"
ok pack --plain "$model" -o "$dir/plain.tar.zst"

# the same weights in another layout, from all three
ok convert "$model" -o "$dir/a.gguf" --dtype f16
for form in planes plain; do
    ok convert "$dir/$form.tar.zst" -o "$dir/b.gguf" --dtype f16 --force
    # names differ in the metadata; the tensors must not
    n=$(wc -c <"$dir/a.gguf")
    m=$(wc -c <"$dir/b.gguf")
    tail -c 13000000 "$dir/a.gguf" >"$dir/x"
    tail -c 13000000 "$dir/b.gguf" >"$dir/y"
    cmp "$dir/x" "$dir/y" || fail "convert from $form ($n, $m bytes)"
done
ok convert "$dir/planes.tar.zst" -o "$dir/hf"
same_st "$model/model.safetensors" "$dir/hf/model.safetensors" hf
cmp "$model/tekken.json" "$dir/hf/tekken.json" || fail "side files"

# text and losses
printf 'It was the best of times' >"$dir/text"
for what in "tokenize --file $dir/text" "generate -p Once -n 8 --temp 0"; do
    set -- $what
    command=$1; shift
    ok "$command" "$model" "$@"
    cp "$dir/out" "$dir/want"
    ok "$command" "$dir/planes.tar.zst" "$@"
    cmp "$dir/out" "$dir/want" || fail "$command differs"
done

# a GGUF in an archive, and one file of several
mkdir "$dir/g"
ok quantize "$model" -o "$dir/g/m.gguf" --type Q8_0
printf 'notes' >"$dir/g/notes.txt"
ok pack "$dir/g" -o "$dir/g.tar.zst"
ok inspect "$dir/g.tar.zst"
grep -q "Q8_0" "$dir/out" || fail "no Q8_0 in the packed GGUF"
ok generate "$dir/g/m.gguf" -p Once -n 8 --temp 0
cp "$dir/out" "$dir/want"
ok generate "$dir/g.tar.zst" -p Once -n 8 --temp 0
cmp "$dir/out" "$dir/want" || fail "generate from the packed GGUF"
ok verify "$dir/g.tar.zst"
exit 0

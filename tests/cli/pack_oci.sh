#!/bin/sh
# pack_oci.sh - bise pack --oci: an OCI image layout of a model. Every blob is
# named by its sha256, the documents name each other, layers give the files
# back, two runs are equal; skopeo reads and copies it when it is here.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
ok() { "$bise" -q "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }

mkdir "$dir/in" "$dir/in/sub"
cp "$model"/* "$dir/in"
: >"$dir/in/sub/empty.txt"
ok quantize "$model" --type Q4_K_M -o "$dir/in/m.gguf"
head -c 2000000 /dev/urandom >"$dir/in/random.dat" # does not compress
ok pack "$dir/in" -o "$dir/a" --oci --json
grep -q '"sha256"' "$dir/out" || fail "no sha256 in --json"
cp "$dir/out" "$dir/json"
ok pack "$dir/in" -o "$dir/b" --oci --threads 1
diff -r "$dir/a" "$dir/b" || fail "two layouts differ"

# blobs and documents
[ "$(cat "$dir/a/oci-layout")" = '{"imageLayoutVersion":"1.0.0"}' ] ||
    fail "oci-layout"
for f in "$dir"/a/blobs/sha256/*; do
    [ "$(sha256sum <"$f" | cut -c1-64)" = "$(basename "$f")" ] ||
        fail "$f is not its digest"
done
digest() { sed "s/.*\"$2\":{[^}]*\"digest\":\"sha256:\([0-9a-f]*\)\".*/\1/" "$1"; }
manifest=$dir/a/blobs/sha256/$(sed 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/' \
    "$dir/a/index.json")
[ -s "$manifest" ] || fail "index.json names no manifest"
config=$dir/a/blobs/sha256/$(digest "$manifest" config)
[ -s "$config" ] || fail "the manifest names no config"
has() { grep -q -- "$2" "$1" || fail "no '$2' in $1"; }
has "$manifest" '"artifactType":"application/vnd.cncf.model.manifest.v1+json"'
has "$manifest" '"mediaType":"application/vnd.cncf.model.config.v1+json"'
has "$manifest" 'vnd.cncf.model.weight.v1.tar+zstd'
has "$manifest" 'vnd.cncf.model.weight.v1.raw'
has "$manifest" 'vnd.cncf.model.doc.v1.raw'
has "$manifest" 'vnd.cncf.model.weight.config.v1.raw'
has "$config" '"licenses":\["Apache-2.0"\]'
has "$config" '"diff_ids":\["sha256:'
has "$config" '"paramSize":"7.0M"'
grep -q "$dir" "$manifest" "$config" "$dir/a/index.json" &&
    fail "a path of this machine"

# each layer gives its file back: raw as it is, tar+zstd through both programs
mkdir "$dir/out.d"
tr '{' '\n' <"$manifest" | grep -A1 'vnd.cncf.model.*v1.[rt]a[rw]' |
    sed -n 's/.*model\.\([a-z.]*\)\.v1\.\([a-z+]*\)".*sha256:\([0-9a-f]*\)".*/\2 \3/p
            s/.*"org.cncf.model.filepath":"\([^"]*\)".*/\1/p' |
    while read -r how blob; do
        read -r path
        mkdir -p "$dir/out.d/$(dirname "$path")"
        if [ "$how" = raw ]; then
            cp "$dir/a/blobs/sha256/$blob" "$dir/out.d/$path"
        else
            zstd -dcq "$dir/a/blobs/sha256/$blob" >"$dir/layer.tar" || exit 1
            grep -q "sha256:$(sha256sum <"$dir/layer.tar" | cut -c1-64)" \
                "$config" || { echo "diff_id of $path"; exit 1; }
            tar -xf "$dir/layer.tar" -C "$dir/out.d" || exit 1
        fi
    done || fail layers
if command -v zstd >/dev/null; then
    diff -r "$dir/in" "$dir/out.d" || fail "layers do not give the files back"
fi

# refusals leave nothing
"$bise" -q pack "$dir/in" -o "$dir/a" --oci 2>"$dir/err" && fail "overwrote"
"$bise" -q pack "$dir/in" -o "$dir/x.tar.zst" --oci 2>"$dir/err"
[ $? = 2 ] || [ ! -e "$dir/x.tar.zst" ] || fail "--oci into an archive"
"$bise" -q pack "$dir/nothing" -o "$dir/x" --oci 2>"$dir/err" && fail "no input"
ls "$dir" | grep -E "^x" && fail "something was left"

command -v skopeo >/dev/null || { echo "skipped: no skopeo"; exit 0; }
skopeo inspect --raw "oci:$dir/a:latest" >"$dir/raw" 2>"$dir/err" ||
    fail "skopeo inspect"
cmp "$dir/raw" "$manifest" || fail "skopeo shows another manifest"
skopeo copy -q "oci:$dir/a:latest" "oci:$dir/copy:latest" 2>"$dir/err" ||
    fail "skopeo copy"
diff -r "$dir/a/blobs" "$dir/copy/blobs" || fail "the copy differs"
exit 0

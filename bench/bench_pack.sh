#!/usr/bin/env bash
# bench_pack.sh - speed of pack and unpack against zstd on a large checkpoint,
# and the size of the packed embedded model: the floors of the archive.
#   bench/bench_pack.sh [BISE] [CHECKPOINT_DIR] [ROUNDS]
# All in one run, wall clock, in turn, the fastest of ROUNDS; inputs in the page
# cache, nothing waiting for the disk. bise syncs its outputs to the disk, zstd
# does not: it is measured alone and with a sync of what it wrote.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bise=$(realpath "${1:-build/bise}")
checkpoint=${2:-/work/ck/1b}
rounds=${3:-4}
model=$here/../examples/tiny-mistral3
dir=$(mktemp -d "${TMPDIR:-.}/bench_pack.XXXXXX")
trap 'rm -rf "$dir"' EXIT
weights=$(ls -S "$checkpoint"/*.safetensors | head -n 1)
echo "# $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $("$bise" --version | head -n 1)"
echo "# $(zstd --version | grep -o 'v[0-9.]*' | head -n 1) of zstd, $(du -sbL "$checkpoint" | cut -f1) bytes in $checkpoint"
cat "$checkpoint"/* >/dev/null

declare -A best rss
synced() { zstd -q "$@"; sync "${@: -1}"; }
export -f synced
# timed NAME COMMAND...: keep the fastest wall time and the largest memory
timed() {
    name=$1; shift
    sync
    /usr/bin/time -q -f '%e %M' -o "$dir/time" "$@" >/dev/null 2>"$dir/said" ||
        [ "$name" = verify ] || { cat "$dir/said"; exit 1; }
    read -r s kb <"$dir/time"
    if [ -z "${best[$name]:-}" ] || awk "BEGIN {exit !($s < ${best[$name]})}"; then
        best[$name]=$s
    fi
    [ "$kb" -gt "${rss[$name]:-0}" ] && rss[$name]=$kb
    return 0
}
for _ in $(seq "$rounds"); do
    rm -rf "$dir/a.tar.zst" "$dir/m.zst" "$dir/u" "$dir/m"
    timed zstd_pack zstd -q -3 -T2 "$weights" -o "$dir/m.zst"
    rm "$dir/m.zst"
    timed zstd_pack_sync bash -c 'synced "$@"' - -3 -T2 "$weights" -o "$dir/m.zst"
    timed bise_pack "$bise" -q --threads 2 pack "$checkpoint" -o "$dir/a.tar.zst"
    cat "$dir/a.tar.zst" "$dir/m.zst" >/dev/null    # bise wrote past the cache
    timed zstd_unpack zstd -q -d "$dir/m.zst" -o "$dir/m"
    rm "$dir/m"
    timed zstd_unpack_sync bash -c 'synced "$@"' - -d "$dir/m.zst" -o "$dir/m"
    rm "$dir/m"
    timed bise_unpack "$bise" -q --threads 2 unpack "$dir/a.tar.zst" -o "$dir/u"
done
cmp "$weights" "$dir/u/$(basename "$weights")"
rm -rf "$dir/u"
# a bare checkpoint has no tokenizer, which verify says
for _ in 1 2; do timed verify "$bise" -q --threads 2 verify "$dir/a.tar.zst"; done
bytes=$(wc -c <"$weights")
echo "area,case,threads,min_s,GB_s,rss_MB"
for c in zstd_pack zstd_pack_sync bise_pack zstd_unpack zstd_unpack_sync bise_unpack verify; do
    awk -v c=$c -v s="${best[$c]}" -v n="$bytes" -v r="${rss[$c]}" \
        'BEGIN {printf "pack,%s,2,%.2f,%.2f,%.0f\n", c, s, n / s / 1e9, r / 1024}'
done
awk -v a="${best[zstd_pack]}" -v b="${best[bise_pack]}" 'BEGIN {printf "# pack: %.2f x zstd -3 -T2 (floor 2)\n", a / b}'
awk -v a="${best[zstd_pack_sync]}" -v b="${best[bise_pack]}" 'BEGIN {printf "# pack: %.2f x zstd -3 -T2 and sync\n", a / b}'
awk -v a="${best[zstd_unpack]}" -v b="${best[bise_unpack]}" 'BEGIN {printf "# unpack: %.2f x zstd -d (floor 1)\n", a / b}'
awk -v a="${best[zstd_unpack_sync]}" -v b="${best[bise_unpack]}" 'BEGIN {printf "# unpack: %.2f x zstd -d and sync\n", a / b}'
echo "# archive of random bf16 weights: $(wc -c <"$dir/a.tar.zst") bytes of $bytes, zstd -3: $(wc -c <"$dir/m.zst")"
"$bise" -q pack "$model" -o "$dir/e.tar.zst" >/dev/null
zstd -q -19 "$model/model.safetensors" -o "$dir/e.zst"
tar -C "$model" -cf "$dir/e.tar" . && zstd -q -19 "$dir/e.tar" -o "$dir/e.tar.19"
awk -v a="$(wc -c <"$dir/e.tar.zst")" -v n="$(cat "$model"/* | wc -c)" -v z="$(wc -c <"$dir/e.tar.19")" \
    -v w="$(wc -c <"$dir/e.zst")" 'BEGIN {
    printf "# archive of the embedded model: %d bytes, %.3f of %d (floor 0.70); zstd -19 of all %d, of the weights %d\n",
        a, a / n, n, z, w }'

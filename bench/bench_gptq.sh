#!/bin/sh
# bench_gptq.sh BISE MODEL TEXT TYPE... - mean divergence of MODEL quantized to
# each TYPE from the original: rounded, with an imatrix, with error feedback.
# The first 80000 bytes of TEXT are the data, the last 38000 are measured on.
# SPDX-License-Identifier: Apache-2.0
[ $# -ge 4 ] || { sed -n 's/^# //p' "$0" | head -4; exit 2; }
bise=$1 model=$2 text=$3
shift 3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
head -c 80000 "$text" >"$dir/data.txt"
tail -c 38000 "$text" >"$dir/test.txt"
"$bise" -q calibrate "$model" --data "$dir/data.txt" --ctx 256 \
    -o "$dir/imatrix.gguf" >/dev/null || exit 1
kld() { # type, options of quantize
    type=$1; shift
    "$bise" -q -f quantize "$model" -o "$dir/q.gguf" --type "$type" "$@" \
        >/dev/null || exit 1
    "$bise" -q --json eval "$dir/q.gguf" --base "$model" --ctx 256 \
        --data "$dir/test.txt" |
        sed 's/.*"kld":{//; s/.*"mean":\([-0-9.e+]*\).*/\1/'
}
for type in "$@"; do
    printf '%s %.5f %.5f %.5f\n' "$type" "$(kld "$type")" \
        "$(kld "$type" --imatrix "$dir/imatrix.gguf")" \
        "$(kld "$type" --imatrix "$dir/imatrix.gguf" --method gptq \
            --data "$dir/data.txt" --ctx 256)"
done

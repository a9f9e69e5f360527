#!/bin/sh
# memory.sh - an 8B checkpoint as it is released (multimodal wrapper, float8, sparse file) through inspect and plans;
# with BISE_LARGE=1 also through quantize, convert and merge for real (20 GB of disk): never more than 256 MB beyond
# file-backed pages. A small one of the same form always goes the whole way.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-build}/bise
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
make() { python3 "$top_srcdir/tests/make_fp8_wrapper.py" "$@" || fail make; }
run() { # limit in MB, arguments
    limit=$1; shift
    python3 "$top_srcdir/tests/anon_peak.py" "$limit" "$bise" -q "$@" ||
        fail "bise $*"
}
walk() { # model, adapter, limit
    run "$3" quantize "$1" -o "$dir/q.gguf" --type Q4_K_M
    rm -f "$dir/q.gguf"
    run "$3" convert "$1" -o "$dir/n" --to native --dtype keep
    rm -rf "$dir/n"
    run "$3" convert "$1" -o "$dir/c.gguf" --dtype q8_0 \
        --mmproj "$dir/v.gguf"
    rm -f "$dir/c.gguf" "$dir/v.gguf"
    run "$3" merge "$1" --adapter "$2" -o "$dir/m.gguf" --dtype q8_0
    rm -f "$dir/m.gguf"
}
make "$dir/small" --shape small --shard-bytes 1000000 --adapter "$dir/a"
walk "$dir/small" "$dir/a" 64
make "$dir/8b" --adapter "$dir/8ba"
run 64 inspect "$dir/8b"
run 64 inspect "$dir/8b" --tensors
run 64 quantize "$dir/8b" --type Q4_K_M --plan
run 64 convert "$dir/8b" -o "$dir/none" --to native --dtype keep --plan
[ -z "$BISE_LARGE" ] || walk "$dir/8b" "$dir/8ba" 256

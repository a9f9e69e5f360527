#!/bin/sh
# codec_tool.sh - the codec tool by hand-made files: copies, known blocks,
# every CPU level, and what it says to wrong usage. The comparisons with other
# implementations rest on this tool.
# SPDX-License-Identifier: Apache-2.0
tool=${top_builddir:-.}/tests/codec_tool
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# claim NAME: the last command's status must be 0.
claim() {
    if [ $? -ne 0 ]; then
        echo "FAILED: $1"
        failed=1
    fi
}

# hex FILE: its bytes in one line.
hex() {
    od -An -v -tx1 "$1" | tr -d ' \n'
}

# 32 zeros: the odd block of Q4_0 has a scale of -0 and codes 8
head -c 128 /dev/zero > "$dir/zeros"
for level in ref avx2 avx512; do
    BISE_CPU=$level "$tool" encode Q4_0 1 32 "$dir/zeros" "$dir/out"
    claim "encodes zeros ($level)"
    [ "$(hex "$dir/out")" = 008088888888888888888888888888888888 ]
    claim "Q4_0 of zeros ($level)"
    BISE_CPU=$level "$tool" encode Q5_0 1 32 "$dir/zeros" "$dir/out"
    [ "$(hex "$dir/out")" = 0080ffffffff00000000000000000000000000000000 ]
    claim "Q5_0 of zeros ($level)"
    BISE_CPU=$level "$tool" encode IQ4_NL 1 32 "$dir/zeros" "$dir/out"
    [ "$(hex "$dir/out")" = 000088888888888888888888888888888888 ]
    claim "IQ4_NL of zeros ($level)"
done

# 32 ones (0x3f800000): Q8_0 has d = 1/127 (f16 0x2008) and codes 127
i=0
while [ $i -lt 32 ]; do
    printf '\000\000\200\077'
    i=$((i + 1))
done > "$dir/ones"
for level in ref avx2 avx512; do
    BISE_CPU=$level "$tool" encode Q8_0 1 32 "$dir/ones" "$dir/out"
    claim "encodes ones ($level)"
    hex "$dir/out" | grep -q '^0820\(7f\)\{32\}$'
    claim "Q8_0 of ones ($level)"
    BISE_CPU=$level "$tool" encode MXFP4 1 32 "$dir/ones" "$dir/out"
    hex "$dir/out" | grep -q '^7d\(66\)\{16\}$'
    claim "MXFP4 of ones ($level)"
    BISE_CPU=$level "$tool" decode MXFP4 1 32 "$dir/out" "$dir/back"
    cmp -s "$dir/ones" "$dir/back"
    claim "ones come back from MXFP4 ($level)"
    BISE_CPU=$level "$tool" encode BF16 1 32 "$dir/ones" "$dir/out"
    BISE_CPU=$level "$tool" decode BF16 1 32 "$dir/out" "$dir/back"
    cmp -s "$dir/ones" "$dir/back"
    claim "ones come back from BF16 ($level)"
done

"$tool" encode F32 1 32 "$dir/ones" "$dir/out" && cmp -s "$dir/ones" "$dir/out"
claim "F32 is a copy"

# importance of the right length is read; equal importance changes nothing of
# a block whose weights are equal
"$tool" encode Q4_0 1 32 "$dir/ones" "$dir/plain"
"$tool" encode Q4_0 1 32 "$dir/ones" "$dir/weighted" "$dir/ones"
claim "encodes with importance"
[ "$(wc -c < "$dir/weighted")" -eq 18 ]
claim "18 bytes with importance"

# bench prints one number above zero
"$tool" bench Q8_0 1 32 "$dir/ones" 2 | grep -Eq '^[0-9]+\.[0-9]+$'
claim "bench prints a number"

# wrong usage: status 2 and the usage line; a short file: status 1 and its name
"$tool" 2> "$dir/err"
[ $? -eq 2 ] && grep -q '^usage: codec_tool' "$dir/err"
claim "usage without arguments"
"$tool" encode Q9_X 1 32 "$dir/ones" "$dir/out" 2> "$dir/err"
[ $? -eq 2 ] && grep -q '^usage: codec_tool' "$dir/err"
claim "usage for an unknown type"
"$tool" encode Q4_0 2 32 "$dir/ones" "$dir/out" 2> "$dir/err"
[ $? -eq 1 ] && grep -q "no 256 bytes in '.*ones'" "$dir/err"
claim "names a file that is too short"
"$tool" decode Q4_0 1 32 "$dir/none" "$dir/out" 2> "$dir/err"
[ $? -eq 1 ] && grep -q "no 18 bytes in '.*none'" "$dir/err"
claim "names a file that is missing"
"$tool" encode Q4_0 1 32 "$dir/ones" "$dir/no/out" 2> "$dir/err"
[ $? -eq 1 ] && grep -q "cannot write" "$dir/err"
claim "says what it cannot write"
"$tool" encode F8_E4M3 1 32 "$dir/ones" "$dir/out" 2> "$dir/err"
[ $? -eq 1 ] && grep -q "does not write F8_E4M3" "$dir/err"
claim "refuses a type that is only read"
exit $failed

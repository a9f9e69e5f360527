#!/bin/sh
# kill.sh - convert, merge and quantize end at random moments by SIGKILL and
# SIGINT: never is there an output that looks whole but is not, SIGINT removes
# what is partial, and the next run succeeds over the remains.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
rounds=${BISE_KILL_ROUNDS:-5}

"$bise" -q quantize "$model" -o "$dir/want.gguf" --type Q2_K >/dev/null 2>&1 ||
    fail quantize
"$bise" -q convert "$model" -o "$dir/want" --to native >/dev/null 2>&1 ||
    fail convert

# start a job, stop it after a while with a signal, look at what is there
job_quantize() {
    exec "$bise" -q quantize "$model" -o "$dir/x.gguf" --type Q2_K
}
job_convert() {
    exec "$bise" -q convert "$model" -o "$dir/x" --to native
}
stop() { # job, signal, delay
    ( "job_$1" ) >/dev/null 2>&1 &
    pid=$!
    sleep "$3"
    kill -"$2" $pid 2>/dev/null
    wait $pid 2>/dev/null
    status=$?
}
check_quantize() {
    [ ! -e "$dir/x.gguf" ] || cmp -s "$dir/x.gguf" "$dir/want.gguf" ||
        fail "an incomplete GGUF has its final name"
}
check_convert() {
    [ ! -e "$dir/x" ] ||
        cmp -s "$dir/x/consolidated.safetensors" \
            "$dir/want/consolidated.safetensors" ||
        fail "an incomplete directory has its final name"
}

for job in quantize convert; do
    i=0
    while [ $i -lt "$rounds" ]; do
        i=$((i + 1))
        delay=0.0$((i * 7 % 10))$((i * 3 % 10))
        stop $job KILL $delay
        check_$job
        rm -rf "$dir/x.gguf" "$dir/x"
        # a .part may be left by SIGKILL; SIGINT leaves nothing
        stop $job INT $delay
        check_$job
        [ ! -e "$dir/x.gguf.part" ] && [ ! -e "$dir/x.part" ] ||
            [ $status -gt 130 ] || fail "SIGINT left a .part ($status)"
        rm -rf "$dir/x.gguf" "$dir/x"
    done
done
# over the remains of a killed run
: >"$dir/x.gguf.part"
mkdir -p "$dir/x.part"
echo garbage >"$dir/x.part/consolidated.safetensors"
( job_quantize ) >/dev/null 2>&1 || fail "a .part of before is in the way"
( job_convert ) >/dev/null 2>&1 || fail "a .part folder is in the way"
check_quantize
check_convert
[ -e "$dir/x.gguf" ] && [ -e "$dir/x" ] || fail "nothing was written"
[ ! -e "$dir/x.gguf.part" ] && [ ! -e "$dir/x.part" ] || fail "still there"
# a NaN weight: named, and nothing written
"$bise" -q convert "$model" -o "$dir/f32" --dtype f32 >/dev/null 2>&1
printf '\000\000\300\177' | dd of="$dir/f32/model.safetensors" bs=1 seek=20000000 \
    conv=notrunc 2>/dev/null
"$bise" -q quantize "$dir/f32" -o "$dir/nan.gguf" --type Q8_0 \
    >/dev/null 2>"$dir/err" && fail "a NaN was quantized"
grep -q 'NaN' "$dir/err" || fail "the NaN is not named"
grep -q 'row' "$dir/err" || fail "its place is not named"
[ ! -e "$dir/nan.gguf" ] && [ ! -e "$dir/nan.gguf.part" ] || fail "left behind"
exit 0

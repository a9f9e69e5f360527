#!/bin/sh
# finetune_kill.sh [TIMES] - kill -9 at random moments of a fine-tuning run,
# several kills to a run, each followed by --resume: the adapter must be equal
# byte for byte to that of a run nobody killed, the log must have every step
# once, and nothing may look whole before it is. `make check` makes 2 or 3 kills;
# `tests/cli/finetune_kill.sh 20` is the long version.
# SPDX-License-Identifier: Apache-2.0
set -u
times=${1:-2}
top_srcdir=${top_srcdir:-.}
bise=${top_builddir:-.}/bise
model=$top_srcdir/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

fail()
{
    echo "FAILED: $*"
    failed=1
}

head -30 "$top_srcdir/examples/sql/train.jsonl" >"$dir/train.jsonl"
head -2 "$top_srcdir/examples/sql/valid.jsonl" >"$dir/valid.jsonl"

# A run of 16 steps that saves after each. Not a function: a background job of
# the shell must be the program itself, for kill to hit it.
options="--quiet finetune $model --data $dir/train.jsonl
    --eval-data $dir/valid.jsonl --max-len 24 --batch 2 --steps 16
    --lora-r 2 --lora-dropout 0.1 --target q_proj,v_proj --lr 1e-3
    --save-every 1 --eval-every 4 --optimizer adamw -o"

# A fraction of a second from the kernel's random numbers: 0.05 to 0.80.
moment()
{
    n=$(od -An -N2 -tu2 /dev/urandom)
    printf '0.%02d' $((5 + n % 76))
}

# whole DIR: each checkpoint that has its name has all of its files
whole()
{
    for step in "$1"/checkpoints/*; do
        case ${step##*/} in *.part | '*') continue ;; esac
        for file in adapter_model.safetensors adapter_config.json \
            optimizer.safetensors trainer_state.json; do
            [ -s "$step/$file" ] || fail "$step lacks $file"
        done
    done
}

"$bise" $options "$dir/want" >/dev/null || fail "the run itself"
done_kills=0
n=0
while [ $done_kills -lt "$times" ] && [ $n -lt $((times * 3)) ]; do
    n=$((n + 1))
    out="$dir/run$n"
    finished=no
    # Up to three kills in a row on the same directory.
    for kill in 1 2 3; do
        "$bise" $options "$out" --resume >/dev/null 2>&1 &
        pid=$!
        sleep "$(moment)"
        if kill -9 $pid 2>/dev/null; then
            done_kills=$((done_kills + 1))
        else
            finished=yes
        fi
        wait $pid 2>/dev/null
        [ -d "$out" ] && whole "$out"
        [ $finished = yes ] && break
    done
    "$bise" $options "$out" --resume >/dev/null 2>"$dir/err" ||
        { fail "resume $n"; cat "$dir/err"; }
    cmp "$dir/want/adapter_model.safetensors" \
        "$out/adapter_model.safetensors" || fail "run $n differs"
    [ "$(wc -l <"$out/log.jsonl")" -eq 17 ] || fail "log of run $n"
    # Losses of every step are those of the run that nobody killed.
    for log in "$dir/want/log.jsonl" "$out/log.jsonl"; do
        sed 's/.*"step":\([0-9]*\),"loss":\([^,]*\),.*/\1 \2/' "$log" |
            grep -v run >"$log.losses"
    done
    cmp "$dir/want/log.jsonl.losses" "$out/log.jsonl.losses" ||
        fail "losses of run $n"
    [ -z "$(find "$out" -name '*.part')" ] || fail "a .part is left in run $n"
    rm -rf "$out"
done
echo "$done_kills kills in $n runs"
exit $failed

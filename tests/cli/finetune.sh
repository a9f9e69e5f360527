#!/bin/sh
# finetune.sh - bise finetune as a user meets it: a run and its directory, the
# run.yaml that starts it again, kill -9 and resume equal byte for byte, Ctrl-C,
# threads, and the messages of bad input (cli.md 4).
# SPDX-License-Identifier: Apache-2.0
set -u
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

# has FILE TEXT: the file says TEXT
has()
{
    grep -qF -e "$2" "$1" || { fail "no '$2' in $1:"; head -5 "$1"; }
}

# status WANT COMMAND...: exit status and stderr in $dir/err
status()
{
    want=$1; shift
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got -eq "$want" ] || { fail "exit $got, expected $want: $*"
                              head -5 "$dir/err"; }
}

# Short rows, so that a step takes a few milliseconds.
head -40 "$top_srcdir/examples/sql/train.jsonl" >"$dir/train.jsonl"
head -4 "$top_srcdir/examples/sql/valid.jsonl" >"$dir/valid.jsonl"
short="--data $dir/train.jsonl --max-len 24 --batch 2 --steps 8 --lora-r 2
       --lr 1e-3 --lora-dropout 0.1 --target q_proj,v_proj --save-every 3"

# A whole run.
status 0 "$bise" finetune "$model" $short --eval-data "$dir/valid.jsonl" \
    --eval-every 3 -o "$dir/whole" --json
for key in steps tokens supervised_tokens tokens_per_second loss_first \
    loss_last eval_loss_first eval_loss_last adapter seconds peak_rss_bytes; do
    has "$dir/out" "\"$key\":"
done
grep -q '"product_flops_per_token":[1-9]' "$dir/whole/log.jsonl" ||
    fail "the log does not tell the work of a token"
for file in adapter_model.safetensors adapter_config.json run.yaml log.jsonl \
    report.html loss.svg README.md checkpoints/8/trainer_state.json \
    checkpoints/6/optimizer.safetensors; do
    [ -s "$dir/whole/$file" ] || fail "$file is missing"
done
[ "$(ls "$dir/whole/checkpoints" | wc -l)" -eq 2 ] || fail "keep 2"
[ "$(wc -l <"$dir/whole/log.jsonl")" -eq 9 ] || fail "log lines"
[ "$(grep -c eval_loss "$dir/whole/log.jsonl")" -eq 4 ] || fail "evaluations"
has "$dir/whole/README.md" "base_model:"
has "$dir/whole/README.md" "train.jsonl"
grep -q "$dir" "$dir/whole/README.md" && fail "a private path in the card"
[ -z "$(find "$dir/whole" -name '*.part')" ] || fail "a .part is left"

# same A B: the adapters are equal byte for byte
same()
{
    cmp "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" ||
        fail "$1 and $2 differ"
}

# run.yaml starts the same run again, with any number of threads.
for threads in 1 5; do
    status 0 "$bise" finetune --config "$dir/whole/run.yaml" \
        -o "$dir/again$threads" --threads $threads
    same "$dir/whole" "$dir/again$threads"
done

# An existing directory is refused, --force takes it again and leaves others'
# files alone.
echo mine >"$dir/again1/notes.txt"
status 1 "$bise" finetune "$model" $short -o "$dir/again1"
has "$dir/err" "exists"
has "$dir/err" "--resume"
status 0 "$bise" finetune "$model" $short -o "$dir/again1" --force
same "$dir/whole" "$dir/again1"
[ -f "$dir/again1/notes.txt" ] || fail "--force removed a foreign file"

# kill -9 at some moments, resume: the same adapter and the same losses.
n=0
for moment in 0.15 0.35 0.6; do
    n=$((n + 1))
    cut="$dir/cut$n"
    "$bise" finetune "$model" $short --save-every 1 --threads 1 -o "$cut" \
        >/dev/null 2>&1 &
    pid=$!
    sleep $moment
    kill -9 $pid 2>/dev/null && wait $pid 2>/dev/null &&
        echo "note: run $n was done before the kill"
    wait $pid 2>/dev/null
    status 0 "$bise" finetune "$model" $short --save-every 1 -o "$cut" --resume
    has "$dir/out" "they reach alone"
    same "$dir/whole" "$cut"
    [ "$(wc -l <"$cut/log.jsonl")" -eq 9 ] || fail "log of a resumed run"
    [ -z "$(find "$cut" -name '*.part')" ] || fail "a .part is left"
done

# Ctrl-C: exit 130, the state is saved, nothing looks finished, and --resume
# needs nothing but the directory.
"$bise" finetune "$model" $short --steps 100000 --save-every 100000 \
    -o "$dir/stop" >/dev/null 2>"$dir/err" &
pid=$!
n=0
while [ $n -lt 100 ] && ! grep -q '"step":2,' "$dir/stop/log.jsonl" 2>/dev/null
do
    sleep 0.1
    n=$((n + 1))
done
kill -INT $pid
wait $pid
[ $? -eq 130 ] || fail "exit of an interrupted run"
has "$dir/err" "--resume"
[ "$(ls "$dir/stop/checkpoints")" != "" ] || fail "no state after Ctrl-C"
[ "$(ls "$dir/stop/.cache" | grep -c '^tokens-.*\.bin$')" -ge 1 ] ||
    fail "tokens are not kept with the run"
[ ! -e "$dir/stop/adapter_model.safetensors" ] || fail "looks finished"
status 2 "$bise" finetune "$model" $short --lr 5e-4 --steps 100000 \
    -o "$dir/stop" --resume
has "$dir/err" "'lr' is 0.0005"

# Bad input, one line each.
status 2 "$bise" finetune "$model" -o "$dir/x"
has "$dir/err" "no training data"
status 2 "$bise" finetune "$model" $short
has "$dir/err" "no output"
status 2 "$bise" finetune "$model" $short --lora-rank 8 -o "$dir/x"
has "$dir/err" "--lora-r"
status 2 "$bise" finetune "$model" $short --lr 99 -o "$dir/x"
has "$dir/err" "allowed is 0 to 10"
status 2 "$bise" finetune "$model" $short --batch 0 -o "$dir/x"
has "$dir/err" "512"
echo 'lora_rnk: 8' >"$dir/bad.yaml"
status 1 "$bise" finetune "$model" $short --config "$dir/bad.yaml" -o "$dir/x"
has "$dir/err" "unknown setting 'lora_rnk'"
has "$dir/err" "bad.yaml"
status 1 "$bise" finetune "$dir/none" $short -o "$dir/x"
has "$dir/err" "none"
{ head -6 "$dir/train.jsonl"; echo '{"text": oops}'; } >"$dir/row.jsonl"
status 1 "$bise" finetune "$model" --data "$dir/row.jsonl" -o "$dir/x" --json
has "$dir/out" "row.jsonl:7"
has "$dir/out" '"error"'
status 2 "$bise" finetune "$model" $short --target nothing_proj -o "$dir/x"
has "$dir/err" "nothing_proj"
status 1 "$bise" finetune "$model" $short --memory 100K -o "$dir/x"
has "$dir/err" "may be used"
[ ! -e "$dir/x" ] || fail "bad input left an output behind"

# The plan reads no weights and writes nothing.
status 0 "$bise" finetune "$model" $short -o "$dir/x" --plan
has "$dir/out" "memory peak"
has "$dir/out" "steps              8"
[ ! -e "$dir/x" ] || fail "--plan wrote something"

# No room: the run fails with the reason, and nothing looks whole.
(ulimit -f 40; exec "$bise" finetune "$model" $short --lora-r 64 \
    --target all-linear -o "$dir/full") >"$dir/out" 2>"$dir/err"
[ $? -eq 1 ] || fail "exit with a full disk"
grep -qiE 'large|space' "$dir/err" || { fail "full disk"; cat "$dir/err"; }
[ ! -e "$dir/full/adapter_model.safetensors" ] || fail "full disk: looks whole"
[ "$(find "$dir/full/checkpoints" -name optimizer.safetensors | wc -l)" -eq 0 ] ||
    fail "full disk: a checkpoint looks whole"

# The report again.
rm "$dir/whole/report.html"
status 0 "$bise" report "$dir/whole"
has "$dir/out" "report.html"
[ -s "$dir/whole/report.html" ] || fail "no report"
status 1 "$bise" report "$dir"
exit $failed

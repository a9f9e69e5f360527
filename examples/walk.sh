#!/usr/bin/env bash
# walk.sh - the whole walk on the embedded model: fine-tune, merge, quantize,
# pack, verify, answer; then a report of what came out. Called by ./quickstart
# with the program; everything goes to build/walk/ (made anew each time).
#   walk.sh [build/bise]
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
bise=${1:-$top/build/bise}
# below the top folder, so that what is printed is short
cd "$top" || exit 1
model=examples/tiny-mistral3
data=examples/sql
out=build/walk
start=$(date +%s)
rm -rf "$out" && mkdir -p "$out" || exit 1

die() { echo "walk: $*" >&2; exit 1; }
# run STEP COMMAND...: show the command as a user would type it, then run it.
run() {
    title=$1; shift
    printf '\n== %s\n' "$title"
    printf ' %s' "$@" | sed "s|$top/||g; s|^ build/bise|bise|" | fold -sw 74 |
        sed '1s/^/   /; 1!s/^/       /; $!s/ *$/ \\/'
    printf '\n'
    "$@" || die "$title failed"
}
# number FILE KEY: a number out of a one-line JSON result.
number() { sed -n "s/.*\"$2\":\([-0-9.e+]*\).*/\1/p" "$1"; }

question='table: 1-10015132-11
columns: Player, No., Nationality, Position, Years in Toronto, School/Club Team
Q: What position does the player number 21 play?
A:'

run "what the model is" "$bise" inspect "$model"
"$bise" --json --quiet eval "$model" --data "$data/valid.jsonl" \
    >"$out/eval-base.json" || die "eval of the base failed"
"$bise" --json --quiet eval "$model" --data "$model/valid.txt" --chunks 16 \
    >"$out/ppl-base.json" || die "perplexity of the base failed"
run "fine-tune with LoRA on text-to-SQL" "$bise" finetune "$model" \
    --data "$data/train.jsonl" --eval-data "$data/valid.jsonl" \
    -o "$out/adapter" --lora-r 8 --lora-alpha 16 --lr 1e-3 --steps 100 --eval-every 50 \
    --batch 8 --warmup 6
run "merge the adapter into the weights" "$bise" merge "$model" \
    --adapter "$out/adapter" -o "$out/merged"
run "quantize, adapter applied on the way" "$bise" quantize "$model" \
    --adapter "$out/adapter" --type Q4_K_M -o "$out/sql-Q4_K_M.gguf"
run "convert to GGUF without loss" "$bise" convert "$out/merged" \
    -o "$out/sql-BF16.gguf"
run "pack for shipping" "$bise" pack "$out/merged" \
    -o "$out/sql.tar.zst"
run "release for the Hub" "$bise" release "$out/merged" "$out/adapter" \
    "$out/sql-Q4_K_M.gguf" -o "$out/release" --repo you/tiny-sql \
    --base you/tiny-mistral3 --require-licence apache-2.0
run "verify the archive" "$bise" verify "$out/sql.tar.zst"
for what in "$out/merged" "$out/sql-Q4_K_M.gguf"; do
    name=$(basename "$what")
    "$bise" --json --quiet eval "$what" --data "$data/valid.jsonl" \
        >"$out/eval-$name.json" || die "eval of $name failed"
    "$bise" --json --quiet eval "$what" --data "$model/valid.txt" --chunks 16 \
        >"$out/ppl-$name.json" || die "perplexity of $name failed"
done

answer() {
    "$bise" --quiet generate "$1" -p "$question" -n 32 --temp 0 2>&1 |
        head -n 1 | cut -c1-66
}
size() { du -sb "$1" | awk '{printf "%9.2f MB", $1 / 1e6}'; }

printf '\n== report (%s s)\n\n' $(($(date +%s) - start))
printf '%-28s %12s %10s %12s\n' artefact size "SQL loss" "prose PPL"
row() {
    printf '%-28s %12s %10.3f %12.2f\n' "$1" "$(size "$2")" \
        "$(number "$3" loss)" "$(number "$4" ppl)"
}
row "base (tiny-mistral3)" "$model/model.safetensors" "$out/eval-base.json" \
    "$out/ppl-base.json"
printf '%-28s %12s\n' "adapter" "$(size "$out/adapter/adapter_model.safetensors")"
row "merged" "$out/merged/model.safetensors" "$out/eval-merged.json" \
    "$out/ppl-merged.json"
row "sql-Q4_K_M.gguf" "$out/sql-Q4_K_M.gguf" "$out/eval-sql-Q4_K_M.gguf.json" \
    "$out/ppl-sql-Q4_K_M.gguf.json"
printf '%-28s %12s\n' "sql-BF16.gguf" "$(size "$out/sql-BF16.gguf")"
printf '%-28s %12s\n' "sql.tar.zst" "$(size "$out/sql.tar.zst")"

printf '\nquestion  %s\n' "What position does the player number 21 play?"
printf 'base      %s\n' "$(answer "$model")"
printf 'tuned     %s\n' "$(answer "$out/merged")"
printf 'Q4_K_M    %s\n' "$(answer "$out/sql-Q4_K_M.gguf")"
printf 'archive   %s\n' "$(answer "$out/sql.tar.zst")"

# The same file in the real engine, when it can be had.
python=${BISE_JUDGES:-$top/build/engine/bin/python}
if ! "$python" -c 'import xllamacpp' 2>/dev/null; then
    python=$top/build/engine/bin/python
    { python3 -m venv "$top/build/engine" &&
      "$top/build/engine/bin/pip" install -q xllamacpp; } >/dev/null 2>&1
fi
if "$python" -c 'import xllamacpp' 2>/dev/null; then
    printf 'llama.cpp %s\n' "$("$python" "$here/llama_cpp_answer.py" \
        "$out/sql-Q4_K_M.gguf" "$question" 32 2>/dev/null | head -n 1 | cut -c1-66)"
else
    printf 'llama.cpp skipped: xllamacpp (PyPI) cannot be installed here\n'
fi

cat <<END

curves    build/walk/adapter/report.html
with your own model and data:
  build/bise data check my.jsonl --model MODEL_DIR
  build/bise finetune MODEL_DIR --data my.jsonl -o adapter
  build/bise quantize MODEL_DIR --adapter adapter --type Q4_K_M -o my.gguf
  build/bise generate my.gguf -p "..."
MODEL_DIR is a folder as downloaded from the Hugging Face Hub.
END

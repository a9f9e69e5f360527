#!/bin/sh
# deploy.sh - the recipes of docs/deploy.md that can run here are run as they
# stand: each block after a line "<!-- run: NAME -->". What needs a judge
# (BISE_JUDGES, a python with xllamacpp, litellm, peft, model_signing) or a
# tool that is not here is skipped by name.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=$(cd "${top_srcdir:-.}" && pwd)
top_builddir=$(cd "${top_builddir:-build}" && pwd)
python=${BISE_JUDGES:-python3}
page=$top_srcdir/docs/deploy.md
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/log" 2>/dev/null; exit 1; }
PATH=$top_builddir:$(dirname "$(command -v "$python")"):$PATH
HF_HUB_OFFLINE=1 LITELLM_LOCAL_MODEL_COST_MAP=True
export PATH HF_HUB_OFFLINE LITELLM_LOCAL_MODEL_COST_MAP
cd "$dir" || exit 1
cp -r "$top_srcdir/examples/tiny-mistral3" base
bise -q finetune base --data "$top_srcdir/examples/sql/valid.jsonl" \
    --lora-r 4 --steps 2 --batch 2 -o adapter >log 2>&1 || fail finetune

# block NAME: the code after its mark
block() {
    awk -v mark="<!-- run: $1 -->" '
        $0 == mark {on = 1; next}
        on == 1 && /^```/ {on = 2; next}
        on == 2 && /^```/ {exit}
        on == 2 {print}' "$page"
}
can() { "$python" -c "import $1" 2>/dev/null; }
skip() { echo "skipped: $1: $2"; }
recipe() { # NAME INTERPRETER
    block "$1" >"block.$1"
    [ -s "block.$1" ] || fail "docs/deploy.md has no block $1"
    $2 "block.$1" >log 2>&1 || fail "recipe $1"
    echo "recipe $1: $(grep -v '^ *$' log | tail -n 1 | cut -c1-60)"
}
recipe make "sh -e"
if can model_signing; then recipe sign "sh -e"; else skip sign model_signing; fi
if command -v zstd >/dev/null; then recipe unpack "sh -e"; else skip unpack zstd; fi
recipe vllm "sh -e"
if can peft; then recipe transformers "$python"; else skip transformers peft; fi
if can xllamacpp && can litellm; then recipe serve "$python"
else skip serve "xllamacpp, litellm"; fi
if command -v skopeo >/dev/null; then recipe oci "sh -e"; else skip oci skopeo; fi
marks=$(grep -c '^<!-- run: ' "$page")
[ "$marks" = 7 ] || fail "$marks blocks are marked, 7 are run"
exit 0

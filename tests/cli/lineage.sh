#!/bin/sh
# lineage.sh - licence, base, data, version and commands along the whole chain:
# finetune, merge, convert, quantize, adapter convert, pack, release; a missing
# or other licence is told by each and an error with --require-licence.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
tiny=$top_srcdir/examples/tiny-mistral3
rows=$top_srcdir/examples/sql/valid.jsonl
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
. "$top_srcdir/tests/cli/same.inc"
bise_at=$(cd "$top_builddir" && pwd)/bise
rows_at=$(cd "$top_srcdir/examples/sql" && pwd)/valid.jsonl
quiet=-q
ok() { "$bise" $quiet "$@" >"$dir/out" 2>"$dir/err" || fail "bise $*"; }
is() { # file, key, value
    got=$(st_meta "$1" "$2")
    [ "$got" = "$3" ] || fail "$2 of $1 is '$got', not '$3'"
}
# an array or a text of a GGUF, as it stands in the file
has() { grep -a -q -e "$2" "$1" || fail "no '$2' in $1"; }
hasnt() { grep -a -q -e "$2" "$1" && fail "'$2' in $1"; :; }

# a model of the Hub with a base and data of its own
cp -r "$tiny" "$dir/tuna"
sed 's|^license:.*|&\nbase_model: acme/tuna-base\ndatasets:\n- acme/fish|' \
    "$tiny/README.md" >"$dir/tuna/README.md"
ok convert "$dir/tuna" -o "$dir/copy"
f=$dir/copy/model.safetensors
is "$f" format pt
is "$f" license apache-2.0
is "$f" base_model acme/tuna-base
is "$f" datasets acme/fish
version=$(st_meta "$f" bise_version)
[ -n "$version" ] || fail "no version"
is "$f" bise_history "bise convert tuna  # bise $version"
# through GGUF and back, all facts stay and the commands add up
ok convert "$dir/copy" -o "$dir/tuna.gguf" --dtype bf16
has "$dir/tuna.gguf" 'https://huggingface.co/acme/tuna-base'
has "$dir/tuna.gguf" 'https://huggingface.co/datasets/acme/fish'
rm "$dir/copy/README.md"
ok convert "$dir/copy" -o "$dir/second"         # from __metadata__ alone
ok convert "$dir/tuna.gguf" -o "$dir/back" --dtype bf16
for d in second back; do
    is "$dir/$d/model.safetensors" license apache-2.0
    is "$dir/$d/model.safetensors" base_model acme/tuna-base
    is "$dir/$d/model.safetensors" datasets acme/fish
done
is "$dir/back/model.safetensors" bise_history "bise convert tuna  # bise \
$version\\nbise convert copy --dtype bf16  # bise $version"
same_st "$tiny/model.safetensors" "$dir/back/model.safetensors" weights

# an adapter says its base, data and settings; the same from run.yaml
ok finetune "$dir/tuna" --data "$rows" --steps 1 --batch 1 --lora-r 2 --seed 7 \
    -o "$dir/ad"
f=$dir/ad/adapter_model.safetensors
is "$f" license apache-2.0
is "$f" base_model tuna
is "$f" datasets valid.jsonl
train="bise finetune tuna --data valid.jsonl --lora-r 2 --steps 1 --batch 1 \
--seed 7  # bise $version"
is "$f" bise_history "$train"
ok finetune --config "$dir/ad/run.yaml" -o "$dir/ad2"
cmp "$f" "$dir/ad2/adapter_model.safetensors" || fail "run.yaml: another history"
ok adapter convert "$dir/ad" --to gguf --base "$dir/tuna" -o "$dir/ad.gguf"
has "$dir/ad.gguf" "general.license"
has "$dir/ad.gguf" "$train"
ok adapter convert "$dir/ad.gguf" --to peft --base "$dir/tuna" -o "$dir/ad3"
is "$dir/ad3/adapter_model.safetensors" datasets valid.jsonl
ok adapter convert "$dir/ad" --to mlx -o "$dir/mlx"
is "$dir/mlx/adapters.safetensors" license apache-2.0

# patterns are written as the options take them: the line runs again
ok finetune "$dir/tuna" --data "$rows" --steps 1 --batch 1 --lora-r 2 \
    --rank-pattern q_proj=4 --alpha-pattern k_proj=0.5 -o "$dir/adp"
f=$dir/adp/adapter_model.safetensors
line=$(st_meta "$f" bise_history)
case $line in
*"--rank-pattern q_proj=4 --alpha-pattern k_proj=0.5"*) ;;
*) fail "patterns: $line" ;;
esac
line=${line#bise } && line=${line%%  #*}
# shellcheck disable=SC2086
(cd "$dir" && cp "$rows_at" valid.jsonl && "$bise_at" -q $line -o adq) \
    >"$dir/out" 2>"$dir/err" || fail "the recorded command does not run: $line"
cmp "$f" "$dir/adq/adapter_model.safetensors" || fail "the recorded command"

# a base known by its path is told by its name
cp -r "$dir/ad" "$dir/adpath"
sed 's|\("base_model_name_or_path": *"\)[^"]*|\1/home/joe/models/Mine|' \
    "$dir/ad/adapter_config.json" >"$dir/adpath/adapter_config.json"
for to in gguf peft mlx; do
    ok adapter convert "$dir/adpath" --to $to --base "$dir/tuna" -o "$dir/p.$to"
    grep -r -a -q "home/joe" "$dir/p.$to" && fail "a path in $to"
    grep -r -a -q "Mine" "$dir/p.$to" || fail "no base in $to"
done
# settings beside an archive are not those of the adapter in it
mkdir "$dir/bare" && cp "$dir/ad/adapter_model.safetensors" "$dir/bare"
cp "$dir/ad/adapter_config.json" "$dir"
ok pack "$dir/bare/adapter_model.safetensors" -o "$dir/bare.tar.zst"
"$bise" -q merge "$dir/tuna" --adapter "$dir/bare.tar.zst" -o "$dir/no" \
    >"$dir/out" 2>"$dir/err" && fail "took the settings of a stranger"
grep -q "adapter_config.json" "$dir/err" || fail "no reason"
# two models in a folder are no one model, but have terms
mkdir "$dir/two" && cp "$dir/tuna.gguf" "$dir/two/a.gguf"
cp "$dir/tuna.gguf" "$dir/two/b.gguf"
"$bise" -q pack "$dir/two" -o "$dir/two.tar.zst" --require-licence apache-2.0 \
    >"$dir/out" 2>"$dir/err" && fail "packed without reading the terms"
grep -q "apache-2.0' is required" "$dir/err" || fail "pack: no reason"

# merged: the model is the base now, whatever its card says
ok merge "$dir/tuna" --adapter "$dir/ad:0.5" --adapter "$dir/ad2" -o "$dir/m"
f=$dir/m/model.safetensors
is "$f" base_model tuna
is "$f" adapters 2
is "$f" datasets "acme/fish, valid.jsonl"
is "$f" bise_history "$train\\nbise merge tuna --adapter ad:0.5 --adapter ad2  \
# bise $version"
ok release "$dir/m" -o "$dir/r" --repo acme/sum --base acme/tuna
grep -q '^base_model_relation: merge$' "$dir/r/README.md" || fail relation
grep -q '^base_model: acme/tuna$' "$dir/r/README.md" || fail base
grep -q '^- acme/fish$' "$dir/r/README.md" || fail datasets
grep -qF "$train" "$dir/r/README.md" || fail "the card has no commands"
grep -qF '"bise merge tuna --adapter ad:0.5 --adapter ad2' \
    "$dir/r/provenance.json" || fail "no commands in the provenance"
grep -rlF "$dir" "$dir/r" && fail "a path was published"
ok merge "$dir/tuna" --adapter "$dir/ad" -o "$dir/one"
ok release "$dir/one" -o "$dir/r1" --repo acme/one --base acme/tuna
grep -q '^base_model_relation: finetune$' "$dir/r1/README.md" || fail finetune
# quantized from it: still two adapters, who quantized, all commands
ok quantize "$dir/m" --type Q8_0 -o "$dir/m.gguf"
has "$dir/m.gguf" general.quantized_by
has "$dir/m.gguf" "bise quantize m --type Q8_0"
has "$dir/m.gguf" "$train"
ok release "$dir/m.gguf" -o "$dir/r2" --repo acme/q --base acme/tuna
grep -q '^base_model_relation: merge$' "$dir/r2/README.md" || fail "merge, GGUF"
grep -qF 'bise quantize m --type Q8_0' "$dir/r2/provenance.json" ||
    fail "no quantize in the provenance"
# the user may take it out
ok convert "$dir/m.gguf" -o "$dir/bare.gguf" --remove-kv bise.history
hasnt "$dir/bare.gguf" "bise finetune"

# other terms and none: told by every command that writes, kept, refused
mkdir "$dir/t"
quiet=
for terms in mrl unknown; do
    rm -rf "$dir/t"; cp -r "$tiny" "$dir/t"
    sed '/^license:/d' "$tiny/README.md" >"$dir/t/README.md"
    rm -f "$dir/t"/LICENSE*
    [ $terms = unknown ] || sed "s|^license:.*|license: other\nlicense_name: mrl|" \
        "$tiny/README.md" >"$dir/t/README.md"
    rm -rf "$dir/x" "$dir/x."* "$dir/y"
    ok finetune "$dir/t" --data "$rows" --steps 1 --batch 1 --lora-r 2 -o "$dir/y"
    grep -q "licence of t is .*$terms" "$dir/err" || fail "finetune: $terms"
    for command in "convert $dir/t -o $dir/x" "quantize $dir/t --type Q8_0 -o \
$dir/x.gguf" "merge $dir/t --adapter $dir/ad -o $dir/x.m" "finetune $dir/t --data \
$rows --steps 1 --batch 1 -o $dir/x.f" "pack $dir/t -o $dir/x.tar.zst" "pack --oci \
$dir/t -o $dir/x.oci" "adapter convert $dir/y --to mlx -o $dir/x.a" "release $dir/t \
-o $dir/x.r --repo a/b --base a/c" "merge $tiny --adapter $dir/y -o $dir/x.n"; do
        # shellcheck disable=SC2086
        "$bise" -q $command --require-licence apache-2.0 >"$dir/out" \
            2>"$dir/err" && fail "accepted $terms: $command"
        grep -q "apache-2.0' is required" "$dir/err" || fail "$command"
        out=${command#* -o }; out=${out%% *}
        [ ! -e "$out" ] || [ "${command%% *}" = finetune ] ||
            fail "$command left $out"
        # shellcheck disable=SC2086
        ok $command
        grep -q "licence.*$terms\|$terms.*licence\|no licence" "$dir/err" ||
            fail "no warning of $terms: $command"
    done
    case $terms in
    mrl) want="not Apache-2.0" ;;
    *) want=unknown ;;
    esac
    is "$dir/x/model.safetensors" license_warning "$want"
    is "$dir/x.f/adapter_model.safetensors" license_warning "$want"
    is "$dir/x.a/adapters.safetensors" license_warning "$want"
    has "$dir/x.gguf" "bise.license.warning"
    has "$dir/x.gguf" "$want"
    case $terms in              # the adapter's terms reach the merged model
    mrl) is "$dir/x.n/model.safetensors" license mrl ;;
    *) is "$dir/x.n/model.safetensors" license_warning "an adapter's is unknown" ;;
    esac
done
# a LICENSE file speaks where the card does not
cp "$top_srcdir/COPYING" "$dir/t/LICENSE"
ok convert "$dir/t" -o "$dir/l" --require-licence apache-2.0
exit 0

#!/bin/sh
# no_network.sh - no command makes a network call: every one is run under
# strace on the embedded model.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-build}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
rows=$top_srcdir/examples/sql/valid.jsonl
command -v strace >/dev/null || { echo "skipped: no strace"; exit 77; }
strace -o /dev/null true 2>/dev/null || { echo "skipped: strace may not trace"; exit 77; }
[ -z "$BISE_SAN" ] || { echo "skipped: a build with sanitizers"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; cat "$dir/err" 2>/dev/null; exit 1; }
seen=" "
calm() {
    strace -f -qq -e trace=network -o "$dir/calls" "$bise" -q "$@" \
        </dev/null >"$dir/out" 2>"$dir/err" || fail "bise $*"
    grep -q "(" "$dir/calls" && fail "bise $*: $(head -n 1 "$dir/calls")"
    seen="$seen$1 "
}
calm inspect "$model"
calm convert "$model" -o "$dir/c"
calm quantize "$model" --type Q4_K_M -o "$dir/q.tar.zst"
calm finetune "$model" --data "$rows" --steps 1 --batch 1 -o "$dir/a"
calm report "$dir/a"
calm merge "$model" --adapter "$dir/a" -o "$dir/m"
calm calibrate "$model" --data "$model/valid.txt" --chunks 1 -o "$dir/i.gguf"
calm eval "$model" --data "$model/valid.txt" --chunks 1
calm generate "$model" -p Bonjour -n 2
calm chat "$model"
echo "Bonjour" >"$dir/says"
strace -f -qq -e trace=network -o "$dir/calls" "$bise" -q chat "$model" -n 2 \
    <"$dir/says" >"$dir/out" 2>"$dir/err" || fail "chat with a turn"
grep -q "(" "$dir/calls" && fail "chat: $(head -n 1 "$dir/calls")"
calm help convert
calm tokenize "$model" Bonjour
calm data check "$rows" --model "$model"
calm data show "$rows" --model "$model" -n 1
calm adapter check "$dir/a"
calm adapter convert "$dir/a" --to gguf --base "$model" -o "$dir/a.gguf"
calm release "$dir/m" "$dir/a" -o "$dir/r" --repo acme/tiny --base acme/base
calm pack "$dir/c" -o "$dir/p.tar.zst"
calm pack "$dir/c" -o "$dir/oci" --oci
calm unpack "$dir/p.tar.zst" -o "$dir/u"
calm verify "$dir/p.tar.zst"
if command -v openssl >/dev/null; then
    openssl genpkey -algorithm ed25519 -out "$dir/k.pem" 2>/dev/null
    openssl pkey -in "$dir/k.pem" -pubout -out "$dir/pub.pem"
    calm sign "$dir/m" --key "$dir/k.pem"
    calm verify "$dir/m" --key "$dir/pub.pem"
else
    seen="${seen}sign "
fi
# a command that is added later must be added here
for c in $("$bise" --help | awk '/^commands:/ {on = 1; next} /^$/ {on = 0}
                                 on && /^  [a-z]/ {print $1}'); do
    case $seen in
    *" $c "*) ;;
    *) [ "$c" = help ] || fail "$c was not tried" ;;
    esac
done
exit 0

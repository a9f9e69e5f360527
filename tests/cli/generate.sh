#!/bin/sh
# generate.sh - `bise generate` and `bise chat` on the embedded model: the
# greedy text of the reference engine, repeatable draws, chat turns.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
fail() { echo "FAIL: $*"; exit 1; }

# greedy_ids_f32 of expected.json (64 tokens by llama.cpp), decoded.
again="He was not in the least. "
want="’s eyes were fixed on the face of the man’s face. He was not in the least \
attachment, but he was not in the least. $again$again$again${again}\
He was not in the"
text=$("$bise" generate "$model" -p "The old man" -n 64 --quiet) ||
    fail "generate"
test "$text" = "$want" || fail "greedy '$text', want '$want'"

a=$("$bise" generate "$model" -p "Once" -n 30 --temp 1 --seed 4 --quiet)
b=$("$bise" generate "$model" -p "Once" -n 30 --temp 1 --seed 4 --quiet \
    --threads 1)
c=$("$bise" generate "$model" -p "Once" -n 30 --temp 1 --seed 5 --quiet)
test "$a" = "$b" || fail "the same seed gives '$a' and '$b'"
test "$a" != "$c" || fail "two seeds give '$a'"

out=$("$bise" generate "$model" -p "Once" -n 5 --quiet --json) || fail json
case $out in
*'"tokens":5'*'"text":'* | *'"text":'*'"tokens":5'*) ;;
*) fail "json: $out" ;;
esac

out=$("$bise" generate "$model" -p "Hello" -n 8 --chat --quiet) || fail chat
out=$(printf 'Hello\n\nAgain\n' | "$bise" chat "$model" -n 8 --quiet --json) ||
    fail "chat"
case $out in
*'"role":"user"'*'"role":"assistant"'*'"content":"Again"'*) ;;
*) fail "chat: $out" ;;
esac
"$bise" generate "$model" -p "x" --temp=-1 --quiet >/dev/null 2>&1 &&
    fail "negative temperature accepted"
"$bise" generate "$model" -p "x" --top-p 2 --quiet >/dev/null 2>&1 &&
    fail "top-p of 2 accepted"
echo PASS

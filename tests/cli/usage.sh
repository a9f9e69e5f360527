#!/bin/sh
# usage.sh - what cli.md promises of the command line as a whole: exit codes,
# where output goes, --json also on failure, nearest names, -- and =, quiet.
set -u
bise=$top_builddir/bise
model=$top_srcdir/examples/tiny-mistral3
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
fail() { echo "FAIL: $*"; bad=1; }

# expect CODE COMMAND...: run with stdout and stderr in files, compare the code.
expect() {
    want=$1; shift
    "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    [ "$got" = "$want" ] || fail "exit $got, not $want: $*: $(cat "$tmp/err")"
}
in_err() { grep -qF -- "$1" "$tmp/err" || fail "stderr lacks '$1': $(cat "$tmp/err")"; }
in_out() { grep -qF -- "$1" "$tmp/out" || fail "stdout lacks '$1': $(cat "$tmp/out")"; }
no_out() { [ ! -s "$tmp/out" ] || fail "stdout is not empty: $(cat "$tmp/out")"; }

expect 2 "$bise"
in_err "usage: bise"
no_out
expect 0 "$bise" --help
in_out "commands:"
expect 0 "$bise" help
in_out "commands:"
expect 0 "$bise" --version
in_out "cpu level"
in_out "compiler"
expect 2 "$bise" quantise
in_err "unknown command 'quantise'"
in_err "did you mean 'quantize'?"
no_out
expect 2 "$bise" quantize --tpye Q4_K
in_err "unknown option '--tpye'"
in_err "did you mean '--type'?"
expect 2 "$bise" --threads 0 inspect "$model"
in_err "--threads is 0"
expect 2 "$bise" --threads many inspect "$model"
in_err "a whole number"
expect 2 "$bise" convert
in_err "needs"
expect 2 "$bise" inspect "$model" extra words
in_err "unexpected argument"

# one JSON object on stdout, also on failure
expect 2 "$bise" --json quantise
in_out '"error"'
in_out '"status":"usage"'
in_out '"message":"unknown command'
[ "$(wc -l <"$tmp/out")" = 1 ] || fail "more than one line of JSON"
[ ! -s "$tmp/err" ] || fail "an error under --json also went to stderr"
expect 1 "$bise" --json inspect "$tmp/nothing"
in_out '"path"'
in_out "$tmp/nothing"
expect 0 "$bise" --json inspect "$model"
in_out '"seconds"'
in_out '"peak_rss_bytes"'
[ "$(wc -l <"$tmp/out")" = 1 ] || fail "more than one line of JSON"

# a path that is not a model is an error with its name, exit 1
expect 1 "$bise" inspect "$tmp/nothing"
in_err "$tmp/nothing"
expect 1 "$bise" convert "$tmp/nothing" -o "$tmp/x.gguf"
[ ! -e "$tmp/x.gguf" ] || fail "an output of a failed run"
[ ! -e "$tmp/x.gguf.part" ] || fail "a partial output of a failed run"

# both spellings of values; -- ends options; --quiet is quiet
expect 0 "$bise" convert "$model" --dtype=bf16 -o "$tmp/a.gguf" --quiet
[ ! -s "$tmp/err" ] || fail "--quiet printed: $(cat "$tmp/err")"
expect 0 "$bise" --threads=1 convert --dtype bf16 -o "$tmp/b.gguf" -- "$model"
cmp -s "$tmp/a.gguf" "$tmp/b.gguf" || fail "threads changed the output"
expect 1 "$bise" convert "$model" -o "$tmp/a.gguf"
in_err "output exists already"
in_err "--force"
expect 0 "$bise" --force convert "$model" -o "$tmp/a.gguf"
expect 2 "$bise" convert "$model" -o
in_err "needs a value"

# stdout that cannot be written is an error
if [ -w /dev/full ]; then
    "$bise" --help >/dev/full 2>"$tmp/err" && fail "a full stdout passed"
    in_err "cannot write to stdout"
fi

# every command answers --help
for c in $("$bise" --help | awk '/^commands:/ {on = 1; next} /^$/ {on = 0} on && /^  [a-z]/ {print $1}'); do
    expect 0 "$bise" "$c" --help
    in_out "usage: bise $c"
    expect 0 "$bise" help "$c"
    in_out "usage: bise $c"
done
[ $bad = 0 ] && echo "the command line keeps its promises"
exit $bad

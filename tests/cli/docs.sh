#!/bin/sh
# docs.sh - the man page and the completions name every command and option
# that --help lists, render without complaint, and shells accept them.
set -u
bise=$top_builddir/bise
man=$top_builddir/docs/bise.1
fail() { echo "FAIL: $*"; exit 1; }
[ -s "$man" ] || fail "no man page"
commands=$("$bise" --help | awk '/^commands:/ {on = 1; next} /^$/ {on = 0} on && /^  [a-z]/ {print $1}')
[ -n "$commands" ] || fail "no commands in --help"
for c in $commands; do
    grep -q "^\.SS bise $c" "$man" || fail "man page lacks $c"
    for f in bise.bash _bise bise.fish; do
        grep -q "\b$c\b" "$top_builddir/docs/$f" || fail "$f lacks $c"
    done
    for o in $("$bise" "$c" --help | sed -n 's/^  \(-[a-z], \)\{0,1\}--\([a-z0-9-]*\).*/\2/p'); do
        e=$(printf '%s' "$o" | sed 's/-/\\\\-/g')
        grep -q -- "$e" "$man" || fail "man page lacks $c --$o"
        grep -q -- "--$o" "$top_builddir/docs/bise.bash" ||
            fail "bash completion lacks --$o"
    done
    wide=$("$bise" "$c" --help | awk 'length($0) > 80' | head -n 1)
    [ -z "$wide" ] || fail "$c --help is wider than 80 columns: $wide"
done
if command -v bash >/dev/null; then
    bash -n "$top_builddir/docs/bise.bash" || fail "bash syntax"
fi
if command -v groff >/dev/null; then
    out=$(groff -man -Tascii -ww "$man" 2>&1 >/dev/null)
    [ -z "$out" ] || fail "groff: $out"
fi
echo "docs name $(echo "$commands" | wc -w) commands"

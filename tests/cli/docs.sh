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
# what the shells make of them: an option, a command, a letter
offers() { # shell, line, word expected, words offered
    case " $4 " in *" $3 "*) ;; *) fail "$1: '$2' does not offer $3: $4" ;; esac
}
if command -v bash >/dev/null; then
    try() { bash -c ". '$top_builddir/docs/bise.bash'
        COMP_WORDS=($1); COMP_CWORD=$2; _bise; echo \"\${COMPREPLY[@]}\""; }
    offers bash "bise qua" quantize "$(try 'bise qua' 1)"
    offers bash "bise quantize --ty" --type "$(try 'bise quantize --ty' 2)"
    offers bash "bise finetune -" -o "$(try 'bise finetune -' 2)"
fi
if command -v fish >/dev/null; then
    try() { HOME=${TMPDIR:-/tmp} fish -c "source '$top_builddir/docs/bise.fish'
        complete -C'$1'" 2>/dev/null | cut -f1 | tr '\n' ' '; }
    fish -n "$top_builddir/docs/bise.fish" || fail "fish syntax"
    offers fish "bise qua" quantize "$(try 'bise qua')"
    offers fish "bise quantize --ty" --type "$(try 'bise quantize --ty')"
    offers fish "bise finetune -" -o "$(try 'bise finetune -')"
fi
if command -v zsh >/dev/null; then
    zsh -n "$top_builddir/docs/_bise" || fail "zsh syntax"
    # _arguments and _describe need a terminal: take down what they are given
    try() { zsh -f -c "_describe() { print -rl -- \${commands%%:*} }
        _arguments() { print -rl -- \${@%%\\[*} }; _files() {}
        words=($1) CURRENT=$2; . '$top_builddir/docs/_bise'" | tr '\n' ' '; }
    offers zsh "bise qua" quantize "$(try 'bise qua' 2)"
    offers zsh "bise quantize --ty" --type "$(try 'bise quantize --ty' 3)"
    offers zsh "bise finetune -" -o "$(try 'bise finetune -' 3)"
fi
if command -v groff >/dev/null; then
    out=$(groff -man -Tascii -ww "$man" 2>&1 >/dev/null)
    [ -z "$out" ] || fail "groff: $out"
fi
echo "docs name $(echo "$commands" | wc -w) commands"

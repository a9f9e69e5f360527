#!/bin/sh
# deb.sh - make deb: packages whose program runs, whose library links by
# pkg-config, that hold what a Debian user looks for, twice the same.
# SPDX-License-Identifier: Apache-2.0
top_builddir=$(cd "${top_builddir:-build}" && pwd)
command -v dpkg-deb >/dev/null || { echo "skipped: no dpkg-deb"; exit 77; }
[ -z "$BISE_SAN" ] || { echo "skipped: a build with sanitizers"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"; rm -f "$top_builddir"/*.deb' EXIT
fail() { echo "FAIL: $*"; tail -n 5 "$dir/log" 2>/dev/null; exit 1; }
build() {
    make -C "$top_builddir" -s deb >"$dir/log" 2>&1 || fail "make deb"
    mkdir "$dir/$1"
    mv "$top_builddir"/bise_*.deb "$top_builddir"/libbise-dev_*.deb "$dir/$1" ||
        fail "no packages"
}
build one
build two
for f in "$dir"/one/*.deb; do
    cmp "$f" "$dir/two/$(basename "$f")" || fail "$(basename "$f") is not reproducible"
    dpkg-deb -x "$f" "$dir/root" || fail "extract"
done
dpkg-deb -f "$dir"/one/bise_*.deb Depends | grep -q "libzstd1" || fail Depends
dpkg-deb -c "$dir"/one/bise_*.deb | awk '{print $2}' | grep -qv "root/root" &&
    fail "files of another owner"
for f in bin/bise share/man/man1/bise.1.gz share/doc/bise/copyright \
    share/bash-completion/completions/bise share/zsh/site-functions/_bise \
    share/fish/vendor_completions.d/bise.fish lib/libbise.a \
    include/bise/core/error.h include/bise/formats/archive.h; do
    [ -s "$dir/root/usr/$f" ] || fail "no /usr/$f"
done
"$dir/root/usr/bin/bise" --version | grep -q "^bise " || fail "bise --version"
grep -rl "$top_builddir" "$dir/root/usr/share" "$dir/root/usr/lib/pkgconfig" &&
    fail "paths of the build"

# a program against the library
cat >"$dir/p.c" <<'END'
#include <stdio.h>
#include "deploy/verify.h"
#include "formats/archive.h"
#include "quantize/quantize.h"
int main(int argc, char **argv)
{
    puts(argc > 1 && bise_archive_probe(argv[1]) ? "archive" : "other");
    return 0;
}
END
PKG_CONFIG_PATH=$dir/root/usr/lib/pkgconfig
export PKG_CONFIG_PATH
flags=$(pkg-config --define-variable=prefix="$dir/root/usr" --cflags --libs bise) ||
    fail pkg-config
# shellcheck disable=SC2086
${CC:-cc} -o "$dir/p" "$dir/p.c" $flags >"$dir/log" 2>&1 || fail "link"
[ "$("$dir/p" "$dir/p.c")" = other ] || fail "run"
exit 0

#!/bin/sh
# make-deb.sh - Debian packages of a build: bise (program, man page,
# completions) and libbise-dev (library, headers, bise.pc). Run by `make deb`
# in the build folder; the packages appear there. Equal builds give equal
# packages: times are those of SOURCE_DATE_EPOCH, or of NEWS. Whoever publishes
# them signs with DEBFULLNAME and DEBEMAIL, as for Debian's own tools.
#   make-deb.sh SRCDIR VERSION
set -eu
srcdir=$1 version=$2
for tool in dpkg-deb dpkg; do
    command -v $tool >/dev/null || { echo "make deb: $tool is needed" >&2; exit 1; }
done
arch=$(dpkg --print-architecture)
: "${SOURCE_DATE_EPOCH:=$(stat -c %Y "$srcdir/NEWS")}"
export SOURCE_DATE_EPOCH
umask 022
stage=$PWD/deb.stage
rm -rf "$stage"
trap 'rm -rf "$stage"' EXIT
"${MAKE:-make}" install prefix=/usr DESTDIR="$stage/all" >"$PWD/deb.log" 2>&1 || {
    tail -5 "$PWD/deb.log" >&2; exit 1; }
rm -f "$PWD/deb.log"

# the development files apart
for f in include lib; do
    mkdir -p "$stage/dev/usr"
    [ ! -d "$stage/all/usr/$f" ] || mv "$stage/all/usr/$f" "$stage/dev/usr/"
done
sed -i 's|^prefix=.*|prefix=/usr|; s|^exec_prefix=.*|exec_prefix=${prefix}|
        s|^libdir=.*|libdir=${prefix}/lib|; s|^includedir=.*|includedir=${prefix}/include|' \
    "$stage/dev/usr/lib/pkgconfig/bise.pc"
strip --strip-unneeded -R .comment "$stage/all/usr/bin/bise"
strip --strip-debug "$stage/dev/usr/lib/libbise.a"
gzip -9n "$stage"/all/usr/share/man/man1/*.1

# libraries the program needs, as packages with their versions
mkdir -p "$stage/tmp/debian"
printf 'Source: bise\n\nPackage: bise\nArchitecture: any\n' >"$stage/tmp/debian/control"
depends=
if command -v dpkg-shlibdeps >/dev/null; then
    depends=$(cd "$stage/tmp" && dpkg-shlibdeps -O "$stage/all/usr/bin/bise" 2>/dev/null |
        sed -n 's/^shlibs:Depends=//p')
fi
[ -n "$depends" ] || depends=$(ldd "$stage/all/usr/bin/bise" | awk '$3 ~ /^\// {print $3}' |
    while read -r lib; do dpkg -S "$(realpath "$lib")" 2>/dev/null || dpkg -S "$lib"; done |
    sed 's/:.*//' | sort -u | paste -sd, | sed 's/,/, /g')

# finish NAME DEPENDS SECTION SUMMARY: licence, control, checksums, package
finish() {
    name=$1 root=$2
    doc=$root/usr/share/doc/$name
    mkdir -p "$doc" "$root/DEBIAN"
    {
        echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
        printf '\nFiles: *\nCopyright: the bise authors\nLicense: Apache-2.0\n'
        printf ' On Debian systems the full text is in\n /usr/share/common-licenses/Apache-2.0.\n'
    } >"$doc/copyright"
    gzip -9nc "$srcdir/NEWS" >"$doc/changelog.gz"
    size=$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
    cat >"$root/DEBIAN/control" <<END
Package: $name
Version: $version
Architecture: $arch
Maintainer: ${DEBFULLNAME:-the bise authors} <${DEBEMAIL:-bise@localhost}>
Installed-Size: $size
Depends: $3
Section: $4
Priority: optional
Description: $5
$6
END
    (cd "$root" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$root" "${name}_${version}_$arch.deb" >/dev/null
    echo "${name}_${version}_$arch.deb"
}
rm -rf "$stage/all/usr/share/doc"
finish bise "$stage/all" "$depends" science \
    "Mistral checkpoints on CPUs: LoRA, quantization, archives" \
    " Fine-tunes Apache-2.0 Mistral models with LoRA on ordinary processors,
 quantizes them with the same bytes as ggml, converts between layouts and
 packs archives that llama.cpp, vLLM, Ollama and the Hub deploy. No Python
 and no network connection."
finish libbise-dev "$stage/dev" \
    "libopenblas-dev, libzstd-dev, libarchive-dev, libjansson-dev, libpcre2-dev, libyaml-dev, libssl-dev, libprotobuf-c-dev" \
    libdevel "library and headers of bise" \
    " Static library, headers (which are its manual) and pkg-config file of
 bise, a program for Mistral checkpoints on CPUs."

#!/usr/bin/env python3
"""Decode what bise encodes with gguf-py, the Python package of llama.cpp.

usage: gguf_py_codecs.py

For every type that gguf.quants knows: rows of several kinds through
tests/codec_tool encode, then dequantized by gguf.quants and by codec_tool
decode at each CPU level; all must agree to the last bit where the package
computes in float32 in the same order, and to 1e-6 otherwise. Types that
gguf.quants can quantize are compared byte for byte too. Exits 77 without the
package or numpy. $top_builddir names the build folder.
"""
import os
import subprocess
import sys
import tempfile

ROWS, COLS = 8, 1024
LEVELS = ("ref", "avx2", "avx512")
DECODE = ("F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL "
          "IQ4_XS TQ1_0 TQ2_0 MXFP4").split()
ENCODE = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 TQ1_0 TQ2_0".split()


def inputs(rng):
    """Name and rows of a few kinds of input."""
    normal = rng.standard_normal((ROWS, COLS))
    yield "normal", normal * 0.02
    yield "zeros", np.where(rng.random((ROWS, COLS)) < 0.9, 0, normal)
    yield "outliers", np.where(rng.random((ROWS, COLS)) < 0.01, 30, normal)
    yield "positive", np.abs(normal) + 0.5
    yield "small", normal * 1e-3


def tool(folder, level, *args):
    """Run codec_tool; the bytes of its output file."""
    program = os.path.join(os.environ.get("top_builddir", "."),
                           "tests/codec_tool")
    out = os.path.join(folder, "out")
    subprocess.run([program, *args, out], check=True,
                   env=dict(os.environ, BISE_CPU=level))
    with open(out, "rb") as file:
        return file.read()


def encoded(folder, kind, rows, level):
    """Blocks of the rows by bise."""
    path = os.path.join(folder, "in")
    rows.tofile(path)
    return tool(folder, level, "encode", kind, str(ROWS), str(COLS), path)


def decoded(folder, kind, blocks, level):
    """Rows from blocks by bise."""
    path = os.path.join(folder, "blocks")
    with open(path, "wb") as file:
        file.write(blocks)
    out = tool(folder, level, "decode", kind, str(ROWS), str(COLS), path)
    return np.frombuffer(out, np.float32).reshape(ROWS, COLS)


def check_decode(folder, kind, name, blocks):
    """Differences between our decoders and the package's."""
    qtype = gguf.GGMLQuantizationType[kind]
    raw = np.frombuffer(blocks, np.uint8).reshape(ROWS, -1)
    want = gguf.quants.dequantize(raw, qtype).reshape(ROWS, COLS)
    bad = 0
    for level in LEVELS:
        got = decoded(folder, kind, blocks, level)
        scale = np.abs(want).max() or 1
        worst = np.abs(got - want).max() / scale
        if not worst <= 1e-6:
            bad += 1
            print("%s %s, %s: differs by %g of the largest value"
                  % (level, kind, name, worst))
    return bad


def check_encode(folder, kind, name, rows):
    """Differences between our encoders and the package's."""
    qtype = gguf.GGMLQuantizationType[kind]
    want = gguf.quants.quantize(rows, qtype).tobytes()
    bad = 0
    for level in LEVELS:
        got = encoded(folder, kind, rows, level)
        if got != want:
            bad += 1
            count = sum(a != b for a, b in zip(got, want))
            print("%s %s, %s: %d of %d bytes differ" % (level, kind, name,
                                                       count, len(want)))
    return bad


def known(kinds):
    """The kinds that the installed package has."""
    return [k for k in kinds if k in gguf.GGMLQuantizationType.__members__
            and gguf.GGMLQuantizationType[k] in gguf.quants._type_traits]


def main():
    """All types and inputs; number of differing cases."""
    rng, bad, cases = np.random.default_rng(11), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in inputs(rng):
            rows = np.ascontiguousarray(rows, dtype=np.float32)
            for kind in known(DECODE):
                blocks = encoded(folder, kind, rows, "avx512")
                bad += check_decode(folder, kind, name, blocks)
                cases += 1
            for kind in known(ENCODE):
                bad += check_encode(folder, kind, name, rows)
                cases += 1
    print("%d cases: %d differ" % (cases, bad))
    return bad > 0 or cases == 0


if __name__ == "__main__":
    try:
        import gguf
        import gguf.quants
        import numpy as np
    except ImportError as error:
        print("skipped: no gguf-py:", error)
        sys.exit(77)
    sys.exit(main())

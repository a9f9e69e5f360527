#!/usr/bin/env python3
"""The simple quantizers of gguf.md 5.2 written in numpy, against codec_tool.

usage: quant_by_formula.py

A third writing of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4 and BF16
from their formulas, so that the comparison needs no build of ggml: the bytes
must be equal on several kinds of rows, at each CPU level in turn. Exits 77 without
numpy. $top_builddir names the build folder.
"""
import os
import subprocess
import sys
import tempfile

ROWS, COLS = 16, 512
VALUES = (-127, -104, -83, -65, -49, -35, -22, -10,
          1, 13, 25, 38, 53, 69, 89, 113)
E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def half(d):
    """Little-endian float16 bytes of each scale."""
    return d.astype(np.float16).view(np.uint8).reshape(-1, 2)


def inverse(d):
    """1/d, 0 for a zero scale."""
    safe = np.where(d == 0, np.float32(1), d)
    return np.where(d == 0, np.float32(0), np.float32(1) / safe)


def signed_max(x):
    """Entry of largest magnitude of each block, the first of equals."""
    return x[np.arange(len(x)), np.abs(x).argmax(axis=1)]


def nibbles(q):
    """Codes j and j + 16 of each block in one byte."""
    q = q.astype(np.uint8)
    return (q[:, :16] & 15) | (q[:, 16:] & 15) << 4


def fifth_bits(q):
    """Bit 4 of 32 codes as four bytes."""
    bits = (q.astype(np.uint32) >> 4 & 1) << np.arange(32, dtype=np.uint32)
    return bits.sum(axis=1).astype("<u4").view(np.uint8).reshape(-1, 4)


def symmetric(x, half_range):
    """Scale and codes around half_range."""
    d = signed_max(x) / np.float32(-half_range)
    d = np.where(np.abs(x).max(axis=1) == 0, np.float32(-0.0), d)
    q = x * inverse(d)[:, None] + np.float32(half_range + 0.5)
    return d, np.minimum(q.astype(np.int32), 2 * half_range - 1)


def asymmetric(x, top):
    """Scale, minimum and codes of the range in top steps."""
    low = x.min(axis=1)
    d = (x.max(axis=1) - low) / np.float32(top)
    q = (x - low[:, None]) * inverse(d)[:, None] + np.float32(0.5)
    return d, low, np.minimum(q.astype(np.int32), top)


def q4_0(x):
    d, q = symmetric(x, 8)
    return np.hstack([half(d), nibbles(q)])


def q5_0(x):
    d, q = symmetric(x, 16)
    return np.hstack([half(d), fifth_bits(q), nibbles(q)])


def q4_1(x):
    d, low, q = asymmetric(x, 15)
    return np.hstack([half(d), half(low), nibbles(q)])


def q5_1(x):
    d, low, q = asymmetric(x, 31)
    return np.hstack([half(d), half(low), fifth_bits(q), nibbles(q)])


def q8_0(x):
    d = np.abs(x).max(axis=1) / np.float32(127)
    v = x * inverse(d)[:, None]
    q = np.where(v < 0, -np.floor(np.abs(v).astype(np.float64) + 0.5),
                 np.floor(np.abs(v).astype(np.float64) + 0.5))
    return np.hstack([half(d), q.astype(np.int8).view(np.uint8)])


def mxfp4(x):
    amax = np.abs(x).max(axis=1).astype(np.float64)
    safe = np.where(amax > 0, amax, 1)
    e = np.where(amax > 0, np.floor(np.log2(safe)) + 125, 0).astype(np.int64)
    scale = np.exp2(e - 128.0)
    err = np.abs(np.array(E2M1)[None, None] * scale[:, None, None]
                 - x[:, :, None].astype(np.float64))
    q = err.argmin(axis=2)      # the first of equals
    return np.hstack([e.astype(np.uint8)[:, None], nibbles(q)])


def iq4_index(v):
    """Nearest code book entry, the upper of two equally near."""
    table = np.array(VALUES, dtype=np.float64)
    middle = (table[:-1] + table[1:]) / 2
    return np.searchsorted(middle, v.astype(np.float64), side="right")


def iq4_fit(x, w, inv):
    """Sums of the fit for one inverse scale, in index order in float32."""
    q = np.array(VALUES, np.float32)[iq4_index(inv[:, None] * x)]
    qx, q2 = np.zeros(len(x), np.float32), np.zeros(len(x), np.float32)
    for i in range(x.shape[1]):
        qx = qx + w[:, i] * q[:, i] * x[:, i]
        q2 = q2 + w[:, i] * q[:, i] * q[:, i]
    return qx, q2


def iq4_nl(x):
    top = signed_max(x)
    live = np.abs(top) >= np.float32(1e-15)
    safe = np.where(live, top, np.float32(1))
    w = x * x
    qx, q2 = iq4_fit(x, w, np.float32(1) / (-safe / np.float32(VALUES[0])))
    d = np.where(q2 > 0, qx / np.where(q2 > 0, q2, 1), 0).astype(np.float32)
    best = d * qx
    for step in range(-7, 8):
        qx, q2 = iq4_fit(x, w, np.float32(step + VALUES[0]) / safe)
        take = (q2 > 0) & (qx * qx > best * q2)
        d = np.where(take, qx / np.where(q2 > 0, q2, 1), d)
        best = np.where(take, d * qx, best)
    d = np.where(live, d, np.float32(0)).astype(np.float32)
    return np.hstack([half(d), nibbles(iq4_index(inverse(d)[:, None] * x))])


def bf16(x):
    bits = x.view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype("<u2") \
        .view(np.uint8)


TYPES = {"Q4_0": (32, q4_0), "Q4_1": (32, q4_1), "Q5_0": (32, q5_0),
         "Q5_1": (32, q5_1), "Q8_0": (32, q8_0), "MXFP4": (32, mxfp4),
         "IQ4_NL": (32, iq4_nl), "BF16": (32, bf16)}


def inputs(rng):
    """Name and rows of a few kinds of input without subnormal scales."""
    normal = rng.standard_normal((ROWS, COLS))
    yield "normal", normal * 0.02
    yield "heavy tails", rng.standard_t(2, (ROWS, COLS))
    yield "zero blocks", np.where(np.arange(COLS) // 32 % 3, normal, 0)
    yield "ties", rng.integers(-8, 9, (ROWS, COLS)) / 8
    yield "positive", np.abs(normal) + 0.25
    yield "negative", -np.abs(normal) - 0.25
    yield "powers", np.exp2(rng.integers(-9, 4, (ROWS, COLS))) * np.sign(normal)


def bise(level, kind, folder):
    """Bytes of folder/in by codec_tool."""
    tool = os.path.join(os.environ.get("top_builddir", "."), "tests/codec_tool")
    subprocess.run([tool, "encode", kind, str(ROWS), str(COLS), folder + "/in",
                    folder + "/out"], check=True,
                   env=dict(os.environ, BISE_CPU=level))
    with open(folder + "/out", "rb") as file:
        return file.read()


def main():
    """Number of differing cases over types, inputs and levels."""
    rng, bad, cases = np.random.default_rng(3), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in inputs(rng):
            rows = np.ascontiguousarray(rows, dtype=np.float32)
            rows.tofile(folder + "/in")
            for kind, (block, encode) in TYPES.items():
                want = encode(rows.reshape(-1, block)).tobytes()
                level = ("ref", "avx2", "avx512")[cases % 3]
                got = bise(level, kind, folder)
                cases += 1
                if got != want:
                    bad += 1
                    count = sum(a != b for a, b in zip(got, want))
                    print("%s %s, %s: %d of %d bytes differ"
                          % (level, kind, name, count, len(want)))
    print("%d cases: %d differ" % (cases, bad))
    return bad > 0


if __name__ == "__main__":
    try:
        import numpy as np
    except ImportError as error:
        print("skipped: no numpy:", error)
        sys.exit(77)
    sys.exit(main())

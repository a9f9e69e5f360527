#!/usr/bin/env python3
"""Compare every encoder with the reference quantizers of ggml, byte for byte.

usage: oracle_codecs.py [--full] [--levels ref,avx2,avx512] [TYPE...]

Random rows of 16 kinds (normal, heavy tails, zeros, denormals, ...), with and
without importance, through tests/codec_tool and through ggml_oracle.py of
../shared/tools. --full takes 4,096 rows of each kind at every level, otherwise
32 rows, each case at one of the levels in turn (kernelcheck compares levels).
Exits 77 when the oracle or its packages are absent.
"""
import os
import subprocess
import sys
import tempfile

TYPES = ("F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL "
         "IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4").split()
COLS = 512


def kinds(rng, rows):
    """Name and rows of each of the 16 kinds of input."""
    shape = (rows, COLS)
    normal = rng.standard_normal(shape)
    mask = rng.random(shape)
    sign = np.where(np.arange(COLS) % 2, 1.0, -1.0)
    outlier = normal * 0.01
    outlier[np.arange(rows), rng.integers(0, COLS, rows)] = 50.0
    groups = np.where(rng.random((rows, COLS // 16)) < 0.5, 0.0, 1.0)
    yield "normal", normal * 0.02
    yield "heavy tails", rng.standard_t(2, shape) * 0.02
    yield "zeros", np.where(mask < 0.9, 0.0, normal)
    yield "all zero groups", normal * np.repeat(groups, 16, axis=1)
    yield "denormals", normal * 1e-40
    yield "outlier", outlier
    yield "constants", np.repeat(rng.standard_normal((rows, 1)), COLS, axis=1)
    yield "powers of two", np.exp2(rng.integers(-12, 3, shape)) * np.sign(normal)
    yield "alternating signs", np.abs(normal) * sign
    yield "tiny", normal * 1e-17
    yield "huge", normal * 1e6
    yield "positive", np.abs(normal) + 0.1
    yield "negative", -np.abs(normal) - 3.0
    yield "ties", rng.integers(-8, 9, shape) / 8
    yield "bf16 steps", (normal.astype(np.float32).view(np.uint32)
                         & 0xffff0000).view(np.float32) * 0.02
    yield "mixed scales", normal * np.exp2(rng.integers(-40, 10, shape))


def bise(level, kind, folder, rows, weighted):
    """Bytes of the rows in folder/in.f32 by codec_tool at a CPU level."""
    tool = os.path.join(os.environ.get("top_builddir", "."), "tests/codec_tool")
    command = [tool, "encode", kind, str(rows), str(COLS), folder + "/in.f32",
               folder + "/out"] + [folder + "/q.f32"] * weighted
    subprocess.run(command, check=True, env=dict(os.environ, BISE_CPU=level))
    return open(folder + "/out", "rb").read()


def compare(folder, types, levels, rows, every):
    """Differing cases over all types, kinds and levels."""
    rng, bad, lib = np.random.default_rng(7), 0, oracle.library()
    turn = 0
    q = (rng.random(COLS) * 4 + 0.01).astype(np.float32)
    q.tofile(folder + "/q.f32")
    for name, data in kinds(rng, rows):
        data = np.ascontiguousarray(data, dtype=np.float32)
        data.tofile(folder + "/in.f32")
        for kind in types:
            for weighted in (False, True):
                want = oracle.quantize(kind, data, q if weighted else None, lib)
                turn += 1
                for level in levels if every else [levels[turn % len(levels)]]:
                    got = bise(level, kind, folder, rows, weighted)
                    if got != want:
                        bad += 1
                        a, b = (np.frombuffer(v, np.uint8) for v in (want, got))
                        block = len(want) // (rows * COLS // 256)
                        differ = np.flatnonzero(a != b)
                        print("%s %s%s %s: %d bytes differ, first in group %d"
                              % (level, kind, " weighted" * weighted, name,
                                 len(differ), differ[0] // block))
    return bad


def main():
    """Parse arguments, compare, report."""
    args = sys.argv[1:]
    every = "--full" in args
    rows = 4096 if every else 32
    levels = "ref,avx2,avx512"
    if "--levels" in args:
        levels = args.pop(args.index("--levels") + 1)
    types = [a for a in args if not a.startswith("--")] or TYPES
    with tempfile.TemporaryDirectory() as folder:
        bad = compare(folder, types, levels.split(","), rows, every)
    print("%d types, %d rows of 16 kinds: %d differ" % (len(types), rows, bad))
    return bad > 0


if __name__ == "__main__":
    top = os.environ.get("top_srcdir", os.path.join(os.path.dirname(__file__), ".."))
    shared = os.environ.get("BISE_SHARED", os.path.join(top, "../shared"))
    sys.path.insert(0, os.path.join(shared, "tools"))
    try:
        import numpy as np
        import ggml_oracle as oracle
        oracle.library()
    except (ImportError, AttributeError, IndexError, OSError) as error:
        print("skipped: no ggml oracle:", error)
        sys.exit(77)
    sys.exit(main())

#!/usr/bin/env python3
"""Speed of every encoder on one core beside the reference quantizers of ggml.

usage: codecs_vs_ggml.py [--rounds N] [--level avx512] [--weighted] [TYPE...]

Both encode the same 256 x 4096 normal rows in turn, round after round; the
least CPU time of each counts. Prints million weights per second and the
ratio; the row "copy" is memcpy of the rows. Needs tests/codec_tool (in
$top_builddir or the working folder) and ../shared/tools/ggml_oracle.py with
its packages; exits 77 without them.
"""
import os
import subprocess
import sys
import tempfile
import time

TYPES = ("Q4_K Q5_K Q2_K Q6_K Q3_K IQ4_NL IQ4_XS Q4_0 Q8_0 MXFP4 Q4_1 Q5_0 "
         "Q5_1 NVFP4 TQ1_0 TQ2_0 F16 BF16").split()
ROWS, COLS = 256, 4096


def bise_ns(level, kind, folder, weighted):
    """CPU nanoseconds a weight, least of three encodings by codec_tool."""
    tool = os.path.join(os.environ.get("top_builddir", "."), "tests/codec_tool")
    command = [tool, "bench", kind, str(ROWS), str(COLS), folder + "/x", "3"]
    done = subprocess.run(command + [folder + "/q"] * weighted, check=True,
                          capture_output=True, text=True,
                          env=dict(os.environ, BISE_CPU=level))
    return float(done.stdout)


def ggml_ns(kind, rows, q, lib):
    """CPU nanoseconds a weight of one encoding by ggml."""
    start = time.process_time_ns()
    oracle.quantize(kind, rows, q, lib)
    return (time.process_time_ns() - start) / rows.size


def main(args):
    """Run the rounds and print the table."""
    def value(name, default):
        return args.pop(args.index(name) + 1) if name in args else default
    rounds, level = int(value("--rounds", 5)), value("--level", "avx512")
    weighted = "--weighted" in args
    types = [a for a in args if not a.startswith("--")] or TYPES
    rng, lib = np.random.default_rng(0), oracle.library()
    rows = (rng.standard_normal((ROWS, COLS)) * 0.02).astype(np.float32)
    q = (rng.random(COLS) * 4 + 0.01).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        rows.tofile(folder + "/x")
        q.tofile(folder + "/q")
        copy = min(bise_ns(level, "F32", folder, False) for _ in range(rounds))
        print("type,isa,imatrix,bise_M_per_s,ggml_M_per_s,ratio")
        print("copy,%s,0,%.0f,," % (level, 1e3 / copy))
        for kind in types:
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(bise_ns(level, kind, folder, weighted))
                theirs.append(ggml_ns(kind, rows, q if weighted else None, lib))
            print("%s,%s,%d,%.1f,%.1f,%.1f"
                  % (kind, level, weighted, 1e3 / min(ours), 1e3 / min(theirs),
                     min(theirs) / min(ours)), flush=True)


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
    main(sys.argv[1:])

#!/usr/bin/env python3
"""NF4 with double quantization against bitsandbytes from PyPI: codes, absmax,
absmax codes, nested absmax and offset must be equal byte for byte, decoded
values bit for bit, for every CPU level of this machine.

  oracle_nf4.py TOOL [--full]      TOOL is tests/nf4_tool

bitsandbytes takes the mean of absmax with torch, whose sum depends on the
number of threads above 32,768 blocks: one thread here.
"""
import os, subprocess, sys, tempfile
import numpy as np
import torch
import bitsandbytes.functional as F

torch.set_num_threads(1)


def inputs(full):
    rng = np.random.default_rng(7)
    sizes = [1, 2, 3, 5, 63, 64, 65, 127, 128, 200, 64 * 5, 64 * 7 + 1,
             64 * 256, 64 * 257 + 33, 2048 * 512]
    for n in sizes + ([5632 * 2048, 64 * 100001 + 17] if full else []):
        x = rng.standard_normal(n).astype(np.float32) * np.float32(0.02)
        yield f"normal {n}", x
        if n >= 64:
            y = x.copy()
            y[:64] = 0
            y[n // 2:n // 2 + 3] *= 300
            yield f"zero block, outliers {n}", y
            z = x.copy()
            z[-(n % 64 or 64):] = 0
            yield f"zero last block {n}", z
    m = F.get_4bit_type("nf4", device="cpu").numpy()
    mid = (m[1:] + m[:-1]) / 2
    for s in (1, 0.5, 3, 1e-30, 1e-41):
        near = np.concatenate([np.nextafter(mid, np.float32(2)), mid, m,
                               np.nextafter(mid, np.float32(-2)), [0, -0.0]])
        near = np.resize(near.astype(np.float32) * np.float32(s), 128)
        near[0] = near[64] = s
        yield f"midpoints x {s}", near.astype(np.float32)
        yield f"midpoints short x {s}", near[:101].astype(np.float32)
    yield "all zero", np.zeros(640, np.float32)
    for lo, hi in ((-140, -100), (-60, 60), (0, 40), (-20, 20)):
        e = rng.integers(lo, hi, 64 * 300 + 9)
        x = np.ldexp(1 + rng.random(e.size), e) * rng.choice([-1, 1], e.size)
        yield f"exponents {lo} to {hi}", x.astype(np.float32)
    bf = torch.randn(300, 192).bfloat16()
    yield "bf16", bf.float().numpy().ravel()
    # Distributions of absmax that reach all of the second map.
    for p in range(6):
        a = np.abs(rng.standard_normal(3000)) ** p
        x = rng.standard_normal((3000, 64)) * a[:, None]
        yield f"spread {p}", x.astype(np.float32).ravel()


def want(x):
    t = torch.from_numpy(x.copy())
    q, s = F.quantize_4bit(t, quant_type="nf4", compress_statistics=False)
    q2, s2 = F.quantize_4bit(t, quant_type="nf4", compress_statistics=True)
    assert torch.equal(q, q2)
    scale = F.dequantize_blockwise(s2.absmax, s2.state2) + s2.offset
    # Fused kernels may round otherwise: decode by the formula.
    codes = q.numpy().ravel()
    nib = np.stack([codes >> 4, codes & 15], 1).ravel()[:x.size]
    m = s2.code.numpy()
    at = np.arange(x.size) // 64
    return [q.numpy().ravel(), s.absmax.numpy(), s2.absmax.numpy(),
            s2.state2.absmax.numpy(), np.float32([s2.offset.item()]),
            m[nib] * s.absmax.numpy()[at], m[nib] * scale.numpy()[at]]


def main():
    tool, full = sys.argv[1], "--full" in sys.argv
    levels = ["ref", "avx2", "avx512"]
    flags = open("/proc/cpuinfo").read()
    levels = [v for v in levels if v == "ref" or v in flags]
    bad = count = 0
    with tempfile.TemporaryDirectory() as d:
        for name, x in inputs(full):
            parts = want(x)
            expect = b"".join(p.tobytes() for p in parts)
            names = ["codes", "absmax", "absmax codes", "nested", "offset",
                     "decoded", "decoded nested"]
            x.tofile(d + "/x")
            for level in levels:
                subprocess.run([tool, d + "/x", str(x.size), d + "/y"],
                               check=True, env=dict(os.environ, BISE_CPU=level))
                got = open(d + "/y", "rb").read()
                count += 1
                if got == expect:
                    continue
                bad += 1
                at = 0
                for p, what in zip(parts, names):
                    b = p.tobytes()
                    g = np.frombuffer(got[at:at + len(b)], p.dtype)
                    w = p.view(np.uint32) if p.dtype == np.float32 else p
                    g2 = g.view(np.uint32) if p.dtype == np.float32 else g
                    k = np.nonzero(g2 != w)[0]
                    if k.size:
                        print(f"{name}, {level}: {what}: {k.size} of {w.size} "
                              f"differ, first {k[0]}: {g[k[0]]!r}, "
                              f"not {p[k[0]]!r}")
                    at += len(b)
    print(f"{count} comparisons, {bad} differ")
    return bad != 0


sys.exit(main())

#!/usr/bin/env python3
"""judge_families.py BISE LOGITS_TOOL SRCDIR WORKDIR: the same logits in bise, transformers and llama.cpp.

Latent attention from tests/make_latent.py (Mistral Small 4 and Large 3) and the golden models: bise's logits from
Hugging Face, native and GGUF files, from a forward pass and through the cache, are those of transformers within
1e-5 in float32; the engine, with float32 keys and values, is within 1e-3 of bise on every GGUF.
Run by tests/cli/families.sh.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from exact_engine import Engine

BISE, TOOL, SRC, WORK = sys.argv[1:5]
GOLDEN = os.path.join(SRC, "tests/golden/models")
TINY = os.path.join(SRC, "examples/tiny-mistral3")
failures = 0


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what), flush=True)


def path(*names):
    return os.path.join(WORK, *names)


def bise(*args):
    run = subprocess.run([BISE, "--quiet", "--force", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), run.stderr))
    return run.stdout


def make(*args):
    subprocess.run([sys.executable, os.path.join(SRC, "tests/make_latent.py"), *args], check=True)


def ours(model, ids, how="forward"):
    run = subprocess.run([TOOL, model, how], input=np.array(ids, np.int32).tobytes(), capture_output=True)
    if run.returncode:
        sys.exit("logits of %s: %s" % (model, run.stderr.decode()))
    return np.frombuffer(run.stdout, np.float32).reshape(len(ids), -1)


def theirs(folder, ids):
    with open(os.path.join(folder, "config.json")) as f:    # not every class is in transformers' automatic list
        kind = getattr(transformers, json.load(f)["architectures"][0])
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def close(a, b, bound, what):
    worst = float(np.abs(a - b).max())
    claim(worst <= bound, "%s: within %.2g of %.2g" % (what, worst, np.abs(b).max()))
    return worst


def in_engine(file, ids, what, bound=1e-3):
    reader = gguf.GGUFReader(file)
    claim(len(reader.tensors) > 0, "gguf-py reads %s" % what)
    close(Engine(file).logits(ids), ours(file, ids), bound, "engine on %s" % what)
    return reader


def field(reader, name):
    f = reader.get_field(name)
    return f and f.contents()


def check_latent():
    """Every layout of both models against transformers, then the engine."""
    make(path("n"))
    rng = np.random.default_rng(7)
    ids = rng.integers(12, 320, 70).tolist()
    want = {"small4": theirs(path("n/small4"), ids), "large3": theirs(path("n/large3-hf"), ids)}
    claim(np.abs(want["small4"] - want["large3"]).max() > 0.01, "magnitude scaling is visible")
    for name, like in ("small4", "small4"), ("large3", "large3"), ("large3-hf", "large3"), ("large3-scaled", "small4"):
        model = path("n", name)
        close(ours(model, ids), want[like], 1e-5, name)
        close(ours(model, ids, "decode")[6:], want[like][6:], 1e-5, name + " through the cache")
        bise("convert", model, "-o", path("m.gguf"))
        close(ours(path("m.gguf"), ids), want[like], 1e-5, name + " as GGUF")
        close(ours(path("m.gguf"), ids, "decode")[6:], want[like][6:], 1e-5, name + " as GGUF through the cache")
        r = in_engine(path("m.gguf"), ids, name)
        arch = "mistral4" if os.path.exists(path("n", name, "config.json")) else "deepseek2"
        claim(field(r, "general.architecture") == arch, "%s is %s" % (name, arch))
        shapes = {t.name: list(t.shape) for t in r.tensors}
        claim(shapes["blk.1.attn_k_b.weight"] == [16, 32, 4] and shapes["blk.1.attn_v_b.weight"] == [32, 24, 4], "kv_b is split")
        bise("convert", path("m.gguf"), "-o", path("back"))
        close(theirs(path("back"), ids), want[like], 1e-5, name + " through GGUF in transformers")
        bise("convert", model, "-o", path("own"), "--to", "native")
        close(ours(path("own"), ids), want[like], 1e-5, name + " as native")
        bise("convert", path("own"), "-o", path("hf"), "--to", "hf")
        close(theirs(path("hf"), ids), want[like], 1e-5, name + " through native in transformers")


def main():
    check_latent()
    sys.exit(1 if failures else 0)


main()

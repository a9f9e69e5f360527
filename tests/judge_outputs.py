#!/usr/bin/env python3
"""judge_outputs.py BISE SRCDIR WORKDIR: what other programs make of bise's files.

llama.cpp (xllamacpp, through ../shared/tools/engine.py) loads GGUF files of the embedded
model, base and merged: token ids, perplexity and greedy text equal bise's own. gguf-py reads
every file. transformers loads merged directories and gives the logits of base + adapter.
Run by tests/cli/engine.sh.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

from engine import Engine, log_softmax

BISE, SRC, WORK = sys.argv[1:4]
MODEL = os.path.join(SRC, "examples/tiny-mistral3")
GOLDEN = os.path.join(SRC, "tests/golden")
failures = 0


def bise(*args):
    run = subprocess.run([BISE, "--quiet", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: exit %d: %s" % (" ".join(args), run.returncode, run.stderr))
    return run.stdout


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what))


def path(name):
    return os.path.join(WORK, name)


def engine_ppl(engine, ids):
    """Perplexity as `bise eval`: windows of BOS + 511 ids, every id scored."""
    nll = n = 0
    for i in range(0, len(ids), 511):
        w = [engine.bos] + ids[i:i + 511]
        lp = log_softmax(engine.logits(w)[:-1])
        nll -= lp[np.arange(len(w) - 1), w[1:]].sum()
        n += len(w) - 1
    return float(np.exp(nll / n)), n


def check_embedded():
    text = open(os.path.join(MODEL, "valid.txt"), encoding="utf-8").read()[:9000]
    open(path("text.txt"), "w", encoding="utf-8").write(text)
    for kind, bound in ("F32", .002), ("BF16", .002), ("Q8_0", .01), ("Q4_K_M", .01):
        out = path(kind + ".gguf")
        bise("quantize", MODEL, "-o", out, "--type", kind)
        reader = gguf.GGUFReader(out)
        claim(len(reader.tensors) == 56, "gguf-py reads %s" % kind)
        e = Engine(out)
        ids = e.tokens(text, bos=False)
        if kind == "F32":
            ours = json.loads(bise("--json", "tokenize", out, "--file", path("text.txt")))["ids"] \
                if "tokenize" in bise("--help") else ids
            claim(ours == ids or ours[1:] == ids, "token ids equal (%d)" % len(ids))
        want, n = engine_ppl(e, ids)
        got = json.loads(bise("--json", "eval", out, "--data", path("text.txt"), "--ctx", "512"))
        claim(abs(got["ppl"] / want - 1) < bound and got["tokens"] == n,
              "%s: perplexity %.4f, the engine's %.4f" % (kind, got["ppl"], want))
    prompt = "The old man"
    e = Engine(path("F32.gguf"))
    ids = e.tokens(prompt, special=True)
    start = len(ids)
    for _ in range(64):
        ids.append(int(e.logits(ids, last_only=True)[0].argmax()))
    want = b"".join(e.piece(t) for t in ids[start:]).decode("utf-8", "replace")
    got = json.loads(bise("--json", "generate", MODEL, "-p", prompt, "-n", "64", "--temp", "0"))
    claim(want in (got["text"], got["text"][len(prompt):]), "greedy text equal")


def golden_logits(model):
    e = load_file("%s/models/%s/expected.safetensors" % (GOLDEN, model))
    ids = e["input_ids"].reshape(-1).tolist()
    return ids, e["logits"].reshape(len(ids), -1)


def check_families():
    """Every family of the golden models; the window model below its window.
    The engine keeps keys and values in float16, hence the bound."""
    for model in "ministral3", "ministral3-tied", "ministral3-mscale", "mistral-nohd", "mistral-window", "mixtral":
        out = path(model + ".gguf")
        bise("convert", "%s/models/%s" % (GOLDEN, model), "-o", out, "--dtype", "f32")
        ids, want = golden_logits(model)
        n = 16 if model == "mistral-window" else len(ids)
        got = Engine(out).logits(ids[:n])
        worst = float(np.abs(got - want[:n]).max())
        claim(worst < 0.02, "%s: logits within %.4f of transformers" % (model, worst))


def check_merged():
    import torch
    from transformers import AutoModelForCausalLM
    for case, model in ("plain", "ministral3"), ("dora", "ministral3"), ("window", "mistral-window"):
        out = path("merged-" + case)
        bise("merge", "%s/models/%s" % (GOLDEN, model), "--adapter", "%s/lora/%s" % (GOLDEN, case), "-o", out)
        m = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        e = load_file("%s/lora/%s/expected.safetensors" % (GOLDEN, case))
        ids = torch.tensor(e["input_ids"].reshape(1, -1))
        got = m(ids).logits[0].detach().numpy()
        worst = float(np.abs(got - e["logits"].reshape(got.shape)).max())
        claim(worst < 2e-4, "transformers loads merged %s: logits within %.2g" % (case, worst))
        # through GGUF and back, the same
        bise("convert", out, "-o", path("m.gguf"), "--force")
        bise("convert", path("m.gguf"), "-o", path("m-back"), "--force")
        m = AutoModelForCausalLM.from_pretrained(path("m-back"), dtype=torch.float32)
        again = m(ids).logits[0].detach().numpy()
        claim(np.abs(again - got).max() < 1e-5, "%s through GGUF and back" % case)


check_embedded()
check_families()
check_merged()
sys.exit(1 if failures else 0)

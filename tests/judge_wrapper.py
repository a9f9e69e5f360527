#!/usr/bin/env python3
"""judge_wrapper.py BISE SRCDIR WORKDIR: transformers on every kind of Hugging Face output.

Each checkpoint is sent through other layouts and back; transformers must load every result and give the
logits of the input within 1e-5 in float32 (float8: those of its bf16 form). The engine reads the GGUF of each; latent
attention (no golden model) is made here at random by transformers itself.
Run by tests/cli/wrapper.sh.
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

from engine import Engine

BISE, SRC, WORK = sys.argv[1:4]
GOLDEN = os.path.join(SRC, "tests/golden")
failures = 0


def bise(*args):
    run = subprocess.run([BISE, "--quiet", "--force", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), run.stderr))


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what))


def path(name):
    return os.path.join(WORK, name)


def round_q8_0(layer, args):
    """Inputs of a linear layer as the engine rounds them for Q8_0 weights: 8 bits and a float16 scale per 32 values."""
    x = args[0].unflatten(-1, (-1, 32))
    amax = x.abs().amax(-1, keepdim=True)
    codes = (x * torch.where(amax > 0, 127 / amax, 0)).round()
    return ((codes * (amax / 127).half().float()).flatten(-2),)


def logits(folder, ids, wrapper=False, rounded=False):
    kind = transformers.AutoModelForImageTextToText if wrapper else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32)
    for layer in model.modules():
        if rounded and isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(round_q8_0)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def close(a, b, bound, what):
    worst = float(np.abs(a - b).max())
    claim(worst <= bound, "%s: logits within %.2g" % (what, worst))


def check_layouts(name, ids):
    """HF -> X -> HF for a text model; every stop loads."""
    model = "%s/models/%s" % (GOLDEN, name)
    want = logits(model, ids)
    bise("convert", model, "-o", path("shards"), "--split-max-size", "100k")
    close(logits(path("shards"), ids), want, 1e-5, "%s sharded" % name)
    bise("convert", model, "-o", path("native"), "--to", "native")
    bise("convert", path("native"), "-o", path("n2"), "--to", "hf")
    close(logits(path("n2"), ids), want, 1e-5, "%s through native" % name)
    bise("convert", model, "-o", path("m.gguf"))
    bise("convert", path("m.gguf"), "-o", path("g2"))
    close(logits(path("g2"), ids), want, 1e-5, "%s through GGUF" % name)
    bise("convert", model, "-o", path("half"), "--dtype", "bf16")
    close(logits(path("half"), ids), want, 0.2, "%s in bf16" % name)


def check_wrapper():
    model = GOLDEN + "/multimodal"
    e = load_file(model + "/expected.safetensors")
    ids = e["input_ids"].reshape(-1).tolist()
    want = e["logits"].reshape(len(ids), -1)
    bise("convert", model, "-o", path("w"))
    close(logits(path("w"), ids, True), want, 1e-5, "wrapper kept")
    bise("convert", model, "-o", path("ws"), "--split-max-size", "100k")
    close(logits(path("ws"), ids, True), want, 1e-5, "wrapper sharded")
    bise("convert", model, "-o", path("w.gguf"), "--mmproj", path("v.gguf"))
    close(Engine(path("w.gguf")).logits(ids), want, 0.02, "wrapper's text model in the engine")
    claim(len(gguf.GGUFReader(path("v.gguf")).tensors) == 16, "gguf-py reads the vision file")
    # the new names of transformers 5 are read as well
    weights = load_file(model + "/model.safetensors")
    from safetensors.numpy import save_file
    new = {k.replace("language_model.model.", "model.language_model.").replace("language_model.lm_head", "lm_head")
           .replace("vision_tower.", "model.vision_tower.").replace("multi_modal_projector.", "model.multi_modal_projector."): v
           for k, v in weights.items()}
    os.makedirs(path("new"), exist_ok=True)
    save_file(new, path("new") + "/model.safetensors", metadata={"format": "pt"})
    with open(path("new") + "/config.json", "w") as f:
        f.write(open(model + "/config.json").read())
    bise("convert", path("new"), "-o", path("new.gguf"))
    a, b = (gguf.GGUFReader(path(n + ".gguf")).tensors for n in ("w", "new"))
    claim(all(x.name == y.name and (x.data == y.data).all() for x, y in zip(a, b)), "both prefix schemes give one GGUF")
    bise("convert", path("new"), "-o", path("new2"))
    claim(sorted(load_file(path("new2") + "/model.safetensors")) == sorted(new), "the scheme read is the scheme written")


def check_float8():
    model = GOLDEN + "/fp8"
    ids = list(range(3, 60))
    os.makedirs(path("f8ref"), exist_ok=True)
    with open(model + "/config.json") as f, open(path("f8ref") + "/config.json", "w") as g:
        c = json.load(f)
        c.pop("quantization_config")
        json.dump(c, g)
    with open(model + "/expected-bf16.safetensors", "rb") as f, open(path("f8ref") + "/model.safetensors", "wb") as g:
        g.write(f.read())
    want = logits(path("f8ref"), ids)
    bise("convert", model, "-o", path("f8"))
    close(logits(path("f8"), ids), want, 1e-5, "float8 decoded")
    scale = float(np.abs(want).max())
    bise("convert", path("f8"), "-o", path("f8.gguf"), "--dtype", "f32")
    close(Engine(path("f8.gguf")).logits(ids), want, 0.005 * scale, "float8 in the engine (largest %.1f)" % scale)
    bise("quantize", model, "-o", path("f8q.gguf"), "--type", "Q8_0")
    bise("convert", path("f8q.gguf"), "-o", path("f8d.gguf"), "--dtype", "f32")
    close(Engine(path("f8d.gguf")).logits(ids), want, 0.06 * scale, "float8 to Q8_0, its values in the engine")
    # the engine rounds activations of Q8_0 weights to 8 bits as well, which alone adds as much
    bise("convert", path("f8q.gguf"), "-o", path("f8h"), "--to", "hf", "--dtype", "f32")
    close(Engine(path("f8q.gguf")).logits(ids), logits(path("f8h"), ids, rounded=True), 0.06 * scale,
          "float8 to Q8_0 in the engine, activations of both in 8 bits")
    # kept as float8, transformers decodes to bf16 on a machine without a GPU
    bise("convert", model, "-o", path("f8k"), "--dtype", "keep")
    model = transformers.AutoModelForCausalLM.from_pretrained(path("f8k"))
    with torch.no_grad():
        got = model(torch.tensor([ids])).logits[0].float().numpy()
    close(got, want, 0.1 * scale, "float8 kept, in bf16")


def main():
    ids = load_file(GOLDEN + "/models/ministral3/expected.safetensors")["input_ids"].reshape(-1).tolist()[:60]
    check_float8()
    for name in "ministral3", "ministral3-tied", "mistral-nohd", "mistral-window", "mixtral":
        check_layouts(name, ids[:30])
    check_wrapper()
    sys.exit(1 if failures else 0)


main()

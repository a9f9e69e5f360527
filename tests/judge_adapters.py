#!/usr/bin/env python3
"""judge_adapters.py BISE SRCDIR WORKDIR: adapters and eight bits, judged by the engine and by the formula.

1. For each golden adapter that GGUF can hold, base.gguf with the adapter file in llama.cpp equals the merged model
   (KL divergence below 1e-4); the others are refused by name. PEFT -> native, mlx, GGUF -> PEFT keeps every byte.
2. Several weighted adapters merged to Q8_0 have the codes that gguf-py makes of W + sum of c s B A, computed in numpy.
3. float8 to Q8_0 taken apart: the codes are gguf-py's of the exact products code x scale; the engine on the same weights
   as F32 gives torch's logits; what its own eight-bit kernels add (they round activations too) stays below 6 %.
Run by tests/cli/adapters8.sh.
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

from engine import Engine, log_softmax
from st_bytes import tensor_bytes

BISE, SRC, WORK = sys.argv[1:4]
GOLDEN = os.path.join(SRC, "tests/golden")
CASES = {"plain": "ministral3", "rslora": "ministral3", "tied": "ministral3-tied", "window": "mistral-window",
         "qv-rank-pattern": "ministral3", "dora": "ministral3", "save-lm-head": "ministral3"}
failures = 0


def run(*args):
    return subprocess.run([BISE, "--quiet", "--force", *args], capture_output=True, text=True)


def bise(*args):
    r = run(*args)
    if r.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), r.stderr))


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what), flush=True)


def path(*name):
    return os.path.join(WORK, *name)


def model(case):
    return "%s/models/%s" % (GOLDEN, CASES[case])


def bytes_of(*name):
    with open(os.path.join(*name), "rb") as f:
        return f.read()


# ---- 1: one adapter, every format ----

def check_engine(case):
    adapter = "%s/lora/%s" % (GOLDEN, case)
    r = run("adapter", "convert", adapter, "-o", path("a.gguf"), "--to", "gguf", "--base", model(case))
    if case in ("dora", "save-lm-head"):
        claim(r.returncode == 1 and "merge it instead" in r.stderr, "%s: a GGUF cannot hold it, and bise says so" % case)
        return
    claim(r.returncode == 0, "%s: written as GGUF %s" % (case, r.stderr.strip()))
    bise("convert", model(case), "-o", path("base.gguf"), "--dtype", "f32")
    bise("merge", model(case), "--adapter", adapter, "-o", path("merged.gguf"), "--dtype", "f32")
    ids = load_file(model(case) + "/expected.safetensors")["input_ids"].reshape(-1).tolist()
    p = log_softmax(Engine(path("merged.gguf")).logits(ids))
    q = log_softmax(Engine(path("base.gguf"), lora=path("a.gguf")).logits(ids))
    plain = log_softmax(Engine(path("base.gguf")).logits(ids))
    kld, moved = (float((np.exp(p) * (p - x)).sum(-1).mean()) for x in (q, plain))
    claim(kld < 1e-4 < moved, "%s: adapter in the engine against merging: KLD %.2g (without it %.2g)" % (case, kld, moved))


def check_formats(case):
    adapter = "%s/lora/%s" % (GOLDEN, case)
    for to in "peft", "native", "mlx", "gguf":
        out = path("rt" + (".gguf" if to == "gguf" else "-" + to))
        r = run("adapter", "convert", adapter, "-o", out, "--to", to, "--base", model(case))
        holds = case != "dora" or to in ("peft", "mlx")
        if not (holds and (case != "save-lm-head" or to == "peft")):
            claim(r.returncode == 1 and "cannot hold" in r.stderr, "%s to %s: refused by name" % (case, to))
            continue
        bise("adapter", "convert", out, "-o", path("back"), "--to", "peft", "--base", model(case))
        same = tensor_bytes(path("back", "adapter_model.safetensors")) == \
            tensor_bytes(os.path.join(adapter, "adapter_model.safetensors"))
        a, b = (json.loads(bytes_of(d, "adapter_config.json")) for d in (adapter, path("back")))
        keys = ["r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "lora_dropout", "bias",
                "task_type", "fan_in_fan_out", "modules_to_save"]
        same_config = all(a[k] == b[k] for k in keys) and set(a["target_modules"]) == set(b["target_modules"])
        claim(same and same_config, "%s: PEFT -> %s -> PEFT keeps every byte and setting" % (case, to))


# ---- 2: several adapters, eight bits ----

def delta(case, name):
    """s B A of one golden adapter by lora.md 1, in float64; 0 where it has none."""
    t = load_file("%s/lora/%s/adapter_model.safetensors" % (GOLDEN, case))
    c = json.loads(bytes_of(GOLDEN, "lora", case, "adapter_config.json"))
    key = "base_model.model." + name[:-len(".weight")]
    if key + ".lora_A.weight" not in t:
        return 0.0
    a, b = (t["%s.lora_%s.weight" % (key, x)].astype(np.float64) for x in "AB")
    short = name.split(".")[-2]
    alpha = next((v for k, v in c["alpha_pattern"].items() if k.endswith(short)), c["lora_alpha"])
    return alpha / (a.shape[0] ** 0.5 if c["use_rslora"] else a.shape[0]) * (b @ a)


def half_to_pairs(w, heads):
    d = w.shape[0] // heads
    return w.reshape(heads, 2, d // 2, -1).swapaxes(1, 2).reshape(w.shape)


def check_several():
    mix = [("plain", 0.5), ("rslora", -0.25), ("qv-rank-pattern", 1.0)]
    args = [x for c, s in mix for x in ("--adapter", "%s/lora/%s:%g" % (GOLDEN, c, s))]
    bise("merge", model("plain"), *args, "-o", path("mix.gguf"), "--dtype", "q8_0")
    bise("quantize", model("plain"), *args, "-o", path("mix2.gguf"), "--type", "Q8_0")
    base = load_file(model("plain") + "/model.safetensors")
    got, other = ({t.name: t for t in gguf.GGUFReader(path(n)).tensors} for n in ("mix.gguf", "mix2.gguf"))
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    codes = wrong = moved = 0
    for layer in range(2):
        for hf, short in names.items():
            name = "model.layers.%d.%s.weight" % (layer, hf)
            w = base[name].astype(np.float64) + sum(s * delta(c, name) for c, s in mix)
            heads = {"attn_q": 4, "attn_k": 2}.get(short, 0)
            w, plain = (half_to_pairs(x, heads) if heads else x for x in (w, base[name]))
            t = got["blk.%d.%s.weight" % (layer, short)]
            assert t.tensor_type.name == "Q8_0", t.tensor_type
            value = gguf.quants.dequantize(t.data, t.tensor_type)
            want = gguf.quants.dequantize(gguf.quants.quantize(w.astype(np.float32), t.tensor_type), t.tensor_type)
            step = np.abs(w).max() / 127
            codes += w.size
            wrong += int((np.abs(value - want) > 0).sum())
            claim(np.abs(value - want).max() <= 1.01 * step, "%s: the sum within a step" % t.name) if np.abs(value - want).max() else None
            moved += int((np.abs(w - plain) > step).sum())
            claim((t.data == other[t.name].data).all(), "%s: merge and quantize agree" % t.name) if not (
                t.data == other[t.name].data).all() else None
    claim(wrong <= codes // 1000 and moved > codes // 10, "several adapters to Q8_0: %d of %d values differ from gguf-py's, "
          "%d moved by more than a step" % (wrong, codes, moved))


# ---- 3: float8 to eight bits ----

def check_eight_bits():
    fp8 = GOLDEN + "/fp8"
    ids = list(range(3, 60))
    bise("quantize", fp8, "-o", path("q8.gguf"), "--type", "Q8_0")
    bise("convert", path("q8.gguf"), "-o", path("q8-hf"), "--dtype", "f32")     # the same weights as numbers
    bise("convert", path("q8-hf"), "-o", path("q8-f32.gguf"), "--dtype", "f32")
    from safetensors.torch import load_file as load_torch
    t = load_torch(fp8 + "/model.safetensors")
    files = {x.name: x for x in gguf.GGUFReader(path("q8.gguf")).tensors}
    same = 0
    for layer in range(2):
        for hf, short in (("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"),
                          ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")):
            name = "model.layers.%d.%s.weight" % (layer, hf)
            w = t[name].float() * t[name + "_scale_inv"].float()
            x = files["blk.%d.%s.weight" % (layer, short)]
            same += bool((gguf.quants.quantize(w.numpy(), x.tensor_type) == x.data).all())
    claim(same == 10, "float8 to Q8_0: %d of 10 tensors have gguf-py's codes of code x scale" % same)
    m = transformers.AutoModelForCausalLM.from_pretrained(path("q8-hf"), dtype=torch.float32)
    with torch.no_grad():
        want = m(torch.tensor([ids])).logits[0].numpy()
    scale = float(np.abs(want).max())
    exact, eight = (Engine(path(n)).logits(ids) for n in ("q8-f32.gguf", "q8.gguf"))
    a, b = (100 * float(np.abs(x - want).max()) / scale for x in (exact, eight))
    claim(a <= 0.5, "float8 to Q8_0: the engine on the same weights as F32 is within %.2f %% of torch" % a)
    claim(b <= 6, "float8 to Q8_0: the engine's eight-bit kernels add %.2f %%" % b)


for case in CASES:
    check_engine(case)
    check_formats(case)
check_several()
check_eight_bits()
sys.exit(1 if failures else 0)

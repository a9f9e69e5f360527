#!/usr/bin/env python3
"""judge_imatrix.py BISE MODEL WORKDIR: the sums of `bise calibrate` against PyTorch forward hooks over the
same chunks (bound 1e-3 relative), and the divergence of Q4_K_M with and without them.
Run by tests/cli/calibrate.sh.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

BISE, MODEL, WORK = sys.argv[1:4]
CTX, CHUNKS = 128, 4
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def bise(*args):
    run = subprocess.run([BISE, "--quiet", "--force", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), run.stderr))
    return run.stdout


def token_ids(path):
    """Ids by transformers' tokenizer, BOS first, as calibrate reads a text."""
    from tokenizers import Tokenizer
    text = open(path, encoding="utf-8").read()
    return [1] + Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json")).encode(text, add_special_tokens=False).ids


def torch_sums(ids):
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    sums, handles = {}, []

    def hook(name):
        def add(module, args):
            x = args[0].detach().double().reshape(-1, args[0].shape[-1])
            sums[name] = sums.get(name, 0) + (x * x).sum(0)
        return add
    for name, module in model.named_modules():
        for hf, short in NAMES.items():
            if name.endswith(hf):
                layer = name.split("layers.")[1].split(".")[0]
                handles.append(module.register_forward_pre_hook(hook("blk.%s.%s.weight" % (layer, short))))
    with torch.no_grad():
        for i in range(CHUNKS):
            chunk = [1] + ids[i * CTX + 1:(i + 1) * CTX]     # BOS replaces the first
            model(torch.tensor([chunk]))
    return {k: v.numpy() for k, v in sums.items()}


def main():
    text = os.path.join(WORK, "text.txt")
    out = os.path.join(WORK, "judge.gguf")
    bise("calibrate", MODEL, "--data", text, "-o", out, "--ctx", str(CTX), "--chunks", str(CHUNKS))
    got = {t.name: np.array(t.data, dtype=np.float64).reshape(-1) for t in gguf.GGUFReader(out).tensors}
    want = torch_sums(token_ids(text))
    worst = 0.0
    for name, sums in want.items():
        mine = got[name + ".in_sum2"]
        worst = max(worst, float(np.max(np.abs(mine - sums) / (np.abs(sums) + 1e-3 * sums.mean()))))
        if got[name + ".counts"][0] != CTX * CHUNKS:
            sys.exit("FAIL %s: count %g" % (name, got[name + ".counts"][0]))
    print("%d entries, sums within %.2g of PyTorch" % (len(want), worst))
    if worst > 1e-3 or len(want) * 2 != len(got):
        sys.exit("FAIL sums")
    kld = {}
    valid = os.path.join(MODEL, "valid.txt")
    bise("calibrate", MODEL, "--data", valid, "-o", out, "--ctx", "512", "--chunks", "12")
    for label, extra in ("plain", []), ("imatrix", ["--imatrix", out]):
        q = os.path.join(WORK, "j-%s.gguf" % label)
        bise("quantize", MODEL, "-o", q, "--type", "Q4_K_M", *extra)
        r = json.loads(bise("--json", "eval", q, "--base", MODEL, "--data", valid, "--chunks", "8"))
        kld[label] = r["kld"]["mean"]
    print("KLD of Q4_K_M: plain %(plain).6f, with imatrix %(imatrix).6f" % kld)
    if kld["imatrix"] >= kld["plain"]:
        sys.exit("FAIL the importance does not help")


main()

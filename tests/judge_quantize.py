#!/usr/bin/env python3
"""judge_quantize.py BISE SRCDIR WORKDIR [--full] [--model DIR [MIXTURE...]]: every byte of a quantized file.

The rules of llama-quantize (gguf.md section 6) are written out here a second time, from the text and not
from bise's table; ggml itself (xllamacpp through ../shared/tools/ggml_oracle.py) encodes the float32 rows. Every
tensor that `bise quantize` writes must have the type of the rules and the bytes of ggml, with and without
an importance matrix, for models made here with other head counts, layers, columns and experts.
Run by tests/cli/quantize_oracle.sh; --full takes all mixtures and more shapes; --model takes a dense
Hugging Face checkpoint in one file, as ../shared/tools/make_checkpoint.py writes it, in place of those made here.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import struct
import subprocess
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

import ggml_oracle
import make_latent

BISE, SRC, WORK = sys.argv[1:4]
FULL = "--full" in sys.argv
LIB = ggml_oracle.library()
BLOCK = {"F32": 1, "F16": 1, "BF16": 1, "Q4_0": 32, "Q4_1": 32, "Q5_0": 32, "Q5_1": 32, "Q8_0": 32, "IQ4_NL": 32,
         "MXFP4": 32, "NVFP4": 64}
FALLBACK = {"IQ4_XS": "IQ4_NL", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0", "Q4_K": "Q5_0",
            "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
BASE = {"Q2_K": "Q2_K", "Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K", "Q4_K_S": "Q4_K",
        "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K", "Q4_0": "Q4_0", "Q4_1": "Q4_1",
        "Q5_0": "Q5_0", "Q5_1": "Q5_1", "Q8_0": "Q8_0", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS", "TQ1_0": "TQ1_0",
        "TQ2_0": "TQ2_0", "F16": "F16", "BF16": "BF16", "F32": "F32"}
failures = checks = 0


def claim(ok, what):
    global failures, checks
    checks += 1
    if not ok:
        failures += 1
        print("FAIL %s" % what)


def block(kind):
    return BLOCK.get(kind, 256)


class Rules:
    """Section 6.3 for one file: ask in file order."""

    def __init__(self, mixture, layers, heads, kv_heads, experts, has_output, imatrix, n_v, llama):
        self.m, self.n, self.gqa = mixture, layers, heads // kv_heads
        self.experts, self.has_output, self.imatrix = experts, has_output, imatrix
        self.n_v, self.llama, self.differ = n_v, llama, heads != kv_heads
        self.i_v = self.i_down = 0

    @staticmethod
    def more(i, n):
        return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2

    def attn_v(self, base):
        i, m = self.i_v, self.m
        self.i_v += 1
        t = base
        if m == "Q2_K":
            t = "Q4_K" if self.gqa >= 4 else "Q3_K"
        elif m == "Q2_K_S" and self.gqa >= 4:
            t = "Q4_K"
        elif m == "Q3_K_M":
            t = "Q5_K" if i < 2 else "Q4_K"
        elif m == "Q3_K_L":
            t = "Q5_K"
        elif m == "Q4_K_S" and i < 4:
            t = "Q5_K"
        elif m in ("Q4_K_M", "Q5_K_M") and self.more(i, self.n_v):
            t = "Q6_K"
        elif m in ("IQ4_NL", "IQ4_XS") and self.gqa >= 4:
            t = "Q5_K"
        if self.llama and self.n == 80 and self.differ and t in ("Q3_K", "Q4_K"):
            t = "Q5_K"
        return "Q8_0" if self.experts == 8 else t

    def attn_output(self, base):
        m = self.m
        if self.experts == 8 and m in ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"):
            return "Q5_K"
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(m, base)

    def ffn_down(self, base, name):
        i, m, n = self.i_down, self.m, self.n
        self.i_down += 1
        if self.experts > 1:
            i = int(name.split(".")[1])
        if m == "Q2_K":
            return "Q3_K"
        if m == "Q2_K_S" and i < n // 8:
            return "Q4_K"
        if m == "Q3_K_M":
            return "Q5_K" if i < n // 16 else "Q4_K"
        if m == "Q3_K_L":
            return "Q5_K"
        if m == "Q4_K_S" and i < n // 8:
            return "Q5_K"
        if m in ("Q4_K_M", "Q5_K_M") and self.more(i, n):
            return "Q6_K"
        if m in ("Q4_0", "Q5_0") and self.imatrix and i < n // 8:
            return m[:-1] + "1"
        if m in ("IQ4_NL", "IQ4_XS") and not self.imatrix and i < n // 8:
            return "Q5_K"
        return base

    def type_of(self, name, dims):
        base = BASE[self.m]
        if len(dims) < 2 or not name.endswith("weight") or "_norm.weight" in name or "ffn_gate_inp" in name:
            return "F32"
        if base in ("F32", "F16", "BF16"):
            return base
        cols = dims[-1]
        embed = name == "token_embd.weight"
        if name == "output.weight" or (embed and not self.has_output):
            t = "Q8_0" if base == "Q8_0" or cols % block(base) else "Q6_K"
        elif embed:
            t = "Q4_K" if base in ("TQ1_0", "TQ2_0") else base
        elif "attn_v.weight" in name:
            t = self.attn_v(base)
        elif "attn_k.weight" in name:
            t = "Q8_0" if self.experts == 8 else base
        elif "attn_output.weight" in name:
            t = self.attn_output(base)
        elif "ffn_down" in name:
            t = self.ffn_down(base, name)
        else:
            t = base
        if cols % block(t):
            t = FALLBACK[t]
            if cols % block(t):
                t = "F16"
        return t


def file_order(name):
    parts = name.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1, name.encode())


def make_model(folder, layers, heads, kv, head_dim, hidden, ffn, vocab, tied, family="ministral3", experts=0, seed=1):
    """A random float32 checkpoint; returns the GGUF view: name -> rows."""
    rng = np.random.default_rng(seed)
    os.makedirs(folder, exist_ok=True)
    w, view = {}, {}

    def put(hf, ggufname, *shape):
        x = (rng.standard_normal(shape) * 0.05).astype(np.float32)
        x.reshape(-1)[::97] *= 6                            # a few heavy ones
        w[hf] = x
        if ggufname:
            view[ggufname] = x
        return x

    def rope(x, n):                                         # HF half rows -> pairs
        return x.reshape(n, 2, x.shape[0] // n // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)

    put("model.embed_tokens.weight", "token_embd.weight", vocab, hidden)
    for i in range(layers):
        p, b = "model.layers.%d." % i, "blk.%d." % i
        put(p + "input_layernorm.weight", b + "attn_norm.weight", hidden)
        q = put(p + "self_attn.q_proj.weight", None, heads * head_dim, hidden)
        k = put(p + "self_attn.k_proj.weight", None, kv * head_dim, hidden)
        view[b + "attn_q.weight"], view[b + "attn_k.weight"] = rope(q, heads), rope(k, kv)
        put(p + "self_attn.v_proj.weight", b + "attn_v.weight", kv * head_dim, hidden)
        put(p + "self_attn.o_proj.weight", b + "attn_output.weight", hidden, heads * head_dim)
        put(p + "post_attention_layernorm.weight", b + "ffn_norm.weight", hidden)
        if not experts:
            put(p + "mlp.gate_proj.weight", b + "ffn_gate.weight", ffn, hidden)
            put(p + "mlp.up_proj.weight", b + "ffn_up.weight", ffn, hidden)
            put(p + "mlp.down_proj.weight", b + "ffn_down.weight", hidden, ffn)
            continue
        put(p + "block_sparse_moe.gate.weight", b + "ffn_gate_inp.weight", experts, hidden)
        for w_name, g_name, shape in ("w1", "gate", (ffn, hidden)), ("w3", "up", (ffn, hidden)), ("w2", "down", (hidden, ffn)):
            view[b + "ffn_%s_exps.weight" % g_name] = np.stack([
                put(p + "block_sparse_moe.experts.%d.%s.weight" % (e, w_name), None, *shape) for e in range(experts)])
    put("model.norm.weight", "output_norm.weight", hidden)
    if not tied:
        put("lm_head.weight", "output.weight", vocab, hidden)
    save_file(w, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    names = {"ministral3": "Ministral3ForCausalLM", "mistral": "MistralForCausalLM", "mixtral": "MixtralForCausalLM"}
    config = {"architectures": [names[family]], "model_type": family, "hidden_size": hidden, "num_hidden_layers": layers,
              "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": head_dim, "intermediate_size": ffn,
              "vocab_size": vocab, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied, "max_position_embeddings": 1024,
              "hidden_act": "silu", "sliding_window": None, "rope_theta": 10000.0}
    if experts:
        config.update(num_local_experts=experts, num_experts_per_tok=2, router_aux_loss_coef=0.02)
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    return view


LATENT = [("embed_tokens", "token_embd"), ("lm_head", "output"), ("input_layernorm", "attn_norm"), ("q_a_proj", "attn_q_a"),
          ("q_a_layernorm", "attn_q_a_norm"), ("q_b_proj", "attn_q_b"), ("kv_a_proj_with_mqa", "attn_kv_a_mqa"),
          ("kv_a_layernorm", "attn_kv_a_norm"), ("o_proj", "attn_output"), ("post_attention_layernorm", "ffn_norm"),
          ("gate_proj", "ffn_gate"), ("up_proj", "ffn_up"), ("down_proj", "ffn_down")]


def make_latent_model(folder, native, m):
    """Latent attention with shared experts, as Small 4 or Large 3 has it on disk; kv_b is split here in numpy."""
    w = make_latent.weights(m, 64, 6)
    view = {"output_norm.weight": w["model.norm.weight"]}
    for name, x in w.items():
        parts = name.split(".")
        kind = parts[-2]
        to = dict(LATENT).get(kind)
        b = "blk.%s." % parts[2] if parts[1] == "layers" else ""
        if kind == "kv_b_proj":
            x = x.reshape(m["H"], m["nope"] + m["v"], m["kv_lora"])
            view[b + "attn_k_b.weight"] = np.ascontiguousarray(x[:, :m["nope"]].swapaxes(1, 2))
            view[b + "attn_v_b.weight"] = np.ascontiguousarray(x[:, m["nope"]:])
        elif kind == "gate":
            view[b + "ffn_gate_inp.weight"] = x
        elif "experts" in parts:
            if parts[5] == "0":
                view[b + to + "_exps.weight"] = np.stack([w[name.replace("experts.0.", "experts.%d." % e)] for e in range(m["E"])])
        elif to:
            view[b + to + ("_shexp" if "shared_experts" in parts else "") + ".weight"] = x
    if native:
        make_latent.save(folder, "consolidated.safetensors", "params.json", make_latent.params(m, 64, False),
                         make_latent.plain({make_latent.native_name(k): v for k, v in w.items()}), None)
    else:
        make_latent.save(folder, "model.safetensors", "config.json", make_latent.hf_config(m, 64, True),
                         make_latent.plain(make_latent.stacked(w, m)), None)
    return view


def write_dat(path, view, rng):
    """An old-style imatrix with one entry for each matrix of the blocks."""
    weights = {}
    for name, x in view.items():
        if x.ndim < 2 or not name.startswith("blk.") or "gate_inp" in name:
            continue
        n = x.shape[-1] * (x.shape[0] if x.ndim == 3 else 1)
        weights[name] = (rng.random(n).astype(np.float32) + 0.01) * np.float32(10)
    with open(path, "wb") as f:
        f.write(struct.pack("<i", len(weights)))
        for name, v in weights.items():
            f.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, len(v)) + v.tobytes())
        f.write(struct.pack("<ii", 1, 1) + b"x")
    return weights


def oracle(kind, x, weights):
    if kind == "F32":
        return x.astype(np.float32).tobytes()
    parts = x if x.ndim == 3 else [x.reshape(-1, x.shape[-1])]
    out = []
    for e, rows in enumerate(parts):
        w = None
        if weights is not None and kind not in ("F16", "BF16"):
            w = weights.reshape(len(parts), -1)[e]
        out.append(ggml_oracle.quantize(kind, rows, w, LIB))
    return b"".join(out)


def check_file(folder, view, mixture, rules_args, imatrix=None, weights=None):
    out = os.path.join(WORK, "out.gguf")
    args = [BISE, "--quiet", "--force", "quantize", folder, "-o", out, "--type", mixture]
    if imatrix:
        args += ["--imatrix", imatrix]
    run = subprocess.run(args, capture_output=True, text=True)
    if run.returncode:
        claim(False, "%s: %s" % (" ".join(args[3:]), run.stderr))
        return
    rules = Rules(mixture, imatrix=bool(imatrix), n_v=sum("attn_v.weight" in n for n in view),
                  has_output="output.weight" in view, **rules_args)
    tensors = gguf.GGUFReader(out).tensors
    label = "%s %s%s" % (os.path.basename(folder), mixture, " imatrix" if imatrix else "")
    claim([t.name for t in tensors] == sorted(view, key=file_order), "%s: order" % label)
    for t in tensors:
        x = view[t.name]
        kind = rules.type_of(t.name, x.shape)
        claim(t.tensor_type.name == kind, "%s %s: type %s, not %s" % (label, t.name, t.tensor_type.name, kind))
        if t.tensor_type.name == kind:
            w = (weights or {}).get(t.name)
            claim(t.data.tobytes() == oracle(kind, x, w), "%s %s: bytes of %s" % (label, t.name, kind))


MODELS = [
    ("gqa4", dict(layers=16, heads=8, kv=2, head_dim=32, hidden=256, ffn=256, vocab=64, tied=False), False),
    ("gqa2-tied", dict(layers=9, heads=4, kv=2, head_dim=64, hidden=256, ffn=512, vocab=64, tied=True), False),
    ("narrow", dict(layers=5, heads=4, kv=2, head_dim=16, hidden=64, ffn=172, vocab=40, tied=False), False),
    ("plain", dict(layers=8, heads=4, kv=4, head_dim=64, hidden=256, ffn=256, vocab=32, tied=False, family="mistral"), True),
    ("moe8", dict(layers=3, heads=4, kv=2, head_dim=64, hidden=256, ffn=256, vocab=32, tied=False, family="mixtral",
                  experts=8), True),
]


def read_model(folder):
    """The GGUF view of a checkpoint, and what the rules want to know of it."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = np.frombuffer(f.read(), np.uint8)
    config = json.load(open(os.path.join(folder, "config.json")))
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    names = {"embed_tokens": "token_embd", "input_layernorm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k",
             "v_proj": "attn_v", "o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "gate_proj": "ffn_gate",
             "up_proj": "ffn_up", "down_proj": "ffn_down", "norm": "output_norm", "lm_head": "output"}
    view = {}
    for name, t in head.items():
        if name == "__metadata__":
            continue
        x = data[slice(*t["data_offsets"])]
        x = (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if t["dtype"] == "BF16" else x.view(np.float32)
        x = x.reshape(t["shape"])
        parts = name.split(".")
        for kind, n in (("q_proj", heads), ("k_proj", kv)):
            if parts[-2] == kind:                           # HF half rows -> pairs
                x = x.reshape(n, 2, x.shape[0] // n // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        view[("blk.%s." % parts[2] if parts[1] == "layers" else "") + names[parts[-2]] + ".weight"] = x
    args = dict(layers=config["num_hidden_layers"], heads=heads, kv_heads=kv, experts=0,
                llama=config["model_type"] == "mistral")
    return view, args


def check_model(folder, mixtures):
    """All mixtures of a checkpoint, without and with importance."""
    view, args = read_model(folder)
    imatrix = os.path.join(WORK, "model.dat")
    weights = write_dat(imatrix, view, np.random.default_rng(5))
    for mixture in mixtures or BASE:
        if mixture != "Q2_K_S":
            check_file(folder, view, mixture, args)
        check_file(folder, view, mixture, args, imatrix, weights)
        print("%s: %d checks, %d failures" % (mixture, checks, failures), flush=True)
    sys.exit(1 if failures else 0)


def main():
    if "--model" in sys.argv:
        rest = sys.argv[sys.argv.index("--model") + 1:]
        check_model(rest[0], rest[1:])
    rng = np.random.default_rng(5)
    mixtures = list(BASE) if FULL else ["Q4_K_M", "Q3_K_M"]
    for name, shape, llama in MODELS:
        folder = os.path.join(WORK, name)
        view = make_model(folder, **shape)
        imatrix = os.path.join(WORK, name + ".dat")
        weights = write_dat(imatrix, view, rng)
        args = dict(layers=shape["layers"], heads=shape["heads"], kv_heads=shape["kv"],
                    experts=shape.get("experts", 0), llama=llama)
        for mixture in mixtures:
            if name == "narrow" and mixture in ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"):
                continue                                    # 172 columns: no fallback
            if mixture != "Q2_K_S":
                check_file(folder, view, mixture, args)
            if FULL or mixture == "Q4_K_M":
                check_file(folder, view, mixture, args, imatrix, weights)
    for name, native, m in (("small4", False, dict(make_latent.WIDE, E=4, L=5)), ("large3", True, make_latent.WIDE),
                            ("latent-narrow", False, make_latent.NARROW)):
        folder = os.path.join(WORK, name)
        view = make_latent_model(folder, native, m)
        imatrix = os.path.join(WORK, name + ".dat")
        weights = write_dat(imatrix, view, rng)
        args = dict(layers=m["L"], heads=m["H"], kv_heads=1, experts=m["E"], llama=False)
        for mixture in mixtures:
            if name == "latent-narrow" and mixture in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"):
                continue                                    # keys of 16 columns: no fallback
            if mixture != "Q2_K_S":
                check_file(folder, view, mixture, args)
            check_file(folder, view, mixture, args, imatrix, weights)
    print("%d checks, %d failures" % (checks, failures))
    sys.exit(1 if failures else 0)


main()

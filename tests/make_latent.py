#!/usr/bin/env python3
"""make_latent.py OUT [--tiny | --wide] [--fp8] [--tokenizer DIR]: tiny random models with latent attention.

One set of weights in every layout that Mistral Small 4 and Mistral Large 3 have (mistral3.md 2.5, 2.6):
  OUT/small4         Hugging Face, as transformers names it (mistral4): magnitude scaling of YaRN on
  OUT/large3         Mistral's own layout: params.json, consolidated.safetensors; apply_scale false
  OUT/large3-scaled  the same weights with apply_scale true, the meaning of small4's keys
  OUT/large3-hf      Hugging Face with the meaning of large3, made here and not by bise
The original length is 16, so that positions beyond it are scaled. The first layer is dense. --wide takes
row lengths that k-quants need where the released models have them; --fp8 stores small4 with a scale per
tensor and per expert, large3 with scales of blocks. Needs numpy only.
"""
# SPDX-License-Identifier: Apache-2.0
import argparse
import json
import os
import shutil
import struct

import numpy as np

NARROW = dict(d=64, L=3, H=4, q_lora=48, kv_lora=32, nope=16, rope=8, v=24, F=96, Fe=32, E=8, top_k=3, shared=1, dense=1)
TINY = dict(d=32, L=2, H=2, q_lora=24, kv_lora=16, nope=8, rope=8, v=12, F=48, Fe=16, E=4, top_k=2, shared=1, dense=1)
WIDE = dict(d=256, L=3, H=4, q_lora=256, kv_lora=256, nope=64, rope=64, v=128, F=512, Fe=256, E=8, top_k=2, shared=1, dense=1)
YARN = dict(factor=8.0, original=16, fast=32.0, slow=1.0, beta=0.1)


def write_safetensors(path, tensors):
    """tensors: name -> (dtype name, numpy array of its bytes' layout)."""
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, a) in tensors.items():
        head[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, a in tensors.values():
            f.write(np.ascontiguousarray(a).tobytes())


def weights(m, V, seed):
    """Names of Hugging Face -> float32; experts apart."""
    rng = np.random.default_rng(seed)
    w = {}

    def mat(name, out, into):
        w[name] = (rng.standard_normal((out, into)) / np.sqrt(into)).astype(np.float32)

    def vec(name, n):
        w[name] = (1 + 0.2 * rng.standard_normal(n)).astype(np.float32)

    d, head = m["d"], m["nope"] + m["rope"]
    mat("model.embed_tokens.weight", V, d)
    for i in range(m["L"]):
        p = "model.layers.%d." % i
        a = p + "self_attn."
        vec(p + "input_layernorm.weight", d)
        mat(a + "q_a_proj.weight", m["q_lora"], d)
        vec(a + "q_a_layernorm.weight", m["q_lora"])
        mat(a + "q_b_proj.weight", m["H"] * head, m["q_lora"])
        mat(a + "kv_a_proj_with_mqa.weight", m["kv_lora"] + m["rope"], d)
        vec(a + "kv_a_layernorm.weight", m["kv_lora"])
        mat(a + "kv_b_proj.weight", m["H"] * (m["nope"] + m["v"]), m["kv_lora"])
        mat(a + "o_proj.weight", d, m["H"] * m["v"])
        vec(p + "post_attention_layernorm.weight", d)
        if i < m["dense"]:
            mat(p + "mlp.gate_proj.weight", m["F"], d)
            mat(p + "mlp.up_proj.weight", m["F"], d)
            mat(p + "mlp.down_proj.weight", d, m["F"])
            continue
        mat(p + "mlp.gate.weight", m["E"], d)
        for e in range(m["E"]):
            mat(p + "mlp.experts.%d.gate_proj.weight" % e, m["Fe"], d)
            mat(p + "mlp.experts.%d.up_proj.weight" % e, m["Fe"], d)
            mat(p + "mlp.experts.%d.down_proj.weight" % e, d, m["Fe"])
        for part, out, into in ("gate", m["Fe"], d), ("up", m["Fe"], d), ("down", d, m["Fe"]):
            n = m["shared"]
            mat(p + "mlp.shared_experts.%s_proj.weight" % part, out * (1 if part == "down" else n), into * (n if part == "down" else 1))
    vec("model.norm.weight", d)
    mat("lm_head.weight", V, d)
    w["lm_head.weight"] *= np.float32(0.5)
    return w


NATIVE = [("model.embed_tokens.", "tok_embeddings."), ("model.norm.", "norm."), ("lm_head.", "output."), ("model.layers.", "layers."),
          ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn.q_a_proj", "attention.wq_a"),
          ("self_attn.q_a_layernorm", "attention.q_a_norm"), ("self_attn.q_b_proj", "attention.wq_b"),
          ("self_attn.kv_a_proj_with_mqa", "attention.wkv_a_with_mqa"), ("self_attn.kv_a_layernorm", "attention.kv_a_norm"),
          ("self_attn.kv_b_proj", "attention.wkv_b"), ("self_attn.o_proj", "attention.wo"), ("mlp.shared_experts.", "shared_experts."),
          ("mlp.experts.", "experts."), ("mlp.gate.weight", "gate.weight"), ("mlp.", "feed_forward."), ("gate_proj", "w1"),
          ("down_proj", "w2"), ("up_proj", "w3")]


def native_name(name):
    for a, b in NATIVE:
        name = name.replace(a, b)
    return name


def stacked(w, m):
    """Experts as transformers holds them: one 3-D array, gate rows before up rows."""
    out = {k: v for k, v in w.items() if ".mlp.experts." not in k}
    for i in range(m["dense"], m["L"]):
        p = "model.layers.%d.mlp.experts." % i
        part = lambda e, name: w[p + "%d.%s_proj.weight" % (e, name)]
        out[p + "gate_up_proj"] = np.stack([np.concatenate([part(e, "gate"), part(e, "up")]) for e in range(m["E"])])
        out[p + "down_proj"] = np.stack([part(e, "down") for e in range(m["E"])])
    return out


# ---- float8: codes and scales ----

def e4m3_table():
    t = np.zeros(256, np.float32)
    for c in range(256):
        e, f = c >> 3 & 15, c & 7
        v = f * 2.0 ** -9 if e == 0 else (1 + f / 8) * 2.0 ** (e - 7)
        t[c] = np.nan if c & 127 == 127 else -v if c & 128 else v
    return t


TABLE = e4m3_table()
CODES = np.argsort(np.where(np.isnan(TABLE), np.inf, TABLE), kind="stable")[:254]


def to_e4m3(x):
    """Nearest code; which of two equally near ones does not matter here."""
    order = TABLE[CODES]
    at = np.clip(np.searchsorted(order, x), 1, len(order) - 1)
    low, high = order[at - 1], order[at]
    return CODES[np.where(np.abs(x - low) <= np.abs(high - x), at - 1, at)].astype(np.uint8)


def quantized(name):
    """Linears of the layers, as in the released checkpoints."""
    kept = "norm", "embed", "embeddings", "lm_head", "output.", "gate.weight", "wq_a", "wkv_a_with_mqa"
    return not any(k in name for k in kept)


def fp8_per_tensor(w):
    out, back = {}, {}
    for name, a in w.items():
        if not quantized(name):
            out[name] = ("F32", a)
            back[name] = a
            continue
        axes = (1, 2) if a.ndim == 3 else None
        scale = (np.abs(a).max(axis=axes, keepdims=True) / 448).astype(np.float32)
        codes = to_e4m3(a / scale)
        out[name] = ("F8_E4M3", codes)
        base = name[:-len(".weight")] + ".weight" if name.endswith(".weight") else name
        out[base + "_scale_inv"] = ("F32", scale if a.ndim == 3 else scale.reshape(()))
        act = name[:-len(".weight")] + ".activation_scale" if name.endswith(".weight") else name + "_activation_scale"
        out[act] = ("F32", np.full(a.shape[:1] if a.ndim == 3 else (), 0.5, np.float32))
        back[name] = TABLE[codes] * scale
    return out, back


def fp8_blocks(w, block=128):
    out, back = {}, {}
    for name, a in w.items():
        if not quantized(name):
            out[name] = ("F32", a)
            back[name] = a
            continue
        rows, cols = (-(-n // block) for n in a.shape)
        scale = np.zeros((rows, cols), np.float32)
        codes, value = np.zeros(a.shape, np.uint8), np.zeros(a.shape, np.float32)
        for r in range(rows):
            for c in range(cols):
                at = np.s_[r * block:(r + 1) * block, c * block:(c + 1) * block]
                scale[r, c] = np.abs(a[at]).max() / 448
                codes[at] = to_e4m3(a[at] / scale[r, c])
                value[at] = TABLE[codes[at]] * scale[r, c]
        out[name] = ("F8_E4M3", codes)
        out[name + "_scale"] = ("F32", scale)
        back[name] = value
    return out, back


# ---- configurations ----

def rope_of(scaled):
    r = {"rope_type": "yarn", "type": "yarn", "rope_theta": 10000.0, "factor": YARN["factor"],
         "original_max_position_embeddings": YARN["original"], "beta_fast": YARN["fast"], "beta_slow": YARN["slow"],
         "llama_4_scaling_beta": YARN["beta"]}
    r.update({"mscale": 1.0, "mscale_all_dim": 1.0} if scaled else {"attention_factor": 1.0})
    return r


def hf_config(m, V, scaled):
    return {"architectures": ["Mistral4ForCausalLM"], "model_type": "mistral4", "dtype": "float32", "hidden_size": m["d"],
            "intermediate_size": m["F"], "num_hidden_layers": m["L"], "num_attention_heads": m["H"], "num_key_value_heads": m["H"],
            "q_lora_rank": m["q_lora"], "kv_lora_rank": m["kv_lora"], "qk_nope_head_dim": m["nope"], "qk_rope_head_dim": m["rope"],
            "v_head_dim": m["v"], "n_routed_experts": m["E"], "num_experts_per_tok": m["top_k"], "n_shared_experts": m["shared"],
            "moe_intermediate_size": m["Fe"], "first_k_dense_replace": m["dense"], "routed_scaling_factor": 1.0, "n_group": 1,
            "topk_group": 1, "norm_topk_prob": True, "hidden_act": "silu", "rms_norm_eps": 1e-6, "vocab_size": V,
            "max_position_embeddings": int(YARN["factor"] * YARN["original"]), "rope_parameters": rope_of(scaled),
            "rope_interleave": True, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 11}


def params(m, V, scaled):
    return {"dim": m["d"], "n_layers": m["L"], "head_dim": m["nope"] + m["rope"], "hidden_dim": m["F"], "n_heads": m["H"],
            "n_kv_heads": m["H"], "norm_eps": 1e-6, "vocab_size": V, "rope_theta": 10000.0, "tied_embeddings": False,
            "max_position_embeddings": int(YARN["factor"] * YARN["original"]), "q_lora_rank": m["q_lora"],
            "kv_lora_rank": m["kv_lora"], "qk_nope_head_dim": m["nope"], "qk_rope_head_dim": m["rope"], "v_head_dim": m["v"],
            "yarn": {"factor": YARN["factor"], "original_max_position_embeddings": YARN["original"], "beta": YARN["fast"],
                     "alpha": YARN["slow"], "apply_scale": scaled},
            "llama_4_scaling": {"beta": YARN["beta"], "original_max_position_embeddings": YARN["original"]},
            "moe": {"expert_parallel": 1, "expert_model_parallel": 1, "route_every_n": 1, "first_k_dense_replace": m["dense"],
                    "num_experts": m["E"], "num_experts_per_tok": m["top_k"], "num_shared_experts": m["shared"],
                    "num_expert_groups": 1, "num_expert_groups_per_tok": 1, "expert_hidden_dim": m["Fe"], "routed_scale": 1.0}}


def save(folder, file, config_name, config, tensors, tokenizer):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, config_name), "w") as f:
        json.dump(config, f, indent=2)
    write_safetensors(os.path.join(folder, file), tensors)
    for name in "tekken.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja":
        if tokenizer and os.path.exists(os.path.join(tokenizer, name)):
            shutil.copy(os.path.join(tokenizer, name), folder)


def plain(w):
    return {k: ("F32", v) for k, v in w.items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--wide", action="store_true")
    ap.add_argument("--tiny", action="store_true", help="the size of tests/golden/latent")
    ap.add_argument("--fp8", action="store_true")
    ap.add_argument("--tokenizer", help="a folder whose tokenizer files are copied; its config.json gives the vocabulary")
    ap.add_argument("--seed", type=int, default=4)
    a = ap.parse_args()
    m, V = WIDE if a.wide else TINY if a.tiny else NARROW, 64 if a.tiny else 320
    if a.tokenizer:
        with open(os.path.join(a.tokenizer, "config.json")) as f:
            c = json.load(f)
        V = c.get("text_config", c)["vocab_size"]
    w = weights(m, V, a.seed)
    hf, own = stacked(w, m), {native_name(k): v for k, v in w.items()}
    hf_tensors, own_tensors = plain(hf), plain(own)
    small, large = hf_config(m, V, True), params(m, V, False)
    if a.fp8:
        # the values that the codes stand for, for whoever judges: OUT/small4-values, OUT/large3-values
        hf_tensors, hf = fp8_per_tensor(hf)
        save(a.out + "/small4-values", "model.safetensors", "config.json", dict(small), plain(hf), a.tokenizer)
        small["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None,
                                        "modules_to_not_convert": ["lm_head"]}
        own_tensors, own = fp8_blocks(own)
        save(a.out + "/large3-values", "consolidated.safetensors", "params.json", dict(large), plain(own), a.tokenizer)
        large["quantization_config"] = {"quant_method": "compressed-tensors", "format": "float-quantized",
                                        "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "block",
                                                                                  "block_structure": [128, 128]}}}}
    save(a.out + "/small4", "model.safetensors", "config.json", small, hf_tensors, a.tokenizer)
    save(a.out + "/large3", "consolidated.safetensors", "params.json", large, own_tensors, a.tokenizer)
    if a.fp8:
        return
    save(a.out + "/large3-scaled", "consolidated.safetensors", "params.json", params(m, V, True), own_tensors, a.tokenizer)
    save(a.out + "/large3-hf", "model.safetensors", "config.json", hf_config(m, V, False), hf_tensors, a.tokenizer)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""model_seeds.py - write the seeds of fuzz_config and fuzz_adapter: small
configurations of every family, and one adapter in each format that fits the
base of fuzz_adapter.c. Run from the top of the source tree; committed output.
SPDX-License-Identifier: Apache-2.0
"""
import json
import struct

from make_seeds import gguf, kv, safetensors, save, string

TEXT = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "vocab_size": 10, "rms_norm_eps": 1e-5}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0,
        "original_max_position_embeddings": 64, "mscale": 1.0,
        "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
MLA = {"q_lora_rank": 4, "kv_lora_rank": 3, "qk_nope_head_dim": 3,
       "qk_rope_head_dim": 2, "v_head_dim": 5}


def configs():
    yield "mistral", dict(TEXT, model_type="mistral", sliding_window="16")
    yield "ministral3", dict(TEXT, model_type="ministral3",
                             rope_parameters=YARN)
    yield "wrapper", {"architectures": ["Mistral3ForConditionalGeneration"],
                      "text_config": dict(TEXT, model_type="ministral3"),
                      "quantization_config": {"quant_method": "fp8"}}
    yield "mixtral", dict(TEXT, model_type="mixtral", num_local_experts=3,
                          num_experts_per_tok=2)
    yield "mistral4", dict(TEXT, **MLA, model_type="mistral4",
                           n_routed_experts=3, num_experts_per_tok=2,
                           moe_intermediate_size=4, n_shared_experts=1)
    native = {"dim": 8, "hidden_dim": 12, "n_layers": 2, "n_heads": 4,
              "n_kv_heads": 2, "norm_eps": 1e-5, "vocab_size": 10}
    yield "native", dict(native, head_dim=6, yarn={
        "factor": 4, "original_max_position_embeddings": 64, "beta": 32,
        "alpha": 1, "apply_scale": False}, llama_4_scaling={
            "beta": 0.1, "original_max_position_embeddings": 64})
    yield "large3", dict(native, **MLA, moe={
        "num_experts": 3, "num_experts_per_tok": 2, "expert_hidden_dim": 4,
        "num_shared_experts": 1, "first_k_dense_replace": 1})


def pair(a, b, transposed=False):
    """A [2, 8] and B [24, 2] of q_proj of layer 0 as a safetensors file."""
    shapes = ([8, 2], [2, 24]) if transposed else ([2, 8], [24, 2])
    header = {a: {"dtype": "F32", "shape": shapes[0],
                  "data_offsets": [0, 64]},
              b: {"dtype": "F32", "shape": shapes[1],
                  "data_offsets": [64, 256]}}
    return safetensors(header, struct.pack("<64f", *range(64)))


def adapters():
    q = "model.layers.0.self_attn.q_proj"
    peft = {"peft_type": "LORA", "r": 2, "lora_alpha": 4,
            "rank_pattern": {"v_proj": 4}, "target_modules": ["q_proj"]}
    yield "peft", peft, pair("base_model.model.%s.lora_A.weight" % q,
                             "base_model.model.%s.lora_B.weight" % q)
    yield "mlx", {"lora_parameters": {"rank": 2, "scale": 20.0}}, pair(
        q + ".lora_a", q + ".lora_b", True)
    n = "layers.0.attention.wq"
    yield "native", {"lora": {"rank": 2, "scaling": 2.0}}, pair(
        n + ".lora_A.weight", n + ".lora_B.weight")
    kvs = [kv("general.architecture", 8, string("mistral3")),
           kv("general.type", 8, string("adapter")),
           kv("adapter.lora.alpha", 6, struct.pack("<f", 4))]
    yield "gguf", {}, gguf(kvs, [
        ("blk.0.attn_q.weight.lora_a", [8, 2], 0, 0),
        ("blk.0.attn_q.weight.lora_b", [2, 24], 0, 64)],
        struct.pack("<64f", *range(64)))


if __name__ == "__main__":
    for name, value in configs():
        save("config", name, json.dumps(value).encode())
    for name, settings, data in adapters():
        save("adapter", name, json.dumps(settings).encode() + b"\0" + data)

#!/usr/bin/env python3
"""make_real.py - small checkpoints with the configurations of real releases: every key as the Hub has it, in the
spelling of the transformers version that wrote it, only the sizes are smaller. Weights are random bf16. Needs only the
standard library.

  make_real.py OUT_DIR [NAME...]     writes OUT_DIR/NAME for each release (or those named) and OUT_DIR/expected.txt:
                                     NAME FAMILY PARAMETERS THETA HEAD_DIM WINDOW TIED CONTEXT
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import random
import struct
import sys

OLD = {"hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-05, "use_cache": True, "bos_token_id": 1,
       "eos_token_id": 2}
YARN = {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0, "llama_4_scaling_beta": 0.1, "mscale": 1.0,
        "mscale_all_dim": 1.0, "original_max_position_embeddings": 16384, "rope_theta": 1000000.0, "rope_type": "yarn",
        "type": "yarn"}
FP8 = {"activation_scheme": "static", "dequantize": False, "modules_to_not_convert": [
    "model.vision_tower", "model.multi_modal_projector", "lm_head"], "quant_method": "fp8", "weight_block_size": None}
VISION = {"attention_dropout": 0.0, "head_dim": 16, "hidden_act": "silu", "hidden_size": 32, "image_size": 56,
          "initializer_range": 0.02, "intermediate_size": 64, "model_type": "pixtral", "num_attention_heads": 2,
          "num_channels": 3, "num_hidden_layers": 1, "patch_size": 14}


def dense(d, f, heads, kv, head_dim, vocab, **more):
    """A MistralForCausalLM of two layers; head_dim "absent" leaves the key out."""
    c = dict(OLD, architectures=["MistralForCausalLM"], model_type="mistral", hidden_size=d, intermediate_size=f,
             num_attention_heads=heads, num_key_value_heads=kv, num_hidden_layers=2, vocab_size=vocab, **more)
    if head_dim != "absent":
        c["head_dim"] = head_dim
    return c


def wrapper(text, **more):
    return dict({"architectures": ["Mistral3ForConditionalGeneration"], "image_token_index": 10, "model_type": "mistral3",
                 "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2,
                 "text_config": text, "vision_feature_layer": -1}, **more)


def text3(d, f, theta, tied=False, **more):
    """The text_config of a Ministral 3."""
    return dict({"attention_dropout": 0.0, "head_dim": 16, "hidden_act": "silu", "hidden_size": d, "initializer_range": 0.02,
                 "intermediate_size": f, "max_position_embeddings": 262144, "model_type": "ministral3",
                 "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-05,
                 "rope_parameters": dict(YARN, rope_theta=theta), "sliding_window": None, "use_cache": True,
                 "tie_word_embeddings": tied, "vocab_size": 512}, **more)


def params(d, f, heads, kv, vocab, **more):
    return dict({"dim": d, "n_layers": 2, "head_dim": 16, "hidden_dim": f, "n_heads": heads, "n_kv_heads": kv,
                 "norm_eps": 1e-05, "vocab_size": vocab}, **more)


V5 = {"dtype": "bfloat16", "transformers_version": "5.0.0.dev0"}
V4 = {"torch_dtype": "bfloat16", "transformers_version": "4.42.0"}
TOWER = dict(VISION, rope_theta=10000.0)
TOWER5 = dict(VISION, rope_parameters={"rope_theta": 10000.0, "rope_type": "default"})
NATIVE_TOWER = {"hidden_size": 32, "num_channels": 3, "image_size": 56, "patch_size": 14, "rope_theta": 10000.0,
                "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "adapter_bias": False,
                "max_image_size": 56, "image_token_id": 10, "image_break_token_id": 12, "image_end_token_id": 13,
                "mm_projector_id": "patch_merge", "spatial_merge_size": 2, "add_pre_mm_projector_layer_norm": True}
NYARN = {"yarn": {"original_max_position_embeddings": 16384, "factor": 16, "apply_scale": False, "beta": 32, "alpha": 1},
         "llama_4_scaling": {"original_max_position_embeddings": 16384, "beta": 0.1}}

# name: config, then what it must resolve to: theta, head_dim, window, tied, context
RELEASES = {
    "Mistral-7B-v0.1": (dense(64, 224, 4, 1, "absent", 250, max_position_embeddings=32768, rope_theta=10000.0,
                              sliding_window=4096, tie_word_embeddings=False, torch_dtype="bfloat16",
                              transformers_version="4.34.0.dev0"), (1e4, 16, 4096, 0, 32768)),
    "Mistral-7B-Instruct-v0.2": (dense(64, 224, 4, 1, "absent", 250, attention_dropout=0.0, max_position_embeddings=32768,
                                       rope_theta=1000000.0, sliding_window=None, tie_word_embeddings=False,
                                       torch_dtype="bfloat16", transformers_version="4.36.0"), (1e6, 16, 0, 0, 32768)),
    "Mistral-7B-v0.3": (dense(64, 224, 4, 1, "absent", 256, attention_dropout=0.0, max_position_embeddings=32768,
                              rope_theta=1000000.0, sliding_window=None, tie_word_embeddings=False, **V4),
                        (1e6, 16, 0, 0, 32768)),
    "Mistral-7B-v0.3-resaved-by-5": (dense(64, 224, 4, 1, None, 256, attention_dropout=0.0, max_position_embeddings=32768,
                                           rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}, pad_token_id=None,
                                           sliding_window=None, tie_word_embeddings=False, **V5), (1e6, 16, 0, 0, 32768)),
    "Mistral-Nemo-2407": (dense(96, 224, 4, 1, 16, 512, attention_dropout=0.0, max_position_embeddings=1024000,
                                rope_theta=1000000.0, sliding_window=None, tie_word_embeddings=False, **V4),
                          (1e6, 16, 0, 0, 1024000)),
    "Ministral-8B-2410": (dense(64, 192, 4, 1, 16, 512, attention_dropout=0.0, max_position_embeddings=32768,
                                rope_theta=100000000.0, sliding_window=32768, tie_word_embeddings=False, **V4),
                          (1e8, 16, 32768, 0, 32768)),
    "Codestral-22B-v0.1": (dense(96, 256, 6, 1, 16, 256, attention_dropout=0.0, max_position_embeddings=32768,
                                 rope_theta=1000000.0, sliding_window=None, tie_word_embeddings=False,
                                 torch_dtype="bfloat16", transformers_version="4.41.0.dev0"), (1e6, 16, 0, 0, 32768)),
    "Mistral-Small-24B-2501": (dense(96, 512, 4, 1, 16, 512, attention_dropout=0.0, max_position_embeddings=32768,
                                     rope_theta=100000000.0, sliding_window=None, tie_word_embeddings=False,
                                     torch_dtype="bfloat16", transformers_version="4.49.0.dev0"), (1e8, 16, 0, 0, 32768)),
    "Magistral-Small-2506": (dense(96, 512, 4, 1, 16, 512, attention_dropout=0.0, max_position_embeddings=40960,
                                   rope_theta=1000000000.0, sliding_window=None, tie_word_embeddings=False,
                                   torch_dtype="bfloat16", transformers_version="4.52.4"), (1e9, 16, 0, 0, 40960)),
    "Devstral-Small-2507": (dense(96, 512, 4, 1, 16, 512, attention_dropout=0.0, max_position_embeddings=131072,
                                  rope_theta=1000000000.0, sliding_window=None, tie_word_embeddings=False,
                                  torch_dtype="bfloat16", transformers_version="4.53.1"), (1e9, 16, 0, 0, 131072)),
    "Mistral-Small-3.1-24B-2503": (wrapper(
        {"attention_dropout": 0.0, "head_dim": 16, "hidden_act": "silu", "hidden_size": 96, "initializer_range": 0.02,
         "intermediate_size": 512, "max_position_embeddings": 131072, "model_type": "mistral", "num_attention_heads": 4,
         "num_hidden_layers": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-05, "rope_theta": 1000000000.0,
         "sliding_window": None, "use_cache": True, "vocab_size": 512}, vision_config=TOWER, torch_dtype="bfloat16",
        transformers_version="4.50.0.dev0"), (1e9, 16, 0, 0, 131072)),
    "Ministral-3-3B-Base-2512": (wrapper(text3(32, 160, 1e6, True), vision_config=TOWER5, tie_word_embeddings=True, **V5),
                                 (1e6, 16, 0, 1, 262144)),
    "Ministral-3-8B-Reasoning-2512": (wrapper(text3(64, 224, 1e6), vision_config=TOWER5, **V5), (1e6, 16, 0, 0, 262144)),
    "Ministral-3-8B-Instruct-2512": (wrapper(text3(64, 224, 1e6), vision_config=TOWER5, quantization_config=FP8, **V5),
                                     (1e6, 16, 0, 0, 262144)),
    "Ministral-3-14B-Instruct-2512": (wrapper(text3(96, 256, 1e9), vision_config=TOWER5, quantization_config=FP8, **V5),
                                      (1e9, 16, 0, 0, 262144)),
    "Devstral-2-123B-2512": (dict(text3(96, 224, 1e6), architectures=["Ministral3ForCausalLM"], quantization_config=FP8,
                                  bos_token_id=1, eos_token_id=2, pad_token_id=11, rope_parameters=dict(
                                      YARN, factor=64.0, beta_fast=4.0, original_max_position_embeddings=4096,
                                      mscale_all_dim=0.0, llama_4_scaling_beta=0.0), **V5), (1e6, 16, 0, 0, 262144)),
    "Mixtral-8x7B-v0.1": (dict(dense(64, 224, 4, 1, "absent", 250, attention_dropout=0.0, max_position_embeddings=32768,
                                     rope_theta=1000000.0, sliding_window=None, tie_word_embeddings=False,
                                     torch_dtype="bfloat16", transformers_version="4.36.0.dev0", num_experts_per_tok=2,
                                     num_local_experts=8, output_router_logits=False, router_aux_loss_coef=0.02),
                               architectures=["MixtralForCausalLM"], model_type="mixtral"), (1e6, 16, 0, 0, 32768)),
    "Mixtral-8x22B-v0.1": (dict(dense(96, 256, 6, 1, "absent", 256, attention_dropout=0.0, max_position_embeddings=65536,
                                      rope_theta=1000000, sliding_window=None, tie_word_embeddings=False, **V4,
                                      num_experts_per_tok=2, num_local_experts=8, output_router_logits=False,
                                      router_aux_loss_coef=0.001, router_jitter_noise=0.0),
                                architectures=["MixtralForCausalLM"], model_type="mixtral"), (1e6, 16, 0, 0, 65536)),
    # native files
    "native-7B-v0.1": (params(64, 224, 4, 1, 250, sliding_window=4096), (1e4, 16, 4096, 0, None)),
    "native-7B-v0.3": (params(64, 224, 4, 1, 256, rope_theta=1000000.0), (1e6, 16, 0, 0, None)),
    "native-old-without-head_dim": ({k: v for k, v in params(64, 224, 4, 1, 250).items() if k != "head_dim"},
                                    (1e4, 16, 0, 0, None)),
    "native-Ministral-8B-2410": (params(64, 192, 4, 1, 512, rope_theta=100000000.0, max_seq_len=32768,
                                        sliding_window=[None, 32768, 32768, 32768]), (1e8, 16, 32768, 0, 32768)),
    "native-Nemo-2407": (params(96, 224, 4, 1, 512, rope_theta=1000000.0, max_position_embeddings=128000),
                         (1e6, 16, 0, 0, 128000)),
    "native-Mixtral-8x22B": (params(96, 256, 6, 1, 256, rope_theta=1000000.0, moe={"num_experts_per_tok": 2,
                                                                                   "num_experts": 8}), (1e6, 16, 0, 0, None)),
    "native-Ministral-3-3B": (params(32, 160, 4, 2, 512, rope_theta=1000000.0, tied_embeddings=True,
                                     max_position_embeddings=262144, vision_encoder=NATIVE_TOWER, **NYARN),
                              (1e6, 16, 0, 1, 262144)),
    "native-Ministral-3-8B-Instruct": (params(64, 224, 4, 2, 512, rope_theta=1000000.0, tied_embeddings=False,
                                              max_position_embeddings=262144, vision_encoder=NATIVE_TOWER,
                                              quantization={"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}, **NYARN),
                                       (1e6, 16, 0, 0, 262144)),
}

# ---- tensors ----

HF = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
      "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
NATIVE = {"q": "attention.wq", "k": "attention.wk", "v": "attention.wv", "o": "attention.wo", "gate": "feed_forward.w1",
          "up": "feed_forward.w3", "down": "feed_forward.w2"}


def linear(name, rows, cols, fp8, native):
    """A matrix; in float8 with its scales: of the tensor and its inputs, of each row, or of each block."""
    yield name + ".weight", "F8_E4M3" if fp8 else "BF16", (rows, cols)
    if fp8 == "rows":
        yield name + ".weight_scale", "BF16", (rows, 1)
    elif fp8 == "block":
        yield name + (".weight_scale" if native else ".weight_scale_inv"), "BF16", (-(-rows // 128), -(-cols // 128))
    elif fp8:
        yield name + (".qscale_weight" if native else ".weight_scale_inv"), "BF16", ()
        yield name + (".qscale_act" if native else ".activation_scale"), "BF16", ()


def tower(native, d):
    """Vision tower and projector of TOWER."""
    w, f, q = 32, 64, "vision_encoder." if native else "vision_tower."
    yield q + "patch_conv.weight", "BF16", (w, 3, 14, 14)
    yield q + "ln_pre.weight", "BF16", (w,)
    p = q + "transformer.layers.0."
    for n in "attention_norm", "ffn_norm":
        yield p + n + ".weight", "BF16", (w,)
    for n in "qkvo":
        yield p + "attention." + ("w" + n if native else n + "_proj") + ".weight", "BF16", (w, w)
    for n, k, s in ("gate_proj", "w1", (f, w)), ("up_proj", "w3", (f, w)), ("down_proj", "w2", (w, f)):
        yield p + "feed_forward." + (k if native else n) + ".weight", "BF16", s
    for n, k, s in (("norm", "pre_mm_projector_norm", (w,)), ("linear_1", "vision_language_adapter.w_in", (d, w)),
                    ("patch_merger.merging_layer", "patch_merger.merging_layer", (w, 4 * w)),
                    ("linear_2", "vision_language_adapter.w_out", (d, d))):
        yield (k if native else "multi_modal_projector." + n) + ".weight", "BF16", s


def hf_text(c, prefix, fp8, tied):
    d, f, heads, kv = (c[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    hd, experts = c.get("head_dim") or d // heads, c.get("num_local_experts", 0)
    yield prefix + "model.embed_tokens.weight", "BF16", (c["vocab_size"], d)
    sizes = {"q": (heads * hd, d), "k": (kv * hd, d), "v": (kv * hd, d), "o": (d, heads * hd), "gate": (f, d), "up": (f, d),
             "down": (d, f)}
    for i in range(c["num_hidden_layers"]):
        p = "%smodel.layers.%d." % (prefix, i)
        for n in "input_layernorm", "post_attention_layernorm":
            yield p + n + ".weight", "BF16", (d,)
        for n in "qkvo":
            yield from linear(p + HF[n], *sizes[n], fp8, False)
        if experts:
            yield p + "block_sparse_moe.gate.weight", "BF16", (experts, d)
        for e in range(experts):
            for n, k in ("w1", "gate"), ("w2", "down"), ("w3", "up"):
                yield from linear(p + "block_sparse_moe.experts.%d.%s" % (e, n), *sizes[k], fp8, False)
        if not experts:
            for n in "gate", "up", "down":
                yield from linear(p + HF[n], *sizes[n], fp8, False)
    yield prefix + "model.norm.weight", "BF16", (d,)
    if not tied:
        yield prefix + "lm_head.weight", "BF16", (c["vocab_size"], d)


def native_text(c):
    d, f, heads, kv = (c[k] for k in ("dim", "hidden_dim", "n_heads", "n_kv_heads"))
    hd, fp8, experts = c.get("head_dim", d // heads), "quantization" in c, c.get("moe", {}).get("num_experts", 0)
    sizes = {"q": (heads * hd, d), "k": (kv * hd, d), "v": (kv * hd, d), "o": (d, heads * hd), "gate": (f, d), "up": (f, d),
             "down": (d, f)}
    yield "tok_embeddings.weight", "BF16", (c["vocab_size"], d)
    for i in range(c["n_layers"]):
        p = "layers.%d." % i
        for n in "attention_norm", "ffn_norm":
            yield p + n + ".weight", "BF16", (d,)
        for n in "qkvo":
            yield from linear(p + NATIVE[n], *sizes[n], fp8, True)
        if experts:
            yield p + "feed_forward.gate.weight", "BF16", (experts, d)
        for e in range(experts):
            for n, k in ("w1", "gate"), ("w2", "down"), ("w3", "up"):
                yield from linear(p + "feed_forward.experts.%d.%s" % (e, n), *sizes[k], fp8, True)
        if not experts:
            for n in "gate", "up", "down":
                yield from linear(p + NATIVE[n], *sizes[n], fp8, True)
    yield "norm.weight", "BF16", (d,)
    if not c.get("tied_embeddings"):
        yield "output.weight", "BF16", (c["vocab_size"], d)


def count(dims):
    n = 1
    for d in dims:
        n *= d
    return n


HIGH = bytes((b & 0x80) | 0x3C | (b & 1) for b in range(256))    # bf16 of 2^-7 to 2^-5
CODE = bytes(b if b & 0x7F < 0x70 else b & 0x8F for b in range(256))    # float8 below 32


def values(rng, name, dtype, dims):
    n = count(dims)
    if "scale" in name:     # powers of two: decoding is exact in bf16
        return b"".join(rng.choice((b"\x00\x3c", b"\x80\x3c", b"\x00\x3d")) for _ in range(n))
    if dtype == "F8_E4M3":
        return rng.randbytes(n).translate(CODE)
    b = bytearray(rng.randbytes(2 * n))
    b[1::2] = bytes(b[1::2]).translate(HIGH)
    if len(dims) == 1:
        b[1::2] = b"\x3f" * n    # norms near one
    return bytes(b)


def write(path, tensors, seed):
    rng, head, body = random.Random(seed), {"__metadata__": {"format": "pt"}}, []
    at = 0
    for name, dtype, dims in sorted(tensors, key=lambda t: (-2 if t[1] == "BF16" else -1, t[0])):
        data = values(rng, name, dtype, dims)
        head[name] = {"dtype": dtype, "shape": list(dims), "data_offsets": [at, at + len(data)]}
        at += len(data)
        body.append(data)
    h = json.dumps(head, separators=(",", ":")).encode()
    h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h + b"".join(body))


def scheme(config):
    """How config.json says that float8 is scaled."""
    q = config.get("quantization_config")
    if not q:
        return None
    return "rows" if q["quant_method"] == "compressed-tensors" else "block" if q["weight_block_size"] else "tensor"


def make(folder, config, seed=1):
    """Write a checkpoint; returns (family, parameters of the text model)."""
    os.makedirs(folder, exist_ok=True)
    native = "dim" in config
    if native:
        text = list(native_text(config))
        more = list(tower(True, config["dim"])) if "vision_encoder" in config else []
        family = "mixtral" if "moe" in config else "ministral3" if "llama_4_scaling" in config else "mistral"
    else:
        c = config.get("text_config", config)
        tied = c.get("tie_word_embeddings", config.get("tie_word_embeddings", False))
        prefix = "language_model." if "text_config" in config else ""
        text = list(hf_text(c, prefix, scheme(config), tied))
        more = list(tower(False, c["hidden_size"])) if prefix else []
        family = c["model_type"]
    write(os.path.join(folder, "consolidated.safetensors" if native else "model.safetensors"), text + more, seed)
    with open(os.path.join(folder, "params.json" if native else "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)
    return family, sum(count(d) for n, _, d in text if "scale" not in n)


def main():
    out, names = sys.argv[1], sys.argv[2:] or list(RELEASES)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "expected.txt"), "w", encoding="utf-8") as f:
        for i, name in enumerate(names):
            config, want = RELEASES[name]
            family, n = make(os.path.join(out, name), config, i)
            print(name, family, n, *["-" if w is None else "%g" % w if w < 1e6 else "%d" % w for w in want], file=f)


if __name__ == "__main__":
    main()

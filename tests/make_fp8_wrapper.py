#!/usr/bin/env python3
"""make_fp8_wrapper.py - a checkpoint laid out like Ministral 3 Instruct as it is released: the multimodal wrapper
(names of the Hub, mistral3.md 2.3), decoder matrices in float8 with weight_scale_inv and activation_scale, vision
tower and projector in bf16, in shards with an index. Weights are holes (zeros, no disk used); scales and norms are not,
so that every command accepts the files. After ../shared/tools/make_checkpoint.py; needs only the standard library.

  make_fp8_wrapper.py OUT_DIR [--shape ministral3-8b|small] [--shard-bytes 5000000000] [--adapter DIR]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import struct

# hidden, layers, heads, kv heads, head_dim, intermediate, vocab, vision layers, vision hidden, vision ffn, vision heads
SHAPES = {
    "small": (256, 4, 4, 2, 128, 768, 4096, 2, 128, 256, 2),
    "ministral3-8b": (4096, 34, 32, 8, 128, 14336, 131072, 24, 1024, 4096, 16),
}
ONE = {"BF16": struct.pack("<H", 0x3F80), "F32": struct.pack("<f", 1.0)}
SCALE = struct.pack("<H", 0x3C80)       # 2^-6 in bf16
SIZE = {"BF16": 2, "F8_E4M3": 1, "F32": 4}


def linear(name, out, inner):
    """A decoder matrix: codes, scale, scale of the activations."""
    yield name + ".weight", "F8_E4M3", (out, inner), None
    yield name + ".weight_scale_inv", "BF16", (), SCALE
    yield name + ".activation_scale", "BF16", (), SCALE


def text(s):
    h, layers, heads, kv, hd, ffn, vocab = s[:7]
    p = "language_model."
    yield p + "model.embed_tokens.weight", "BF16", (vocab, h), None
    for i in range(layers):
        q = p + "model.layers.%d." % i
        yield q + "input_layernorm.weight", "BF16", (h,), ONE["BF16"]
        yield from linear(q + "self_attn.q_proj", heads * hd, h)
        yield from linear(q + "self_attn.k_proj", kv * hd, h)
        yield from linear(q + "self_attn.v_proj", kv * hd, h)
        yield from linear(q + "self_attn.o_proj", h, heads * hd)
        yield q + "post_attention_layernorm.weight", "BF16", (h,), ONE["BF16"]
        yield from linear(q + "mlp.gate_proj", ffn, h)
        yield from linear(q + "mlp.up_proj", ffn, h)
        yield from linear(q + "mlp.down_proj", h, ffn)
    yield p + "model.norm.weight", "BF16", (h,), ONE["BF16"]
    yield p + "lm_head.weight", "BF16", (vocab, h), None


def vision(s):
    layers, w, f = s[7:10]
    yield "vision_tower.patch_conv.weight", "BF16", (w, 3, 14, 14), None
    yield "vision_tower.ln_pre.weight", "BF16", (w,), ONE["BF16"]
    for i in range(layers):
        p = "vision_tower.transformer.layers.%d." % i
        yield p + "attention_norm.weight", "BF16", (w,), ONE["BF16"]
        yield p + "ffn_norm.weight", "BF16", (w,), ONE["BF16"]
        for k in "qkvo":
            yield p + "attention.%s_proj.weight" % k, "BF16", (w, w), None
        yield p + "feed_forward.gate_proj.weight", "BF16", (f, w), None
        yield p + "feed_forward.up_proj.weight", "BF16", (f, w), None
        yield p + "feed_forward.down_proj.weight", "BF16", (w, f), None
    p = "multi_modal_projector."
    yield p + "norm.weight", "BF16", (w,), ONE["BF16"]
    yield p + "patch_merger.merging_layer.weight", "BF16", (w, 4 * w), None
    yield p + "linear_1.weight", "BF16", (s[0], w), None
    yield p + "linear_2.weight", "BF16", (s[0], s[0]), None


def config(s):
    h, layers, heads, kv, hd, ffn, vocab, vl, vw, vf, vh = s
    return {
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "dtype": "bfloat16",
        "image_token_index": 10, "spatial_merge_size": 2, "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu", "vision_feature_layer": -1, "tie_word_embeddings": False,
        "quantization_config": {
            "quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None, "dequantize": False,
            "modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector", "lm_head"]},
        "text_config": {
            "model_type": "ministral3", "hidden_size": h, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv, "head_dim": hd, "intermediate_size": ffn, "vocab_size": vocab, "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "max_position_embeddings": 262144, "sliding_window": None, "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "yarn", "type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0,
                "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16384,
                "llama_4_scaling_beta": 0.1}},
        "vision_config": {
            "model_type": "pixtral", "hidden_size": vw, "num_hidden_layers": vl, "num_attention_heads": vh,
            "head_dim": vw // vh, "intermediate_size": vf, "image_size": 1540, "patch_size": 14, "num_channels": 3,
            "hidden_act": "silu", "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}}


def count(dims):
    n = 1
    for d in dims:
        n *= d
    return n


def write_shard(path, shard):
    """Header, a file of the full length, then the few values that are not zero."""
    head, off = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, dims, _ in shard:
        n = count(dims) * SIZE[dtype]
        head[name] = {"dtype": dtype, "shape": list(dims), "data_offsets": [off, off + n]}
        off += n
    h = json.dumps(head, separators=(",", ":")).encode()
    h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h)
        f.truncate(8 + len(h) + off)
        for name, _, dims, value in shard:
            if value:
                f.seek(8 + len(h) + head[name]["data_offsets"][0])
                f.write(value * count(dims))
    return off


def write_adapter(folder, s):
    """Rank 16 on all linear layers of the wrapper's text model, zeros, as PEFT names them."""
    h, layers, heads, kv, hd, ffn = s[:6]
    sizes = {"self_attn.q_proj": (heads * hd, h), "self_attn.k_proj": (kv * hd, h), "self_attn.v_proj": (kv * hd, h),
             "self_attn.o_proj": (h, heads * hd), "mlp.gate_proj": (ffn, h), "mlp.up_proj": (ffn, h),
             "mlp.down_proj": (h, ffn)}
    os.makedirs(folder, exist_ok=True)
    shard = [("base_model.model.model.language_model.layers.%d.%s.lora_%s.weight" % (i, m, x), "F32", d, None)
             for i in range(layers) for m, (o, n) in sizes.items() for x, d in (("A", (16, n)), ("B", (o, 16)))]
    write_shard(os.path.join(folder, "adapter_model.safetensors"), shard)
    with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32, "bias": "none",
                   "target_modules": sorted(m.split(".")[1] for m in sizes)}, f, indent=2)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--shape", default="ministral3-8b", choices=SHAPES)
    ap.add_argument("--shard-bytes", type=int, default=5_000_000_000)
    ap.add_argument("--adapter", help="also write an adapter of rank 16 there")
    a = ap.parse_args()
    s = SHAPES[a.shape]
    os.makedirs(a.out, exist_ok=True)
    shards, room = [[]], 0
    for t in list(text(s)) + list(vision(s)):
        n = count(t[2]) * SIZE[t[1]]
        if room and room + n > a.shard_bytes:
            shards.append([])
            room = 0
        shards[-1].append(t)
        room += n
    total, where = 0, {}
    for k, shard in enumerate(shards):
        name = "model-%05d-of-%05d.safetensors" % (k + 1, len(shards))
        total += write_shard(os.path.join(a.out, name), shard)
        where.update({t[0]: name for t in shard})
    for name, data in (("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where}),
                       ("config.json", config(s))):
        with open(os.path.join(a.out, name), "w", encoding="utf-8") as f:
            json.dump(data, f, indent=1)
    with open(os.path.join(a.out, "README.md"), "w", encoding="utf-8") as f:
        f.write("---\nlicense: apache-2.0\nlibrary_name: transformers\n---\nRandom weights for tests.\n")
    if a.adapter:
        write_adapter(a.adapter, s)


main()

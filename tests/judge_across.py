#!/usr/bin/env python3
"""judge_across.py BISE SRCDIR WORKDIR: what travels with the text model from layout to layout.

Vision towers and float8 codes go Hugging Face -> native -> Hugging Face and come back byte for byte; transformers gives the
same logits for text and for an image, and for float8 in both schemes; the names, rows and configuration of the native
files are held against mistral3.md 2.6 and 2.7 in numpy. Run by tests/cli/across.sh.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import subprocess
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from st_bytes import tensor_bytes

BISE, SRC, WORK = sys.argv[1:4]
GOLDEN = os.path.join(SRC, "tests/golden")
failures = 0


def run(*args):
    return subprocess.run([BISE, "--quiet", "--force", *args], capture_output=True, text=True)


def bise(*args):
    r = run(*args)
    if r.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), r.stderr))


def refused(what, *args, says):
    r = run(*args)
    claim(r.returncode == 1 and all(s in r.stderr for s in says), "%s: refused, naming %s" % (what, ", ".join(says)))
    if r.returncode != 1:
        print(r.stderr)


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what), flush=True)


def path(*name):
    return os.path.join(WORK, *name)


def config(folder, name="config.json"):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


def variant(source, name, change=lambda c: None, tensors=lambda t: t):
    """A copy of a checkpoint with another config and other tensors."""
    os.makedirs(path(name), exist_ok=True)
    c = config(source)
    change(c)
    with open(path(name, "config.json"), "w", encoding="utf-8") as f:
        json.dump(c, f)
    save_file({k: v.contiguous() for k, v in tensors(load_file(source + "/model.safetensors")).items()},
              path(name, "model.safetensors"), {"format": "pt"})
    return path(name)


def equal(a, b):
    """The same names, types, shapes and bytes."""
    a, b = (load_file(os.path.join(f, "model.safetensors")) for f in (a, b))
    return sorted(a) == sorted(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and
        torch.equal(a[k].contiguous().view(-1).view(torch.uint8), b[k].contiguous().view(-1).view(torch.uint8)) for k in a)


# ---- the vision tower ----

def see(folder):
    """Logits for a text with an image in it: 2 x 2 patches of 28 pixels, merged to one token of each row and break."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    g = torch.Generator().manual_seed(7)
    pixels = torch.randn(1, 3, 56, 56, generator=g)
    # 56 / 14 = 4 patches a side, merged 2 x 2: four image tokens
    ids = torch.tensor([[1, 20, 10, 10, 10, 10, 30, 40]])
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=pixels, image_sizes=torch.tensor([[56, 56]])).logits[0].numpy()


def silu(c):
    c["vision_config"]["hidden_act"] = "silu"
    # rope_type as the files of the Hub have it
    c["vision_config"]["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "default"}


def newer(tensors):
    """The names of transformers 5's module tree."""
    return {k.replace("language_model.model.", "model.language_model.").replace("language_model.lm_head", "lm_head")
             .replace("vision_tower.", "model.vision_tower.")
             .replace("multi_modal_projector.", "model.multi_modal_projector."): v for k, v in tensors.items()}


def check_vision():
    hf = variant(GOLDEN + "/multimodal", "vision", silu)
    want = see(hf)
    bise("convert", hf, "-o", path("vnat"), "--to", "native")
    native = load_file(path("vnat", "consolidated.safetensors"))
    params = config(path("vnat"), "params.json")
    claim(len(native) == len(load_file(hf + "/model.safetensors")), "vision: every tensor is in the native file")
    v = params["vision_encoder"]
    claim((v["hidden_size"], v["num_attention_heads"], v["patch_size"], v["image_size"], v["spatial_merge_size"],
           v["image_token_id"], v["adapter_bias"], v["mm_projector_id"], v["add_pre_mm_projector_layer_norm"]) ==
          (32, 2, 14, 56, 2, 10, False, "patch_merge", True), "vision: params.json describes the tower")
    # rows of q: native row h D + 2 i + b is Hugging Face row h D + b D/2 + i
    q = load_file(hf + "/model.safetensors")["vision_tower.transformer.layers.0.attention.q_proj.weight"]
    wq = native["vision_encoder.transformer.layers.0.attention.wq.weight"]
    claim(torch.equal(wq, q.view(2, 2, 8, 32).transpose(1, 2).reshape(32, 32)), "vision: rows of q are interleaved")
    bise("convert", path("vnat"), "-o", path("vback"), "--to", "hf")
    claim(tensor_bytes(path("vback", "model.safetensors")) == tensor_bytes(path("vision", "model.safetensors")),
          "vision: HF -> native -> HF is equal byte for byte")
    got = see(path("vback"))
    claim(np.abs(got - want).max() <= 1e-5, "vision: logits with an image within %.2g" % np.abs(got - want).max())
    bise("convert", path("vback"), "-o", path("vnat2"), "--to", "native")
    claim(tensor_bytes(path("vnat2", "consolidated.safetensors")) == tensor_bytes(path("vnat", "consolidated.safetensors")),
          "vision: native -> HF -> native is equal byte for byte")
    claim(config(path("vnat2"), "params.json") == params, "vision: and so is params.json")
    # the newer names give the same native file
    bise("convert", variant(hf, "vnew", tensors=newer), "-o", path("vnat3"), "--to", "native")
    claim(tensor_bytes(path("vnat3", "consolidated.safetensors")) == tensor_bytes(path("vnat", "consolidated.safetensors")),
          "vision: both prefix schemes give one native file")
    # the vision file is the same from either layout
    for name in "vision", "vnat":
        bise("convert", path(name), "-o", path(name + ".gguf"), "--mmproj", path(name + "-mm.gguf"))
    a, b = (gguf.GGUFReader(path(n + "-mm.gguf")) for n in ("vision", "vnat"))
    data = [{t.name: t.data.tobytes() for t in r.tensors} for r in (a, b)]
    claim(data[0] == data[1] and len(data[0]) == 16, "vision: HF and native give the same %d tensors of mmproj" % len(data[0]))
    claim(bool(a.fields["clip.use_silu"].contents()) and "clip.use_gelu" not in a.fields, "vision: silu is said in mmproj")
    bise("convert", GOLDEN + "/multimodal", "-o", path("g.gguf"), "--mmproj", path("g-mm.gguf"))
    g = gguf.GGUFReader(path("g-mm.gguf"))
    claim(not g.fields["clip.use_silu"].contents() and bool(g.fields["clip.use_gelu"].contents()), "vision: gelu is said in mmproj")
    refused("vision: gelu to native", "convert", GOLDEN + "/multimodal", "-o", path("no"), "--to", "native",
            says=["hidden_act", "gelu", "silu"])


# ---- float8 ----

def logits(folder, **more):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **more)
    with torch.no_grad():
        return model(torch.arange(3, 60).unsqueeze(0)).logits[0].float().numpy()


def blocks(tensors, size):
    """The golden bf16 weights again as float8 with a scale for each block."""
    out = {}
    for k, w in tensors.items():
        if "_proj.weight" not in k:
            out[k] = w
            continue
        rows, cols = w.shape
        nr, nc = -(-rows // size), -(-cols // size)
        scale = torch.empty(nr, nc)
        codes = torch.empty(rows, cols, dtype=torch.float8_e4m3fn)
        for i in range(nr):
            for j in range(nc):
                b = w[i * size:(i + 1) * size, j * size:(j + 1) * size].float()
                scale[i, j] = b.abs().max() / 448
                codes[i * size:(i + 1) * size, j * size:(j + 1) * size] = (b / scale[i, j]).to(torch.float8_e4m3fn)
        out[k] = codes
        out[k.replace(".weight", ".weight_scale_inv")] = scale
    return out


def released():
    """A random model with the sizes that releases have where blocks meet heads: 128 and 128."""
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(
        "ministral3", vocab_size=160, hidden_size=256, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=128, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="yarn", rope_theta=1e6, factor=4.0, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
                             mscale_all_dim=1.0, original_max_position_embeddings=64, llama_4_scaling_beta=0.1)))
    model.to(torch.bfloat16).save_pretrained(path("released"))
    c = config(path("released"))
    c["quantization_config"] = dict(quant_method="fp8", modules_to_not_convert=["lm_head"])
    with open(path("released", "config.json"), "w", encoding="utf-8") as f:
        json.dump(c, f)
    return path("released")


def float8_trip(name, hf, ends, loads=True):
    """HF -> native -> HF with the codes kept, and the decoded values of every stop."""
    bise("convert", hf, "-o", path(name + "-n"), "--to", "native", "--dtype", "keep")
    bise("convert", path(name + "-n"), "-o", path(name + "-b"), "--to", "hf", "--dtype", "keep")
    claim(equal(hf, path(name + "-b")), "%s: HF -> native -> HF keeps every byte" % name)
    native = load_file(path(name + "-n", "consolidated.safetensors"))
    given = load_file(hf + "/model.safetensors")
    codes = [k for k, v in native.items() if v.dtype == torch.float8_e4m3fn]
    claim(len(codes) == sum(v.dtype == torch.float8_e4m3fn for v in given.values()) and all(
        k.replace(".weight", e) in native for k in codes for e in ends), "%s: native names end in %s" % (name, " ".join(ends)))
    bise("convert", path(name + "-n"), "-o", path(name + "-n2"), "--dtype", "keep")
    claim(tensor_bytes(path(name + "-n2", "consolidated.safetensors")) == tensor_bytes(path(name + "-n", "consolidated.safetensors")),
          "%s: native -> native keeps every byte" % name)
    bise("convert", path(name + "-n"), "-o", path(name + "-x"), "--to", "hf")
    bise("convert", hf, "-o", path(name + "-y"))
    claim(equal(path(name + "-x"), path(name + "-y")), "%s: both layouts decode to the same bf16" % name)
    if not loads:
        return native, given
    want = logits(hf, dtype=torch.float32)
    got = logits(path(name + "-b"), dtype=torch.float32)
    claim(np.abs(got - want).max() <= 1e-5, "%s: transformers loads the kept codes, within %.2g of the input" %
          (name, np.abs(got - want).max()))
    return native, given


def check_float8():
    hf = GOLDEN + "/fp8"
    native, given = float8_trip("tensor", hf, [".qscale_weight", ".qscale_act"])
    claim(config(path("tensor-n"), "params.json")["quantization"] == {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
          "tensor: params.json says how")
    q = config(path("tensor-b"))["quantization_config"]
    claim((q["quant_method"], q["activation_scheme"], q["weight_block_size"]) == ("fp8", "static", None),
          "tensor: config.json says how")
    k = given["model.layers.0.self_attn.k_proj.weight"].view(torch.uint8)
    wk = native["layers.0.attention.wk.weight"].view(torch.uint8)
    claim(torch.equal(wk, k.view(2, 2, 12, 64).transpose(1, 2).reshape(48, 64)), "tensor: codes of k are interleaved")

    def block_config(size):
        def change(c):
            c["quantization_config"].update(weight_block_size=[size, size], activation_scheme="dynamic")
        return change
    plain = {k: v for k, v in load_file(hf + "/expected-bf16.safetensors").items()}
    for size in 24, 128:
        if size == 24:  # ragged: transformers wants whole blocks
            b = variant(hf, "hf-block24", block_config(24), lambda t: blocks(plain, 24))
        else:
            b = variant(released(), "hf-block128", block_config(128), lambda t: blocks(t, 128))
        float8_trip("block%d" % size, b, [".weight_scale"], size == 128)
        c = config(path("block%d-n" % size), "params.json")["quantization_config"]
        w = c["config_groups"]["group_0"]["weights"]
        claim((c["quant_method"], c["format"], w["strategy"], w["block_structure"]) ==
              ("compressed-tensors", "float-quantized", "block", [size, size]), "block%d: params.json says how" % size)
        claim(config(path("block%d-b" % size))["quantization_config"]["weight_block_size"] == [size, size],
              "block%d: config.json says how" % size)
    check_rows(plain)
    check_wrapper8()
    b = variant(hf, "hf-block16", block_config(16), lambda t: blocks(plain, 16))
    refused("block16: heads of 24 in blocks of 16", "convert", b, "-o", path("no"), "--to", "native", "--dtype", "keep",
            says=["model.layers.0.self_attn", "another scale", "leave out --dtype keep"])
    refused("float8 kept and an adapter", "convert", hf, "-o", path("no"), "--dtype", "keep", "--adapter",
            GOLDEN + "/lora/plain", says=["float8", "adapters cannot be merged"])


def check_rows(plain):
    """A scale a row, as compressed-tensors (strategy "channel") and FBGEMM have them: decoded values and round trips."""
    want, given = {}, {}
    for k, w in plain.items():
        want[k] = given[k] = w
        if "_proj.weight" not in k:
            continue
        scale = (w.float().abs().amax(1, keepdim=True) / 448).to(torch.bfloat16)
        given[k] = (w.float() / scale.float()).to(torch.float8_e4m3fn)
        given[k.replace(".weight", ".weight_scale")] = scale
        want[k] = (given[k].float() * scale.float()).to(torch.bfloat16)
    group = {"targets": ["Linear"], "input_activations": {"dynamic": True, "num_bits": 8, "strategy": "token", "symmetric": True,
                                                          "type": "float"},
             "weights": {"dynamic": False, "num_bits": 8, "strategy": "channel", "symmetric": True, "type": "float"}}

    def channel(c):
        c["quantization_config"] = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                                    "config_groups": {"group_0": group}, "quantization_status": "compressed"}

    def fbgemm(c):
        c["quantization_config"] = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0,
                                    "modules_to_not_convert": ["lm_head"]}
    hf = variant(GOLDEN + "/fp8", "rows", channel, lambda t: given)
    native, _ = float8_trip("rows", hf, [".weight_scale"], False)
    got = load_file(path("rows-y", "model.safetensors"))
    claim(sorted(got) == sorted(want) and all(torch.equal(got[k], want[k].to(got[k].dtype)) for k in want),
          "rows: the decoded values are code times scale, rounded once")
    k = given["model.layers.0.self_attn.k_proj.weight_scale"]
    claim(torch.equal(native["layers.0.attention.wk.weight_scale"], k.view(2, 2, 12, 1).transpose(1, 2).reshape(48, 1)),
          "rows: scales of k are interleaved with their rows")
    for name, file in ("rows-n", "params.json"), ("rows-b", "config.json"):
        q = config(path(name), file)["quantization_config"]
        claim((q["quant_method"], q["config_groups"]["group_0"]["weights"]["strategy"],
               q["config_groups"]["group_0"]["input_activations"]["strategy"]) == ("compressed-tensors", "channel", "token"),
              "rows: %s says how" % file)
    flat = variant(GOLDEN + "/fp8", "fbgemm", fbgemm, lambda t: {
        n: v.reshape(-1) if n.endswith("weight_scale") else v for n, v in given.items()})
    bise("convert", flat, "-o", path("fbgemm-y"))
    claim(equal(path("fbgemm-y"), path("rows-y")), "rows: fbgemm_fp8 with scales [out] decodes to the same")
    for m in hf, path("rows-n"):
        bise("convert", m, "-o", path("rows.gguf"), "--dtype", "f32")
        r = {t.name: t.data for t in gguf.GGUFReader(path("rows.gguf")).tensors}
        up = want["model.layers.1.mlp.up_proj.weight"]
        f = given["model.layers.1.mlp.up_proj.weight"].float() * given["model.layers.1.mlp.up_proj.weight_scale"].float()
        claim(np.array_equal(r["blk.1.ffn_up.weight"], f.numpy()) and up.shape == f.shape, "rows: and in a GGUF, unrounded")


def check_wrapper8():
    """A multimodal wrapper in float8, as Ministral 3 Instruct is released: to native and back, tower and codes and all."""
    sys.path.insert(0, SRC + "/tests")
    import make_real
    c = make_real.RELEASES["Ministral-3-8B-Instruct-2512"][0]
    make_real.make(path("w8"), c)
    bise("convert", path("w8"), "-o", path("w8-n"), "--to", "native", "--dtype", "keep")
    bise("convert", path("w8-n"), "-o", path("w8-b"), "--to", "hf", "--dtype", "keep")
    claim(tensor_bytes(path("w8-b", "model.safetensors")) == tensor_bytes(path("w8", "model.safetensors")), "wrapper in float8: HF -> native -> HF")
    bise("convert", path("w8"), "-o", path("w8-s"), "--dtype", "keep")
    claim(tensor_bytes(path("w8-s", "model.safetensors")) == tensor_bytes(path("w8", "model.safetensors")), "wrapper in float8: wrapper -> wrapper")
    claim(config(path("w8-s")) == config(path("w8")), "wrapper in float8: its configuration stays")

    def text(folder):
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            return model(input_ids=torch.arange(3, 60).unsqueeze(0)).logits[0].float().numpy()
    want = text(path("w8"))
    for name in "w8-b", "w8-s":
        worst = np.abs(text(path(name)) - want).max()
        claim(worst <= 1e-5, "wrapper in float8: transformers loads %s, within %.2g" % (name, worst))
    bise("convert", path("w8"), "-o", path("w8-d"))
    with open(path("w8-d", "config.json"), encoding="utf-8") as f:
        claim("quantization_config" not in f.read(), "wrapper in float8: decoded, nothing says float8")
    worst = np.abs(text(path("w8-d")) - want).max()
    claim(worst <= 0.02 * np.abs(want).max(), "wrapper in float8: decoded to bf16, within %.2g of %.2g" % (
        worst, np.abs(want).max()))


def check_text_only():
    """A GGUF is the text model of a wrapper; out of it comes the folder of the text class, with the wrapper's logits."""
    import make_real
    for name, kind in (("Mistral-Small-3.1-24B-2503", "MistralForCausalLM"),
                       ("Ministral-3-8B-Reasoning-2512", "Ministral3ForCausalLM"),
                       ("Ministral-3-3B-Base-2512", "Ministral3ForCausalLM")):
        make_real.make(path(name), make_real.RELEASES[name][0])
        bise("convert", path(name), "-o", path("text.gguf"))
        bise("convert", path("text.gguf"), "-o", path(name + "-text"))
        claim(config(path(name + "-text"))["architectures"] == [kind], "%s as %s" % (name, kind))
        ids = torch.arange(3, 60).unsqueeze(0)
        with torch.no_grad():
            a, b = (k.from_pretrained(path(n), dtype=torch.float32)(input_ids=ids).logits for k, n in (
                (transformers.AutoModelForImageTextToText, name), (transformers.AutoModelForCausalLM, name + "-text")))
        claim(float((a - b).abs().max()) <= 1e-5, "%s: logits of the wrapper within %.2g" % (name, float((a - b).abs().max())))


def main():
    check_vision()
    check_float8()
    check_text_only()
    shutil.rmtree(WORK, ignore_errors=True)
    sys.exit(1 if failures else 0)


main()

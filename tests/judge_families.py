#!/usr/bin/env python3
"""judge_families.py BISE LOGITS_TOOL SRCDIR WORKDIR: the same logits in bise, transformers and llama.cpp.

Latent attention from tests/make_latent.py (Mistral Small 4 and Large 3) and the golden models: bise's logits from
Hugging Face, native and GGUF files, from a forward pass and through the cache, are those of transformers within
1e-5 in float32; the engine, with float32 keys and values, is within 1e-3 of bise on every GGUF.
Run by tests/cli/families.sh.
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
from safetensors.numpy import load_file, save_file

from exact_engine import Engine

BISE, TOOL, SRC, WORK = sys.argv[1:5]
GOLDEN = os.path.join(SRC, "tests/golden/models")
TINY = os.path.join(SRC, "examples/tiny-mistral3")
failures = 0


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what), flush=True)


def path(*names):
    return os.path.join(WORK, *names)


def bise(*args):
    run = subprocess.run([BISE, "--quiet", "--force", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), run.stderr))
    return run.stdout


def make(*args):
    subprocess.run([sys.executable, os.path.join(SRC, "tests/make_latent.py"), *args], check=True)


def ours(model, ids, how="forward", adapter=()):
    run = subprocess.run([TOOL, model, how, *adapter], input=np.array(ids, np.int32).tobytes(), capture_output=True)
    if run.returncode:
        sys.exit("logits of %s: %s" % (model, run.stderr.decode()))
    return np.frombuffer(run.stdout, np.float32).reshape(len(ids), -1)


def theirs(folder, ids):
    with open(os.path.join(folder, "config.json")) as f:    # not every class is in transformers' automatic list
        kind = getattr(transformers, json.load(f)["architectures"][0])
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def close(a, b, bound, what):
    worst = float(np.abs(a - b).max())
    claim(worst <= bound, "%s: within %.2g of %.2g" % (what, worst, np.abs(b).max()))
    return worst


def in_engine(file, ids, what, bound=1e-3):
    reader = gguf.GGUFReader(file)
    claim(len(reader.tensors) > 0, "gguf-py reads %s" % what)
    close(Engine(file).logits(ids), ours(file, ids), bound, "engine on %s" % what)
    return reader


def field(reader, name):
    f = reader.get_field(name)
    return f and f.contents()


def check_latent():
    """Every layout of both models against transformers, then the engine."""
    make(path("n"))
    rng = np.random.default_rng(7)
    ids = rng.integers(12, 320, 70).tolist()
    want = {"small4": theirs(path("n/small4"), ids), "large3": theirs(path("n/large3-hf"), ids)}
    claim(np.abs(want["small4"] - want["large3"]).max() > 0.01, "magnitude scaling is visible")
    for name, like in ("small4", "small4"), ("large3", "large3"), ("large3-hf", "large3"), ("large3-scaled", "small4"):
        model = path("n", name)
        close(ours(model, ids), want[like], 1e-5, name)
        close(ours(model, ids, "decode")[6:], want[like][6:], 1e-5, name + " through the cache")
        bise("convert", model, "-o", path("m.gguf"))
        close(ours(path("m.gguf"), ids), want[like], 1e-5, name + " as GGUF")
        close(ours(path("m.gguf"), ids, "decode")[6:], want[like][6:], 1e-5, name + " as GGUF through the cache")
        r = in_engine(path("m.gguf"), ids, name)
        arch = "mistral4" if os.path.exists(path("n", name, "config.json")) else "deepseek2"
        claim(field(r, "general.architecture") == arch, "%s is %s" % (name, arch))
        shapes = {t.name: list(t.shape) for t in r.tensors}
        claim(shapes["blk.1.attn_k_b.weight"] == [16, 32, 4] and shapes["blk.1.attn_v_b.weight"] == [32, 24, 4], "kv_b is split")
        bise("convert", path("m.gguf"), "-o", path("back"))
        close(theirs(path("back"), ids), want[like], 1e-5, name + " through GGUF in transformers")
        bise("convert", model, "-o", path("own"), "--to", "native")
        close(ours(path("own"), ids), want[like], 1e-5, name + " as native")
        bise("convert", path("own"), "-o", path("hf"), "--to", "hf")
        close(theirs(path("hf"), ids), want[like], 1e-5, name + " through native in transformers")


def check_latent_adapter():
    """LoRA on every attention matrix of latent attention, kv_b among them: applied while running, merged into each layout."""
    from peft import PeftModel
    make(path("n"))
    ids = np.random.default_rng(8).integers(12, 320, 40).tolist()
    model, adapter = path("n/small4"), path("latent-lora")
    subprocess.run([sys.executable, os.path.join(SRC, "tests/make_adapter.py"), model, adapter, "--latent"], check=True)
    net = transformers.Mistral4ForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    net = PeftModel.from_pretrained(net, adapter)
    with torch.no_grad():
        want = net(torch.tensor([ids])).logits[0].numpy()
    moved = np.abs(ours(model, ids) - want).max()
    claim(moved > 0.05 and any("kv_b_proj" in k for k in load_file(adapter + "/adapter_model.safetensors")),
          "the adapter moves the logits by %.2g" % moved)
    bise("convert", model, "-o", path("base.gguf"))
    bise("convert", model, "-o", path("base-native"), "--to", "native")
    for m in model, path("base-native"), path("base.gguf"):
        what = os.path.basename(m)
        close(ours(m, ids, "forward", (adapter,)), want, 2e-5, "latent adapter applied to " + what)
        close(ours(m, ids, "decode", (adapter,))[6:], want[6:], 2e-5, "latent adapter through the cache on " + what)
        for out in "merged.gguf", "merged-hf":
            shutil.rmtree(path(out), ignore_errors=True)
            bise("merge", m, "--adapter", adapter, "-o", path(out), *([] if out.endswith("gguf") else ["--to", "hf"]))
            close(ours(path(out), ids), want, 2e-5, "latent adapter merged from %s to %s" % (what, out))
        close(theirs(path("merged-hf"), ids), want, 2e-5, "transformers on the merged " + what)
    run = subprocess.run([BISE, "adapter", "convert", adapter, "-o", path("a.gguf"), "--to", "gguf", "--base", model],
                         capture_output=True, text=True)
    claim(run.returncode == 1 and "kv_b_proj" in run.stderr and "merge" in run.stderr,
          "a GGUF adapter cannot hold kv_b: %s" % run.stderr.strip())


def check_windows():
    """Windows that differ between layers: native lists, layer_types of transformers' class "ministral"."""
    import make_real
    c = make_real.dense(32, 64, 4, 2, 16, 120, max_position_embeddings=4096, rope_theta=1e4, sliding_window=8, **make_real.V5)
    c.update(model_type="ministral", architectures=["MinistralForCausalLM"], tie_word_embeddings=False,
             layer_types=["full_attention", "sliding_attention"] * 2 + ["full_attention"], num_hidden_layers=5)
    make_real.make(path("window"), c)
    ids = np.random.default_rng(3).integers(3, 120, 90).tolist()
    want = theirs(path("window"), ids)
    make_real.make(path("all"), dict(c, layer_types=["full_attention"] * 5))
    claim(np.abs(theirs(path("all"), ids) - want).max() > 0.001, "windows are visible in the logits")
    close(ours(path("window"), ids), want, 1e-5, "windows in two of five layers")
    close(ours(path("window"), ids, "decode")[6:], want[6:], 1e-5, "windows through the cache")
    bise("convert", path("window"), "-o", path("own"), "--to", "native")
    with open(path("own/params.json")) as f:
        claim(json.load(f)["sliding_window"] == [None, 8, None, 8, None], "params.json has the windows of the layers")
    close(ours(path("own"), ids), want, 1e-5, "windows as native")
    bise("convert", path("own"), "-o", path("hf"), "--to", "hf")
    close(theirs(path("hf"), ids), want, 1e-5, "windows through native in transformers")
    bise("convert", path("window"), "-o", path("m.gguf"))
    close(ours(path("m.gguf"), ids), want, 1e-5, "windows as GGUF")
    shutil.rmtree(path("hf"))
    bise("convert", path("m.gguf"), "-o", path("hf"))
    close(theirs(path("hf"), ids), want, 1e-5, "windows through GGUF in transformers")


def check_epsilon():
    """transformers' class has 1e-6 in the norms of q_a and kv_a, whatever rms_norm_eps is."""
    os.makedirs(path("eps"), exist_ok=True)
    shutil.copy(path("n/small4/model.safetensors"), path("eps"))
    with open(path("n/small4/config.json")) as f, open(path("eps/config.json"), "w") as g:
        json.dump(dict(json.load(f), rms_norm_eps=0.3), g)
    ids = np.random.default_rng(7).integers(12, 320, 70).tolist()
    want = theirs(path("eps"), ids)
    close(ours(path("eps"), ids), want, 1e-5, "small4 with another epsilon")
    run = subprocess.run([BISE, "convert", path("eps"), "-o", path("eps.gguf")], capture_output=True, text=True)
    claim(run.returncode == 0 and "epsilon" in run.stderr, "GGUF has one epsilon: said")


def check_wrapper():
    """Small 4 is released inside Mistral3ForConditionalGeneration, under either scheme of prefixes."""
    w = load_file(path("n/small4/model.safetensors"))
    with open(path("n/small4/config.json")) as f:
        text = json.load(f)
    text.pop("architectures")
    ids = np.random.default_rng(7).integers(12, 320, 70).tolist()
    want = ours(path("n/small4"), ids)
    schemes = {"old": lambda k: "language_model." + k,
               "new": lambda k: k.replace("model.", "model.language_model.", 1) if k.startswith("model.") else k}
    for name, rename in schemes.items():
        os.makedirs(path(name), exist_ok=True)
        save_file({rename(k): v for k, v in w.items()}, path(name, "model.safetensors"), metadata={"format": "pt"})
        with open(path(name, "config.json"), "w") as f:
            json.dump({"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": text,
                       "image_token_index": 10, "tie_word_embeddings": False}, f)
        close(ours(path(name), ids), want, 0, "small4 in a wrapper of the %s scheme" % name)
        bise("convert", path(name), "-o", path("x.gguf"))
        r = in_engine(path("x.gguf"), ids, "the wrapper")
        claim(field(r, "general.architecture") == "mistral4", "the wrapper is mistral4")


def check_float8():
    """Scales per tensor, per expert and per block, from files whose values transformers computes with."""
    make(path("f"), "--fp8", "--wide")
    ids = np.random.default_rng(8).integers(12, 320, 40).tolist()
    want = theirs(path("f/small4-values"), ids)
    close(ours(path("f/small4"), ids), want, 1e-5, "float8 small4")
    bise("convert", path("f/small4"), "-o", path("f.gguf"), "--dtype", "f32")
    in_engine(path("f.gguf"), ids, "float8 small4 decoded")
    close(ours(path("f.gguf"), ids), want, 1e-5, "float8 small4 as GGUF")
    bise("convert", path("f/small4"), "-o", path("kept"), "--dtype", "keep")
    a, b = (open(path(d, "model.safetensors"), "rb").read() for d in ("f/small4", "kept"))
    claim(tensors(a) == tensors(b), "float8 kept: every tensor and scale as it was")
    bise("convert", path("f/large3-values"), "-o", path("values"), "--to", "hf")
    want = theirs(path("values"), ids)
    close(ours(path("f/large3"), ids), want, 1e-5, "float8 blocks of large3")
    bise("convert", path("f/large3"), "-o", path("f.gguf"), "--dtype", "f32")
    in_engine(path("f.gguf"), ids, "float8 blocks of large3 decoded")
    close(ours(path("f.gguf"), ids), want, 1e-5, "float8 blocks of large3 as GGUF")


def tensors(raw):
    """name -> shape, type and bytes of a safetensors file."""
    n = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (t["dtype"], t["shape"], raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]) for k, t in head.items()}


def check_quantized():
    """Row lengths of the released models: k-quants where they fit, blocks of 32 for k_b; the engine computes the same."""
    make(path("w"), "--wide", "--tokenizer", TINY)
    head = open(os.path.join(TINY, "valid.txt"), encoding="utf-8").read()[:20000]
    with open(path("text.txt"), "w", encoding="utf-8") as f:
        f.write(head)
    ids = np.random.default_rng(9).integers(1000, 4096, 40).tolist()
    for name in "small4", "large3":
        model = path("w", name)
        bise("calibrate", model, "--data", path("text.txt"), "--ctx", "128", "--chunks", "16", "-o", path("i.gguf"))
        sums = {t.name: list(t.shape) for t in gguf.GGUFReader(path("i.gguf")).tensors}
        claim(sums["blk.0.attn_k_b.weight.in_sum2"] == [64, 4] and sums["blk.0.attn_v_b.weight.in_sum2"] == [256, 4],
              "importance of each head of %s" % name)
        for kind, k_b, rest in ("Q8_0", "Q8_0", "Q8_0"), ("Q4_K_M", "Q5_0", "Q4_K"), ("Q6_K", "Q8_0", "Q6_K"), ("Q5_K_S", "Q5_1", "Q5_K"):
            bise("quantize", model, "-o", path("q.gguf"), "--type", kind, "--imatrix", path("i.gguf"))
            r = gguf.GGUFReader(path("q.gguf"))
            types = {t.name: t.tensor_type.name for t in r.tensors}
            want = dict.fromkeys(("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_v_b", "ffn_gate_shexp", "ffn_up_exps"), rest)
            want.update(attn_k_b=k_b, ffn_gate_inp="F32", attn_q_a_norm="F32", attn_kv_a_norm="F32")
            wrong = {k: types["blk.1.%s.weight" % k] for k, v in want.items() if types["blk.1.%s.weight" % k] != v}
            claim(not wrong, "types of %s as %s %s" % (name, kind, wrong))
            # the engine rounds activations to 8 bits before it multiplies, which sends some tokens to other experts: its
            # noise, not the weights'. The same weights in float32 must agree.
            a, b = Engine(path("q.gguf")).logits(ids), ours(path("q.gguf"), ids)
            rms = float(np.sqrt(((a - b) ** 2).mean() / (b ** 2).mean()))
            claim(rms < 0.2, "engine on %s as %s: relative %.4f" % (name, kind, rms))
            bise("convert", path("q.gguf"), "-o", path("d.gguf"), "--dtype", "f32")
            close(Engine(path("d.gguf")).logits(ids), b, 1e-3, "engine on %s from %s to float32" % (name, kind))
        bise("quantize", path("q.gguf").replace("q.gguf", "w/") + name, "-o", path("q8.gguf"), "--type", "Q8_0")
        got = json.loads(bise("--json", "eval", path("q8.gguf"), "--data", path("text.txt"), "--ctx", "128", "--chunks", "4", "--base", model))
        claim(got["kld"]["mean"] < 5e-3 and got["tokens"] > 400, "%s in Q8_0: divergence %.2g" % (name, got["kld"]["mean"]))
        e = Engine(path("q8.gguf"))
        prompt = e.tokens("The old man", special=True)
        text = json.loads(bise("--json", "generate", path("q8.gguf"), "-p", "The old man", "-n", "4", "--ignore-eos"))
        claim(text["text"] != "" and len(prompt) > 2, "%s generates" % name)


def check_golden():
    """The other families; the engine ignores windows, so that model is compared below its own."""
    for name in "ministral3", "ministral3-tied", "ministral3-mscale", "mistral-nohd", "mistral-window", "mixtral":
        model = os.path.join(GOLDEN, name)
        e = load_file(model + "/expected.safetensors")
        ids = e["input_ids"].reshape(-1).tolist()
        want = e["logits"].reshape(len(ids), -1)
        n = 16 if name == "mistral-window" else len(ids)
        close(ours(model, ids), want, 2e-5, name)
        bise("convert", model, "-o", path("g.gguf"), "--dtype", "f32")
        in_engine(path("g.gguf"), ids[:n], name)
        close(ours(path("g.gguf"), ids), want, 2e-5, name + " as GGUF")
        bise("convert", model, "-o", path("own"), "--to", "native")
        close(ours(path("own"), ids), want, 2e-5, name + " as native")
        bise("convert", path("own"), "-o", path("g.gguf"), "--dtype", "f32")
        in_engine(path("g.gguf"), ids[:n], name + " through native")


def make_mixtral(folder, aux):
    """A random Mixtral with the tokenizer of the embedded model."""
    d, L, H, KV, D, F, E, V = 64, 2, 4, 2, 16, 96, 4, 4096
    rng = np.random.default_rng(12)
    w = {}

    def mat(name, out, into):
        w[name] = (rng.standard_normal((out, into)) / np.sqrt(into)).astype(np.float32)

    for name in "model.embed_tokens.weight", "lm_head.weight":
        mat(name, V, d)
    w["model.norm.weight"] = np.ones(d, np.float32)
    for i in range(L):
        p = "model.layers.%d." % i
        w[p + "input_layernorm.weight"] = w[p + "post_attention_layernorm.weight"] = np.ones(d, np.float32)
        for name, out, into in ("q", H * D, d), ("k", KV * D, d), ("v", KV * D, d), ("o", d, H * D):
            mat(p + "self_attn.%s_proj.weight" % name, out, into)
        mat(p + "block_sparse_moe.gate.weight", E, d)
        for e in range(E):
            for name, out, into in ("w1", F, d), ("w2", d, F), ("w3", F, d):
                mat(p + "block_sparse_moe.experts.%d.%s.weight" % (e, name), out, into)
    os.makedirs(folder, exist_ok=True)
    save_file(w, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "dtype": "float32", "hidden_size": d,
                   "intermediate_size": F, "num_hidden_layers": L, "num_attention_heads": H, "num_key_value_heads": KV, "head_dim": D,
                   "num_local_experts": E, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.02, "output_router_logits": aux,
                   "rms_norm_eps": 1e-5, "vocab_size": V, "max_position_embeddings": 512, "hidden_act": "silu", "rope_theta": 1e6,
                   "sliding_window": None, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}, f)
    for name in "tekken.json", "tokenizer.json", "tokenizer_config.json":
        shutil.copy(os.path.join(TINY, name), folder)


def check_mixtral():
    """Trained on attention alone and on the experts too: PEFT on the base, bise's merge, the engine's GGUF adapter."""
    from peft import PeftModel
    model = path("mx")
    make_mixtral(model, True)
    with open(path("rows.jsonl"), "w") as f:
        for i in range(16):
            f.write(json.dumps({"messages": [{"role": "user", "content": "What is %d?" % i},
                                             {"role": "assistant", "content": "It is the number %d of the row." % i}]}) + "\n")
    ids = np.random.default_rng(10).integers(1000, 4096, 50).tolist()
    base = ours(model, ids)
    close(base, theirs(model, ids), 1e-5, "mixtral with the tokenizer")
    bise("convert", model, "-o", path("mx.gguf"), "--dtype", "f32")
    for name, target in ("attention", "all-linear"), ("experts", "q_proj,v_proj,w1,w2,w3"):
        run = path("run-" + name)
        bise("finetune", model, "--data", path("rows.jsonl"), "-o", run, "--target", target, "--lora-r", "4", "--steps", "6", "--lr", "0.02")
        with open(os.path.join(run, "adapter_config.json")) as f:
            modules = json.load(f)["target_modules"]
        claim(sorted(modules) == (["k_proj", "o_proj", "q_proj", "v_proj"] if name == "attention" else ["q_proj", "v_proj", "w1", "w2", "w3"]),
              "modules of the adapter on %s" % name)
        bise("merge", model, "--adapter", run, "-o", path("merged"))
        want = ours(path("merged"), ids)
        claim(np.abs(want - base).max() > 0.05, "training on %s moves the logits by %.2f" % (name, np.abs(want - base).max()))
        close(theirs(path("merged"), ids), want, 2e-5, "transformers on merged %s" % name)
        net = transformers.MixtralForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
        net = PeftModel.from_pretrained(net, run)
        with torch.no_grad():
            close(net(torch.tensor([ids])).logits[0].numpy(), want, 2e-5, "PEFT with the adapter on %s" % name)
        bise("adapter", "convert", run, "-o", path("a.gguf"), "--to", "gguf", "--base", model)
        close(Engine(path("mx.gguf"), lora=path("a.gguf")).logits(ids), want, 1e-3, "engine with the adapter on %s" % name)
    with open(path("text.txt")) as f:
        claim(len(f.read()) > 1000, "text of the eval")
    fused = {}
    w = load_file(path("mx/model.safetensors"))
    for name, x in w.items():                               # as transformers 5 holds them in memory
        if ".experts." not in name:
            fused[name.replace("block_sparse_moe.", "mlp.")] = x
    for i in range(2):
        part = lambda e, n: w["model.layers.%d.block_sparse_moe.experts.%d.%s.weight" % (i, e, n)]
        fused["model.layers.%d.mlp.experts.gate_up_proj" % i] = np.stack([np.concatenate([part(e, "w1"), part(e, "w3")]) for e in range(4)])
        fused["model.layers.%d.mlp.experts.down_proj" % i] = np.stack([part(e, "w2") for e in range(4)])
    shutil.copytree(model, path("fused"))
    save_file(fused, path("fused/model.safetensors"), metadata={"format": "pt"})
    close(ours(path("fused"), ids), base, 0, "mixtral with fused experts")
    bise("convert", path("fused"), "-o", path("f.gguf"), "--dtype", "f32")
    a, b = (gguf.GGUFReader(path(n)).tensors for n in ("f.gguf", "mx.gguf"))
    claim([t.name for t in a] == [t.name for t in b] and all((x.data == y.data).all() for x, y in zip(a, b)), "fused or not, one GGUF")
    for kind in "Q8_0", "Q4_K_M":
        bise("quantize", model, "-o", path("mq.gguf"), "--type", kind)
        bise("convert", path("mq.gguf"), "-o", path("d.gguf"), "--dtype", "f32")
        close(Engine(path("d.gguf")).logits(ids), ours(path("mq.gguf"), ids), 1e-3, "engine on mixtral from %s to float32" % kind)
    got = json.loads(bise("--json", "eval", model, "--data", path("text.txt"), "--ctx", "128", "--chunks", "4"))
    claim(got["tokens"] == 508, "eval of mixtral: loss %.3f" % got["loss"])
    text = json.loads(bise("--json", "generate", path("mq.gguf"), "-p", "The old man", "-n", "8", "--ignore-eos"))
    claim(text["tokens"] == 8, "mixtral generates from Q4_K_M")


def main():
    check_latent()
    check_epsilon()
    check_latent_adapter()
    check_windows()
    check_wrapper()
    check_float8()
    check_quantized()
    check_golden()
    check_mixtral()
    sys.exit(1 if failures else 0)


main()

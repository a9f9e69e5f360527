#!/usr/bin/env python3
"""judge_checkpoints.py - transformers makes a tiny random checkpoint of every
family, saved as it saves them today and renamed to the older schemes; bise must
recognize each, find every weight and count the parameters that torch counts.

  judge_checkpoints.py BISE WORK_DIR
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import shutil
import subprocess
import sys

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

BISE, WORK = sys.argv[1:3]
DENSE = dict(vocab_size=96, hidden_size=32, intermediate_size=48,
             num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=12, bos_token_id=1,
             eos_token_id=2, pad_token_id=11)
YARN = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, beta_fast=32.0,
            beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
            original_max_position_embeddings=64, llama_4_scaling_beta=0.1)
MLA = dict(vocab_size=96, hidden_size=32, intermediate_size=48,
           moe_intermediate_size=16, num_hidden_layers=2,
           num_attention_heads=4, num_key_value_heads=4, q_lora_rank=12,
           kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4,
           v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2,
           n_shared_experts=1, first_k_dense_replace=0, n_group=1,
           topk_group=1)
failures = 0


def inspect(path):
    run = subprocess.run([BISE, "inspect", path, "--json"],
                         capture_output=True, text=True, check=False)
    return json.loads(run.stdout)


def judge(name, path, family, parameters):
    """bise's family and parameter count of a directory."""
    global failures
    got = inspect(path)
    ok = ("error" not in got and got.get("family") == family and
          got.get("parameters") == parameters)
    failures += not ok
    print("%-28s %s" % (name, "ok, %d parameters" % parameters if ok else
                        "WRONG: %s, expected %s with %d" %
                        (got.get("error", [got.get("family"),
                                           got.get("parameters")]),
                         family, parameters)))


def text_size(model):
    """Parameters of the text model, a tied head counted once."""
    return sum(p.numel() for n, p in model.named_parameters()
               if "vision" not in n and "multi_modal" not in n)


def save(name, model):
    path = os.path.join(WORK, name)
    model.save_pretrained(path)
    return path


def renamed(path, name, rename):
    """A copy of a checkpoint with other tensor names."""
    out = os.path.join(WORK, name)
    shutil.copytree(path, out)
    weights = load_file(os.path.join(path, "model.safetensors"))
    save_file({rename(k): v.contiguous() for k, v in weights.items()},
              os.path.join(out, "model.safetensors"), {"format": "pt"})
    return out


def dense():
    for tied in (False, True):
        model = tf.MistralForCausalLM(tf.MistralConfig(
            **DENSE, sliding_window=None, tie_word_embeddings=tied))
        name = "mistral" + ("-tied" if tied else "")
        judge(name, save(name, model), "mistral", text_size(model))
    config = tf.MixtralConfig(**DENSE, num_local_experts=4,
                              num_experts_per_tok=2)
    model = tf.MixtralForCausalLM(config)
    judge("mixtral", save("mixtral", model), "mixtral", text_size(model))


def ministral3():
    config = tf.AutoConfig.for_model("ministral3", **DENSE,
                                     rope_parameters=YARN)
    model = tf.AutoModelForCausalLM.from_config(config)
    path = save("ministral3", model)
    judge("ministral3", path, "ministral3", text_size(model))
    # Sharded with an index.
    model.save_pretrained(os.path.join(WORK, "shards"), max_shard_size="20KB")
    judge("ministral3, shards", os.path.join(WORK, "shards"), "ministral3",
          text_size(model))


VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1,
              num_attention_heads=2, image_size=28, patch_size=14,
              model_type="pixtral", head_dim=8)


def wrapper():
    text = dict(DENSE, model_type="ministral3", rope_parameters=YARN,
                tie_word_embeddings=False)
    config = tf.Mistral3Config(text_config=text, vision_config=VISION,
                               tie_word_embeddings=False)
    model = tf.Mistral3ForConditionalGeneration(config)
    n = text_size(model)
    path = save("wrapper", model)
    judge("wrapper, as saved", path, "ministral3", n)
    keys = load_file(os.path.join(path, "model.safetensors")).keys()
    old = any(k.startswith("language_model.") for k in keys)

    def other(k):
        if old:   # to the scheme of transformers 5's module tree
            k = k.replace("language_model.lm_head", "lm_head")
            k = k.replace("language_model.model.", "model.language_model.")
            if k.startswith(("vision_tower", "multi_modal")):
                k = "model." + k
            return k
        k = k.replace("model.language_model.", "language_model.model.")
        k = k.replace("model.vision_tower", "vision_tower")
        k = k.replace("model.multi_modal", "multi_modal")
        return "language_model." + k if k.startswith("lm_head") else k
    judge("wrapper, other prefixes", renamed(path, "wrapper2", other),
          "ministral3", n)


def mistral4():
    """Latent attention and fused experts, alone and inside the wrapper."""
    if not hasattr(tf, "Mistral4ForCausalLM"):
        print("%-28s skipped: transformers does not know it" % "mistral4")
        return
    config = tf.AutoConfig.for_model("mistral4", **MLA,
                                     tie_word_embeddings=False)
    model = tf.Mistral4ForCausalLM(config)
    judge("mistral4", save("mistral4", model), "mistral4", text_size(model))
    text = dict(MLA, model_type="mistral4", tie_word_embeddings=False)
    both = tf.Mistral3ForConditionalGeneration(tf.Mistral3Config(
        text_config=text, vision_config=VISION, tie_word_embeddings=False))
    judge("mistral4 in the wrapper", save("wrapper4", both), "mistral4",
          text_size(both))


def main():
    torch.manual_seed(0)
    os.makedirs(WORK, exist_ok=True)
    dense()
    ministral3()
    wrapper()
    mistral4()
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()

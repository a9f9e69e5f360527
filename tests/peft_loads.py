#!/usr/bin/env python3
"""peft_loads.py - PEFT loads the adapters that bise wrote and must compute the
logits of golden/lora; named for the multimodal wrapper, an adapter must act on
its text model and on nothing else.

  peft_loads.py GOLDEN DIR     with DIR/<case>, DIR/uniform and DIR/wrapper
SPDX-License-Identifier: Apache-2.0
"""
import os
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (AutoModelForCausalLM, Mistral3Config,
                          Mistral3ForConditionalGeneration)

CASES = {"plain": "plain", "rslora": "rslora",
         "qv-rank-pattern": "qv-rank-pattern", "uniform": "qv-rank-pattern"}


VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1,
              num_attention_heads=2, image_size=28, patch_size=14,
              model_type="pixtral", head_dim=8)


def wrapper(golden, made):
    """The text weights of ministral3 inside a wrapper with random vision."""
    text = AutoModelForCausalLM.from_pretrained(
        os.path.join(golden, "models/ministral3"), dtype=torch.float32)
    model = Mistral3ForConditionalGeneration(Mistral3Config(
        text_config=text.config.to_dict(), vision_config=VISION,
        tie_word_embeddings=False))
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.lm_head.load_state_dict(text.lm_head.state_dict())
    model = PeftModel.from_pretrained(model.eval(),
                                      os.path.join(made, "wrapper"))
    adapted = [n for n, m in model.named_modules() if hasattr(m, "lora_A")]
    if len(adapted) != 14 or any("vision" in n for n in adapted):
        sys.exit("the wrapper's adapter sits on %s" % adapted)
    want = load_file(os.path.join(golden, "lora/plain/expected.safetensors"))
    with torch.no_grad():
        got = model(input_ids=want["input_ids"][None]).logits[0]
    worst = (got - want["logits"]).abs().max().item()
    print("%-16s largest difference of logits %.2g" % ("wrapper", worst))
    if not worst < 2e-4:
        sys.exit("PEFT computes other logits inside the wrapper")


def main():
    golden, made = sys.argv[1:3]
    warnings.simplefilter("error", UserWarning)   # missing or unknown keys
    for name, case in CASES.items():
        base = AutoModelForCausalLM.from_pretrained(
            os.path.join(golden, "models/ministral3"), dtype=torch.float32)
        model = PeftModel.from_pretrained(base, os.path.join(made, name))
        want = load_file(os.path.join(golden, "lora", case,
                                      "expected.safetensors"))
        with torch.no_grad():
            got = model(want["input_ids"][None]).logits[0]
        worst = (got - want["logits"]).abs().max().item()
        print("%-16s largest difference of logits %.2g" % (name, worst))
        if not worst < 2e-4:
            sys.exit("PEFT computes other logits with %s" % name)
    wrapper(golden, made)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""peft_loads.py - PEFT loads the adapters that bise wrote and must compute the
logits of golden/lora. peft_loads.py GOLDEN DIR, with DIR/<case> and DIR/uniform.
SPDX-License-Identifier: Apache-2.0
"""
import os
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

CASES = {"plain": "plain", "rslora": "rslora",
         "qv-rank-pattern": "qv-rank-pattern", "uniform": "qv-rank-pattern"}


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


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""make_adapter.py - a PEFT adapter with random A and B for a text checkpoint, to
compare how engines apply it. Needs numpy and safetensors.

  make_adapter.py MODEL OUT [--rslora] [--patterns] [--experts]
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
         "down_proj"]


def main():
    model, out = sys.argv[1:3]
    names = NAMES + (["w1", "w2", "w3"] if "--experts" in sys.argv else [])
    if "--latent" in sys.argv:
        names = ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
    patterns = "--patterns" in sys.argv
    rng = np.random.default_rng(5)
    tensors = {}
    with safe_open(os.path.join(model, "model.safetensors"), "numpy") as f:
        for key in f.keys():
            path = key[:-len(".weight")]
            if path.split(".")[-1] not in names or "vision" in key:
                continue
            rows, cols = f.get_slice(key).get_shape()
            r = 8 if patterns and path.endswith("v_proj") else 4
            name = "base_model.model." + path
            tensors[name + ".lora_A.weight"] = rng.normal(
                0, cols ** -0.5, (r, cols)).astype(np.float32)
            tensors[name + ".lora_B.weight"] = rng.normal(
                0, 0.02, (rows, r)).astype(np.float32)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4,
              "lora_alpha": 12, "lora_dropout": 0.0, "bias": "none",
              "base_model_name_or_path": "org/base", "target_modules": names,
              "use_rslora": "--rslora" in sys.argv,
              "rank_pattern": {"v_proj": 8} if patterns else {},
              "alpha_pattern": {"v_proj": 5} if patterns else {}}
    os.makedirs(out, exist_ok=True)
    save_file(tensors, os.path.join(out, "adapter_model.safetensors"),
              metadata={"format": "pt"})
    with open(os.path.join(out, "adapter_config.json"), "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)


if __name__ == "__main__":
    main()

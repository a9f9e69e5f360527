#!/usr/bin/env python3
"""make.py: golden logits of latent attention, by transformers in float32 (made with 5.23.0, torch 2.13.0).

Runs ../../make_latent.py --tiny, keeps small4 and large3, and writes expected-NAME.safetensors: input_ids and
labels [48] (not shifted, -100 = not supervised), logits [48, V]; the mean loss stands in the metadata.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file
from transformers import Mistral4ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
T = 48

work = tempfile.mkdtemp()
subprocess.run([sys.executable, HERE + "/../../make_latent.py", work, "--tiny"], check=True)
torch.manual_seed(3)
ids = torch.randint(3, 64, (1, T))
labels = ids.clone()
labels[0, :9] = -100
for name, judge in ("small4", "small4"), ("large3", "large3-hf"):
    shutil.rmtree(os.path.join(HERE, name), ignore_errors=True)
    shutil.copytree(os.path.join(work, name), os.path.join(HERE, name))
    model = Mistral4ForCausalLM.from_pretrained(os.path.join(work, judge), dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        out = model(ids, labels=labels)
    save_file({"input_ids": ids[0].contiguous(), "labels": labels[0].contiguous(), "logits": out.logits[0].contiguous()},
              os.path.join(HERE, "expected-%s.safetensors" % name), metadata={"loss": json.dumps(out.loss.item())})
shutil.rmtree(work)

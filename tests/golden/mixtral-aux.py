#!/usr/bin/env python3
"""mixtral-aux.py: golden numbers of the auxiliary loss, by transformers in float32 (made with 5.23.0, torch 2.13.0).

models/mixtral with output_router_logits and router_aux_loss_coef 0.5 (large, so that it shows): writes
mixtral-aux.safetensors with the whole loss and aux_loss in the metadata and the gradient of the layers' matrices,
but gate_up_proj, as grad.<name>; input_ids and labels are those of models/mixtral/expected.safetensors.
"""
# SPDX-License-Identifier: Apache-2.0
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = HERE + "/models/mixtral"

e = load_file(MODEL + "/expected.safetensors")
ids, labels = e["input_ids"].reshape(1, -1), e["labels"].reshape(1, -1)
model = MixtralForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
model.config.router_aux_loss_coef = model.router_aux_loss_coef = 0.5
out = model(ids, labels=labels, output_router_logits=True)
out.loss.backward()
grads = {name: w.grad for name, w in model.named_parameters() if ".layers." in name and w.dim() > 1 and "gate_up" not in name}
save_file({"grad." + k: v.contiguous() for k, v in grads.items()}, HERE + "/mixtral-aux.safetensors",
          metadata={"loss": "%.9f" % out.loss.item(), "aux_loss": "%.9f" % out.aux_loss.item()})
print(out.loss.item(), out.aux_loss.item(), len(grads))

#!/usr/bin/env python3
"""QLoRA against PEFT on a base that bitsandbytes quantized: NF4 with double quantization, float32 computation.

usage: qlora_compare.py [--bise build/bise] [--steps N] [--valid N]

bise trains with --quantize-base nf4. The same model in transformers, each linear layer replaced by what bitsandbytes makes of it
(quantize_4bit, then decoded), must have the evaluation loss that bise logged before the first step, and with the adapter that bise
trained the one after the last step, both within 1e-3.
"""
import argparse, os, sys, tempfile

import peft_compare as pc


def nf4_base():
    import torch, bitsandbytes.functional as F
    torch.set_num_threads(1)
    model, n = pc.base_model(), 0
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or "lm_head" in name:
            continue
        w = module.weight.data
        q, s = F.quantize_4bit(w, quant_type="nf4", compress_statistics=True)
        scale = F.dequantize_blockwise(s.absmax, s.state2) + s.offset
        q = q.flatten().to(torch.int64)
        codes = torch.stack([q >> 4, q & 15], 1).flatten()[:w.numel()]
        values = s.code[codes] * scale.repeat_interleave(64)[:w.numel()]
        module.weight.data = values.reshape(w.shape)
        n += 1
    assert n == 42, n
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bise", default=os.path.join(pc.HERE, "..", "build", "bise"))
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--valid", type=int, default=8)
    a = p.parse_args()
    from peft import PeftModel
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(pc.MODEL, "tokenizer.json"))
    with tempfile.TemporaryDirectory() as tmp:
        out, path = os.path.join(tmp, "run"), os.path.join(tmp, "valid.jsonl")
        with open(path, "w") as f:
            f.writelines(open(os.path.join(pc.SQL, "valid.jsonl")).readlines()[:a.valid])
        valid = pc.rows(path, tokenizer)
        ours = pc.train_bise(a.bise, out, path, a.steps, ["--quantize-base", "nf4"])
        first = pc.evaluate(nf4_base(), valid)
        last = pc.evaluate(PeftModel.from_pretrained(nf4_base(), out), valid)
    plain = pc.evaluate(pc.base_model(), valid)
    print("bise %.5f -> %.5f, PEFT on bitsandbytes' NF4 %.5f -> %.5f, stored weights %.5f" %
          (ours["eval_loss_first"], ours["eval_loss_last"], first, last, plain))
    # The quantization must show, or the comparison would say nothing.
    good = abs(first - ours["eval_loss_first"]) < 1e-3 and abs(last - ours["eval_loss_last"]) < 1e-3 and abs(plain - first) > 2e-3
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

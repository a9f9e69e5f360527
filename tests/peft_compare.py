#!/usr/bin/env python3
"""Fine-tune the embedded model with bise and with PEFT, same settings and data, and compare.

usage: peft_compare.py [--bise build/bise] [--steps 200] [--valid N] [--tolerance 0.02] [--load-only]

Prints the evaluation loss before and after of both, their ratio, and the loss that PEFT computes with the adapter that bise trained
(must be within 1e-3 of what bise logged). Settings are those of examples/tiny-mistral3/expected.json: r 8, alpha 16, all linear layers,
AdamW lr 1e-3 without decay, cosine to 0 with 6 warm-up steps, clip 1, 8 rows a step, rows as BOS + text + EOS all trained, float32.
PEFT sees the rows in its own shuffled order. --load-only trains with bise only. Run with a python that has torch, transformers, peft
and tokenizers (BISE_JUDGES). Exit 1 when a difference is too large.
"""
import argparse, json, math, os, random, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "examples", "tiny-mistral3")
SQL = os.path.join(HERE, "..", "examples", "sql")


def rows(path, tokenizer):
    """Token ids of each row: BOS + text + EOS."""
    texts = [json.loads(line)["text"] for line in open(path)]
    return [[1] + tokenizer.encode(t, add_special_tokens=False).ids + [2] for t in texts]


def batch_loss(model, batch):
    """Sum of token losses and number of targets of padded rows."""
    import torch
    longest = max(map(len, batch))
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in batch])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in batch])
    labels = ids.masked_fill(mask == 0, -100)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100, reduction="sum")
    return loss, int((labels[:, 1:] != -100).sum())


def evaluate(model, data):
    import torch
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for i in range(0, len(data), 8):
            loss, n = batch_loss(model, data[i:i + 8])
            total, count = total + loss.item(), count + n
    return total / count


def base_model():
    import torch
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


def train_peft(train, valid, steps):
    import torch
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(0)
    model = get_peft_model(base_model(), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.0)
    first, order, rng = evaluate(model, valid), [], random.Random(0)
    for step in range(steps):
        lr = 1e-3 * (step + 1) / 6 if step < 6 else 1e-3 * 0.5 * (1 + math.cos(math.pi * (step - 6) / (steps - 6)))
        opt.param_groups[0]["lr"] = lr
        if len(order) < 8:
            order = rng.sample(range(len(train)), len(train))
        batch, order = [train[i] for i in order[:8]], order[8:]
        model.train()
        opt.zero_grad()
        loss, n = batch_loss(model, batch)
        (loss / n).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
    return first, evaluate(model, valid)


def train_bise(bise, out, valid, steps, more=()):
    cmd = [bise, "--quiet", "--json", "finetune", MODEL, "--data", os.path.join(SQL, "train.jsonl"), "--eval-data", valid,
           "-o", out, "--lora-r", "8", "--lora-alpha", "16", "--lr", "1e-3", "--lr-min", "0", "--warmup", "6", "--steps", str(steps), "--batch", "8",
           "--beta2", "0.999", "--eval-every", str(steps), *more]
    return json.loads(subprocess.run(cmd, check=True, capture_output=True, text=True).stdout)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bise", default=os.path.join(HERE, "..", "build", "bise"))
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--tolerance", type=float, default=0.02)
    p.add_argument("--valid", type=int, default=100, help="rows to evaluate on")
    p.add_argument("--load-only", action="store_true")
    a = p.parse_args()
    from peft import PeftModel
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json"))
    failed = False
    with tempfile.TemporaryDirectory() as tmp:
        out, path = os.path.join(tmp, "run"), os.path.join(tmp, "valid.jsonl")
        with open(path, "w") as f:
            f.writelines(open(os.path.join(SQL, "valid.jsonl")).readlines()[:a.valid])
        valid = rows(path, tokenizer)
        ours = train_bise(a.bise, out, path, a.steps)
        print("bise  evaluation loss %.4f -> %.4f, %.0f tokens/s" % (ours["eval_loss_first"], ours["eval_loss_last"], ours["tokens_per_second"]))
        loaded = evaluate(PeftModel.from_pretrained(base_model(), out), valid)
        difference = abs(loaded - ours["eval_loss_last"])
        print("PEFT  with that adapter  %.4f, difference %.2g" % (loaded, difference))
        failed |= difference > 1e-3
    if not a.load_only:
        first, last = train_peft(rows(os.path.join(SQL, "train.jsonl"), tokenizer), valid, a.steps)
        ratio = ours["eval_loss_last"] / last
        print("PEFT  evaluation loss %.4f -> %.4f, ratio %.4f" % (first, last, ratio))
        failed |= abs(first - ours["eval_loss_first"]) > 1e-3 or abs(ratio - 1) > a.tolerance
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Train LoRA with bise and with PEFT on this machine, side by side, and print the ratio of their speeds.

usage: train_vs_peft.py MODEL --shared DIR [--rows bf16-512,gsm8k,...] [--bise build/bise] [--rounds N] [--side bise|peft]
                        [--results FILE] [--table]

MODEL is a Hugging Face directory without or with a tokenizer (the random 1b of make_checkpoint.py); DIR has data/tokenizers and
data/instruct. Each row trains r=16 on all linear layers, whole optimizer steps with AdamW, two threads each, bise and PEFT in turn,
each in a process of its own. Speed is that of the fastest step (gsm8k: of the fastest pass over the 32 rows, real tokens: padding does
not count), memory is the peak resident set of the process, mapped weights included. PEFT runs as its documentation says: get_peft_model
on a bf16 base, which keeps the adapters in float32 as bise does, SDPA attention, a warm-up step; --cast-adapters gives it adapters in
bf16, which is faster and loses bits of every update. With --results the best of all invocations is kept in FILE, so that each row
can be measured alone (under four minutes) and --table prints them all. Run with a python that has torch, transformers and peft; the nf4
row also needs bitsandbytes.
"""
import argparse, gzip, json, os, platform, shutil, subprocess, sys, tempfile, time

# name: settings of bise, settings of PEFT, tokens of a step (0: gsm8k), steps, rounds, ratio to hold, aim, memory limit in GB
ROWS = {
    "bf16-512": (["--compute", "bf16", "--checkpointing", "off"], {}, 512, 4, 2, 1.3, 1.4, 3.0),
    "bf16-2048": (["--compute", "bf16", "--checkpointing", "auto", "--memory", "4.3G"], {"checkpointing": True}, 2048, 2, 1, 2.0, 2.0, 4.3),
    "gsm8k": (["--compute", "bf16"], {}, 0, 4, 1, 2.7, 3.0, 3.6),
    "gsm8k-int8": (["--compute", "int8"], {}, 0, 4, 1, 2.7, 3.0, 3.6),
    "f32-512": (["--compute", "f32", "--checkpointing", "off"], {"dtype": "float32"}, 512, 2, 2, 1.3, 1.3, None),
    "nf4-512": (["--compute", "bf16", "--checkpointing", "auto", "--quantize-base", "nf4", "--memory", "1.5G"], {"nf4": True}, 512, 3, 2,
                1.4, 1.6, 1.5),
    "q4_k-512": (["--compute", "bf16", "--checkpointing", "auto", "--quantize-base", "q4_k", "--memory", "1.5G"], {"nf4": True}, 512, 3, 2,
                 1.4, 1.6, 1.5),
    "int8-512": (["--compute", "int8", "--checkpointing", "off"], {}, 512, 4, 2, 2.0, 2.0, None),
}


# ---- PEFT, in a process of its own ----

def peft_model(a, o):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    dtype = getattr(torch, o.get("dtype", "bfloat16"))
    more = {}
    if o.get("nf4"):
        from transformers import BitsAndBytesConfig
        more["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                                         bnb_4bit_compute_dtype=torch.bfloat16)
    base = AutoModelForCausalLM.from_pretrained(a.model, dtype=dtype, attn_implementation="sdpa", **more)
    base.config.use_cache = False
    if o.get("checkpointing"):
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
                           autocast_adapter_dtype=not a.cast_adapters)
    model.train()
    return model


def gsm8k_batches(a):
    """Batches of 8 rows padded to the longest, answers supervised, and their real tokens."""
    import torch
    from tokenizers import Tokenizer
    tok, out, real = Tokenizer.from_file(os.path.join(a.model, "tokenizer.json")), [], 0
    rows = [json.loads(line) for line in open(os.path.join(a.model, "gsm8k.jsonl"))]
    for i in range(0, len(rows), 8):
        batch = []
        for r in rows[i:i + 8]:
            ask = tok.encode("<s>[INST] %s[/INST]" % r["question"], add_special_tokens=False).ids
            batch.append((ask, tok.encode(r["answer"], add_special_tokens=False).ids + [2]))
        longest = max(len(q) + len(w) for q, w in batch)
        pad = [longest - len(q) - len(w) for q, w in batch]
        out.append({"input_ids": torch.tensor([q + w + [0] * n for (q, w), n in zip(batch, pad)]),
                    "labels": torch.tensor([[-100] * len(q) + w + [-100] * n for (q, w), n in zip(batch, pad)]),
                    "attention_mask": torch.tensor([[1] * (longest - n) + [0] * n for n in pad])})
        real += sum(len(q) + len(w) for q, w in batch)
    return out, real


def peft_worker(a):
    import torch
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    _, o, tokens, steps = ROWS[a.worker][:4]
    model = peft_model(a, o)
    if tokens:
        ids = torch.randint(3, model.config.vocab_size, (1, tokens))
        batches, real = [{"input_ids": ids, "labels": ids}] * (steps + 1), tokens
    else:
        batches, real = gsm8k_batches(a)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    seconds = []
    for b in batches:
        start = time.perf_counter()
        model(**b).loss.backward()
        opt.step()
        opt.zero_grad()
        seconds.append(time.perf_counter() - start)
    took = min(seconds[1:]) if tokens else sum(seconds)
    print(json.dumps({"tokens_per_second": real / took, "tokens": real}))


# ---- both sides from outside ----

def run(cmd, env):
    """Output of a command and its peak resident set in bytes."""
    p = subprocess.Popen(cmd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = p.stdout.read(), p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise RuntimeError("%s\n%s" % (" ".join(cmd), (out + err)[-800:]))
    return out, usage.ru_maxrss * 1024


def run_peft(a, name, env):
    out, rss = run([sys.executable, os.path.abspath(__file__), a.model, "--worker", name, "--threads", str(a.threads)]
                   + (["--cast-adapters"] if a.cast_adapters else []), env)
    return json.loads(out.strip().splitlines()[-1])["tokens_per_second"], rss


def run_bise(a, name, env):
    options, _, tokens, steps = ROWS[name][:4]
    out = os.path.join(a.tmp, "run")
    shutil.rmtree(out, ignore_errors=True)
    if tokens:
        data = ["--data", os.path.join(a.model, "text.jsonl"), "--train-on", "all", "--packing", "off", "--max-len", str(tokens),
                "--batch", "%dtokens" % tokens, "--steps", str(steps)]
    else:
        data = ["--data", os.path.join(a.model, "gsm8k.jsonl"), "--batch", "8rows", "--steps", str(steps)]
    _, rss = run([a.bise, "--quiet", "--threads", str(a.threads), "finetune", a.model, "-o", out, "--lora-r", "16", "--save-every", "1000",
                  *data, *options], env)
    log = [json.loads(line) for line in open(os.path.join(out, "log.jsonl"))]
    if tokens:
        return max(r["tokens_per_second"] for r in log if r["step"]), rss
    return log[-1]["tokens"] / log[-1]["seconds"], rss


def prepare(a):
    """A directory with the model's files, a tokenizer of its size and the data."""
    made = os.path.join(a.tmp, "model")
    os.mkdir(made)
    for f in os.listdir(a.model):
        os.symlink(os.path.abspath(os.path.join(a.model, f)), os.path.join(made, f))
    if not os.path.exists(os.path.join(made, "tokenizer.json")):
        with gzip.open(os.path.join(a.shared, "data/tokenizers/sentencepiece/mistral03.tokenizer.json.gz")) as f:
            open(os.path.join(made, "tokenizer.json"), "wb").write(f.read())
    rows = open(os.path.join(a.shared, "data/instruct/gsm8k-train.jsonl")).readlines()
    open(os.path.join(made, "gsm8k.jsonl"), "w").writelines(rows[:32])
    text = " ".join(json.loads(r)["question"] for r in rows[:100])
    with open(os.path.join(made, "text.jsonl"), "w") as f:
        f.writelines(json.dumps({"text": text[i:]}) + "\n" for i in range(40))
    a.model = made


def measure(a, name, results):
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BISE_CPU")}
    row = results.setdefault(name, {})
    for _ in range(a.rounds or ROWS[name][4]):
        for side, call in ("peft", run_peft), ("bise", run_bise):
            if a.side and a.side != side:
                continue
            speed, rss = call(a, name, env)
            best = row.setdefault(side, {"tokens_per_second": 0, "rss": 0})
            best["tokens_per_second"] = max(best["tokens_per_second"], speed)
            best["rss"] = max(best["rss"], rss)
            print("%-10s %-5s %8.1f tokens/s %6.2f GB" % (name, side, speed, rss / 1e9), file=sys.stderr, flush=True)


def versions():
    import importlib.metadata as m
    return ", ".join("%s %s" % (p, m.version(p)) for p in ("torch", "transformers", "peft", "bitsandbytes"))


def table(results):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    print("%s, %d threads; %s\n" % (cpu, 2, versions()))
    print("| row | PEFT tokens/s | GB | bise tokens/s | GB | ratio | must hold | GB at most | |\n|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for name in ROWS:
        r, (hold, aim, memory) = results.get(name), ROWS[name][5:]
        if not r:
            continue
        p, b = r.get("peft"), r.get("bise")
        cells = ["%.1f | %.2f" % (x["tokens_per_second"], x["rss"] / 1e9) if x else "- | -" for x in (p, b)]
        ratio = b["tokens_per_second"] / p["tokens_per_second"] if p and b else None
        fits = not (memory and b) or b["rss"] <= memory * 1e9
        verdict = "" if ratio is None else "holds" if ratio >= hold and fits else "short"
        print("| %s | %s | %s | %s | %.1f | %s | %s |" % (name, cells[0], cells[1], "%.2f" % ratio if ratio else "-", hold, memory or "-",
                                                          verdict))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--shared")
    p.add_argument("--rows", default=",".join(ROWS))
    p.add_argument("--bise", default="build/bise")
    p.add_argument("--rounds", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--side", choices=["bise", "peft"])
    p.add_argument("--results", help="JSON file that keeps the best of all invocations")
    p.add_argument("--table", action="store_true", help="print the table of --results and measure nothing")
    p.add_argument("--cast-adapters", action="store_true", help="PEFT's adapters in the base's bf16 instead of PEFT's default, float32")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker:
        return peft_worker(a)
    results = json.load(open(a.results)) if a.results and os.path.exists(a.results) else {}
    if not a.table:
        if not a.shared:
            p.error("--shared DIR is needed for tokenizer and data")
        with tempfile.TemporaryDirectory() as a.tmp:
            prepare(a)
            for name in a.rows.split(","):
                measure(a, name, results)
        if a.results:
            json.dump(results, open(a.results, "w"), indent=1)
    table(results)


if __name__ == "__main__":
    main()

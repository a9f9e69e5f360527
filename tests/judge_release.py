#!/usr/bin/env python3
"""judge_release.py BISE SRCDIR WORKDIR: folders of bise release in the programs that read
them: huggingface_hub loads the card and its fields, transformers and PEFT the folder
unchanged, llama.cpp serves the GGUF (xllamacpp.Server) and litellm gets an answer on loopback
with the template of the file, the prompt's ids being those of bise tokenize --chat. The
Modelfile is checked against Ollama's grammar, the adapter against vLLM's rules.
Exit status 77 when a package is missing. Run by tests/cli/release_judges.sh.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import re
import subprocess
import sys

os.environ.update(HF_HUB_OFFLINE="1", LITELLM_LOCAL_MODEL_COST_MAP="True",
                  SOURCE_DATE_EPOCH="1700000000")
try:
    import huggingface_hub as hub
    import peft
    import torch
    import transformers
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

BISE, SRC, WORK = sys.argv[1:4]
MODEL = os.path.join(SRC, "examples/tiny-mistral3")
DATA = os.path.join(SRC, "examples/sql")
failures = 0


def bise(*args):
    run = subprocess.run([BISE, "--quiet", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: exit %d: %s" % (" ".join(args), run.returncode, run.stderr))
    return run.stdout


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what))


def at(name):
    return os.path.join(WORK, name)


def make():
    """The four kinds of release."""
    bise("finetune", MODEL, "--data", DATA + "/train.jsonl", "-o", at("ad"), "--lora-r", "4",
         "--steps", "6", "--lr", "5e-3", "--batch", "2", "--max-len", "64")
    bise("merge", MODEL, "--adapter", at("ad"), "-o", at("merged"))
    bise("quantize", MODEL, "--type", "Q8_0", "-o", at("tiny-Q8_0.gguf"))
    base = ["--base", "acme/tiny"]
    bise("release", at("ad"), "-o", at("r-adapter"), "--repo", "acme/lora", "--dataset",
         "acme/sql", *base)
    bise("release", at("merged"), "-o", at("r-finetune"), "--repo", "acme/tuned", *base)
    bise("release", at("merged"), "-o", at("r-merge"), "--repo", "acme/merge", "--relation",
         "merge", *base)
    bise("release", at("tiny-Q8_0.gguf"), "-o", at("r-quantized"), "--repo", "acme/tiny-GGUF",
         *base)


def cards():
    library = {"adapter": "peft", "finetune": "transformers", "merge": "transformers",
               "quantized": "gguf"}
    for relation, name in library.items():
        card = hub.ModelCard.load(at("r-" + relation + "/README.md"))
        d = card.data.to_dict()
        claim(isinstance(card.data, hub.ModelCardData), relation + ": the card loads")
        claim(d.get("base_model_relation") == relation and d["base_model"] == "acme/tiny",
              relation + ": base and relation")
        claim(card.data.license == "apache-2.0" and card.data.library_name == name
              and card.data.pipeline_tag == "text-generation", relation + ": indexed fields")
        claim("bise" in card.data.tags and all(isinstance(t, str) for t in card.data.tags),
              relation + ": tags")
        again = hub.ModelCard(str(card))
        claim(again.data.to_dict() == d, relation + ": the card written by the Hub's client "
              "says the same")
    claim(hub.ModelCard.load(at("r-adapter/README.md")).data.datasets == ["acme/sql"], "datasets")
    statement = json.load(open(at("r-quantized/provenance.json")))
    claim(statement["_type"] == "https://in-toto.io/Statement/v1" and
          {s["name"] for s in statement["subject"]} ==
          set(os.listdir(at("r-quantized"))) - {"provenance.json"}, "in-toto statement")


def loads():
    ids = torch.tensor([[1, 300, 301, 302, 303]])
    merged = transformers.AutoModelForCausalLM.from_pretrained(
        at("r-finetune"), dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(at("r-finetune"))
    claim(len(tokenizer("hello there")["input_ids"]) > 1, "transformers: tokenizer")
    base = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        before = base(ids).logits
    tuned = peft.PeftModel.from_pretrained(base, at("r-adapter"))
    config = peft.PeftConfig.from_pretrained(at("r-adapter"))
    claim(config.base_model_name_or_path == "acme/tiny", "PEFT: base of the Hub")
    with torch.no_grad():
        want, got = merged(ids).logits, tuned(ids).logits
    error, change = (float((want - x).abs().max()) for x in (got, before))
    claim(error < 0.05 and error < 0.1 * change, "PEFT: base + adapter is the merged model in "
          "bfloat16 (%.3g, the adapter changed %.3g)" % (error, change))


def vllm_rules():
    """vLLM's PEFTHelper: no DoRA, no modules_to_save, bias none, known rank."""
    config = json.load(open(at("r-adapter/adapter_config.json")))
    claim(not config.get("use_dora") and not config.get("modules_to_save") and
          config.get("bias") == "none" and isinstance(config["r"], int) and
          isinstance(config["lora_alpha"], int) and config["peft_type"] == "LORA",
          "vLLM: rules for an adapter")
    text = open(at("r-adapter/README.md")).read()
    rank = int(re.search(r"--max-lora-rank (\d+)", text).group(1))
    claim(rank in (1, 8, 16, 32, 64, 128, 256, 320, 512) and rank >= config["r"],
          "vLLM: --max-lora-rank")


def modelfile():
    """Ollama: instruction and argument a line, comments, known parameters."""
    words = {"FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE",
             "REQUIRES", "RENDERER", "PARSER", "DRAFT"}
    parameters = {"num_ctx", "repeat_last_n", "repeat_penalty", "temperature", "seed", "stop",
                  "num_predict", "top_k", "top_p", "min_p"}
    lines = [x for x in open(at("r-quantized/Modelfile")).read().splitlines()
             if x and not x.startswith("#")]
    good = all(x.split(" ", 1)[0] in words and len(x.split(" ", 1)) == 2 for x in lines)
    for x in lines:
        part = x.split()
        if part[0] == "PARAMETER":
            good = good and len(part) == 3 and part[1] in parameters and float(part[2]) >= 0
        if part[0] == "LICENSE":
            good = good and re.fullmatch(r'"[^"]*"', x.split(" ", 1)[1])
    source = [x.split(" ", 1)[1] for x in lines if x.startswith("FROM ")]
    claim(bool(good) and len(source) == 1 and
          os.path.isfile(os.path.join(at("r-quantized"), source[0])), "Modelfile")


def post(url, body):
    import urllib.request
    request = urllib.request.Request(url, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))


def serve():
    try:
        import litellm
        import xllamacpp
    except ImportError as e:
        print("skipped: serving:", e)
        return
    params = xllamacpp.CommonParams()
    params.model.path = at("r-quantized/tiny-Q8_0.gguf")
    params.n_ctx = 512
    params.cpuparams.n_threads = 2
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    url = server.listening_address
    messages = [{"role": "user", "content": "How many players are there?"}]
    answer = litellm.completion(model="openai/tiny", api_base=url + "/v1", api_key="none",
                                messages=messages, max_tokens=8, temperature=0)
    claim(answer.choices[0].message.role == "assistant" and answer.usage.completion_tokens > 0,
          "litellm: a chat answer on loopback")
    prompt = post(url + "/apply-template", {"messages": messages})["prompt"]
    ids = post(url + "/tokenize", {"content": prompt, "add_special": True,
                                   "parse_special": True})["tokens"]
    chat = at("chat.json")
    with open(chat, "w") as f:
        json.dump({"messages": messages}, f)
    ours = [int(i) for i in bise("tokenize", at("r-quantized/tiny-Q8_0.gguf"), "--chat",
                                 chat).split()]
    if ids[:2] == [1, 1]:               # the template and the tokenizer each add BOS
        ids = ids[1:]
    claim(ids == ours, "prompt ids: the engine's are bise's (%d)" % len(ours))
    claim(answer.usage.prompt_tokens == len(ours), "litellm: as many prompt tokens")


make()
cards()
loads()
vllm_rules()
modelfile()
serve()
sys.exit(failures != 0)

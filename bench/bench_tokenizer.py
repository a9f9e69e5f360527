#!/usr/bin/env python3
"""Encode speed of bise beside tokenizers, tiktoken and sentencepiece.

  bench_tokenizer.py BENCH_PROGRAM TEXT... [--shared DIR] [--runs 3]

One core, the same documents (about 64 KB each) for everyone, runs taken in
turns, the least time of each counts. Prints a table and checks that all ids
are equal. Needs the packages of BISE_JUDGES and the real tokenizer files of
../shared; says "skipped" otherwise.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
DOCUMENT = 65536


def documents(data):
    """Cut behind the first line end after each 64 KB, as the program does."""
    at, out = 0, []
    while at < len(data):
        end = len(data)
        if end - at > DOCUMENT:
            found = data.find(b"\n", at + DOCUMENT)
            end = found + 1 if found >= 0 else end
        out.append(data[at:end].decode("utf-8", "replace"))
        at = end
    return out


def judges(tekken, shared):
    """name -> (kind, encode a list of texts to a list of id lists)."""
    import base64
    import sentencepiece
    import tiktoken
    import tokenizers
    with open(tekken, encoding="utf-8") as f:
        file = json.load(f)
    config = file["config"]
    special = config["default_num_special_tokens"]
    inner = config["default_vocab_size"] - special
    ranks = {base64.b64decode(v["token_bytes"]): v["rank"]
             for v in file["vocab"][:inner]}
    tik = tiktoken.Encoding("tekken", pat_str=config["pattern"],
                            mergeable_ranks=ranks, special_tokens={})
    folder = os.path.join(shared, "data/tokenizers")
    nemo = os.path.join(folder, "tekken/nemo-2407.tokenizer.json.gz")
    with gzip.open(nemo) as f:
        hf = tokenizers.Tokenizer.from_str(f.read().decode())
    hf.encode_special_tokens = True
    spm = sentencepiece.SentencePieceProcessor(model_file=os.path.join(
        folder, "sentencepiece/tokenizer.model.v1"))
    batch = getattr(hf, "encode_batch_fast", hf.encode_batch)
    return {
        "tokenizers": ("tekken", lambda docs: [
            e.ids for e in batch(docs, add_special_tokens=False)]),
        "tiktoken": ("tekken", lambda docs: [
            [i + special for i in tik.encode_ordinary(d)] for d in docs]),
        "sentencepiece": ("spm", lambda docs: [spm.encode(d) for d in docs]),
    }


def ours(program, tokenizer, text, ids):
    line = subprocess.run([program, tokenizer, text, "1", "1", ids],
                          check=True, capture_output=True, text=True).stdout
    return int(line.split(",")[5]) / 1e9


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("program")
    ap.add_argument("text", nargs="+")
    ap.add_argument("--shared", default=os.environ.get(
        "BISE_SHARED", os.path.join(os.path.dirname(__file__), "../../shared")))
    ap.add_argument("--runs", type=int, default=3)
    a = ap.parse_args()
    make = os.path.join(a.shared, "tools/make_tekken.py")
    if not os.path.exists(make):
        print("skipped: no", make)
        return 77
    with tempfile.TemporaryDirectory() as tmp:
        tekken = os.path.join(tmp, "tekken.json")
        subprocess.run([sys.executable, make, tekken], check=True)
        files = {"tekken": tekken, "spm": os.path.join(
            a.shared, "data/tokenizers/sentencepiece/tokenizer.model.v1")}
        try:
            import numpy
            all_judges = judges(tekken, a.shared)
        except ImportError as e:
            print("skipped:", e)
            return 77
        bad = 0
        print("text,kind,judge,bise_MB_s,judge_MB_s,ratio,ids")
        for text in a.text:
            with open(text, "rb") as f:
                data = f.read()
            docs = documents(data)
            for name, (kind, encode) in all_judges.items():
                ids = os.path.join(tmp, "ids")
                mine, other = [], []
                for _ in range(a.runs):
                    mine.append(ours(a.program, files[kind], text, ids))
                    start = time.perf_counter()
                    got = encode(docs)
                    other.append(time.perf_counter() - start)
                want = numpy.concatenate([numpy.array(g, dtype="<i4")
                                          for g in got])
                same = numpy.array_equal(want, numpy.fromfile(ids, "<i4"))
                bad += not same
                m, o = min(mine), min(other)
                print("%s,%s,%s,%.1f,%.1f,%.2f,%s" % (
                    os.path.basename(text), kind, name, len(data) / m / 1e6,
                    len(data) / o / 1e6, o / m,
                    "equal" if same else "DIFFERENT"), flush=True)
        return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

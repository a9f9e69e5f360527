#!/usr/bin/env python3
"""judge_tokenizer_files.py BISE SRCDIR SHARED WORKDIR: tokenizers written out of a GGUF give the ids of the original.

Models with the embedded tokenizer, Tekken of Nemo and SentencePiece of v1, v3 and v7 go to GGUF and from there to Hugging
Face and native directories. transformers loads the tokenizer.json, mistral-common the tekken.json, sentencepiece the
tokenizer.model.vN; each must give the ids of the same tool on the original file, for texts in many scripts, and decode
them back. The chat template goes along. Run by tests/cli/tokenizer_files.sh.
"""
# SPDX-License-Identifier: Apache-2.0
import glob
import gzip
import json
import os
import shutil
import subprocess
import sys

import sentencepiece
import tokenizers
import transformers
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

BISE, SRC, SHARED, WORK = sys.argv[1:5]
sys.path.insert(0, os.path.join(SRC, "tests"))
import make_real  # noqa: E402

TINY = os.path.join(SRC, "examples/tiny-mistral3")
TOKENIZERS = os.path.join(SHARED, "data/tokenizers")
failures = 0


def claim(ok, what):
    global failures
    failures += not ok
    print("%s %s" % ("ok  " if ok else "FAIL", what), flush=True)


def bise(*args):
    run = subprocess.run([BISE, "--force", *args], capture_output=True, text=True)
    if run.returncode:
        sys.exit("bise %s: %s" % (" ".join(args), run.stderr))
    return run.stderr


def path(*names):
    return os.path.join(WORK, *names)


def texts():
    out = ["", " ", "Hello", " Hello  world\n\n\tx = 1;", "eBay, mL, NaOH and 12345.67", "été naïve ГОРОД город 東京 こんにちは",
           "مرحبا بالعالم", "👩‍👩‍👧 👍🏽", "a\u00a0b\u200bc", "[INST]not special", "▁under", "\x00\x01\x7f"]
    with open(os.path.join(TOKENIZERS, "vectors/mixed_input.txt"), encoding="utf-8") as f:
        out.append(f.read()[:20000])
    with open(os.path.join(TINY, "valid.txt"), encoding="utf-8") as f:
        out += f.read()[:20000].split("\n")
    return out


TEXTS = texts()


def model(name, vocab, **files):
    """A tiny model of that vocabulary with tokenizer files beside it."""
    config = make_real.dense(32, 64, 2, 1, 16, vocab, max_position_embeddings=1024, rope_theta=1e4, sliding_window=None,
                             tie_word_embeddings=True, **make_real.V5)
    make_real.make(path(name), config)
    for to, source in files.items():
        to = path(name, to.replace("__", "."))
        if source.endswith(".gz"):
            with gzip.open(source, "rb") as f, open(to, "wb") as g:
                shutil.copyfileobj(f, g)
        else:
            shutil.copy(source, to)
    return path(name)


def through_gguf(name):
    """Both layouts out of the GGUF; what bise said."""
    for d in "hf", "native":
        shutil.rmtree(path(name + "-" + d), ignore_errors=True)
    bise("convert", path(name), "-o", path(name + ".gguf"))
    said = bise("convert", path(name + ".gguf"), "-o", path(name + "-hf"))
    said += bise("convert", path(name + ".gguf"), "-o", path(name + "-native"), "--to", "native")
    claim("not written" not in said, "%s: all files are written %s" % (name, said.strip()[-200:]))


def same_ids(name, ours, theirs, decode=None):
    wrong = [t for t in TEXTS if list(ours(t)) != list(theirs(t))]
    claim(not wrong, "%s: equal ids for %d texts %r" % (name, len(TEXTS), wrong[:1] and wrong[0][:80]))
    if decode:
        wrong = [t for t in TEXTS if decode[0](ours(t)) != decode[1](theirs(t))]
        claim(not wrong, "%s: equal decoded texts %r" % (name, wrong[:1] and wrong[0][:80]))


def hf_pair(name, original):
    """transformers on the written folder against the tokenizers library on the original file."""
    # beside a tekken.json the automatic class would read that with mistral-common
    kind = transformers.PreTrainedTokenizerFast if os.path.exists(path(name + "-hf", "tekken.json")) else transformers.AutoTokenizer
    t = kind.from_pretrained(path(name + "-hf"))
    o = tokenizers.Tokenizer.from_file(original)
    same_ids(name + " in transformers", lambda s: t(s)["input_ids"], lambda s: o.encode(s).ids,
             (lambda ids: t.decode(ids, skip_special_tokens=True), lambda ids: o.decode(ids, skip_special_tokens=True)))
    claim((t.bos_token_id, t.eos_token_id, t.unk_token_id) == (1, 2, 0), "%s: bos, eos and unk" % name)
    return t


def check_tiny():
    shutil.copytree(TINY, path("tiny"), dirs_exist_ok=True)
    through_gguf("tiny")
    t = hf_pair("tiny", TINY + "/tokenizer.json")
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "You?"}]
    o = transformers.AutoTokenizer.from_pretrained(TINY)
    a, b = (x.apply_chat_template(talk, tokenize=True, return_dict=False) for x in (t, o))
    claim(a == b and len(a) > 5, "tiny: the chat template gives the same ids")
    ours, theirs = Tekkenizer.from_file(path("tiny-native", "tekken.json")), Tekkenizer.from_file(TINY + "/tekken.json")
    same_ids("tiny in mistral-common", lambda s: ours.encode(s, True, False), lambda s: theirs.encode(s, True, False))
    claim(ours.version == theirs.version and ours.n_words == theirs.n_words, "tiny: version and size of tekken.json")
    # native without tokenizer.json: made from tekken.json
    shutil.copytree(TINY, path("tekken-only"), dirs_exist_ok=True)
    for f in "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json":
        os.remove(path("tekken-only", f))
    bise("convert", path("tekken-only"), "-o", path("tekken-n"), "--to", "native")
    bise("convert", path("tekken-n"), "-o", path("tekken-only-hf"), "--to", "hf")
    hf_pair("tekken-only", TINY + "/tokenizer.json")
    # a padded embedding: the tokens that only pad are not written
    bise("convert", path("tiny"), "-o", path("padded"), "--vocab-size", "4224")
    through_gguf("padded")
    t = hf_pair("padded", TINY + "/tokenizer.json")
    claim(len(t) == 4096, "padded: %d tokens" % len(t))


def check_nemo():
    """Tekken with 131072 ids, from the two files that Nemo has."""
    model("nemo", 131072, tokenizer__json=TOKENIZERS + "/tekken/nemo-2407.tokenizer.json.gz")
    with gzip.open(TOKENIZERS + "/tekken/nemo-2407.tokenizer.json.gz", "rb") as f, open(path("nemo.json"), "wb") as g:
        shutil.copyfileobj(f, g)
    through_gguf("nemo")
    hf_pair("nemo", path("nemo.json"))
    ours = Tekkenizer.from_file(path("nemo-native", "tekken.json"))
    o = tokenizers.Tokenizer.from_file(path("nemo.json"))
    # the tokenizers library looks for special tokens in texts, mistral-common does not
    TEXTS.remove("[INST]not special")
    same_ids("nemo in mistral-common", lambda s: ours.encode(s, True, False), lambda s: o.encode(s).ids)
    TEXTS.append("[INST]not special")


def check_spm():
    for name, version, vocab in (("tokenizer.model.v1", 1, 32000), ("mistral_instruct_tokenizer_240323.model.v3", 3, 32768),
                                 ("mistral_instruct_tokenizer_241114.model.v7", 7, 32768)):
        source = "%s/sentencepiece/%s" % (TOKENIZERS, name)
        n = "spm%d" % version
        theirs = sentencepiece.SentencePieceProcessor(model_file=source)
        model(n, max(vocab, theirs.vocab_size()))
        shutil.copy(source, path(n, "tokenizer.model.v%d" % version))
        through_gguf(n)
        made = glob.glob(path(n + "-native", "tokenizer.model*"))
        claim([os.path.basename(f) for f in made] == ["tokenizer.model.v%d" % version], "%s: %s" % (n, made))
        ours = sentencepiece.SentencePieceProcessor(model_file=made[0])
        same_ids(n + " in sentencepiece", ours.encode, theirs.encode, (ours.decode, theirs.decode))
        claim((ours.unk_id(), ours.bos_id(), ours.eos_id(), ours.vocab_size()) ==
              (theirs.unk_id(), theirs.bos_id(), theirs.eos_id(), theirs.vocab_size()), n + ": special ids")
        # tokenizers looks for special tokens in texts, sentencepiece does not
        t = transformers.AutoTokenizer.from_pretrained(path(n + "-hf"))
        special = [x for x in t.all_special_tokens + list(t.get_added_vocab()) if x]
        plain = [s for s in TEXTS if not any(x in s for x in special)]
        wrong = [s for s in plain if t(s)["input_ids"] != [1] + theirs.encode(s)]
        claim(not wrong, "%s in transformers: the ids of sentencepiece for %d texts %r" % (
            n, len(plain), wrong[:1] and wrong[0][:80]))


def check_without():
    model("bare", 256)
    bise("convert", path("bare"), "-o", path("bare.gguf"))
    for to in "hf", "native":
        said = bise("convert", path("bare.gguf"), "-o", path("bare-" + to), "--to", to)
        claim("no tokenizer in the model" in said, "bare to %s: says that there is none" % to)


def main():
    check_tiny()
    check_nemo()
    check_spm()
    check_without()
    sys.exit(1 if failures else 0)


main()

#!/usr/bin/env python3
"""Compare ids with mistral-common, tokenizers and sentencepiece.

  oracle_tokenizers.py TOKENIZE_TOOL [--texts 1000] [--chats 1000] [--seed 1]

Texts of all scripts, emoji, control characters, invalid UTF-8, long blanks,
numbers, code, long runs without a boundary; what ids decode to;
conversations of every version with tools, nested JSON, thoughts, model
settings, and faults. Every id must be equal, and where mistral-common refuses
a conversation bise must too. Exits 77 ("skipped") without the packages or the
real tokenizer files.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import codecs
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("BISE_SHARED", os.path.join(HERE, "../../shared"))

RANGES = [
    (0x20, 0x7f), (0xa0, 0x180), (0x180, 0x250), (0x250, 0x300),
    (0x300, 0x370), (0x370, 0x400), (0x400, 0x530), (0x530, 0x590),
    (0x590, 0x600), (0x600, 0x700), (0x700, 0x780), (0x900, 0x980),
    (0x980, 0xa00), (0xa80, 0xb00), (0xb80, 0xc80), (0xd00, 0xd80),
    (0xe00, 0xe80), (0xe80, 0xf00), (0xf00, 0x1000), (0x1000, 0x10a0),
    (0x10a0, 0x1100), (0x1100, 0x1200), (0x1200, 0x1380), (0x13a0, 0x1400),
    (0x1680, 0x16a0), (0x1780, 0x1800), (0x1800, 0x18b0), (0x1e00, 0x2000),
    (0x2000, 0x2070), (0x2070, 0x20d0), (0x2100, 0x2200), (0x2200, 0x2300),
    (0x2460, 0x2500), (0x2500, 0x2600), (0x2600, 0x2800), (0x2c00, 0x2c60),
    (0x3000, 0x3040), (0x3040, 0x3100), (0x3100, 0x3130), (0x4e00, 0x4f00),
    (0xa640, 0xa6a0), (0xac00, 0xad00), (0xe000, 0xe010), (0xfb00, 0xfb50),
    (0xfe00, 0xfe10), (0xff00, 0xfff0), (0x10000, 0x10080),
    (0x10400, 0x10450), (0x12000, 0x12100), (0x1d400, 0x1d800),
    (0x1f1e6, 0x1f200), (0x1f300, 0x1f650), (0x1f680, 0x1f700),
    (0x20000, 0x20100), (0xe0100, 0xe0110),
]
WORDS = """the quick eBay NaOH mL iPhone naïve café don't DON'T can't x1 y22
def return if(a[i]>0){ 3.14159 1,000,000 0xFF --flag http://a.b/c?d=e&f=g
[INST] [/INST] </s> <s> [TOOL_CALLS] <0x0A> ▁ \\n \\u00e9 // /* */ ``` ***
日本語 한국어 العربية हिन्दी ไทย Ελληνικά русский עברית 👨‍👩‍👧 🏳️‍🌈 é é""".split()


def character(r):
    while True:
        lo, hi = r.choice(RANGES)
        c = chr(r.randrange(lo, hi))
        if unicodedata.category(c) not in ("Cn", "Cs"):
            return c


def text(r, most=60):
    kind, n = r.randrange(8), r.randrange(most)
    if kind == 0:
        return "".join(character(r) for _ in range(n))
    if kind == 1:
        return " ".join(r.choice(WORDS) for _ in range(n // 4))
    if kind == 2:
        return "".join(r.choice(" \t\n\r /.") for _ in range(n)) + "x"
    if kind == 3:
        return "".join(chr(r.randrange(1, 0x20)) for _ in range(n // 2)) + "a"
    if kind == 4:
        return " " * r.randrange(200) + r.choice(WORDS) + " " * r.randrange(40)
    if kind == 5:
        lo, hi = r.choice(RANGES)
        some = [c for c in map(chr, range(lo, hi))
                if unicodedata.category(c) not in ("Cn", "Cs")]
        return "".join(r.choice(some + [" "]) for _ in range(n))
    if kind == 6:
        return r.choice(WORDS) * r.randrange(1, 30)
    return "".join(r.choice([r.choice(WORDS), " ", "\n", character(r)])
                   for _ in range(n // 2))


def raw(r):
    """Bytes, every fourth time not valid UTF-8."""
    data = bytearray(text(r, 120).encode())
    for _ in range(r.randrange(6) if r.randrange(4) == 0 else 0):
        data.insert(r.randrange(len(data) + 1),
                    r.choice([0x80, 0xc0, 0xe2, 0xed, 0xf0, 0xf4, 0xff, 0xbf]))
    return bytes(data)


def value(r, depth=0):
    kind = r.randrange(9 if depth < 3 else 7)
    if kind == 0:
        return r.choice([None, True, False])
    if kind == 1:
        return r.choice([0, -1, 7, 10**12, r.randrange(10**6)])
    if kind == 2:
        return r.choice([0.5, -2.25, 1e-7, 1e22, 3.0, r.random(), 1e16])
    if kind < 7:
        return text(r, 16)
    if kind == 7:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    return {text(r, 8): value(r, depth + 1) for _ in range(r.randrange(4))}


def identifier(r):
    if r.randrange(30) == 0:
        return r.choice(["", "null", "short", "has blank", "abcdefghij"])
    return "".join(r.choice("abcXYZ0189") for _ in range(9))


def name(r):
    if r.randrange(60) == 0:
        return r.choice(["", "a b", "x" * 65, "ü"])
    return r.choice(["get_weather", "f", "Search-2", "x" * 64])


def arguments(r):
    kind = r.randrange(6)
    if kind == 0:
        return r.choice(["", "not json", "{\"a\":1,}", "[1,2", "1", "\"s\""])
    args = {text(r, 8): value(r) for _ in range(r.randrange(4))}
    if kind == 1:
        return json.dumps(args, separators=(",", ":"))
    if kind == 2:
        return json.dumps(args, indent=2, ensure_ascii=False)
    if kind == 3:
        return "{\"a\": 1, \"b\": 123456789012345678901234567890, \"a\": 2}"
    return json.dumps(args)


def content(r, thinks):
    kind = r.randrange(12)
    if kind == 0:
        return ""
    if kind < 3:
        chunks = [{"type": "text", "text": text(r, 20)}
                  for _ in range(r.randrange(3))]
        if thinks and r.randrange(2):
            chunk = {"type": "thinking", "thinking": text(r, 20)}
            if r.randrange(3) == 0:
                chunk["closed"] = r.choice([True, False])
            chunks.insert(r.randrange(len(chunks) + 1), chunk)
        return chunks
    return text(r) + r.choice(["", "", " ", "   ", "\n"])


def chat(r):
    """A conversation: mostly in order, sometimes not."""
    out, pending = [], []
    if r.randrange(3) == 0:
        out.append({"role": "system", "content": content(r, r.randrange(4) == 0)})
    role = "user"
    for _ in range(r.randrange(1, 7)):
        if r.randrange(25) == 0:
            role = r.choice(["system", "user", "assistant", "tool"])
        m = {"role": role}
        if role == "assistant":
            if r.randrange(4) == 0:
                pending = [identifier(r) for _ in range(r.randrange(1, 3))]
                m["tool_calls"] = [
                    {"id": i, "type": "function", "function": {
                        "name": name(r), "arguments": arguments(r)}}
                    for i in pending]
                if r.randrange(4) == 0:
                    m["content"] = text(r)
            else:
                m["content"] = content(r, r.randrange(2) == 0)
        elif role == "tool":
            m["tool_call_id"] = pending.pop(r.randrange(len(pending))) \
                if pending else identifier(r)
            if r.randrange(2):
                m["name"] = name(r)
            m["content"] = r.choice([text(r), arguments(r)])
        else:
            m["content"] = content(r, r.randrange(30) == 0)
        out.append(m)
        if pending and role in ("assistant", "tool"):
            role = "tool"
        elif role in ("user", "tool"):
            role = "assistant" if r.randrange(8) else "user"
        else:
            role = "user" if r.randrange(8) else "assistant"
    return out


def tools(r):
    if r.randrange(3):
        return None
    return [{"type": "function", "function": {
        "name": name(r), "description": text(r, 20), "parameters": {
            "type": "object", "properties": {"p": {
                "type": "string", "description": text(r, 12)}},
            "required": ["p"]}}} for _ in range(r.randrange(1, 3))]


def settings(r):
    """Model settings of a request, now and then ones that are refused."""
    out = {}
    if r.randrange(3) == 0:
        out["reasoning_effort"] = r.choice(
            ["none", "high", "high", None, "low", "huge"])
    if r.randrange(4) == 0:
        schema = {"type": "object", "properties": {
            text(r, 8): {"type": "string", "description": text(r, 12)}}}
        out["response_format"] = r.choice([
            {"type": "text"}, {"type": "json_object"},
            {"type": "json_schema", "json_schema": {
                "name": "s", "schema": schema, "strict": True}}])
    return out


def run_of(r):
    """A long text without a place to cut it: windows of merges meet."""
    n = r.randrange(20000, 60000)
    kind = r.randrange(8)
    if kind == 0:
        return "".join(r.choice("abcdefghijklmnopqrstuvwxyz")
                       for _ in range(n))
    if kind == 1:
        return r.choice(["a", "!", " ", "é", "的", "=", "ab", "-="]) * n
    if kind == 2:
        return "".join(r.choice("the and of in to is it he was".split())
                       for _ in range(n // 3))
    if kind == 3:
        lo, hi = r.choice(RANGES)
        some = [c for c in map(chr, range(lo, hi))
                if unicodedata.category(c) not in ("Cn", "Cs")]
        return "".join(r.choice(some) for _ in range(n))
    if kind == 4:
        return "".join(r.choice("!#$%&()*+,-./:;<=>?@[]^_{|}~")
                       for _ in range(n))
    if kind == 5:
        return r.choice(WORDS[:20]).replace(" ", "") * (n // 4)
    if kind == 6:
        return " " * n + "x" + "\n" * n
    return "".join(r.choice("aeiou") * r.randrange(1, 40)
                   for _ in range(n // 20))


def ask(tool, tokenizer, lines):
    text_in = "".join(json.dumps(l) + "\n" for l in lines)
    out = subprocess.run([tool, tokenizer], input=text_in.encode(),
                         stdout=subprocess.PIPE, check=True).stdout
    return out.decode("utf-8", "replace").split("\n")[:-1]


def check(label, got, want, inputs, faults):
    """Compare answers; None in want is a refusal."""
    assert len(got) == len(want), (label, len(got), len(want))
    refused = 0
    for g, w, i in zip(got, want, inputs):
        if w is None:
            refused += 1
            same = g.startswith("error:")
        else:
            same = g == " ".join(map(str, w))
        if not same:
            faults.append("%s: %r\n  bise  %s\n  judge %s" % (
                label, i, g[:300], "refuses" if w is None else
                " ".join(map(str, w))[:300]))
    print("%-34s %5d equal, %d of them refusals" % (
        label, len(want), refused), flush=True)


def write_tekken(folder, version):
    """The real ranks under the special tokens of a version."""
    sys.path.insert(0, os.path.join(SHARED, "tools"))
    import make_tekken
    data = make_tekken.tekken("v13" if version == "v15" else version)
    if version == "v15":
        data["config"]["version"] = "v15"
        for i, n in ((37, "[MODEL_SETTINGS]"), (38, "[/MODEL_SETTINGS]")):
            data["special_tokens"][i]["token_str"] = n
        data["model_settings_builder"] = {
            "reasoning_effort": {"type": "enum", "values": ["none", "high"],
                                 "accepts_none": True, "default": "high"},
            "json_schema": {"type": "json_schema"}}
    path = os.path.join(folder, "tekken_%s.json" % version)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False)
    return path


def compare_texts(tool, files, folder, texts, faults):
    import sentencepiece
    import tokenizers
    lines = [{"hex": t.hex()} for t in texts]
    strings = [t.decode("utf-8", "replace") for t in texts]
    base = os.path.join(SHARED, "data/tokenizers")
    for name_ in ("tekken/nemo-2407", "sentencepiece/mistral01",
                  "sentencepiece/mistral03"):
        with gzip.open("%s/%s.tokenizer.json.gz" % (base, name_)) as f:
            data = f.read().decode()
        path = os.path.join(folder, os.path.basename(name_) + ".json")
        with open(path, "w", encoding="utf-8") as f:
            f.write(data)
        hf = tokenizers.Tokenizer.from_str(data)
        hf.encode_special_tokens = True
        want = [hf.encode(s, add_special_tokens=False).ids for s in strings]
        check("tokenizers " + name_, ask(tool, path, lines), want, strings,
              faults)
    for version, path in files.items():
        if path.endswith(".json"):
            continue
        spm = sentencepiece.SentencePieceProcessor(model_file=path)
        want = [spm.encode(s) for s in strings]
        check("sentencepiece " + version, ask(tool, path, lines), want,
              strings, faults)
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    tekken = Tekkenizer.from_file(files["tekken v13"])
    want = [tekken.encode(s, bos=False, eos=False) for s in strings]
    check("mistral-common tekken", ask(tool, files["tekken v13"], lines), want,
          strings, faults)


codecs.register_error("each", lambda e: (
    "\ufffd" * (e.end - e.start), e.end))


def compare_decoding(tool, files, r, n, faults):
    """Bytes of random ids: those of tekken and of SentencePiece models."""
    import sentencepiece
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    for label in ("tekken v13", "spm v1", "spm v3"):
        path = files[label]
        spm = label.startswith("spm")
        t = sentencepiece.SentencePieceProcessor(model_file=path) if spm \
            else Tekkenizer.from_file(path)
        low, high = (3, 32000) if spm else (1000, 131072)
        if label == "spm v3":
            low, high = 771, 32768
        lines, want = [], []
        for _ in range(n):
            ids = [r.randrange(low, r.choice((low + 256, high)))
                   for _ in range(r.randrange(1, 12))]
            lines.append({"ids": ids, "back": True})
            want.append(t.decode(ids) if spm else
                        t.decode(ids, SpecialTokenPolicy.IGNORE))
        # sentencepiece replaces byte by byte, Python run by run
        errors = "each" if spm else "replace"
        got = [bytes.fromhex(g.split(" = ")[1]).decode("utf-8", errors)
               if " = " in g else g for g in ask(tool, path, lines)]
        for g, w, line in zip(got, want, lines):
            if g != w:
                faults.append("decode %s: %r\n  bise  %r\n  judge %r" % (
                    label, line["ids"], g, w))
        print("%-34s %5d decoded" % (label, n), flush=True)


def compare_chats(tool, files, r, n, faults):
    from mistral_common.protocol.fim.request import FIMRequest
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    each = max(1, n // len(files))
    for label, path in files.items():
        mc = {m: MistralTokenizer.from_file(path, mode=m) for m in
              (ValidationMode.test, ValidationMode.finetuning)}
        lines, want = [], []
        for _ in range(each):
            line = {"messages": chat(r), "tools": tools(r)}
            line.update(settings(r))
            trains = line["messages"][-1]["role"] == "assistant"
            try:
                t = mc[ValidationMode.finetuning if trains else
                       ValidationMode.test]
                want.append(t.encode_chat_completion(
                    ChatCompletionRequest(**line)).tokens)
            except Exception:  # the version cannot express it
                want.append(None)
            lines.append(line)
        # For v2 mistral-common puts <unk> where it has no [SUFFIX]; we refuse.
        for _ in range(0 if label == "spm v2" else 10):
            line = {"prefix": text(r), "suffix": text(r)}
            try:
                want.append(mc[ValidationMode.test].encode_fim(FIMRequest(
                    prompt=line["prefix"], suffix=line["suffix"])).tokens)
            except Exception:
                want.append(None)
            lines.append(line)
        check("mistral-common " + label, ask(tool, path, lines), want,
              [json.dumps(l, ensure_ascii=False) for l in lines], faults)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("tool")
    ap.add_argument("--texts", type=int, default=1000)
    ap.add_argument("--chats", type=int, default=1000)
    ap.add_argument("--runs", type=int, default=24,
                    help="texts of some 50 KB without a boundary")
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    try:
        import mistral_common
        import sentencepiece  # noqa: F401
        import tokenizers     # noqa: F401
    except ImportError as e:
        print("skipped:", e)
        return 77
    if not os.path.isdir(os.path.join(SHARED, "data/tokenizers")):
        print("skipped: no", SHARED)
        return 77
    data = os.path.join(os.path.dirname(mistral_common.__file__), "data")
    r = random.Random(a.seed)
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        files = {"spm v1": "tokenizer.model.v1",
                 "spm v2": "mistral_instruct_tokenizer_240216.model.v2",
                 "spm v3": "mistral_instruct_tokenizer_240323.model.v3",
                 "spm v7": "mistral_instruct_tokenizer_241114.model.v7"}
        files = {k: os.path.join(data, v) for k, v in files.items()
                 if os.path.exists(os.path.join(data, v))}
        for v in ("v3", "v7", "v11", "v13", "v15"):
            files["tekken " + v] = write_tekken(folder, v)
        texts = [raw(r) for _ in range(a.texts)]
        compare_texts(a.tool, files, folder, texts, faults)
        longs = [run_of(r).encode() for _ in range(a.runs)]
        compare_texts(a.tool, files, folder, longs, faults)
        compare_decoding(a.tool, files, r, a.texts, faults)
        compare_chats(a.tool, files, r, a.chats, faults)
    for f in faults[:20]:
        print("FAIL", f)
    print("%d faults" % len(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Make the seeds of fuzz_tekken, fuzz_tokenizer_json, fuzz_spm and fuzz_chat.

  tokenizer_seeds.py [SEEDS_FOLDER]      default: seeds/ beside this file

Small valid files of each kind, so that a few changed bytes still reach deep
into the readers: byte-level with and without special tokens, both forms of
tokenizer.json, SentencePiece with bytes and user-defined pieces, and
conversations with tools, thoughts and weights.
SPDX-License-Identifier: Apache-2.0
"""
import base64
import json
import os
import struct
import sys

PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
           r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
           r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
           r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"]
BLANK = "\u2581"


def tekken(version, specials, pattern=PATTERN):
    """256 bytes and a few merges."""
    words = [bytes([b]) for b in range(256)]
    words += [b"aa", b" a", b"wor", b"or", b"ld", b"aaaa"]
    out = {"config": {"pattern": pattern, "version": version,
                      "num_vocab_tokens": len(words),
                      "default_vocab_size": len(words) + len(SPECIALS),
                      "default_num_special_tokens": len(SPECIALS)},
           "vocab": [{"rank": i, "token_bytes": base64.b64encode(w).decode()}
                     for i, w in enumerate(words)]}
    if specials:
        out["special_tokens"] = [
            {"rank": i, "token_str": s, "is_control": True}
            for i, s in enumerate(SPECIALS)]
    return json.dumps(out, separators=(",", ":")).encode()


def byte_level():
    return json.dumps({
        "added_tokens": [
            {"id": 0, "content": "<s>", "special": True},
            {"id": 8, "content": "<x>", "special": False}],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN},
             "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False,
             "use_regex": False}]},
        "model": {"type": "BPE", "ignore_merges": True,
                  "vocab": {"<s>": 0, "a": 1, "b": 2, "\u0120": 3, "ab": 4,
                            "aa": 5, "\u0120a": 6, "aaaa": 7},
                  "merges": ["a b", "a a", "\u0120 a", "aa aa"]},
    }, ensure_ascii=False).encode()


def sentencepiece_json(legacy):
    vocab = {"<unk>": 0, "<s>": 1}
    for b in range(256):
        vocab["<0x%02X>" % b] = b + 2
    for word in ("a", "b", BLANK, "ab", BLANK + "ab"):
        vocab[word] = len(vocab)
    meta = {"type": "Metaspace", "replacement": BLANK,
            "prepend_scheme": "first", "split": False}
    norm = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": BLANK},
        {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}]}
    return json.dumps({
        "added_tokens": [{"id": 1, "content": "<s>", "special": True}],
        "normalizer": norm if legacy else None,
        "pre_tokenizer": None if legacy else meta,
        "model": {"type": "BPE", "byte_fallback": True, "fuse_unk": True,
                  "unk_token": "<unk>", "vocab": vocab,
                  "merges": [["a", "b"], [BLANK, "ab"]]},
    }, ensure_ascii=False).encode()


def varint(v):
    out = b""
    v &= (1 << 64) - 1
    while v >= 0x80:
        out += bytes([v & 0x7f | 0x80])
        v >>= 7
    return out + bytes([v])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def spm(with_bytes, trims):
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3),
              ("[INST]", 0.0, 3), ("[X]", 0.0, 4)]
    if with_bytes:
        pieces += [("<0x%02X>" % b, 0.0, 6) for b in range(256)]
    pieces += [(w, -float(i), 1) for i, w in enumerate(
        (BLANK + "wor", "or", "ld", "aa", "aaaa", BLANK + BLANK, "\u00e9",
         BLANK, "a", "w", "o", "r", "l", "d", "xy"))]
    out = b""
    for text, score, kind in pieces:
        out += field(1, field(1, text.encode()) + field(2, score) +
                     field(3, kind))
    out += field(2, field(3, 2) + field(35, int(with_bytes)) + field(40, 0) +
                 field(41, 1) + field(42, 2) + field(43, -1))
    return out + field(3, field(3, 1) + field(4, int(trims)) + field(5, 1))


def chats():
    call = {"id": "abcdefghi", "type": "function", "function": {
        "name": "f", "arguments": "{\"a\": [1, 2.5, null], \"b\": \"c\"}"}}
    tool = {"type": "function", "function": {
        "name": "f", "description": "d", "parameters": {"type": "object"}}}
    yield "plain", {"messages": [
        {"role": "system", "content": "s"}, {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a "},
        {"role": "user", "content": "u2"},
        {"role": "assistant", "content": "a2", "weight": 0}]}
    yield "tools", {"tools": [tool], "messages": [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "f",
         "content": "{\"x\": 1}"},
        {"role": "assistant", "content": "a"}]}
    yield "chunks", {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"},
                                     {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "closed": False},
            {"type": "text", "text": "b"}]}]}
    yield "open", {"messages": [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a", "prefix": True}]}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "seeds")
    seeds = {
        "tekken/v13": tekken("v13", True),
        "tekken/v3": tekken("v3", False),
        "tekken/other": tekken("v7", True, ".+"),
        "tokenizer_json/bytes": byte_level(),
        "tokenizer_json/metaspace": sentencepiece_json(False),
        "tokenizer_json/legacy": sentencepiece_json(True),
        "spm/bytes": spm(True, False),
        "spm/plain": spm(False, True),
    }
    for name, row in chats():
        seeds["chat/" + name] = json.dumps(row).encode()
    for name, data in seeds.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        print(name, len(data))


if __name__ == "__main__":
    main()

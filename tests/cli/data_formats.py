"""Every conversational row format against mistral-common: ids and mask.

  data_formats.py BISE MODEL_DIR

Makes 60 conversations of 1 to 4 turns from a fixed seed (several scripts,
emoji, control characters, JSON inside, long runs of blanks), writes each of
them in all formats that can hold it, reads the samples back with `bise data
show --json` and compares ids with mistral-common's and the mask with the rule
"what the assistant says, its end token included". Prints what differs; exits
with 1 then.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import random
import subprocess
import sys
import tempfile

from mistral_common.protocol.instruct.messages import (AssistantMessage,
                                                       SystemMessage,
                                                       UserMessage)
from mistral_common.protocol.instruct.request import InstructRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

WORDS = ("the", "SELECT", "naïve", "日本語", "данные", "مرحبا", "🙂", "é",
         "x1", "[INST]", "</s>", "\"q\"", "\\n", "{\"a\": [1, 2]}", "    ",
         "\t", "...", "don't", "42", "\u200d", "ß", "\n\n")


def text(rng, low=1):
    """A few words; never empty or only blanks where low is above 0."""
    words = rng.choices(WORDS, k=rng.randint(low, 12))
    return "ok " + " ".join(words) + "." if low else " ".join(words)


def conversation(rng):
    """(system or None, [(question, answer), ...])."""
    turns = [(text(rng), text(rng)) for _ in range(rng.randint(1, 4))]
    return (text(rng) if rng.random() < 0.4 else None), turns


def openai(system, turns):
    """The list of messages in the OpenAI form."""
    out = [{"role": "system", "content": system}] if system else []
    for q, a in turns:
        out += [{"role": "user", "content": q},
                {"role": "assistant", "content": a}]
    return out


def in_messages(system, turns):
    return {"messages": openai(system, turns)}


def in_parts(system, turns):
    """Contents as lists of text parts."""
    def parts(m):
        return {**m, "content": [{"type": "text", "text": m["content"]}]}
    return {"messages": [parts(m) if m["role"] == "user" else m
                         for m in openai(system, turns)]}


def in_interactions(system, turns):
    row = {"interactions": [{"role": m["role"], "text": m["content"]}
                            for m in openai(None, turns)]}
    return {**row, "system_prompt": system} if system else row


def in_sharegpt(system, turns):
    row = {"conversations": []}
    for q, a in turns:
        row["conversations"] += [{"from": "human", "value": q},
                                 {"from": "gpt", "value": a}]
    return {**row, "system": system} if system else row


def in_alpaca(system, turns):
    row = {"instruction": turns[-1][0], "input": "", "output": turns[-1][1],
           "history": [list(t) for t in turns[:-1]]}
    return {**row, "system": system} if system else row


def in_pair(keys):
    """Formats of one question and one answer."""
    def make(system, turns):
        if len(turns) > 1:
            return None
        row = dict(zip(keys, turns[0]))
        return {**row, "system": system} if system else row
    return make


def in_prompt(system, turns):
    if system or len(turns) > 1:
        return None
    return {"prompt": turns[0][0], "completion": turns[0][1]}


FORMATS = {
    "messages": in_messages, "parts": in_parts,
    "interactions": in_interactions, "sharegpt": in_sharegpt,
    "alpaca": in_alpaca, "prompt": in_prompt,
    "question": in_pair(("question", "answer")),
    "input": in_pair(("input", "output")),
}


def expected(encode, system, turns):
    """Ids and mask of a conversation by mistral-common."""
    messages = [SystemMessage(content=system)] if system else []
    mask = []
    for q, a in turns:
        messages.append(UserMessage(content=q))
        asked = len(encode(InstructRequest(messages=messages)).tokens)
        messages.append(AssistantMessage(content=a))
        ids = encode(InstructRequest(messages=messages)).tokens
        mask += [0] * (asked - len(mask)) + [1] * (len(ids) - asked)
    return ids, mask


def shown(bise, model, rows, folder):
    """Samples of `bise data show --json` for rows."""
    path = os.path.join(folder, "rows.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r, ensure_ascii=bool(i % 2)) + "\n"
                     for i, r in enumerate(rows))
    out = subprocess.run(
        [bise, "data", "show", path, "--model", model, "-n", str(len(rows)),
         "--max-len", "0", "--json"], capture_output=True, check=True)
    return json.loads(out.stdout)["samples"]


def main():
    bise, model = sys.argv[1:3]
    rng = random.Random(7)
    instruct = MistralTokenizer.from_file(
        os.path.join(model, "tekken.json")).instruct_tokenizer
    talks = [conversation(rng) for _ in range(60)]
    want = [expected(instruct.encode_instruct, *t) for t in talks]
    bad = compared = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, make in FORMATS.items():
            rows = [(i, make(*t)) for i, t in enumerate(talks)]
            rows = [(i, r) for i, r in rows if r is not None]
            got = shown(bise, model, [r for _, r in rows], folder)
            if len(got) != len(rows):
                sys.exit(f"{name}: {len(got)} samples of {len(rows)} rows")
            for (i, row), sample in zip(rows, got):
                compared += 1
                if (sample["ids"], sample["mask"]) != want[i]:
                    bad += 1
                    print(f"{name}: conversation {i} differs: {row}")
    print(f"{compared} rows in {len(FORMATS)} formats, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

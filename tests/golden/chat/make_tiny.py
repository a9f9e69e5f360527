#!/usr/bin/env python3
"""Make tiny.jsonl: conversations encoded by mistral-common with the embedded
tokenizer (examples/tiny-mistral3/tekken.json), in every Tekken version.

  make_tiny.py [OUT]        needs mistral-common (made with 1.13.1)

One conversation a line, as in mistral-common.jsonl: version, messages, tools,
and ids, or an error where that version cannot express it. The file under each
version is the embedded one with that version written into it; its special
tokens are those of v13, so v15 (model settings) is left out.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TEKKEN = os.path.join(HERE, "../../../examples/tiny-mistral3/tekken.json")

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"]}}}


def user(text):
    return {"role": "user", "content": text}


def said(text, **more):
    return dict({"role": "assistant", "content": text}, **more)


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, id_="abcdefghi"):
    return {"id": id_, "type": "function",
            "function": {"name": name, "arguments": arguments}}


def calls(*list_, **more):
    return dict({"role": "assistant", "tool_calls": list(list_)}, **more)


def result(text, id_="abcdefghi", **more):
    return dict({"role": "tool", "tool_call_id": id_, "content": text}, **more)


def thought(text, **more):
    return dict({"type": "thinking", "thinking": text}, **more)


def chunk(text):
    return {"type": "text", "text": text}


# Each row: messages, tools. What it tests is said beside it.
ROWS = [
    # Merging of turns.
    ([user("a"), user("b"), said("c")], None),
    ([user("a"), said("b"), said("c"), user("d"), said("e")], None),
    ([user(""), user("b"), said("c")], None),
    ([user("a"), user(""), said("c")], None),
    ([user([chunk("a"), chunk("b")]), said("c")], None),
    ([user([chunk("a"), chunk(""), chunk("b")]), user("d"), said("c")], None),
    ([user("a"), said([chunk("b"), chunk("c")])], None),
    ([user([]), said("c")], None),
    # The system prompt: nowhere, first, twice, in the middle, alone.
    ([system("s"), user("a"), said("b"), user("c"), said("d")], None),
    ([system("s"), system("t"), user("a"), said("b")], None),
    ([user("a"), system("s"), user("b"), said("c")], None),
    ([user("a"), said("b"), system("s"), user("c"), said("d")], None),
    ([system("s")], None),
    ([system(""), user("a"), said("b")], None),
    ([system([chunk("s"), chunk("t")]), user("a"), said("b")], None),
    ([system("s"), said("b")], None),
    # Blanks.
    ([user("  a  "), said("  b  ")], None),
    ([user("a"), said("b   ")], None),
    ([user("a"), said("   ")], None),
    ([user("a"), said("b \n")], None),
    # Text that looks like control tokens.
    ([user("[INST] a [/INST]"), said("</s><s>[TOOL_CALLS]")], None),
    # Ends: user, tool, prefix.
    ([user("a"), said("b"), user("c")], None),
    ([user("a"), said("b", prefix=True)], None),
    # Calls and results.
    ([user("a"), calls(call("get_weather", "{\"city\": \"Paris\"}")),
      result("{\"sky\": \"clear\"}"), said("b")], [TOOL]),
    ([user("a"), calls(call("get_weather", "{\"city\":\"Paris\",\"days\":2}")),
      result("plain text"), said("b"), user("c"), said("d")], [TOOL]),
    ([user("a"), calls(call("f", "")), result(""), said("b")], None),
    ([user("a"), calls(call("f", "no json")), result("[1, 2.50]"),
      said("b")], None),
    ([user("a"), calls(call("f", "{\"x\": 1e3, \"y\": 1.10, \"x\": null}")),
      result("1"), said("b")], None),
    ([user("a"), calls(call("f", "{}", "aaaaaaaa1"),
                       call("g", "{}", "aaaaaaaa2")),
      result("y", "aaaaaaaa2"), result("x", "aaaaaaaa1"), said("b")], None),
    ([user("a"), calls(call("f", "{}"), content="text before"),
      result("r"), said("b")], None),
    ([user("a"), calls(call("f", "{}")), result("r"),
      calls(call("g", "{}", "aaaaaaaa1")), result("s", "aaaaaaaa1"),
      said("b")], [TOOL]),
    ([user("a"), calls(call("f", "{\"k\": \"\\u00e9\\ud83d\\ude00\"}"))],
     [TOOL]),
    ([user("a"), calls(call("f", "{}")), result("r")], [TOOL]),
    ([user("a"), said("b"), user("c"), said("d")], [TOOL, TOOL]),
    ([user("a"), calls(call("f", "{}")), result("r", name="f"),
      said("b")], None),
    # Thoughts.
    ([user("a"), said([thought("t"), chunk("b")])], None),
    ([user("a"), said([thought("t", closed=False)])], None),
    ([user("a"), said([chunk("b"), thought("t"), chunk("c")])], None),
    ([system([chunk("s"), thought("t"), chunk("u")]), user("a"),
      said("b")], None),
    ([user("a"), said([thought("t"), chunk("b")]), user("c"),
      said([thought("u"), chunk("d  ")])], None),
    # Faults.
    ([said("b")], None),
    ([user("a"), said("")], None),
    ([user("a"), result("r"), said("b")], None),
    ([user("a"), said("b"), result("r"), said("c")], None),
    ([user("a"), calls(call("f", "{}", "short")), result("r", "short"),
      said("b")], None),
    ([user("a"), calls(call("no blank", "{}")), result("r"), said("b")], None),
    ([user("a"), calls(call("f", "{}"), call("g", "{}", "aaaaaaaa1")),
      result("r"), said("b")], None),
    ([user("a"), calls(call("f", "{}")), result("r", "aaaaaaaa9"),
      said("b")], None),
    ([user("a"), calls(call("f", "{}")), result("r"), result("r"),
      said("b")], None),
    ([user("a"), said("b", prefix=True), user("c")], None),
]


def main():
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE,
                                                             "tiny.jsonl")
    with open(TEKKEN, encoding="utf-8") as f:
        file = json.load(f)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for version in ("v3", "v7", "v11", "v13"):
            file["config"]["version"] = version
            path = os.path.join(folder, "tekken_%s.json" % version)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(file, f)
            for messages, tools in ROWS:
                last = messages[-1]
                trains = last["role"] == "assistant" and \
                    not last.get("prefix")
                mode = ValidationMode.finetuning if trains else \
                    ValidationMode.test
                line = {"version": version, "messages": messages,
                        "tools": tools}
                try:
                    line["ids"] = MistralTokenizer.from_file(
                        path, mode=mode).encode_chat_completion(
                        ChatCompletionRequest(messages=messages,
                                              tools=tools)).tokens
                except Exception as e:  # the version cannot express it
                    line["error"] = type(e).__name__
                lines.append(line)
    with open(out, "w", encoding="utf-8") as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(len(lines), "lines,", sum("error" in x for x in lines), "errors")


if __name__ == "__main__":
    main()

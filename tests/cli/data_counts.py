"""Token counts of question/answer and text rows by mistral-common, as JSON keys.

  data_counts.py tekken.json ROWS.jsonl -> "tokens":N,"supervised_tokens":N
"""
# SPDX-License-Identifier: Apache-2.0
import json
import sys

from mistral_common.protocol.instruct.messages import (AssistantMessage,
                                                       UserMessage)
from mistral_common.protocol.instruct.request import InstructRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

instruct = MistralTokenizer.from_file(sys.argv[1]).instruct_tokenizer
encode = instruct.encode_instruct
tokens = trained = 0
for row in map(json.loads, open(sys.argv[2], encoding="utf-8")):
    if "text" in row:
        n = len(instruct.tokenizer.encode(row["text"], bos=True, eos=True))
        tokens, trained = tokens + n, trained + n - 1
        continue
    user = UserMessage(content=row["question"])
    both = [user, AssistantMessage(content=row["answer"])]
    n = len(encode(InstructRequest(messages=both)).tokens)
    tokens += n
    trained += n - len(encode(InstructRequest(messages=[user])).tokens)
print(f'"tokens":{tokens},"supervised_tokens":{trained}')

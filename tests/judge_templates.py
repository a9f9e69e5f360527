#!/usr/bin/env python3
"""Templates that mistral-common generates, told apart by `bise inspect`.

  judge_templates.py BISE MODEL

For every version a model directory with that version's tokenizer gets the
template of every version in turn: inspect must say that they agree exactly
where version and kind of vocabulary are the same. Exits 77 without the
package or the real tokenizer files.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import oracle_tokenizers as oracle


def templates():
    """name -> template text, of mistral-common's generator."""
    from mistral_common.integrations.chat_templates.template_generator import (
        TemplateConfig, build_chat_template)
    from mistral_common.tokens.tokenizers.base import TokenizerVersion
    out = {}
    for v in TokenizerVersion:
        for spm in (False, True):
            extra = {}
            if v.value == "v15":
                extra = {"reasoning_effort_values": ("none", "high"),
                         "reasoning_effort_default": "high"}
            if spm != (v.value in ("v1", "v2")) and \
                    v.value not in ("v3", "v7"):
                continue
            kind = "" if spm or int(v.value[1:]) > 7 else "-tekken"
            out[v.value + kind] = build_chat_template(
                TemplateConfig(version=v, spm=spm, **extra))
    return out


def tokenizer_files(folder):
    """name of the format -> (name in a model directory, path)."""
    import mistral_common
    data = os.path.join(os.path.dirname(mistral_common.__file__), "data")
    out = {}
    for v, name in (("v1", "tokenizer.model.v1"),
                    ("v2", "mistral_instruct_tokenizer_240216.model.v2"),
                    ("v3", "mistral_instruct_tokenizer_240323.model.v3"),
                    ("v7", "mistral_instruct_tokenizer_241114.model.v7")):
        if os.path.exists(os.path.join(data, name)):
            out[v] = (name, os.path.join(data, name))
    for v in ("v3", "v7", "v11", "v13", "v15"):
        key = v + ("-tekken" if v in ("v3", "v7") else "")
        out[key] = ("tekken.json", oracle.write_tekken(folder, v))
    return out


def main():
    bise, model = sys.argv[1:3]
    try:
        texts = templates()
    except ImportError as e:
        print("skipped:", e)
        return 77
    if not os.path.isdir(os.path.join(oracle.SHARED, "data/tokenizers")):
        print("skipped: no", oracle.SHARED)
        return 77
    bad = n = 0
    with tempfile.TemporaryDirectory() as tmp:
        files = tokenizer_files(tmp)
        for have, (name, path) in files.items():
            folder = os.path.join(tmp, have)
            os.mkdir(folder)
            shutil.copy(path, os.path.join(folder, name))
            for f in ("config.json", "model.safetensors"):
                os.symlink(os.path.abspath(os.path.join(model, f)),
                           os.path.join(folder, f))
            for of, text in texts.items():
                with open(os.path.join(folder, "chat_template.jinja"),
                          "w", encoding="utf-8") as f:
                    f.write(text)
                chat = json.loads(subprocess.run(
                    [bise, "inspect", folder, "--json"], check=True,
                    capture_output=True).stdout)["chat"]
                n += 1
                if chat["format"] != have or \
                        chat["agrees"] != (have == of) or \
                        chat["template_format"] != of:
                    bad += 1
                    print("FAIL", have, "with the template of", of, chat)
    print("%d pairs of tokenizer and template, %d wrong" % (n, bad))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Greedy continuation of a prompt by llama.cpp (PyPI: xllamacpp).

  llama_cpp_answer.py MODEL.gguf PROMPT [TOKENS]
"""
import os
import sys

import xllamacpp


def main():
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 512
    params.cpuparams.n_threads = os.cpu_count() or 2
    params.warmup = False
    params.verbosity = -1
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 32
    server = xllamacpp.Server(params)
    answer = server.handle_completions(
        {"prompt": sys.argv[2], "n_predict": count, "temperature": 0})
    print(answer["choices"][0]["text"])


main()

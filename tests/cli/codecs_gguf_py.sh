#!/bin/sh
# codecs_gguf_py.sh - blocks of bise against gguf-py, the Python package of
# llama.cpp: decoded values of 17 types, bytes of the 9 it can quantize. Needs
# BISE_JUDGES (a python with gguf and numpy).
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/gguf_py_codecs.py"

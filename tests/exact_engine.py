"""exact_engine.py: llama.cpp with float32 keys and values, for comparisons within 1e-3.

Engine(path) is ../shared/tools/engine.py's, but its context keeps keys and values in float32 instead of float16 and
uses no flash attention. The fields are found by their defaults: a run of yarn numbers (-1), two types F16.
"""
# SPDX-License-Identifier: Apache-2.0
import struct

import engine

_library = engine.library


def exact(params):
    raw = bytearray(params)
    # yarn_ext_factor and attn_factor are -1, beta_fast and beta_slow too; type_k and type_v are both 1 (F16)
    minus = struct.pack("<4f", -1, -1, -1, -1)
    at = raw.find(minus)
    pair = raw.find(struct.pack("<2i", 1, 1), at)
    assert at > 0 and pair > 0 and pair % 4 == 0, "llama_context_params has changed"
    raw[pair:pair + 8] = struct.pack("<2i", 0, 0)
    # rope_scaling_type, pooling_type, attention_type, flash_attn_type: each -1 by default
    kinds = raw.rfind(struct.pack("<4i", -1, -1, -1, -1), 0, at)
    assert kinds > 0
    raw[kinds + 12:kinds + 16] = struct.pack("<i", 0)
    return type(params).from_buffer_copy(bytes(raw))


def library():
    lib = _library()
    defaults = lib.llama_context_default_params
    lib.llama_context_default_params = lambda: exact(defaults())
    return lib


engine.library = library
Engine = engine.Engine

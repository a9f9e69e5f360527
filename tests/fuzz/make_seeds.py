#!/usr/bin/env python3
"""make_seeds.py - write the seeds of the container formats: tiny files that
touch every kind of field. Run from the top of the source tree; the output is
committed, so that `make check` needs no Python.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import struct

SEEDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")


def save(target, name, data):
    folder = os.path.join(SEEDS, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def safetensors(header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def string(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, kind, value):
    return string(key) + struct.pack("<i", kind) + value


def gguf(kvs, tensors, data, version=3):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs))
    out += b"".join(kvs)
    for name, dims, kind, offset in tensors:
        out += string(name) + struct.pack("<I", len(dims))
        out += b"".join(struct.pack("<q", d) for d in dims)
        out += struct.pack("<iQ", kind, offset)
    return out + b"\0" * (-len(out) % 32) + data


def make_safetensors():
    entry = lambda d, s, b, e: {"dtype": d, "shape": s, "data_offsets": [b, e]}
    save("safetensors", "empty", safetensors({}, b""))
    save("safetensors", "two", safetensors(
        {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 3], 0, 24),
         "b.weight": entry("BF16", [4], 24, 32)}, bytes(range(32))))
    save("safetensors", "zero", safetensors(
        {"none": entry("F16", [0, 7], 0, 0), "s": entry("I64", [], 0, 8)},
        b"\1" * 8))
    save("safetensors", "fp8", safetensors(
        {"w": entry("F8_E4M3", [3, 3], 0, 9), "n\u00e9": entry("BOOL", [1], 9,
                                                              10)},
        bytes(10)))


def make_gguf():
    u32 = lambda v: struct.pack("<I", v)
    kvs = [kv("general.architecture", 8, string("llama")),
           kv("a.u8", 0, b"\7"), kv("a.i16", 3, struct.pack("<h", -2)),
           kv("a.f32", 6, struct.pack("<f", 0.5)), kv("a.bool", 7, b"\1"),
           kv("a.u64", 10, struct.pack("<Q", 1 << 40)),
           kv("a.f64", 12, struct.pack("<d", -1.5)),
           kv("a.list", 9, u32(5) + struct.pack("<Q", 3) + u32(1) * 3),
           kv("a.words", 9, u32(8) + struct.pack("<Q", 2) + string("x") +
              string(""))]
    save("gguf", "empty", gguf([], [], b""))
    save("gguf", "all", gguf(kvs, [("a", [4, 2], 0, 0), ("q", [32], 8, 32)],
                             bytes(96)))
    save("gguf", "align", gguf([kv("general.alignment", 4, u32(64))] + kvs[:1],
                               [("t", [1], 0, 0)], bytes(100)))
    save("gguf", "v2", gguf(kvs[:2], [("t", [], 0, 0)], bytes(32), 2))


def make_index():
    good = {"metadata": {"total_size": 8},
            "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    save("index", "good", json.dumps(good).encode())
    save("index", "missing", json.dumps(
        {"weight_map": {"x": "c.safetensors"}}).encode())
    save("index", "outside", json.dumps(
        {"weight_map": {"x": "../a.safetensors"}}).encode())
    save("index", "wrong", json.dumps(
        {"weight_map": {"x": "b.safetensors", "y": 7}}).encode())


def make_yaml():
    save("yaml", "run", b"# settings\nlr: 2e-4\nlora_r: 16\nname: tiny\n"
         b"targets: [q_proj, v_proj]\ndata:\n  - path: a.jsonl\n"
         b"    weight: 0.5\n  - {path: b.jsonl, weight: 1}\n"
         b"note: |\n  two\n  lines\nnone: ~\nyes: true\n")
    save("yaml", "card", b"---\nlicense: apache-2.0\ntags:\n- text\n"
         b"- \"quoted: yes\"\nlanguage:\n- en\n---\n# Card\n")
    save("yaml", "odd", b"a: '0x1f'\nb: 0x1f\nc: -.5\nd: \"\\u00e9\\n\"\n"
         b"? e\n: []\nf: {}\n'': 1\n")


def tar(members):
    """A tar stream in memory, as bise lays it out."""
    import io
    import tarfile
    f = io.BytesIO()
    t = tarfile.open(fileobj=f, mode="w", format=tarfile.USTAR_FORMAT)
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return f.getvalue()[:sum(512 + -(-len(d) // 512) * 512
                             for _, d in members)]


def make_archive():
    sha = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    entry = {"path": "ok", "bytes": 4, "sha256": sha, "mode": "0644",
             "offset": 512}
    manifest = {"bise_archive": 1, "mtime": 0, "files": [entry]}
    save("archive", "stream", tar([("manifest.json",
                                    json.dumps(manifest).encode()),
                                   ("ok", b"data")]))
    head = b"BISEPLN1" + struct.pack("<IIQQQQ", 4 << 20, 1, 4, 0, 4, 2)
    entry.update(planes=True, stored=len(head) + 4)
    save("archive", "planes", tar([("manifest.json",
                                    json.dumps(manifest).encode()),
                                   ("ok.planes", head + b"data")]))


def make_frames():
    """Raw frames with a seek table, and planes of two ranges."""
    frame = struct.pack("<IBI", 0xFD2FB528, 2 << 6 | 1 << 5, 4)
    frame += struct.pack("<I", 4 << 3 | 1)[:3] + b"data"
    rows = struct.pack("<II", len(frame), 4) * 2
    foot = rows + struct.pack("<IBI", 2, 0, 0x8F92EAB1)
    save("frames", "two", frame * 2 +
         struct.pack("<II", 0x184D2A5E, len(foot)) + foot)
    save("frames", "one", frame)
    save("frames", "name", ("folder/" * 30 + "\u00e4").encode())
    head = b"BISEPLN1" + struct.pack("<IIQ", 4 << 20, 2, 64)
    head += struct.pack("<QQQ", 3, 24, 2) + struct.pack("<QQQ", 24, 60, 1)
    save("planes", "two", head + bytes(range(64)))
    save("planes", "none", b"BISEPLN1" + struct.pack("<IIQ", 4 << 20, 0, 9))
    entry = {"dtype": "BF16", "shape": [2100], "data_offsets": [0, 4200]}
    save("planes", "model", safetensors({"w": entry}, bytes(4200)))


if __name__ == "__main__":
    make_frames()
    make_archive()
    make_safetensors()
    make_gguf()
    make_index()
    make_yaml()

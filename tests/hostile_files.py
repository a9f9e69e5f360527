#!/usr/bin/env python3
"""hostile_files.py - a second implementation of the containers, in the standard
library only, that writes files bise must read and files it must refuse: random
safetensors, GGUF and archives, each sound one compared fact by fact, then each
field of it made wrong. Every run must end with status 0 or 1, an error object
that names the file, and nothing left on disk.

usage: hostile_files.py BISE [SEED]
SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

BISE = sys.argv[1] if len(sys.argv) > 1 else "build/bise"
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1

ST_TYPES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "I16": 2,
            "I32": 4, "I64": 8, "U8": 1, "U16": 2, "U32": 4, "U64": 8,
            "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
# name: (ggml id, weights in a block, bytes of a block)
GGUF_TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18),
              "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
              "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84),
              "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144),
              "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210),
              "IQ4_NL": (20, 32, 18), "IQ4_XS": (23, 256, 136),
              "I8": (24, 1, 1), "I32": (26, 1, 4), "BF16": (30, 1, 2)}


class Failed(Exception):
    """What bise did that it must not do."""


def run(*args, status=None):
    """bise --json; checks that it ended by itself with one object."""
    p = subprocess.run([BISE, "-q", "--json", *args], capture_output=True,
                       timeout=60)
    if p.returncode not in (0, 1):
        raise Failed("%s: status %d: %s" % (args, p.returncode, p.stderr))
    try:
        out = json.loads(p.stdout)
    except ValueError:
        raise Failed("%s: not one object: %r" % (args, p.stdout[:200]))
    if p.returncode == 1 and not out["error"]["message"]:
        raise Failed("%s: no message" % (args,))
    if status is not None and p.returncode != status:
        raise Failed("%s: status %d, not %d: %s" %
                     (args, p.returncode, status, json.dumps(out)[:300]))
    return out


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


# ---------------------------------------------------------------- safetensors
def st_entries(rng):
    """Random tensors laid one after another."""
    entries, at = {}, 0
    for i in range(rng.randrange(1, 8)):
        dtype = rng.choice(sorted(ST_TYPES))
        shape = [rng.randrange(0, 5) for _ in range(rng.randrange(0, 4))]
        n = ST_TYPES[dtype]
        for d in shape:
            n *= d
        entries["t%d.weight" % i] = {"dtype": dtype, "shape": shape,
                                     "data_offsets": [at, at + n]}
        at += n
    return entries, at


def st_file(entries, n, meta=None):
    header = dict(entries)
    if meta is not None:
        header["__metadata__"] = meta
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(n)


def st_wrong(rng, entries, n):
    """One field made wrong: (what, file)."""
    name = rng.choice(sorted(entries))
    e = entries[name]
    b, end = e["data_offsets"]

    def with_entry(**change):
        new = dict(entries)
        new[name] = dict(e, **change)
        return st_file(new, n)

    yield "dtype", with_entry(dtype="F33")
    yield "dtype number", with_entry(dtype=4)
    yield "shape text", with_entry(shape="x")
    yield "shape negative", with_entry(shape=[-1])
    yield "shape too large", with_entry(shape=[1 << 40, 1 << 40])
    yield "shape longer", with_entry(shape=e["shape"] + [7] if end > b else [7])
    yield "past the end", with_entry(data_offsets=[b, end + 1])
    yield "backwards", with_entry(data_offsets=[end + 2, b])
    yield "negative", with_entry(data_offsets=[-8, end])
    yield "one offset", with_entry(data_offsets=[b])
    yield "too large", with_entry(data_offsets=[b, 1 << 62])
    yield "missing shape", st_file({**entries, name: {
        "dtype": e["dtype"], "data_offsets": [b, end]}}, n)
    yield "trailing byte", st_file(entries, n + 1)
    yield "metadata number", st_file(entries, n, {"a": 1})
    yield "metadata list", st_file(entries, n, ["a"])
    good = st_file(entries, n)
    yield "header length", struct.pack("<Q", len(good)) + good[8:]
    yield "header huge", struct.pack("<Q", 1 << 63) + good[8:]
    yield "no brace", good[:8] + b"[" + good[9:]
    text = good[8:8 + struct.unpack("<Q", good[:8])[0]]
    twice = text.rstrip()[:-1] + b"," + text[1:]
    yield "duplicate", (struct.pack("<Q", len(twice)) + twice +
                        good[8 + len(text):])
    if n:
        yield "short", good[:-1]


def check_safetensors(rng, folder):
    path = os.path.join(folder, "x.safetensors")
    count = 0
    for _ in range(12):
        entries, n = st_entries(rng)
        put(path, st_file(entries, n, {"format": "pt"}))
        seen = {t["name"]: t for t in run("inspect", path, status=0)["tensors"]}
        for name, e in entries.items():
            t = seen[name]
            got = (t["dtype"], t["shape"], t["bytes"])
            want = (e["dtype"], e["shape"],
                    e["data_offsets"][1] - e["data_offsets"][0])
            if got != want:
                raise Failed("%s: %s, not %s" % (name, got, want))
        count += 1
    entries, n = st_entries(rng)
    for what, data in st_wrong(rng, entries, n):
        put(path, data)
        out = run("inspect", path, status=1)
        if out["error"]["path"] != path:
            raise Failed("%s: path is %s" % (what, out["error"]["path"]))
        count += 1
    return count


# ---------------------------------------------------------------- GGUF
def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def gguf_file(kvs, tensors, align=32, version=3, counts=None, data=None):
    """kvs: encoded values by key; tensors: (name, sizes, id, offset, bytes)."""
    n_t, n_kv = counts or (len(tensors), len(kvs))
    out = b"GGUF" + struct.pack("<IQQ", version, n_t, n_kv)
    for key, value in kvs:
        out += text(key) + value
    end = 0
    for name, sizes, kind, offset, n in tensors:
        out += text(name) + struct.pack("<I", len(sizes))
        out += b"".join(struct.pack("<q", s) for s in sizes)
        out += struct.pack("<iQ", kind, offset)
        end = max(end, offset + n)
    out += bytes(-len(out) % align)
    return out + bytes(end + -end % align if data is None else data)


def u32(v):
    return struct.pack("<iI", 4, v)


def gguf_tensors(rng):
    tensors, facts, at = [], {}, 0
    for i in range(rng.randrange(1, 7)):
        name, (kind, block, size) = rng.choice(sorted(GGUF_TYPES.items()))
        sizes = [block * rng.randrange(1, 4)]
        sizes += [rng.randrange(1, 4) for _ in range(rng.randrange(0, 3))]
        n = size
        for j, s in enumerate(sizes):
            n *= s // block if j == 0 else s
        tensors.append(("blk.%d.w" % i, sizes, kind, at, n))
        facts["blk.%d.w" % i] = (name, sizes[::-1], n)
        at += n + -n % 32
    return tensors, facts


def gguf_wrong(tensors):
    kvs = [("general.architecture", struct.pack("<i", 8) + text("llama")),
           ("a", u32(1))]
    first = tensors[0]

    def with_first(**change):
        names = ("name", "sizes", "kind", "offset", "n")
        row = tuple(change.get(k, v) for k, v in zip(names, first))
        return gguf_file(kvs, [row] + tensors[1:])

    good = gguf_file(kvs, tensors)
    yield "magic", b"GGUX" + good[4:]
    yield "version 1", gguf_file(kvs, tensors, version=1)
    yield "version 9", gguf_file(kvs, tensors, version=9)
    yield "big endian", gguf_file(kvs, tensors, version=3 << 24)
    yield "more tensors", gguf_file(kvs, tensors, counts=(1 << 40, 2))
    yield "more keys", gguf_file(kvs, tensors, counts=(len(tensors), 1 << 40))
    yield "one key more", gguf_file(kvs, tensors, counts=(len(tensors), 3))
    yield "key twice", gguf_file(kvs + [("a", u32(2))], tensors)
    yield "empty key", gguf_file(kvs + [("", u32(2))], tensors)
    yield "NUL in key", gguf_file(kvs + [("b\0c", u32(2))], tensors)
    yield "type 13", gguf_file(kvs + [("b", struct.pack("<i", 13))], tensors)
    for kind, n in ((9, 1), (13, 1), (4, 1 << 31), (8, 1 << 29), (12, 1 << 60)):
        array = struct.pack("<iiQ", 9, kind, n)
        yield "array %d" % kind, gguf_file(kvs + [("b", array)], tensors)
    huge = struct.pack("<iQ", 8, 1 << 40)
    yield "string", gguf_file(kvs + [("b", huge)], tensors)
    for align in (0, 3, 48):
        yield "align %d" % align, gguf_file(
            kvs + [("general.alignment", u32(align))], tensors)
    word = struct.pack("<iQ", 10, 32)
    yield "align u64", gguf_file(kvs + [("general.alignment", word)], tensors)
    yield "tensor twice", gguf_file(kvs, tensors + [first])
    yield "long name", with_first(name="n" * 64)
    yield "no name", with_first(name="")
    yield "5 sizes", with_first(sizes=[1] * 5)
    yield "negative", with_first(sizes=[-32])
    yield "overflow", with_first(sizes=[1 << 40, 1 << 40])
    yield "type 4", with_first(kind=4)
    yield "type -1", with_first(kind=-1)
    yield "type 99", with_first(kind=99)
    yield "offset", with_first(offset=32)
    yield "half block", with_first(kind=12, sizes=[255])
    yield "no data", gguf_file(kvs, tensors, data=0)


def check_gguf(rng, folder):
    path = os.path.join(folder, "x.gguf")
    count = 0
    for _ in range(12):
        tensors, facts = gguf_tensors(rng)
        kvs = [("general.type", struct.pack("<i", 8) + text("tensors")),
               ("f", struct.pack("<if", 6, 0.5)),
               ("list", struct.pack("<iiQ", 9, 5, 3) + bytes(12)),
               ("words", struct.pack("<iiQ", 9, 8, 2) + text("a") + text(""))]
        rng.shuffle(kvs)
        put(path, gguf_file(kvs, tensors))
        out = run("inspect", path, status=0)
        seen = {t["name"]: (t["dtype"], t["shape"], t["bytes"])
                for t in out["tensors"]}
        if seen != facts:
            raise Failed("%s, not %s" % (seen, facts))
        count += 1
    for what, data in gguf_wrong(tensors):
        put(path, data)
        out = run("inspect", path, status=1)
        if out["error"]["path"] != path:
            raise Failed("%s: path is %s" % (what, out["error"]["path"]))
        count += 1
    return count


def split(folder, rng):
    """Split files: complete sets open, any wrong number is refused."""
    kind = {"no": 2, "count": 2, "total": 5}

    def part(i, no, count, total):
        fmt = {2: "<iH", 5: "<ii"}
        kvs = [("split.no", struct.pack(fmt[kind["no"]], 2, no)),
               ("split.count", struct.pack(fmt[kind["count"]], 2, count)),
               ("split.tensors.count",
                struct.pack(fmt[kind["total"]], 5, total))]
        if i == 0:
            kvs.insert(0, ("general.type", struct.pack("<i", 8) +
                           text("tensors")))
        return gguf_file(kvs, [("t%d" % i, [8], 0, 0, 32)])

    def name(i, n):
        return os.path.join(folder, "s-%05d-of-%05d.gguf" % (i + 1, n))

    n = rng.randrange(2, 6)
    for i in range(n):
        put(name(i, n), part(i, i, n, n))
    out = run("inspect", name(0, n), status=0)
    assert len(out["tensors"]) == n
    run("inspect", name(1, n), status=1)
    bad = rng.randrange(1, n)
    for wrong in ((bad + 1, n, n), (bad, n + 1, n)):
        put(name(bad, n), part(bad, *wrong))
        run("inspect", name(0, n), status=1)
    put(name(bad, n), part(0, bad, n, n))           # the tensor of another
    run("inspect", name(0, n), status=1)
    os.remove(name(bad, n))
    out = run("inspect", name(0, n), status=1)
    assert os.path.basename(name(bad, n)) in out["error"]["message"], out
    return 5


# ---------------------------------------------------------------- archives
def tar_block(name, size, mode=0o644, kind=b"0", link=b""):
    b = bytearray(512)
    b[0:len(name)] = name.encode()
    b[100:108] = b"%07o\0" % mode
    b[108:116] = b[116:124] = b"%07o\0" % 0
    b[124:136] = b"%011o\0" % size
    b[136:148] = b"%011o\0" % 0
    b[156:157] = kind
    b[157:157 + len(link)] = link
    b[257:265] = b"ustar\x0000"
    b[329:337] = b[337:345] = b"%07o\0" % 0
    b[148:156] = b" " * 8
    b[148:155] = b"%06o\0" % sum(b)
    return bytes(b)


def raw_frame(data):
    """A zstd frame of raw blocks without a checksum."""
    out = struct.pack("<IBI", 0xFD2FB528, 2 << 6 | 1 << 5, len(data))
    blocks = [data[i:i + 131072] for i in range(0, len(data), 131072)] or [b""]
    for i, b in enumerate(blocks):
        head = len(b) << 3 | (i + 1 == len(blocks))
        out += struct.pack("<I", head)[:3] + b
    return out


def archive(entries, stream=None, sizes=None, table=None):
    """entries: manifest rows; stream: tar bytes after the manifest."""
    manifest = json.dumps({"bise_archive": 1, "files": entries}).encode()
    tar = tar_block("manifest.json", len(manifest)) + manifest
    tar += bytes(-len(tar) % 512) + stream
    frame = raw_frame(tar)
    row = sizes or (len(frame), len(tar))
    foot = struct.pack("<II", *row) + struct.pack("<IBI", 1, 0, 0x8F92EAB1)
    seek = struct.pack("<II", 0x184D2A5E, len(foot)) + foot
    return frame + (seek if table is None else table)


def row(path, data, offset=512, **change):
    r = {"path": path, "bytes": len(data), "mode": "0644", "offset": offset,
         "sha256": hashlib.sha256(data).hexdigest()}
    r.update(change)
    return r


def member(name, data, **kind):
    return tar_block(name, len(data), **kind) + data + bytes(-len(data) % 512)


def archives():
    """(what, status, file) of archives with one member."""
    d = b"some data"
    good = member("f", d)
    yield "sound", 0, archive([row("f", d)], good)
    yield "empty", 0, archive([], b"")
    for name in ("../f", "/tmp/f", "a/../../f", "..", "a//f", "./f", "a\\f",
                 "f\n", ""):
        yield "path %r" % name, 1, archive([row(name, d)],
                                           member(name or "f", d))
    yield "other name in tar", 1, archive([row("f", d)], member("../f", d))
    link = dict(kind=b"2", link=b"/etc/passwd")
    yield "link in tar", 1, archive([row("f", d)], member("f", d, **link))
    hard = dict(kind=b"1", link=b"../x")
    yield "hard link", 1, archive([row("f", d)], member("f", d, **hard))
    yield "device", 1, archive([row("f", d)], member("f", d, kind=b"3"))
    yield "mode", 1, archive([row("f", d)], member("f", d, mode=0o4755))
    yield "hash", 1, archive([row("f", d, sha256="0" * 64)], good)
    yield "no hash", 1, archive([row("f", d, sha256=None)], good)
    yield "hash upper", 1, archive([row("f", d, sha256="A" * 64)], good)
    yield "size", 1, archive([row("f", d, bytes=8)], good)
    yield "huge", 1, archive([row("f", d, bytes=1 << 62)], good)
    yield "negative", 1, archive([row("f", d, bytes=-1)], good)
    yield "offset", 1, archive([row("f", d, offset=0)], good)
    yield "offset huge", 1, archive([row("f", d, offset=1 << 62)], good)
    yield "twice", 1, archive([row("f", d), row("f", d)], good)
    yield "file as folder", 1, archive(
        [row("f", d), row("f/g", d, offset=1536)], good + member("f/g", d))
    yield "entry number", 1, archive([3], good)
    yield "table short", 1, archive([row("f", d)], good, table=b"")
    yield "table frame", 1, archive([row("f", d)], good, sizes=(10, 10))
    frame = archive([row("f", d)], good, table=b"")
    yield "frame size", 1, archive([row("f", d)], good,
                                   sizes=(len(frame), 4096))
    planes = row("f", d, planes=True, stored=len(d))
    yield "planes", 1, archive([planes], member("f.planes", d))
    head = b"BISEPLN1" + struct.pack("<IIQ", 4 << 20, 0, len(d))
    planes = row("f", d, planes=True, stored=len(head + d))
    yield "planes sound", 0, archive([planes], member("f.planes", head + d))
    head = b"BISEPLN1" + struct.pack("<IIQ", 4 << 20, 1 << 30, len(d))
    yield "planes ranges", 1, archive([planes], member("f.planes", head + d))


def check_archives(folder):
    count = 0
    path = os.path.join(folder, "x.tar.zst")
    out = os.path.join(folder, "deep", "out")
    os.makedirs(os.path.dirname(out))
    for what, status, data in archives():
        put(path, data)
        before = sorted(os.listdir(folder))
        try:
            run("unpack", path, "-o", out, status=status)
            if what != "empty":
                run("verify", path, status=status)
        except Failed as e:
            raise Failed("%s: %s" % (what, e))
        left = os.listdir(os.path.dirname(out))
        if left != (["out"] if status == 0 else []):
            raise Failed("%s: left %s" % (what, left))
        if sorted(os.listdir(folder)) != before or os.path.exists("/tmp/f"):
            raise Failed("%s: wrote outside" % what)
        if status == 0:
            subprocess.run(["rm", "-r", out], check=True)
        count += 1
    return count


def main():
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        print("safetensors:", check_safetensors(rng, folder), "files")
        print("gguf:", check_gguf(rng, folder), "files")
        print("splits:", split(folder, rng), "sets")
        print("archives:", check_archives(folder), "files")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        print("FAIL:", failure)
        sys.exit(1)

#!/usr/bin/env python3
"""judge_formats.py - bise's view of files made by other programs, and theirs of
files made by bise: safetensors (PyPI) and gguf (PyPI) write every type they
have and bise inspect must tell names, types, shapes and places as they do;
tarfile and the zstd program read archives of bise pack. Prints what it checked;
exit status 77 when a judge is missing.

usage: judge_formats.py BISE
SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

try:
    import gguf
    import numpy as np
    import safetensors.numpy as stnp
    from safetensors import safe_open
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

BISE = sys.argv[1] if len(sys.argv) > 1 else "build/bise"


def bise(*args, status=0):
    """Run bise with --json; returns its object."""
    run = subprocess.run([BISE, "-q", "--json", *args], capture_output=True)
    assert run.returncode == status, (args, run.returncode, run.stderr)
    return json.loads(run.stdout)


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def check_safetensors(folder):
    """Every dtype numpy has, scalars, empty tensors, odd names."""
    rng = np.random.default_rng(1)
    names = {"F64": "float64", "F32": "float32", "F16": "float16",
             "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
             "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
             "BOOL": "bool"}
    tensors, types = {}, {}
    for name, numpy in names.items():
        value = (rng.random((3, 5)) * 100).astype(numpy)
        tensors["t." + name] = value
        types["t." + name] = name
    tensors["scalar"] = np.array(3, dtype="float32")
    tensors["empty"] = np.zeros((0, 4), dtype="float32")
    tensors["name with \"quotes\" and \u00e9"] = np.ones(7, dtype="float32")
    path = os.path.join(folder, "all.safetensors")
    stnp.save_file(tensors, path, metadata={"format": "np", "x": "y"})
    seen = {t["name"]: t for t in bise("inspect", path)["tensors"]}
    assert set(seen) == set(tensors), set(seen) ^ set(tensors)
    with open(path, "rb") as f:
        data = f.read()
    for name, value in tensors.items():
        t = seen[name]
        assert t["shape"] == list(value.shape), (name, t["shape"])
        assert t["bytes"] == value.nbytes, (name, t["bytes"])
        assert t["dtype"] == types.get(name, "F32"), (name, t["dtype"])
        raw = data[t["offset"]:t["offset"] + t["bytes"]]
        assert raw == value.tobytes(), name
    return len(tensors)


def check_gguf(folder):
    """Every key-value type and alignment of gguf-py's writer."""
    path = os.path.join(folder, "all.gguf")
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint8("a.u8", 200)
    w.add_int8("a.i8", -100)
    w.add_uint16("a.u16", 60000)
    w.add_int16("a.i16", -30000)
    w.add_uint32("a.u32", 4000000000)
    w.add_int32("a.i32", -2000000000)
    w.add_uint64("a.u64", 1 << 60)
    w.add_int64("a.i64", -(1 << 60))
    w.add_float32("a.f32", 0.5)
    w.add_float64("a.f64", 0.25)
    w.add_bool("a.bool", True)
    w.add_string("a.str", "text \u00e9")
    w.add_array("a.ints", [1, 2, 3])
    w.add_array("a.words", ["one", "", "three"])
    rng = np.random.default_rng(2)
    tensors = {"f32": rng.random((3, 64), dtype=np.float32),
               "f16": rng.random((2, 3, 32), dtype=np.float32).astype("f2"),
               "i8": np.arange(33, dtype=np.int8),
               "i32": np.arange(6, dtype=np.int32).reshape(2, 3)}
    for name, value in tensors.items():
        w.add_tensor(name, value)
    q = gguf.quants.quantize(tensors["f32"], gguf.GGMLQuantizationType.Q8_0)
    w.add_tensor("q8", q, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    seen = {t["name"]: t for t in bise("inspect", path)["tensors"]}
    reader = gguf.GGUFReader(path)
    assert len(seen) == len(reader.tensors)
    for t in reader.tensors:
        mine = seen[t.name]
        assert mine["dtype"] == t.tensor_type.name, t.name
        shape = [int(x) for x in reversed(t.shape)]
        assert mine["shape"] == shape, (t.name, mine["shape"], shape)
        assert mine["offset"] == int(t.data_offset), t.name
        assert mine["bytes"] == int(t.n_bytes), t.name
    return len(seen)


def truncations(folder):
    """Cut files must be refused, whoever wrote them."""
    count = 0
    for name in ("all.safetensors", "all.gguf"):
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
        cut = os.path.join(folder, "cut" + os.path.splitext(name)[1])
        end = len(data) - (64 if name.endswith("gguf") else 0)
        for n in range(0, end, max(1, end // 23)):
            with open(cut, "wb") as f:
                f.write(data[:n])
            got = bise("inspect", cut, status=1)
            assert got["error"]["status"] == "format", got
            count += 1
        os.remove(cut)
    return count


def check_archive(folder):
    """tarfile sees what was packed; equal trees give equal archives."""
    if not shutil.which("zstd"):
        print("skipped: no zstd program")
        return 0
    tree = os.path.join(folder, "tree")
    os.makedirs(os.path.join(tree, "sub", "\u00e4"))
    rng = np.random.default_rng(3)
    files = {"a.txt": b"hello\n" * 1000, "empty": b"",
             "sub/\u00e4/x.bin": rng.bytes(5 << 20),
             "n" * 150: b"long name", "sub/" + "p" * 90 + "/" + "q" * 90: b"1"}
    for name, data in files.items():
        path = os.path.join(tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
    one, two = (os.path.join(folder, n) for n in ("1.tar.zst", "2.tar.zst"))
    bise("pack", "--plain", tree, "-o", one)
    os.utime(os.path.join(tree, "a.txt"), (1, 1))
    os.chmod(os.path.join(tree, "a.txt"), 0o600)
    bise("pack", "--plain", tree, "-o", two, "--threads", "1")
    assert sha(one) == sha(two), "times or modes leak into the archive"
    subprocess.run(["zstd", "-qt", one], check=True)
    raw = subprocess.run(["zstd", "-dcq", one], check=True,
                         capture_output=True).stdout
    tar = tarfile.open(fileobj=io.BytesIO(raw))
    members = {m.name: m for m in tar.getmembers()}
    assert tar.getmembers()[0].name == "manifest.json"
    manifest = json.load(tar.extractfile("manifest.json"))
    listed = {f["path"]: f for f in manifest["files"]}
    assert set(members) == set(files) | {"manifest.json"}, set(members)
    for name, data in files.items():
        assert tar.extractfile(name).read() == data, name
        assert listed[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert listed[name]["bytes"] == len(data)
        m = members[name]
        assert (m.uid, m.gid, m.mtime, m.uname) == (0, 0, 0, ""), name
    out = os.path.join(folder, "out")
    bise("unpack", one, "-o", out)
    for name, data in files.items():
        with open(os.path.join(out, name), "rb") as f:
            assert f.read() == data, name
    return len(files)


def check_planes(folder):
    """A bfloat16 model: byte planes give it back bit for bit."""
    rng = np.random.default_rng(4)
    w = rng.standard_normal(3 << 20).astype("float32") * 0.02
    bits = (w.view("uint32") >> 16).astype("uint16")
    path = os.path.join(folder, "model.safetensors")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [bits.size],
                               "data_offsets": [0, bits.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header + bits.tobytes())
    packed = os.path.join(folder, "m.tar.zst")
    bise("pack", path, "-o", packed)
    ratio = os.path.getsize(packed) / os.path.getsize(path)
    assert ratio < 0.70, ratio
    out = os.path.join(folder, "planes")
    bise("unpack", packed, "-o", out)
    assert sha(os.path.join(out, "model.safetensors")) == sha(path)
    seen = bise("inspect", packed)["tensors"]
    assert seen[0]["shape"] == [bits.size]
    with safe_open(path, framework="np") as f:
        assert list(f.keys()) == ["w"]
    return ratio


def main():
    with tempfile.TemporaryDirectory() as folder:
        print("safetensors:", check_safetensors(folder), "tensors as written")
        print("gguf:", check_gguf(folder), "tensors as gguf-py reads them")
        print("truncations:", truncations(folder), "refused")
        print("archive:", check_archive(folder), "files as tarfile sees them")
        print("planes: %.3f of a random bf16 model" % check_planes(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

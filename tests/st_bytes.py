"""The bytes of a safetensors file without its __metadata__: there bise notes licence, base and the commands that made the file,
so that files with equal tensors may differ in it."""
import json


def tensor_bytes(path):
    """The entries of the header in the order of the file, and all data."""
    with open(path, "rb") as f:
        raw = f.read()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return list(header.items()), raw[8 + n:]

#!/usr/bin/env python3
"""judge_signing.py - signatures of bise and of model_signing (PyPI), each checked
by the other, for every curve; changed, missing and extra files are refused.
Exit status 77 when the package is missing.

usage: judge_signing.py BISE
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

try:
    from OpenSSL import crypto  # noqa: F401 - only certificates need it
except ImportError:
    stub = types.ModuleType("OpenSSL")
    stub.crypto = types.ModuleType("OpenSSL.crypto")
    stub.SSL = types.ModuleType("OpenSSL.SSL")
    sys.modules.update({"OpenSSL": stub, "OpenSSL.crypto": stub.crypto})
try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    import model_signing
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

BISE = sys.argv[1] if len(sys.argv) > 1 else "build/bise"


def bise(*args, status=0):
    run = subprocess.run([BISE, "-q", "--json", *args], capture_output=True)
    assert run.returncode == status, (args, run.returncode, run.stdout,
                                      run.stderr)
    return json.loads(run.stdout)


def write_keys(folder, name, key):
    """PEM files of a key pair; their paths."""
    private, public = (os.path.join(folder, name + e) for e in (".pem", ".pub"))
    with open(private, "wb") as f:
        f.write(key.private_bytes(serialization.Encoding.PEM,
                                  serialization.PrivateFormat.PKCS8,
                                  serialization.NoEncryption()))
    with open(public, "wb") as f:
        f.write(key.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def make_model(folder):
    model = os.path.join(folder, "model")
    os.makedirs(os.path.join(model, "sub"))
    os.makedirs(os.path.join(model, ".git"))
    files = {"config.txt": b"{}", "sub/x.bin": bytes(range(256)) * 1000,
             "sub.txt": b"sorts around the folder", "empty": b"",
             "\u00e4.txt": b"utf-8", ".git/HEAD": b"not signed"}
    for name, data in files.items():
        with open(os.path.join(model, name), "wb") as f:
            f.write(data)
    return model


def verify_theirs(model, sig, public):
    model_signing.verifying.Config().use_elliptic_key_verifier(
        public_key=pathlib.Path(public)).verify(model, sig)


def problems(model, public):
    """Messages of bise verify --key on a folder that is wrong."""
    out = bise("verify", model, "--key", public, status=1)
    return [p["path"] + ": " + p["message"] for p in out["problems"]]


def check_damage(model, public, other):
    """One change at a time, undone again."""
    path = os.path.join(model, "config.txt")
    with open(path, "wb") as f:
        f.write(b"[]")
    assert "sha256 differs" in problems(model, public)[0]
    with open(path, "wb") as f:
        f.write(b"{}")
    extra = os.path.join(model, "sub", "extra")
    open(extra, "w").close()
    assert problems(model, public) == ["sub/extra: there, but not signed"]
    os.remove(extra)
    os.rename(path, path + "x")
    got = problems(model, public)
    assert len(got) == 2 and "not there" in got[0], got
    os.rename(path + "x", path)
    assert "not of this key" in problems(model, other)[0]
    sig = os.path.join(model, "model.sig")
    with open(sig) as f:
        bundle = json.load(f)
    envelope = bundle["dsseEnvelope"]
    text = envelope["payload"]
    for change in (text[:-8] + "AAAA" + text[-4:], text[1:], "", "%%%%"):
        envelope["payload"] = change
        with open(sig, "w") as f:
            json.dump(bundle, f)
        assert len(problems(model, public)) == 1
    with open(sig, "w") as f:
        f.write("{")
    assert "no readable signature" in problems(model, public)[0]
    os.remove(sig)
    assert "no readable signature" in problems(model, public)[0]


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder)
        sig = os.path.join(model, "model.sig")
        keys = {"p256": ec.generate_private_key(ec.SECP256R1()),
                "p384": ec.generate_private_key(ec.SECP384R1()),
                "p521": ec.generate_private_key(ec.SECP521R1()),
                "ed25519": ed25519.Ed25519PrivateKey.generate()}
        pairs = {n: write_keys(folder, n, k) for n, k in keys.items()}
        for name, (private, public) in pairs.items():
            assert bise("sign", model, "--key", private)["files"] == 5
            bise("verify", model, "--key", public)
            if name != "ed25519":               # theirs knows EC keys only
                verify_theirs(model, sig, public)
                os.remove(sig)
                model_signing.signing.Config().use_elliptic_key_signer(
                    private_key=pathlib.Path(private)).sign(model, sig)
                bise("verify", model, "--key", public)
            print("ok", name)
        private, public = pairs["p256"]
        bise("sign", model, "--key", private)
        check_damage(model, public, pairs["p384"][1])
        bise("sign", model, "--key", public, status=1)
        bise("verify", model, "--key", private, status=1)
        with open(os.path.join(folder, "no.pem"), "w") as f:
            f.write("not a key")
        bise("sign", model, "--key", f.name, status=1)
        bise("sign", model, "--key", os.path.join(folder, "none"), status=1)
        assert not os.path.exists(sig)
        print("ok damage")
    return 0


if __name__ == "__main__":
    sys.exit(main())

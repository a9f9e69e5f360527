#!/usr/bin/env python3
"""Every ratio that quantize and convert promise, in one table.

usage: quantize_ratios.py MODEL_DIR [--rounds N] [--sparse DIR] [--no-encoders]

MODEL_DIR holds one model.safetensors (../shared/tools/make_checkpoint.py
mistral3-1b). In each round the file is copied by cp, then converted and
quantized with two threads; the least wall time of each counts, beside the
peak resident memory (file pages included) and the ratio to cp. cp leaves its
pages to be written later; bise syncs before it renames, so "cp + sync" stands
beside. --sparse: a checkpoint of holes, timed per weight, for --seconds at
most. Then codecs_vs_ggml.py without and with importance, on one core.
Environment: BISE (build/bise). Run it on a quiet machine.
"""
import os
import resource
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BISE = os.environ.get("BISE", "build/bise")
JOBS = (("convert bf16", 1.1, ["convert", "--dtype", "bf16"]),
        ("quantize Q4_K_M", 1.6, ["quantize", "--type", "Q4_K_M"]),
        ("quantize IQ4_XS", 2.0, ["quantize", "--type", "IQ4_XS"]))


def timed(command, out):
    """Wall seconds, CPU seconds and peak KiB of a command that writes out."""
    if os.path.exists(out):
        os.remove(out)
    os.sync()
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    if status:
        sys.exit("%s: status %d" % (" ".join(command), status))
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss


def best(runs):
    """The fastest run, with the largest memory of all."""
    return min(runs)[:2] + (max(r[2] for r in runs),)


def walls(model, rounds):
    """Copy, convert and quantize in turn."""
    source = os.path.join(model, "model.safetensors")
    with open(source, "rb") as f:           # into the page cache
        while f.read(1 << 24):
            pass
    runs = {}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        out = folder + "/out.gguf"
        for _ in range(rounds):
            runs.setdefault("cp", []).append(timed(["cp", source, out], out))
            runs.setdefault("cp + sync", []).append(timed(
                ["sh", "-c", 'cp "$0" "$1" && sync "$1"', source, out], out))
            for name, _, args in JOBS:
                command = [BISE, args[0], model, "-o", out, *args[1:],
                           "--threads", "2", "--quiet"]
                runs.setdefault(name, []).append(timed(command, out))
    copy, synced = best(runs["cp"])[0], best(runs["cp + sync"])[0]
    print("job,wall_s,cpu_s,peak_MiB,of_cp,of_cp_and_sync,limit_of_cp")
    limits = {name: limit for name, limit, _ in JOBS}
    for name, all_runs in runs.items():
        wall, cpu, peak = best(all_runs)
        print("%s,%.2f,%.2f,%.0f,%.2f,%.2f,%s" % (
            name, wall, cpu, peak / 1024, wall / copy, wall / synced,
            limits.get(name, "")))


def sparse(model, seconds):
    """Q4_K_M of a model larger than memory: memory, and weights a second."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        out = folder + "/out.gguf"
        start = time.monotonic()
        child = subprocess.Popen([BISE, "quantize", model, "-o", out, "--type",
                                  "Q4_K_M", "--threads", "2", "--quiet"])
        while child.poll() is None and time.monotonic() - start < seconds:
            time.sleep(0.2)
        done = child.poll() is not None
        child.kill()
        _, _, used = os.wait4(child.pid, 0) if not done else (0, 0, None)
    peak = used.ru_maxrss if used else \
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print("sparse Q4_K_M,%s after %.0f s,peak %.0f MiB" % (
        "done" if done else "stopped", time.monotonic() - start, peak / 1024))


def main(args):
    """Print the tables asked for."""
    def value(name, default):
        return args.pop(args.index(name) + 1) if name in args else default
    rounds, holes = int(value("--rounds", 5)), value("--sparse", None)
    seconds = float(value("--seconds", 60))
    models = [a for a in args if not a.startswith("--")]
    if len(models) != 1:
        sys.exit(__doc__)
    walls(models[0], rounds)
    if holes:
        sparse(holes, seconds)
    if "--no-encoders" not in args:
        for more in [], ["--weighted"]:
            sys.stdout.flush()
            subprocess.call([sys.executable, HERE + "/codecs_vs_ggml.py",
                             "--rounds", "3", *more])


if __name__ == "__main__":
    main(sys.argv[1:])

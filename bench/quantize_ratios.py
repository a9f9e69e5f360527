#!/usr/bin/env python3
"""Every ratio that quantize and convert promise, in one table.

usage: quantize_ratios.py MODEL_DIR [--rounds N] [--sparse DIR] [--no-encoders]

MODEL_DIR holds one model.safetensors (../shared/tools/make_checkpoint.py
mistral3-1b). In each round the file is copied by cp, by cp and fsync, then
converted and quantized with two threads, all with the file in memory (warm),
then all without (cold); the least wall time of each counts. cp ends with its
pages still to be written, bise syncs before it renames: so two ratios. Printed
as the table of README.md; CPU seconds and peak resident memory, file pages
included, follow. --sparse: a checkpoint of holes, timed per weight, for
--seconds at most. Then codecs_vs_ggml.py without and with importance, on one
core.
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
JOBS = (("Q4_K_M", 1.6, ["quantize", "--type", "Q4_K_M"]),
        ("IQ4_XS", 2.0, ["quantize", "--type", "IQ4_XS"]),
        ("convert to bf16", 1.1, ["convert", "--dtype", "bf16"]))
COPIES = (("cp", None, 'cp "$0" "$1"'),
          ("cp + fsync", None, 'cp "$0" "$1" && sync "$1"'))
STATES = ("warm", "cold")


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


def prepare(source, state):
    """Bring the file into the page cache, or out of it."""
    with open(source, "rb") as f:
        if state == "cold":
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while state == "warm" and f.read(1 << 24):
            pass


def commands(model, source, out):
    """Name and command of every row of the table."""
    for name, _, script in COPIES:
        yield name, ["sh", "-c", script, source, out]
    for name, _, args in JOBS:
        yield name, [BISE, args[0], model, "-o", out, *args[1:],
                     "--threads", "2", "--quiet"]


def best(runs):
    """Least wall and CPU seconds, and the largest memory."""
    return min(r[0] for r in runs), min(r[1] for r in runs), \
        max(r[2] for r in runs)


def measure(model, rounds):
    """Runs of every row and state, in turn."""
    source = os.path.join(model, "model.safetensors")
    runs = {}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        out = folder + "/out.gguf"
        for _ in range(rounds):
            for state in STATES:
                for name, command in commands(model, source, out):
                    prepare(source, state)
                    runs.setdefault((name, state), []).append(
                        timed(command, out))
    return {key: best(all_runs) for key, all_runs in runs.items()}


def walls(model, rounds):
    """The table of README.md, then CPU time and memory."""
    took = measure(model, rounds)
    print("| job | warm | / cp | / cp + fsync | cold | / cp | / cp + fsync "
          "| floor |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, limit, _ in COPIES + JOBS:
        line = "| %s |" % name
        for state in STATES:
            wall = took[name, state][0]
            line += " %.2f s |" % wall
            for copy in ("cp", "cp + fsync"):
                line += " %.2f |" % (wall / took[copy, state][0]) \
                    if limit else " |"
        print("%s %s |" % (line, limit or ""))
    print("job,state,cpu_s,peak_MiB")
    for (name, state), (_, cpu, peak) in took.items():
        print("%s,%s,%.2f,%.0f" % (name, state, cpu, peak / 1024))


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

#!/usr/bin/env python3
"""anon_peak.py LIMIT_MB COMMAND...: run a command and sample the memory it has beyond file-backed pages (RssAnon +
RssShmem of /proc). Prints the peak in MB; exit 1 when it was above the limit or the command failed.
SPDX-License-Identifier: Apache-2.0
"""
import subprocess
import sys
import time

limit = float(sys.argv[1])
start = time.time()
run = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
peak = samples = 0
while run.poll() is None:
    try:
        with open("/proc/%d/status" % run.pid, encoding="ascii") as f:
            kb = sum(int(l.split()[1]) for l in f if l.startswith(("RssAnon", "RssShmem")))
        peak, samples = max(peak, kb / 1024), samples + 1
    except (FileNotFoundError, ProcessLookupError):
        pass
    time.sleep(0.005)
print("%-9s exit %d, %5.1f MB beyond file-backed pages (%d samples), %.1f s" % (
    next((a for a in sys.argv[3:] if not a.startswith("-")), ""), run.returncode, peak, samples, time.time() - start))
sys.exit(run.returncode != 0 or peak > limit)

#!/bin/sh
# nf4_oracle.sh - NF4 against bitsandbytes, byte for byte, for the CPU levels of
# this machine; needs BISE_JUDGES, a python with torch and bitsandbytes.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
"$python" -c 'import torch, bitsandbytes' 2>/dev/null ||
    { echo "skipped: $python lacks torch or bitsandbytes"; exit 77; }
exec "$python" "$top_srcdir/tests/oracle_nf4.py" \
    "${top_builddir:-.}/tests/nf4_tool"

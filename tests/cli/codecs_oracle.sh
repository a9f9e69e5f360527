#!/bin/sh
# codecs_oracle.sh - every encoder against ggml's, byte for byte, for the CPU
# levels of this machine; needs BISE_JUDGES (a python with xllamacpp and numpy)
# and ../shared/tools. The long version: tests/oracle_codecs.py --full.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/oracle_codecs.py"

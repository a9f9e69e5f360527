#!/bin/sh
# quant_by_formula.sh - the simple encoders against their formulas in numpy.
# Needs BISE_JUDGES or a python3 with numpy.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/quant_by_formula.py"

#!/bin/sh
# finetune_peft.sh - PEFT loads an adapter that bise trained and computes the
# loss that bise logged, within 1e-3. Needs BISE_JUDGES, a python with torch,
# transformers, peft. The whole comparison: tests/peft_compare.py.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-}
[ -n "$python" ] || { echo "skipped: BISE_JUDGES is not set"; exit 77; }
"$python" -c 'import torch, transformers, peft' 2>/dev/null ||
    { echo "skipped: $python lacks torch, transformers or peft"; exit 77; }
"$python" "$top_srcdir/tests/peft_compare.py" --load-only --steps 4 \
    --valid 8 --bise "${top_builddir:-.}/bise" || exit 1
# QLoRA: the same on a base that bitsandbytes quantized.
"$python" -c 'import bitsandbytes' 2>/dev/null || exit 0
exec "$python" "$top_srcdir/tests/qlora_compare.py" \
    --bise "${top_builddir:-.}/bise"

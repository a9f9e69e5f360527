#!/bin/sh
# template_judges.sh - `bise inspect` tells the templates of all versions apart
# as mistral-common makes them; needs BISE_JUDGES and ../shared.
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/judge_templates.py" \
    "${top_builddir:-.}/bise" "$top_srcdir/examples/tiny-mistral3"

#!/bin/sh
# tokenize_oracle.sh - ids against mistral-common, tokenizers, sentencepiece on
# generated texts and conversations; needs BISE_JUDGES (a python with them) and
# ../shared. BISE_ORACLE_TEXTS and _CHATS set how many (the whole: 1000
# each), BISE_ORACLE_RUNS how many long runs (24).
# SPDX-License-Identifier: Apache-2.0
top_srcdir=${top_srcdir:-.}
python=${BISE_JUDGES:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
exec "$python" "$top_srcdir/tests/oracle_tokenizers.py" \
    "${top_builddir:-.}/tests/tokenize_tool" \
    --texts "${BISE_ORACLE_TEXTS:-100}" --chats "${BISE_ORACLE_CHATS:-90}" \
    --runs "${BISE_ORACLE_RUNS:-4}"

#!/usr/bin/env python3
"""Make examples/sql/{train,valid}.jsonl from mlx-lm's WikiSQL sample.

  make_sql.py SOURCE_DIR [OUT_DIR]

SOURCE_DIR holds wikisql-train.jsonl and wikisql-valid.jsonl: 1,000 and 100
rows {"text": "table: ...\\ncolumns: ...\\nQ: ...\\nA: SELECT ..."}. The rows
are kept as they are, in their order, so that figures of other trainers on the
same data compare (tiny-mistral3/expected.json, "sql_lora"); the script checks
that every row is a question with an SQL answer and that no training question
is a validation question.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib
import sys


def read(path):
    """Rows of a JSONL file, each checked for the four lines it must have."""
    rows = []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        text = json.loads(line)["text"]
        starts = [part.split(":")[0] for part in text.split("\n")]
        if starts[:2] != ["table", "columns"] or "\nA: SELECT" not in text:
            sys.exit(f"{path}:{number}: not a question with an SQL answer")
        rows.append(line.rstrip("\n"))
    return rows


def main():
    source = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2
                       else pathlib.Path(__file__).parent)
    train = read(source / "wikisql-train.jsonl")
    valid = read(source / "wikisql-valid.jsonl")
    shared = set(train) & set(valid)
    if shared:
        sys.exit(f"{len(shared)} validation rows are training rows")
    for name, rows in (("train", train), ("valid", valid)):
        with open(out / f"{name}.jsonl", "w", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in rows)
        print(f"{name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    main()

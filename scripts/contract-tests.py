#!/usr/bin/env python3
"""Lists which tests prove which statement of docs/contract.md; fails if one has none."""

import collections
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
contract = (root / "docs/contract.md").read_text()
kept, _, later = contract.partition("## Not kept yet")
ids = re.findall(r"^- ([A-Z]\d+) ", kept, re.M)
not_yet = set(re.findall(r"\b([A-Z]\d+)\b", later))

tests = collections.defaultdict(list)
sources = subprocess.run(["git", "ls-files", "*.rs"], cwd=root, capture_output=True, text=True, check=True)
for path in sources.stdout.split():
    text = (root / path).read_text()
    attribute = r"#\[(?:tokio::)?test(?:\([^]]*\))?\]\s*(?:#\[[^]]*\]\s*)*(?:async )?fn (\w+)"
    # tests written inside proptest! have the attribute too; those of a harness of their own are named so
    for name in re.findall(attribute, text) + re.findall(r"^\s*// contract test: (\w+)", text, re.M):
        for part in re.match(r"((?:[a-z]\d+_)*)", name).group(1).strip("_").split("_"):
            if part:
                tests[part.upper()].append(f"{path}::{name}")

missing = []
for statement in ids:
    found = tests.get(statement, [])
    note = "  (not kept yet)" if statement in not_yet else ""
    print(f"{statement}{note}")
    for test in found:
        print(f"    {test}")
    if not found and statement not in not_yet:
        missing.append(statement)
if missing:
    sys.exit(f"no test bears the id of: {', '.join(missing)}")

#!/usr/bin/env python3
"""Renders docs/corpus.md: what of real SQL Hedgerow accepts, by class and by source.

  scripts/corpus.py CORPUS.jsonl.gz [--binary target/debug/hedgerow] > docs/corpus.md

CORPUS holds one JSON object a line, with `sql`, `kind` (the node of PostgreSQL's parser) and `source`. Each
statement is decided by `hedgerow explain --file`, offline, with a policy that makes every table a tenant's.
"""

import argparse
import collections
import gzip
import json
import pathlib
import subprocess
import tempfile

CONFIGURATION = """
identity:
  tenant_claim: tenant_id
  issuers:
    - {issuer: https://auth.example.com/, audiences: [orders], algorithms: [RS256], jwks_url: https://auth.example.com/k}
postgres:
  listen: 127.0.0.1:6432
  upstream: {host: 127.0.0.1, database: orders, user: app, password_file: password}
policies: policies/
audit: {directory: audit/}
"""
POLICY = 'tenant: {column: tenant_id, type: uuid}\ntables: {"*.*": {tenant: tenant_id}}\n'
TENANT = "7d9f5a1e-1c52-4c55-9a0b-3f1f7a3c2b10"
QUERIES = ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt")
# Not read, not of a kind that may run, or read differently by two parsers.
NOT_TAKEN = ("HR1001", "HR1002", "HR1008")


def decide(binary, statements):
    with tempfile.TemporaryDirectory() as name:
        home = pathlib.Path(name)
        (home / "policies").mkdir()
        (home / "hedgerow.yaml").write_text(CONFIGURATION)
        (home / "policies" / "corpus.yaml").write_text(POLICY)
        (home / "password").write_text("none")
        lines = "".join(json.dumps({"sql": one["sql"]}) + "\n" for one in statements)
        command = [binary, "explain", "--config", "hedgerow.yaml", "--engine", "postgres"]
        command += ["--tenant", TENANT, "--file", "-"]
        run = subprocess.run(command, input=lines, cwd=home, capture_output=True, text=True)
        answers = [json.loads(line) for line in run.stdout.splitlines()]
        assert len(answers) == len(statements), run.stderr
        return answers


def table(title, cells, codes):
    print(f"\n| {title} | statements | accepted | " + " | ".join(codes) + " |")
    print("|---|---:|---:|" + "---:|" * len(codes))
    for name, counts in sorted(cells.items()):
        every = sum(counts.values())
        cell = [str(counts[code]) if counts[code] else "" for code in codes]
        print(f"| {name} | {every} | {100 * counts[None] / every:.1f} % | " + " | ".join(cell) + " |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("corpus")
    arguments.add_argument("--binary", default="target/debug/hedgerow")
    arguments = arguments.parse_args()
    with gzip.open(arguments.corpus, "rt") as lines:
        statements = [json.loads(line) for line in lines]
    answers = decide(str(pathlib.Path(arguments.binary).resolve()), statements)
    by_kind = collections.defaultdict(collections.Counter)
    by_source = collections.defaultdict(collections.Counter)
    taken = collections.Counter()
    for statement, answer in zip(statements, answers):
        by_kind[statement.get("kind") or "(none)"][answer["code"]] += 1
        by_source[statement["source"]][answer["code"]] += 1
        if statement.get("kind") in QUERIES:
            taken[answer["code"] in NOT_TAKEN] += 1
    codes = sorted({answer["code"] for answer in answers if answer["code"]})
    queries = sum(taken.values())
    print("# Real SQL: what is accepted\n")
    print("<!-- Rendered by scripts/corpus.py; do not edit. -->\n")
    print(
        f"{len(statements)} statements that ORMs, query builders, drivers and benchmarks send, decided offline (no\n"
        "catalog: names resolve by the policy) with a policy that makes every table a tenant's. Of the\n"
        f"{queries} SELECT, INSERT, UPDATE and DELETE, {100 * taken[False] / queries:.2f} % are taken for what they are: not denied as\n"
        "unreadable (HR1001), of an unknown kind (HR1002) or read differently by two parsers (HR1008). The other\n"
        "codes judge what a statement does ([all codes](denial-codes.md)); many of these would be allowed with a\n"
        "real catalog or a policy for the schema at hand."
    )
    table("kind of statement", by_kind, codes)
    table("source", by_source, codes)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs test suites of others, unchanged, against PostgreSQL and through Hedgerow, and compares.

    run.py --binary target/release/hedgerow [--suite django] [--pool-mode transaction] [--write] [LABEL…]

`--write` puts the table into docs/drivers.md. Exit 1 when a test fails through Hedgerow alone for a reason that
`reasons.py` does not know. `scripts/suites-env.sh` fetches the suites.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import report
from world import World

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / ".venv-suites/sources"

# Django's tests of its backend for PostgreSQL; others by name.
DJANGO = ["backends", "postgres_tests", "introspection", "schema"]


def django(database, labels, results):
    tests = next(SOURCES.glob("[Dd]jango-*")) / "tests"
    command = ["runtests.py", "--settings=django_suite", "--keepdb", "--noinput", "--parallel=1", *(labels or DJANGO)]
    return run([sys.executable, *command], tests, database, results)


def sqlalchemy(driver):
    def suite(database, labels, results):
        source = next(SOURCES.glob("[Ss][Qq][Ll][Aa]lchemy-*"))
        uri = f"postgresql+{driver}://suite:{database['SUITE_PASSWORD']}@127.0.0.1:{database['SUITE_PORT']}/suite"
        labels = labels or ["test/dialect/test_suite.py"]
        command = ["-m", "pytest", "-q", "-p", "pytest_suite", "-p", "no:cacheprovider", "--maxfail=100000",
                   "--dburi", uri, *labels]
        return run([sys.executable, *command], source, database, results)
    return suite


SUITES = {"django": django, "sqlalchemy-psycopg": sqlalchemy("psycopg"), "sqlalchemy-asyncpg": sqlalchemy("asyncpg")}
DATABASES = {"django": ("suite", "other")}
USUAL = ("django", "sqlalchemy-psycopg")


def run(command, directory, database, results):
    environment = {**os.environ, **database, "SUITE_RESULTS": str(results), "PYTHONPATH": str(HERE),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    log = results.with_suffix(".log")
    with log.open("w") as file:
        subprocess.run(command, cwd=directory, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if not results.is_file():
        raise SystemExit(f"nothing ran:\n{log.read_text()[-4000:]}")


def main():
    # The servers are taken down on SIGTERM too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--suite", choices=SUITES, help="one of them alone")
    parser.add_argument("--pool-mode", choices=["session", "transaction"], default="transaction")
    parser.add_argument("--results", type=Path, default=ROOT / ".venv-suites/results")
    parser.add_argument("--only", choices=["direct", "hedgerow"], help="run one way, take the other from --results")
    parser.add_argument("--write", action="store_true", help="write the table into docs/drivers.md")
    parser.add_argument("labels", nargs="*")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    chosen = [options.suite] if options.suite else USUAL
    with World(options.binary.resolve(), options.pool_mode) as world:
        for name in chosen:
            for way in ("direct", "hedgerow"):
                results = options.results / f"{name}-{way}.jsonl"
                if options.only not in (None, way):
                    continue
                results.unlink(missing_ok=True)
                world.fresh(*DATABASES.get(name, ("suite",)))
                print(f"{name}, {way} …", flush=True)
                if way == "direct":
                    database = {"SUITE_PORT": str(world.port), "SUITE_PASSWORD": "suite"}
                else:
                    database = {"SUITE_PASSWORD": world.start_hedgerow(), "SUITE_PORT": str(world.listen)}
                SUITES[name](database, options.labels, results)
                world.stop_hedgerow()
    compared = [report.compare(name, options.results) for name in chosen]
    for each in compared:
        print(each.summary())
    if options.write:
        report.write(ROOT / "docs/drivers.md", compared)
    return int(any(each.unexplained for each in compared))


if __name__ == "__main__":
    sys.exit(main())

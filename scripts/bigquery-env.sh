#!/usr/bin/env bash
# Installs what the BigQuery tests drive: a stand-in for the service and the official Python clients into
# .venv-bigquery, the service's own SQL parser into tests/bigquery/zetasql/node_modules. About a minute,
# once. What cannot be had is named, and its tests say that they skip it.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/clients/requirements-bigquery.txt
stamp=.venv-bigquery/.requirements
if ! cmp --silent "$requirements" "$stamp"; then
  echo "bigquery: installing the stand-in and its clients into .venv-bigquery" >&2
  if python3 -m venv --clear .venv-bigquery &&
    .venv-bigquery/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements" &&
    # The stand-in finds the extension where DuckDB itself would put it.
    .venv-bigquery/bin/python -c "from duckdb_extensions import import_extension; import_extension('spatial')"; then
    cp "$requirements" "$stamp"
  else
    rm -rf .venv-bigquery
    echo "bigquery: NOT INSTALLED: the clients' tests and the oracle for BigQuery will be skipped" >&2
  fi
fi

if ! command -v npm >/dev/null; then
  echo "bigquery: no Node.js, so no ZetaSQL parser: its test will be skipped" >&2
  exit 0
fi
cd tests/bigquery/zetasql
if ! cmp --silent package-lock.json node_modules/.lock; then
  echo "bigquery: installing the ZetaSQL parser" >&2
  if npm ci --no-audit --no-fund --ignore-scripts --silent; then
    cp package-lock.json node_modules/.lock
  else
    echo "bigquery: NO ZetaSQL PARSER: its test will be skipped" >&2
  fi
fi

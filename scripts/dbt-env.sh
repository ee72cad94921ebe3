#!/usr/bin/env bash
# Makes .venv-dbt with dbt, which one of BigQuery's tests drives; about a minute, once. Without a network it
# does nothing: that test then says that it is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/clients/dbt/requirements.txt
stamp=.venv-dbt/.requirements
if cmp --silent "$requirements" "$stamp"; then
  exit 0
fi
echo "dbt: installing dbt into .venv-dbt" >&2
python3 -m venv --clear .venv-dbt
if .venv-dbt/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"; then
  cp "$requirements" "$stamp"
else
  rm -rf .venv-dbt
  echo "dbt: not installed, its test will be skipped" >&2
fi

#!/usr/bin/env bash
# Makes .venv with the Python clients that the tests drive, at the versions that
# tests/clients/requirements.txt pins. Quiet when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/clients/requirements.txt
stamp=.venv/.requirements
if cmp --silent "$requirements" "$stamp"; then
  exit 0
fi
echo "python: installing $(grep -vc '^ *\(#\|$\)' "$requirements") packages into .venv" >&2
python3 -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$stamp"

#!/usr/bin/env bash
# Fetches what `make suites` runs: the source distributions of Django and SQLAlchemy, which hold their
# tests, unpacked below .venv-suites/sources, and a virtual environment that can run them. Nothing of
# it is part of this repository.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/suites/requirements.txt
stamp=.venv-suites/.requirements
if cmp --silent "$requirements" "$stamp"; then
  exit 0
fi
echo "suites: fetching Django's and SQLAlchemy's tests into .venv-suites" >&2
python3 -m venv --clear .venv-suites
pip=(.venv-suites/bin/python -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install -r "$requirements"
sources=.venv-suites/sources
mkdir -p "$sources"
grep -E '^(Django|SQLAlchemy)==' "$requirements" >"$sources/pinned"
"${pip[@]}" download --no-deps --no-binary :all: --dest "$sources" -r "$sources/pinned"
for archive in "$sources"/*.tar.gz; do
  tar -xzf "$archive" -C "$sources"
  rm "$archive"
done
cp "$requirements" "$stamp"

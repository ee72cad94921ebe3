#!/usr/bin/env bash
# Makes .venv-moto with moto, the S3 server that the object store's tests talk to. Without a network
# it does nothing: those tests then say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/audit/requirements.txt
stamp=.venv-moto/.requirements
if cmp --silent "$requirements" "$stamp"; then
  exit 0
fi
echo "moto: installing an S3 server into .venv-moto" >&2
python3 -m venv --clear .venv-moto
if .venv-moto/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"; then
  cp "$requirements" "$stamp"
else
  echo "moto: not installed, object storage is not tested" >&2
fi

#!/usr/bin/env bash
# Installs the Node.js clients that the tests drive into tests/clients/node_modules, at the versions
# that package-lock.json pins. Does nothing without Node.js: the tests then say that they skip them.
set -euo pipefail
cd "$(dirname "$0")/../tests/clients"

if ! command -v npm >/dev/null; then
  echo "node: not installed, its clients are not tested" >&2
  exit 0
fi
stamp=node_modules/.lock
if cmp --silent package-lock.json "$stamp"; then
  exit 0
fi
echo "node: installing the clients of tests/clients/package.json" >&2
npm ci --no-audit --no-fund --ignore-scripts --silent
cp package-lock.json "$stamp"

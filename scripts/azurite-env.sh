#!/usr/bin/env bash
# Installs Azurite, Microsoft's stand-in for Azure's blobs, into tests/audit/azurite/node_modules at the
# versions that package-lock.json pins. Does nothing without Node.js or a network: the tests that need
# it then say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/../tests/audit/azurite"

if ! command -v npm >/dev/null; then
  echo "azurite: there is no Node.js, Azure's blobs are not tested" >&2
  exit 0
fi
stamp=node_modules/.lock
if cmp --silent package-lock.json "$stamp"; then
  exit 0
fi
echo "azurite: installing a stand-in for Azure's blobs" >&2
if npm ci --no-audit --no-fund --ignore-scripts --silent; then
  # What only compilers and browsers read is two thirds of it.
  find node_modules \( -name '*.map' -o -name '*.d.ts' \) -type f -delete
  find node_modules -path '*/build/esm' -prune -exec rm -rf {} + \
    -o -path '*/build/esnext' -prune -exec rm -rf {} +
  cp package-lock.json "$stamp"
else
  echo "azurite: not installed, Azure's blobs are not tested" >&2
fi

#!/usr/bin/env bash
# Everything that a change must pass, cheapest first; ends with the test runner's summary.
# Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "formatting"
cargo fmt --all --check

step "clippy, warnings denied"
cargo clippy --locked --all-targets --quiet -- -D warnings

if cargo deny --version >/dev/null 2>&1 && [[ -e deny.toml ]]; then
  step "cargo deny"
  cargo deny --locked check --hide-inclusion-graph
else
  step "cargo deny: skipped, cargo-deny is not installed (tests/dependencies.rs holds licences and bans)"
fi

# `cargo test` and not nextest: the integration tests share one PostgreSQL a binary, and nextest
# would start one for each test.
step "unit and integration tests"
export HEDGEROW_ORACLE_SECONDS="${HEDGEROW_ORACLE_SECONDS:-60}"
cargo test --locked --no-fail-fast "$@"

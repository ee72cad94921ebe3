#!/usr/bin/env bash
# Everything that a change must pass, cheapest first; ends with the test runner's summary.
# Arguments go to `cargo test`. Nothing here needs the network once the crates and the Python clients
# are there.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "formatting"
cargo fmt --all --check

step "clippy, warnings denied"
cargo clippy --locked --all-targets --features mutants --quiet -- -D warnings

if cargo deny --version >/dev/null 2>&1; then
  step "cargo deny: bans, licences, sources"
  cargo deny --locked --log-level error check --hide-inclusion-graph bans licenses sources

  # The advisories lie in a repository of others: out of reach is no fault of the change.
  advisories=https://github.com/RustSec/advisory-db
  if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet --heads "$advisories" >/dev/null 2>&1; then
    step "cargo deny: advisories"
    cargo deny --locked --log-level error check --hide-inclusion-graph advisories
  else
    step "cargo deny: advisories skipped, their database cannot be reached"
  fi
else
  step "cargo deny: skipped, not installed (tests/dependencies.rs holds bans, licences and sources)"
fi

if [[ -x .venv-helm/bin/python ]]; then
  step "charts: rendered by Helm's engine, held to Kubernetes' schemas and to their golden files"
  cargo build --locked --quiet --bin hedgerow
  PATH="$PWD/.venv-helm/bin:$PATH" .venv-helm/bin/python tests/helm/check.py \
    --binary "${CARGO_TARGET_DIR:-target}/debug/hedgerow"
else
  step "charts: skipped, Helm's engine needs Python 3.12"
fi

step "Rust clients: sqlx, Diesel"
cargo build --locked --quiet --manifest-path tests/clients/rust/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/clients"

# `cargo test` and not nextest: the integration tests share one PostgreSQL a binary, and nextest
# would start one for each test.
step "unit and integration tests"
export HEDGEROW_ORACLE_SECONDS="${HEDGEROW_ORACLE_SECONDS:-60}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
if ((status)); then
  step "what failed, once more"
  # What a failed test printed stands between its own line and the list of names behind it.
  awk '/^---- .* stdout ----$/ { shown = 1 } /^failures:$/ { shown = 0 } shown' "$log"
  grep -E '^test .* FAILED$' "$log" || true
fi
exit "$status"

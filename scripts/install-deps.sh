#!/usr/bin/env bash
# Installs what building and testing need on Debian and Ubuntu. Idempotent; says nothing when all
# is there. Needs root or sudo only when something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'deps: %s\n' "$*" >&2; }

packages=()
need() { # need PACKAGE… -- the test before it failed
  packages+=("$@")
}

server_programs() { compgen -G '/usr/lib/postgresql/*/bin/initdb' || command -v initdb; } >/dev/null
lib_clang() {
  compgen -G '/usr/lib/llvm-*/lib/libclang.so*' || compgen -G '/usr/lib/*/libclang[.-][0-9s]*' ||
    [[ -n ${LIBCLANG_PATH:-} ]]
} >/dev/null

server_programs || need postgresql
command -v psql >/dev/null || need postgresql-client
command -v pgbouncer >/dev/null || [[ -x /usr/sbin/pgbouncer ]] || need pgbouncer
command -v cc >/dev/null || need gcc libc6-dev
command -v c++ >/dev/null || need g++
command -v cmake >/dev/null || need cmake
command -v make >/dev/null || need make
lib_clang || need libclang-dev
command -v openssl >/dev/null || need openssl
# Diesel's client links libpq.
compgen -G '/usr/include/postgresql/libpq-fe.h' >/dev/null || command -v pg_config >/dev/null || need libpq-dev
python3 -c 'import ensurepip, venv' 2>/dev/null || need python3 python3-venv
# A generator of statements for `make oracle`, which does without where it cannot be had.
command -v sqlsmith >/dev/null || ! apt-cache show sqlsmith >/dev/null 2>&1 || need sqlsmith
# A browser for the tests of the console, which do without where it cannot be had.
command -v chromium >/dev/null || ! apt-cache show chromium >/dev/null 2>&1 || need chromium
# Shared quotas and revocations are tested against a real one; the tests say loudly when there is none.
command -v redis-server >/dev/null || ! apt-cache show redis-server >/dev/null 2>&1 || need redis-server
command -v setpriv >/dev/null || need util-linux
command -v kill >/dev/null || need procps

# rust-toolchain.toml names the compiler; rustup fetches it. A cargo without rustup must be new
# enough by itself.
wanted=$(sed -n 's/^channel *= *"\(.*\)"$/\1/p' rust-toolchain.toml)
export PATH="$HOME/.cargo/bin:$PATH"
rust_missing=
if ! command -v rustup >/dev/null; then
  have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
  if [[ -z $have || $(printf '%s\n' "$wanted" "$have" | sort -V | head -n1) != "$wanted" ]]; then
    rust_missing=yes
    command -v curl >/dev/null || need curl ca-certificates
  fi
fi

if ((${#packages[@]})); then
  if ! command -v apt-get >/dev/null; then
    say "missing, and this is not Debian or Ubuntu: ${packages[*]} (or their likes); install them and try again"
    exit 1
  fi
  as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { say "missing: ${packages[*]}; install them as root"; exit 1; }
    as_root=(sudo)
  fi
  say "installing ${packages[*]}"
  # Debian would make and start a cluster of its own, and services: neither is wanted.
  if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' |
      "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  no_services=
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    no_services=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
    "${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
  fi
  restore_services() {
    if [[ -n $no_services ]]; then "${as_root[@]}" rm -f /usr/sbin/policy-rc.d; fi
  }
  trap restore_services EXIT
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
      --no-install-recommends -o Dpkg::Options::=--force-confold "${packages[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    say "apt-get failed (its words are above)"
    exit 1
  fi
  rm -f "$log"
fi

if [[ -n $rust_missing ]]; then
  say "installing rustup and Rust $wanted into $HOME/.cargo"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
    sh -s -- -y --quiet --profile minimal --default-toolchain none --no-modify-path
fi
if command -v rustup >/dev/null && ! rustup toolchain list | grep -q "^$wanted"; then
  say "fetching Rust $wanted"
  rustup toolchain install "$wanted" --profile minimal --component rustfmt --component clippy >/dev/null 2>&1 ||
    rustup toolchain install "$wanted" --profile minimal --component rustfmt --component clippy
fi

#!/usr/bin/env bash
# BigQuery through Hedgerow on loopback: what a request whose text is known costs, how many a core
# serves, and the memory that a result of 1 GB takes.
#
# The service is a stand-in of this directory that answers at once, so that what is measured is Hedgerow:
# the whole process, with tokens verified, policy, rewriting, audit. Latency is asked for by one client,
# straight and through Hedgerow in turn; requests a second by many clients, while Hedgerow is held on one
# core (taskset). Prints a Markdown table. About 1 minute with the settings below.
#
# Usage: bench/bigquery.sh [--seconds 5] [--rounds 3] [--clients 32] [--pages 100]
#        [--binary target/release/hedgerow]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=5 rounds=3 clients=32 pages=100
binary="${CARGO_TARGET_DIR:-target}/release/hedgerow"
while (($#)); do
  case "$1" in
    --seconds) seconds=$2 ;; --rounds) rounds=$2 ;; --clients) clients=$2 ;;
    --pages) pages=$2 ;; --binary) binary=$2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'; exit 0 ;;
    *) echo "unknown option $1 (--help says which there are)" >&2; exit 2 ;;
  esac
  shift 2
done
[[ -x $binary ]] || { echo "$binary is not there: cargo build --locked --release" >&2; exit 2; }
binary=$(realpath "$binary")

dir=$(mktemp -d "${TMPDIR:-/tmp}/hedgerow-bench.XXXXXX")
pids=()
cleanup() {
  ((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$dir"
}
trap 'cleanup || true' EXIT
trap 'exit 130' INT TERM

taken=" "
free_port() { # sets $port
  while :; do
    port=$((20000 + RANDOM % 20000))
    if [[ $taken != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      taken+="$port "
      return
    fi
  done
}
listens() { # listens PORT NAME
  for _ in $(seq 200); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  echo "$2 does not listen" >&2
  tail -n 20 "$dir"/*.log >&2
  exit 1
}

rustc --edition 2024 -O -o "$dir/ends" bench/bigquery.rs
free_port; service=$port
free_port; front=$port
free_port; admin=$port
"$dir/ends" serve "127.0.0.1:$service" >"$dir/service.log" 2>&1 &
pids+=($!)
mkdir "$dir/policies"
head -c 48 /dev/urandom | base64 -w 0 >"$dir/secret"
chmod 600 "$dir/secret"
cat >"$dir/hedgerow.yaml" <<YAML
identity:
  tenant_claim: tenant_id
  issuers:
    - {issuer: https://bench.example/, audiences: [bench], algorithms: [HS256], hmac_secret_file: secret}
bigquery:
  listen: 127.0.0.1:$front
  upstream: http://127.0.0.1:$service
  credentials: {none: true}
  default_project: acme-prod
policies: policies/
audit: {directory: audit}
admin: {listen: 127.0.0.1:$admin}
log: {format: text, level: warn}
YAML
cat >"$dir/policies/bench.yaml" <<'YAML'
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  acme-prod.app.customers: {tenant: tenant_id}
YAML
core=$(($(nproc) - 1))
taskset -c "$core" "$binary" serve --config "$dir/hedgerow.yaml" >"$dir/hedgerow.log" 2>&1 &
hedgerow=$!
pids+=("$hedgerow")
listens "$service" "the service"
listens "$front" Hedgerow
TOKEN=$("$binary" token --key "$dir/secret" --ttl 1h \
  --claims '{"iss":"https://bench.example/","aud":"bench","sub":"bench","tenant_id":"tenant-a"}')
export TOKEN

median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
cpu() { awk '{print $14 + $15}' "/proc/$hedgerow/stat"; } # in ticks
memory() { awk -v field="$1:" '$1 == field {print int($2 / 1024)}' "/proc/$hedgerow/status"; }

for _ in $(seq "$rounds"); do
  "$dir/ends" ask "127.0.0.1:$service" "$seconds" 1 >>"$dir/straight"
  "$dir/ends" ask "127.0.0.1:$front" "$seconds" 1 >>"$dir/through"
done
before=$(cpu)
"$dir/ends" ask "127.0.0.1:$front" "$((seconds * 2))" "$clients" >"$dir/many"
ticks=$(($(cpu) - before))
read -r rate p50 p99 <"$dir/many"
idle=$(memory VmRSS)
echo 5 >"/proc/$hedgerow/clear_refs" 2>/dev/null || true # VmHWM begins anew
bytes=$("$dir/ends" read "127.0.0.1:$front" "$pages")
peak=$(memory VmHWM)

column() { awk -v at="$2" '{print $at}' "$1" | median; }
straight50=$(column "$dir/straight" 2) straight99=$(column "$dir/straight" 3)
through50=$(column "$dir/through" 2) through99=$(column "$dir/through" 3)
cat <<EOF2
$(nproc) cores; Hedgerow on one of them; $rounds rounds of $seconds s

| what | figure |
|---|---:|
| one client, straight: median, p99 | $straight50 µs, $straight99 µs |
| one client, through Hedgerow: median, p99 | $through50 µs, $through99 µs |
| added: median, p99 | $((through50 - straight50)) µs, $((through99 - straight99)) µs |
| requests a second, $clients clients, Hedgerow on one core | $rate |
| their median, p99 | $p50 µs, $p99 µs |
| CPU of Hedgerow a request | $(awk -v t="$ticks" -v hz="$(getconf CLK_TCK)" -v n="$((rate * seconds * 2))" 'BEGIN {printf "%.0f", t / hz / n * 1e6}') µs |
| memory at rest, highest while $((bytes >> 20)) MiB of results were read | $idle MiB, $peak MiB |
EOF2

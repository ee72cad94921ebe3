#!/usr/bin/env bash
# The demo over BigQuery: a stand-in for the service, `hedgerow serve` in front of it, the official Python
# client as two tenants, a denial, the records. Stays up and says how to connect; `--once` ends by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

once=
for argument in "$@"; do
  case $argument in
    --bigquery) ;;
    --once) once=yes ;;
    *) echo "demo: unknown argument $argument" >&2; exit 2 ;;
  esac
done

python=.venv-bigquery/bin/python
if [[ ! -x $python ]]; then
  echo "demo: the stand-in for BigQuery is not installed: make bigquery-env" >&2
  exit 1
fi
hedgerow=${HEDGEROW_BINARY:-${CARGO_TARGET_DIR:-target}/debug/hedgerow}
directory=$(mktemp -d)
children=()
finish() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  for child in "${children[@]}"; do wait "$child" 2>/dev/null || true; done
  rm -rf "$directory"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { # wait_for PORT NAME
  for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "demo: $2 does not listen" >&2
  exit 1
}

service=$(free_port)
storage=$(free_port)
front=$(free_port)
admin=$(free_port)

.venv-bigquery/bin/bqemulator start --ephemeral --project acme-prod --log-level error \
  --rest-port "$service" --grpc-port "$storage" >"$directory/service.log" 2>&1 &
children+=($!)
mkdir -p "$directory/keys" "$directory/policies"
head -c 48 /dev/urandom | base64 >"$directory/keys/token.secret"
cat >"$directory/hedgerow.yaml" <<YAML
identity:
  tenant_claim: tenant_id
  max_lifetime: 24h
  issuers:
    - {issuer: https://auth.demo.example/, audiences: [hedgerow-demo], algorithms: [HS256], hmac_secret_file: keys/token.secret}
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
cat >"$directory/policies/warehouse.yaml" <<'YAML'
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  acme-prod.app.customers: {tenant: tenant_id}
  acme-prod.app.orders: {tenant: tenant_id}
  acme-prod.app.order_items: {tenant_through: {order_id: acme-prod.app.orders.id}}
  acme-prod.app.currencies: shared
datasets: {"acme-prod.own_*": dataset_per_tenant}
YAML
wait_for "$service" "the stand-in"
export PYTHONDONTWRITEBYTECODE=1 NO_PROXY=127.0.0.1
(cd tests/clients && ENDPOINT=http://127.0.0.1:$service TENANTS=tenant-a,tenant-b \
  "../../$python" bigquery_fixture.py >/dev/null)
"$hedgerow" serve --config "$directory/hedgerow.yaml" >"$directory/hedgerow.log" 2>&1 &
children+=($!)
wait_for "$front" "hedgerow"

token() { # token TENANT
  "$hedgerow" token --key "$directory/keys/token.secret" --ttl 8h --claims \
    "{\"iss\":\"https://auth.demo.example/\",\"aud\":\"hedgerow-demo\",\"sub\":\"demo\",\"tenant_id\":\"$1\"}"
}

for tenant in tenant-a tenant-b; do
  printf '\n== The same program as %s\n' "$tenant"
  ENDPOINT=http://127.0.0.1:$front TOKEN=$(token "$tenant") "$python" - <<'PYTHON'
import os
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import Forbidden
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

client = bigquery.Client(
    project="acme-prod",
    credentials=Credentials(token=os.environ["TOKEN"]),
    client_options=ClientOptions(api_endpoint=os.environ["ENDPOINT"]),
)
for text in [
    "SELECT id, name, secret FROM app.customers WHERE TRUE OR id = 1 ORDER BY id",
    "SELECT COUNT(*) AS orders FROM app.orders",
]:
    print(text)
    for row in client.query_and_wait(text):
        print("   ", dict(row.items()))
for text in ["SELECT * FROM app.unknown", "INSERT INTO app.orders (tenant_id, id) VALUES ('someone-else', 1)"]:
    print(text)
    try:
        client.query_and_wait(text)
    except Forbidden as denial:
        print("    denied:", denial.errors[0]["message"])
    else:
        raise SystemExit("not denied: the demo failed")
PYTHON
done

printf '\n== The records\n'
"$hedgerow" audit search "$directory/audit" --decision deny

cat <<TEXT

Hedgerow listens on http://127.0.0.1:$front. A token of tenant-a for your own client:

$(token tenant-a)
TEXT
if [[ -z $once ]]; then
  echo "Ctrl-C ends it and removes everything."
  wait "${children[1]}"
fi

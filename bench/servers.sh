#!/usr/bin/env bash
# Sourced by bench/pg.sh and bench/soak.sh: PostgreSQL with data of two tenants, and Hedgerow with
# enforcement and audit on, in a temporary directory that goes when the script ends.
#
# Takes $scale, $pool, $max_clients and $binary. Leaves $pg, $hedgerow_port, $hedgerow_pid, $admin_port, $token, $bin,
# $dir (its `own` is ours, its `servers` the servers'), $as and $pids.
# shellcheck shell=bash disable=SC2154 # what it takes

bin=$(for found in /usr/lib/postgresql/*/bin; do echo "$found"; done | sort -V | tail -n 1)
[[ -x $bin/initdb ]] || bin=$(dirname "$(command -v initdb)")

# Servers do not run as root.
as=()
if [[ $(id -u) == 0 ]]; then
  account=$(id -un postgres 2>/dev/null || echo nobody)
  as=(runuser -u "$account" --)
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/hedgerow-bench.XXXXXX")
chmod 755 "$dir"
install -d -m 700 "$dir/own"
install -d -m 755 ${account:+-o "$account"} "$dir/servers"
pids=()
cleanup() {
  ((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null
  "${as[@]}" "$bin/pg_ctl" stop -s -m immediate -D "$dir/servers/data" 2>/dev/null
  wait 2>/dev/null
  rm -rf "$dir"
}
trap 'cleanup || true' EXIT
trap 'exit 130' INT TERM

taken=" "
free_port() { # sets $port
  while :; do
    # Below the ports that the system gives to clients.
    port=$((20000 + RANDOM % 12000))
    if [[ $taken != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      taken+="$port "
      return
    fi
  done
}
within() { # within SECONDS command…: until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "not within time: $*" >&2; tail -n 20 "$dir"/own/*.log "$dir"/servers/*.log >&2; exit 1; }
    sleep 0.05
  done
}

a=aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa b=bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb
free_port; pg=$port
"${as[@]}" "$bin/initdb" -U postgres -A trust -E UTF8 --locale=C -N -D "$dir/servers/data" >/dev/null
cat >>"$dir/servers/data/postgresql.conf" <<EOF
port = $pg
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir/servers'
max_connections = 300
shared_buffers = 256MB
fsync = off
autovacuum = off
password_encryption = 'scram-sha-256'
EOF
printf 'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n' >"$dir/servers/data/pg_hba.conf"
"${as[@]}" "$bin/pg_ctl" start -s -w -D "$dir/servers/data" -l "$dir/servers/postgres.log"
as_superuser=(-h "$dir/servers" -p "$pg" -U postgres)
"$bin/psql" -X -q "${as_superuser[@]}" -c "CREATE ROLE bench LOGIN PASSWORD 'bench'" -c 'CREATE DATABASE bench'
"$bin/pgbench" -q -i -s "$scale" "${as_superuser[@]}" bench 2>/dev/null
"$bin/psql" -X -q -v ON_ERROR_STOP=1 "${as_superuser[@]}" -d bench >/dev/null <<EOF
ALTER TABLE pgbench_accounts ADD COLUMN tenant_id uuid NOT NULL DEFAULT '$a';
ALTER TABLE pgbench_tellers  ADD COLUMN tenant_id uuid NOT NULL DEFAULT '$a';
ALTER TABLE pgbench_branches ADD COLUMN tenant_id uuid NOT NULL DEFAULT '$a';
ALTER TABLE pgbench_history  ADD COLUMN tenant_id uuid NOT NULL DEFAULT '$a';
INSERT INTO pgbench_accounts (aid, bid, abalance, filler, tenant_id)
  SELECT aid + (SELECT max(aid) FROM pgbench_accounts), bid, abalance, filler, '$b' FROM pgbench_accounts;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO bench;
VACUUM ANALYZE;
EOF

free_port; hedgerow_port=$port
free_port; admin_port=$port
mkdir "$dir/own/policies"
head -c 48 /dev/urandom | base64 -w 0 >"$dir/own/secret"
printf 'bench\n' >"$dir/own/upstream"
chmod 600 "$dir/own/secret" "$dir/own/upstream"
cat >"$dir/own/policies/bench.yaml" <<'EOF'
engine: postgres
tenant: {column: tenant_id, type: uuid}
tables:
  public.pgbench_accounts: {tenant: tenant_id}
  public.pgbench_tellers: {tenant: tenant_id}
  public.pgbench_branches: {tenant: tenant_id}
  public.pgbench_history: {tenant: tenant_id}
EOF
cat >"$dir/own/hedgerow.yaml" <<EOF
identity:
  tenant_claim: tenant_id
  issuers:
    - {issuer: "https://bench.example/", audiences: [bench], algorithms: [HS256], hmac_secret_file: secret}
postgres:
  listen: 127.0.0.1:$hedgerow_port
  upstream: {host: 127.0.0.1, port: $pg, user: bench, password_file: upstream, tls: {mode: disable}}
  pool: {mode: transaction, max_connections: $pool}
  limits: {max_clients: $max_clients}
  session_variables: {app.current_tenant: tenant_id}
policies: policies/
audit: {directory: audit, mode: balanced}
admin: {listen: "127.0.0.1:$admin_port"}
log: {format: text, level: warn}
EOF
"$binary" serve --config "$dir/own/hedgerow.yaml" >"$dir/own/hedgerow.log" 2>&1 &
hedgerow_pid=$!
pids+=("$hedgerow_pid")
token=$("$binary" token --key "$dir/own/secret" --ttl 12h --claims \
  "{\"iss\":\"https://bench.example/\",\"aud\":\"bench\",\"sub\":\"bench\",\"tenant_id\":\"$a\"}")

ask() { PGPASSWORD=$2 "$bin/psql" -X -A -t -h 127.0.0.1 -p "$1" -U bench -d bench -c "${3:-SELECT 1}"; }
within 20 ask "$hedgerow_port" "$token"

# A guard is in force, or the figures would mean nothing.
rows=$(ask "$hedgerow_port" "$token" 'SELECT count(*) FROM pgbench_accounts')
[[ $rows == $((scale * 100000)) ]] || { echo "through Hedgerow $rows rows are seen: no guard" >&2; exit 1; }

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
ticks() { # PID: user and system time in clock ticks
  awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"
}

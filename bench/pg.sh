#!/usr/bin/env bash
# pgbench -S straight to PostgreSQL, through PgBouncer and through Hedgerow, in one run.
#
# Starts everything itself in a temporary directory: PostgreSQL (data of two tenants, SCRAM),
# PgBouncer twice (transaction mode; session mode for prepared statements, which its transaction
# mode did not carry before 1.21), Hedgerow with enforcement and audit on. Rounds are interleaved,
# so that a busy minute of the machine hits all three; medians are printed as a Markdown table, with
# the CPU seconds that each proxy spent on a million queries. A ratio is the median of the rounds'
# ratios, not the ratio of medians. The memory that idle clients take is printed too.
#
# Usage: bench/pg.sh [--seconds 3] [--rounds 3] [--clients "1 8 64"] [--protocols "simple extended
#        prepared"] [--scale 5] [--pool 20] [--idle 200] [--binary target/release/hedgerow]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=3 rounds=3 clients="1 8 64" protocols="simple extended prepared" scale=5 pool=20 idle=200
binary="${CARGO_TARGET_DIR:-target}/release/hedgerow"
while (($#)); do
  case "$1" in
    --seconds) seconds=$2 ;; --rounds) rounds=$2 ;; --clients) clients=$2 ;;
    --protocols) protocols=$2 ;; --scale) scale=$2 ;; --pool) pool=$2 ;; --idle) idle=$2 ;; --binary) binary=$2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'; exit 0 ;;
    *) echo "unknown option $1 (--help says which there are)" >&2; exit 2 ;;
  esac
  shift 2
done
[[ -x $binary ]] || { echo "$binary is not there: cargo build --locked --release" >&2; exit 2; }
binary=$(realpath "$binary")

bin=$(for found in /usr/lib/postgresql/*/bin; do echo "$found"; done | sort -V | tail -n 1)
[[ -x $bin/initdb ]] || bin=$(dirname "$(command -v initdb)")
pgbouncer=$(PATH="$PATH:/usr/sbin" command -v pgbouncer) || {
  echo "PgBouncer is not installed (Debian: apt install pgbouncer)" >&2; exit 2; }

# Neither PostgreSQL nor PgBouncer runs as root.
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
    port=$((20000 + RANDOM % 20000))
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
max_connections = $((idle + 300))
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

pgbouncer_pid=()
start_pgbouncer() { # MODE PORT
  cat >"$dir/servers/$1.ini" <<EOF
[databases]
bench = host=127.0.0.1 port=$pg dbname=bench user=bench password=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $2
unix_socket_dir =
auth_type = plain
auth_file = $dir/servers/users
pool_mode = $1
max_client_conn = 500
default_pool_size = $([[ $1 == session ]] && echo $((idle + 100)) || echo "$pool")
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
log_stats = 0
EOF
  printf '"bench" "bench"\n' >"$dir/servers/users"
  chmod 644 "$dir/servers/$1.ini" "$dir/servers/users"
  "${as[@]}" "$pgbouncer" -q "$dir/servers/$1.ini" >"$dir/own/pgbouncer-$1.log" 2>&1 &
  pids+=($!)
}
free_port; transaction_port=$port
free_port; session_port=$port
start_pgbouncer transaction "$transaction_port"
start_pgbouncer session "$session_port"

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
within 20 ask "$transaction_port" bench
within 20 ask "$session_port" bench
within 20 ask "$hedgerow_port" "$token"

# The proxies' own processes: runuser keeps a parent around PgBouncer.
process_on() { # PORT: the pid that listens there
  local inode
  inode=$(awk -v port="$(printf '%04X' "$1")" '$2 ~ ":" port "$" && $4 == "0A" { print $10; exit }' /proc/net/tcp)
  for fd in /proc/[0-9]*/fd/*; do
    [[ $(readlink "$fd" 2>/dev/null) == "socket:[$inode]" ]] && { cut -d / -f 3 <<<"$fd"; return; }
  done
}
transaction_pid=$(process_on "$transaction_port")
session_pid=$(process_on "$session_port")

# A guard is in force, or the figures would mean nothing.
rows=$(ask "$hedgerow_port" "$token" 'SELECT count(*) FROM pgbench_accounts')
[[ $rows == $((scale * 100000)) ]] || { echo "through Hedgerow $rows rows are seen: no guard" >&2; exit 1; }

# Memory of idle clients, before anything else has grown: `bench/idle.py` opens them, waits for a
# line, and lets them go.
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
memory=""
if ((idle > 0)); then
  for proxy in "PgBouncer $session_port $session_pid bench" "Hedgerow $hedgerow_port $hedgerow_pid $token"; do
    read -r name port pid password <<<"$proxy"
    before=$(resident "$pid")
    coproc waiting { PGPASSWORD=$password bench/idle.py "$port" "$idle"; }
    waiting_pid=$waiting_PID
    read -r _ <&"${waiting[0]}"
    after=$(resident "$pid")
    echo "let go" >&"${waiting[1]}"
    wait "$waiting_pid" || true
    memory+=$(awk -v name="$name" -v before="$before" -v after="$after" -v idle="$idle" 'BEGIN {
      printf "%s: %d KiB resident at first, %d KiB with %d idle clients and their connections upstream: %.1f KiB each",
        name, before, after, idle, (after - before) / idle }')$'\n'
  done
fi

ticks() { # PID: user and system time in clock ticks
  awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"
}
measure() { # NAME PORT PASSWORD PID PROTOCOL CLIENTS: appends "tps cpu-seconds-per-million"
  local before=0 after=0 out tps count
  [[ -n $4 ]] && before=$(ticks "$4")
  out=$(PGPASSWORD=$3 "$bin/pgbench" -n -S -M "$5" -c "$6" -j "$(($6 < 2 ? 1 : 2))" -T "$seconds" \
    -h 127.0.0.1 -p "$2" -U bench bench 2>&1) || { echo "$1: $out" >&2; exit 1; }
  [[ -n $4 ]] && after=$(ticks "$4")
  tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
  count=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
  awk -v tps="$tps" -v ticks=$((after - before)) -v count="$count" -v hz="$(getconf CLK_TCK)" \
    'BEGIN { printf "%.0f %.2f\n", tps, ticks / hz * 1e6 / count }' >>"$dir/own/$1-$5-$6"
}
for ((round = 1; round <= rounds; round++)); do
  for protocol in $protocols; do
    for n in $clients; do
      echo "round $round of $rounds: $protocol, $n clients" >&2
      bouncer_port=$transaction_port bouncer_pid=$transaction_pid
      [[ $protocol == prepared ]] && bouncer_port=$session_port bouncer_pid=$session_pid
      measure direct "$pg" bench "" "$protocol" "$n"
      measure pgbouncer "$bouncer_port" bench "$bouncer_pid" "$protocol" "$n"
      measure hedgerow "$hedgerow_port" "$token" "$hedgerow_pid" "$protocol" "$n"
    done
  done
done

middle() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
median() { # FILE COLUMN
  awk -v column="$2" '{ print $column }' "$1" | middle
}
ratio() { # FILE FILE: the median of the rounds' ratios
  paste "$1" "$2" | awk '$3 > 0 { print $1 / $3 }' | middle
}
echo
echo "$("$bin/postgres" --version), $("$pgbouncer" --version | head -n 1), $(nproc) cores;" \
  "medians of $rounds rounds of $seconds s, scale $scale; PgBouncer in transaction mode with" \
  "$pool connections (prepared: session mode), Hedgerow in transaction mode with as many, enforcement and audit on."
echo
echo '| protocol | clients | direct tps | PgBouncer tps | Hedgerow tps | Hedgerow / PgBouncer | Hedgerow / direct | CPU s per million queries: PgBouncer | Hedgerow |'
echo '|---|---|---|---|---|---|---|---|---|'
for protocol in $protocols; do
  for n in $clients; do
    at="$protocol-$n"
    printf '| %s | %d | %d | %d | %d | %.2f | %.2f | %.1f | %.1f |\n' "$protocol" "$n" \
      "$(median "$dir/own/direct-$at" 1)" "$(median "$dir/own/pgbouncer-$at" 1)" \
      "$(median "$dir/own/hedgerow-$at" 1)" \
      "$(ratio "$dir/own/hedgerow-$at" "$dir/own/pgbouncer-$at")" \
      "$(ratio "$dir/own/hedgerow-$at" "$dir/own/direct-$at")" \
      "$(median "$dir/own/pgbouncer-$at" 2)" "$(median "$dir/own/hedgerow-$at" 2)"
  done
done

printf '\n%s' "$memory"

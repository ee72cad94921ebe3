#!/usr/bin/env bash
# pgbench straight to PostgreSQL, through PgBouncer and through Hedgerow, in one run.
#
# Starts everything itself in a temporary directory: PostgreSQL (data of two tenants, SCRAM),
# PgBouncer twice (transaction mode; session mode for prepared statements, which its transaction
# mode did not carry before 1.21), Hedgerow with enforcement and audit on. Rounds are interleaved,
# so that a busy minute of the machine hits all three; medians are printed as Markdown tables, with
# the CPU seconds that each proxy spent on a million transactions, by the kernel's account of its
# process. A ratio is the median of the rounds' ratios, not the ratio of medians.
#
# Besides: what each adds to p50 and p99 at one client, connections set up a second (with a token
# through Hedgerow), large results in GB/s, and the memory of idle clients.
#
# Usage: bench/pg.sh [--seconds 3] [--rounds 3] [--clients "1 8 64"] [--scripts "select tpcb"]
#        [--protocols "simple extended prepared"] [--scale 5] [--pool 20] [--idle "1000 5000"]
#        [--gigabytes 1] [--write no] [--binary target/release/hedgerow]
# `--idle ""` and `--gigabytes 0` leave those parts out. `--write yes` puts the figures and their plot
# into docs/performance.md and docs/performance.svg.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=3 rounds=3 clients="1 8 64" scripts="select tpcb" protocols="simple extended prepared" scale=5 pool=20
idle="1000 5000" gigabytes=1 write=no
binary="${CARGO_TARGET_DIR:-target}/release/hedgerow"
while (($#)); do
  case "$1" in
    --seconds) seconds=$2 ;; --rounds) rounds=$2 ;; --clients) clients=$2 ;;
    --scripts) scripts=$2 ;; --protocols) protocols=$2 ;; --scale) scale=$2 ;; --pool) pool=$2 ;;
    --idle) idle=$2 ;; --gigabytes) gigabytes=$2 ;; --write) write=$2 ;; --binary) binary=$2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'; exit 0 ;;
    *) echo "unknown option $1 (--help says which there are)" >&2; exit 2 ;;
  esac
  shift 2
done
[[ -x $binary ]] || { echo "$binary is not there: cargo build --locked --release" >&2; exit 2; }
binary=$(realpath "$binary")

most_idle=$(printf '%s\n' $idle 0 | sort -n | tail -n 1)
# Each idle client is a socket here and two in a proxy.
max_clients=$((most_idle + 500))
ulimit -n $((2 * most_idle + 2000)) 2>/dev/null || ulimit -n "$(ulimit -H -n)"

pgbouncer=$(PATH="$PATH:/usr/sbin" command -v pgbouncer) || {
  echo "PgBouncer is not installed (Debian: apt install pgbouncer)" >&2; exit 2; }

# shellcheck source=bench/servers.sh
. bench/servers.sh

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
max_client_conn = $((most_idle + 500))
default_pool_size = $([[ $1 == session ]] && echo 100 || echo "$pool")
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
log_stats = 0
EOF
  printf '"bench" "bench"\n' >"$dir/servers/users"
  chmod 644 "$dir/servers/$1.ini" "$dir/servers/users"
  # `runuser` gives it the system's soft limit of open files, which 1,000 clients use up.
  "${as[@]}" bash -c 'ulimit -n "$(ulimit -H -n)"; exec "$@"' - "$pgbouncer" -q "$dir/servers/$1.ini" >"$dir/own/pgbouncer-$1.log" 2>&1 &
  pids+=($!)
}
free_port; transaction_port=$port
free_port; session_port=$port
start_pgbouncer transaction "$transaction_port"
start_pgbouncer session "$session_port"

within 20 ask "$transaction_port" bench
within 20 ask "$session_port" bench

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

figures=$dir/own/figures
mkdir "$figures"

# Memory of idle clients, before anything else has grown: `bench/idle.py` opens them, waits for a
# line, and lets them go.
for proxy in "PgBouncer $transaction_port $transaction_pid bench" "Hedgerow $hedgerow_port $hedgerow_pid $token"; do
  read -r name port pid password <<<"$proxy"
  before=$(resident "$pid")
  for count in $idle; do
    coproc waiting { PGPASSWORD=$password bench/idle.py "$port" "$count"; }
    waiting_pid=$waiting_PID
    read -r -t 120 _ <&"${waiting[0]}" || { echo "$name did not take $count clients within 120 s" >&2; exit 1; }
    echo "$name $count $before $(resident "$pid")" >>"$figures/idle"
    echo "let go" >&"${waiting[1]}"
    wait "$waiting_pid" || true
  done
done

measure() { # NAME PORT PASSWORD PID SCRIPT PROTOCOL CLIENTS: appends "tps cpu-seconds-per-million p50 p99"
  local before=0 after=0 out tps count script=-S log=() at=$dir/own/latency
  [[ $5 == tpcb ]] && script="-b tpcb-like"
  [[ $7 == 1 ]] && log=(-l "--log-prefix=$at")
  [[ -n $4 ]] && before=$(ticks "$4")
  # shellcheck disable=SC2086 # an option and its word
  out=$(PGPASSWORD=$3 "$bin/pgbench" -n $script "${log[@]}" -M "$6" -c "$7" -j "$(($7 < 2 ? 1 : 2))" -T "$seconds" \
    -h 127.0.0.1 -p "$2" -U bench bench 2>&1) || { echo "$1: $out" >&2; exit 1; }
  [[ -n $4 ]] && after=$(ticks "$4")
  tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
  count=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
  percentiles="- -"
  if [[ $7 == 1 ]]; then
    percentiles=$(awk '{ print $3 }' "$at".* | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)], v[int(NR * 0.99) + 1] }')
    rm -f "$at".*
  fi
  awk -v tps="$tps" -v ticks=$((after - before)) -v count="$count" -v hz="$(getconf CLK_TCK)" -v p="$percentiles" \
    'BEGIN { printf "%.0f %.2f %s\n", tps, ticks / hz * 1e6 / count, p }' >>"$figures/$5-$6-$7-$1"
}
connect() { # NAME PORT PASSWORD PID: appends "connections-a-second cpu-seconds-per-million"
  local before=0 after=0 out
  [[ -n $4 ]] && before=$(ticks "$4")
  out=$(PGPASSWORD=$3 "$bin/pgbench" -n -C -S -c 4 -j 2 -T "$seconds" -h 127.0.0.1 -p "$2" -U bench bench 2>&1) ||
    { echo "$1: $out" >&2; exit 1; }
  [[ -n $4 ]] && after=$(ticks "$4")
  awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" '/^tps/ { tps = $3 } /actually processed/ { count = $6 }
    END { printf "%.0f %.2f\n", tps, ticks / hz * 1e6 / count }' <<<"$out" >>"$figures/connect-$1"
}
transfer() { # NAME PORT PASSWORD PID WHAT SQL: appends "bytes seconds cpu-seconds resident-KiB"
  local before=0 after=0 begun bytes
  [[ -n $4 ]] && before=$(ticks "$4")
  begun=$EPOCHREALTIME
  bytes=$(PGPASSWORD=$3 "$bin/psql" -X -q -h 127.0.0.1 -p "$2" -U bench -d bench -c "COPY ($6) TO STDOUT" | wc -c)
  awk -v bytes="$bytes" -v from="$begun" -v to="$EPOCHREALTIME" -v before="$before" \
    -v after="$([[ -n $4 ]] && ticks "$4" || echo 0)" -v hz="$(getconf CLK_TCK)" -v kib="$([[ -n $4 ]] && resident "$4" || echo 0)" \
    'BEGIN { printf "%d %.3f %.2f %d\n", bytes, to - from, (after - before) / hz, kib }' >>"$figures/transfer-$5-$1"
}
for ((round = 1; round <= rounds; round++)); do
  for script in $scripts; do
    for protocol in $protocols; do
      for n in $clients; do
        echo "round $round of $rounds: $script, $protocol, $n clients" >&2
        # pgbench prepares synchronously: its thread waits for a backend while clients of the same thread
        # hold them all in open transactions, through any transaction pool that is smaller.
        [[ $script == tpcb && $protocol == prepared ]] && ((n > pool)) && continue
        bouncer_port=$transaction_port bouncer_pid=$transaction_pid
        [[ $protocol == prepared ]] && bouncer_port=$session_port bouncer_pid=$session_pid
        measure direct "$pg" bench "" "$script" "$protocol" "$n"
        measure pgbouncer "$bouncer_port" bench "$bouncer_pid" "$script" "$protocol" "$n"
        measure hedgerow "$hedgerow_port" "$token" "$hedgerow_pid" "$script" "$protocol" "$n"
      done
    done
  done
  echo "round $round of $rounds: connections, large results" >&2
  connect direct "$pg" bench ""
  connect pgbouncer "$transaction_port" bench "$transaction_pid"
  connect hedgerow "$hedgerow_port" "$token" "$hedgerow_pid"
  if [[ $gigabytes != 0 ]]; then
    wide="SELECT repeat('x', 8191) FROM generate_series(1, $((gigabytes * 131072)))"
    narrow="SELECT a.* FROM pgbench_accounts a, generate_series(1, $((gigabytes * 10 / scale + 1)))"
    for shape in "8-KiB-rows $wide" "140-byte-rows $narrow"; do
      transfer direct "$pg" bench "" "${shape%% *}" "${shape#* }"
      transfer pgbouncer "$transaction_port" bench "$transaction_pid" "${shape%% *}" "${shape#* }"
      transfer hedgerow "$hedgerow_port" "$token" "$hedgerow_pid" "${shape%% *}" "${shape#* }"
    done
  fi
done
words="$("$bin/postgres" --version), $("$pgbouncer" --version | head -n 1), $(nproc) cores;\
 medians of $rounds rounds of $seconds s, scale $scale; PgBouncer in transaction mode with\
 $pool connections (prepared: session mode), Hedgerow in transaction mode with as many, enforcement and audit on."
bench/figures.py "$figures" "$words" "$write"

#!/usr/bin/env bash
# Whether Hedgerow grows: unique statements, connects and disconnects, and denials for a long time, with
# its memory, threads and open files looked at over time.
#
# Three loads run beside each other: sessions whose every statement has a shape of its own (no verdict
# serves twice), clients that connect, ask once and leave, and sessions that are denied. The first fifth
# is warm-up. From then on memory, less that of the kept verdicts (which have a bound of their own, and say how
# much it is), must not grow by more than --most-mib from the median of the first quarter to that of the
# last; the script fails otherwise.
#
# Usage: bench/soak.sh [--minutes 30] [--look 10] [--most-mib 16] [--scale 1]
#        [--binary target/release/hedgerow]
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=30 look=10 most_mib=16 scale=1 pool=10 max_clients=200
binary="${CARGO_TARGET_DIR:-target}/release/hedgerow"
while (($#)); do
  case "$1" in
    --minutes) minutes=$2 ;; --look) look=$2 ;; --most-mib) most_mib=$2 ;; --scale) scale=$2 ;; --binary) binary=$2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'; exit 0 ;;
    *) echo "unknown option $1 (--help says which there are)" >&2; exit 2 ;;
  esac
  shift 2
done
[[ -x $binary ]] || { echo "$binary is not there: cargo build --locked --release" >&2; exit 2; }
binary=$(realpath "$binary")

# shellcheck source=bench/servers.sh
. bench/servers.sh

# The alias makes the shape: literals alone would not.
cat >"$dir/own/unique.sql" <<'EOS'
\set n random(1, 2000000000)
\set aid random(1, 100000)
SELECT abalance AS c:n FROM pgbench_accounts WHERE aid = :aid;
EOS
seconds=$((minutes * 60))
through=(-h 127.0.0.1 -p "$hedgerow_port" -U bench bench)
export PGPASSWORD=$token
loads=()
"$bin/pgbench" -n -f "$dir/own/unique.sql" -c 6 -j 2 -T "$seconds" "${through[@]}" >"$dir/own/unique" 2>&1 &
loads+=($!)
"$bin/pgbench" -n -S -C -c 2 -T "$seconds" "${through[@]}" >"$dir/own/connects" 2>&1 &
loads+=($!)
# A denial ends pgbench's client: psql goes on.
(
  end=$((SECONDS + seconds))
  while ((SECONDS < end)); do
    for ((i = 0; i < 200; i++)); do echo "SELECT * FROM secrets$RANDOM$RANDOM;"; done |
      "$bin/psql" -X -q "${through[@]:0:6}" -d bench >/dev/null 2>>"$dir/own/denials" || true
    grep -c HR1003 "$dir/own/denials" >>"$dir/own/denied" || true
    : >"$dir/own/denials"
    sleep 1
  done
) &
loads+=($!)

verdicts() { # the bytes that kept verdicts take, by Hedgerow's own account
  curl -fsS "http://127.0.0.1:$admin_port/metrics" | awk '/^hedgerow_rewrite_cache_bytes/ { found = $2 } END { printf "%d", found }'
}
echo "| seconds | resident, MiB | of that verdicts, MiB | threads | open files |"
echo "|---:|---:|---:|---:|---:|"
begun=$SECONDS
while ((SECONDS - begun < seconds - look)); do
  sleep "$look"
  kill -0 "$hedgerow_pid" || { echo "Hedgerow is gone" >&2; tail -n 20 "$dir/own/hedgerow.log" >&2; exit 1; }
  at=$((SECONDS - begun)) kib=$(resident "$hedgerow_pid") kept=$(verdicts)
  files=$(find "/proc/$hedgerow_pid/fd" -mindepth 1 2>/dev/null | wc -l)
  echo "$at $((kib - kept / 1024))" >>"$dir/own/seen"
  awk -v at="$at" -v kib="$kib" -v kept="$kept" -v threads="$(awk '/^Threads/ { print $2 }' "/proc/$hedgerow_pid/status")" -v files="$files" \
    'BEGIN { printf "| %d | %.1f | %.1f | %d | %d |\n", at, kib / 1024, kept / 1048576, threads, files }'
done
wait "${loads[@]}" || true
echo
for load in unique connects; do
  awk -v load="$load" '/actually processed/ { print load ": " $6 " transactions" } /aborted/ && !/number/ { print load ": " $0 }' "$dir/own/$load"
done
awk '{ denied += $1 } END { print "denials: " denied + 0 }' "$dir/own/denied"
awk -v seconds="$seconds" -v most="$most_mib" '
  function median(n, values,    i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j] < values[j - 1]; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
    return values[int((n + 1) / 2)]
  }
  $1 >= seconds / 5 { all[++n] = $2 }
  END {
    quarter = int(n / 4)
    if (quarter < 1) { print "too short to tell growth"; exit 1 }
    for (i = 1; i <= quarter; i++) { first[i] = all[i]; last[i] = all[n - quarter + i] }
    growth = (median(quarter, last) - median(quarter, first)) / 1024
    printf "grown by %.1f MiB without verdicts, from the first to the last quarter behind the warm-up\n", growth
    exit growth > most
  }' "$dir/own/seen"

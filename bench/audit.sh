#!/usr/bin/env bash
# What audit costs: records at a steady rate in `balanced` and in `strict`, on a real disk.
#
# Prints, as Markdown, the hot path's share of a statement, the time that permit and record add at
# the rate, and how fast `audit verify` reads what was written. Without PostgreSQL: what is measured
# is what audit adds.
#
# Usage: bench/audit.sh [--seconds 10] [--rate 10000] [--directory /var/tmp]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=10 rate=10000 directory=${TMPDIR:-/tmp}
while (($#)); do
  case "$1" in
    --seconds) seconds=$2 ;; --rate) rate=$2 ;; --directory) directory=$2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'; exit 0 ;;
    *) echo "unknown option $1 (--help says which there are)" >&2; exit 2 ;;
  esac
  shift 2
done
echo "$(nproc) cores, $(stat -f -c %T "$directory"), $rate records a second for $seconds s a mode"
echo
SECONDS_EACH=$seconds RATE=$rate DIRECTORY=$directory cargo bench --locked --quiet --bench audit

#!/usr/bin/env bash
# What the guards cost in the database: seven shapes of queries, written by hand with the tenant's
# predicate, as Hedgerow sends them, under row-level security, and through a barrier view.
#
# Starts PostgreSQL in a temporary directory with 1,000,000 rows, of which one tenant owns 1,000 and
# another 100,000. Hedgerow's text is what `hedgerow explain --live` prints. In each round every form
# of a query runs once, after the other, so that a busy minute of the machine hits all of them; the
# figure is the median of the rounds' ratios to the hand-written form (planning and execution). Pages
# touched (shared buffers) are given too: they depend on the plan alone. The results of all forms are
# compared.
#
# Writes docs/guards.md and docs/guards.svg.
#
# Usage: bench/guards.sh [--rounds 41] [--rows 1000000] [--binary target/release/hedgerow]
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=41 rows=1000000
binary="${CARGO_TARGET_DIR:-target}/release/hedgerow"
while (($#)); do
  case "$1" in
    --rounds) rounds=$2 ;; --rows) rows=$2 ;; --binary) binary=$2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'; exit 0 ;;
    *) echo "unknown option $1 (--help says which there are)" >&2; exit 2 ;;
  esac
  shift 2
done
[[ -x $binary ]] || { echo "$binary is not there: cargo build --locked --release" >&2; exit 2; }
binary=$(realpath "$binary")

bin=$(for found in /usr/lib/postgresql/*/bin; do echo "$found"; done | sort -V | tail -n 1)
[[ -x $bin/initdb ]] || bin=$(dirname "$(command -v initdb)")

# PostgreSQL does not run as root.
as=()
if [[ $(id -u) == 0 ]]; then
  account=$(id -un postgres 2>/dev/null || echo nobody)
  as=(runuser -u "$account" --)
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/hedgerow-guards.XXXXXX")
chmod 755 "$dir"
install -d -m 700 "$dir/own"
install -d -m 755 ${account:+-o "$account"} "$dir/servers"
cleanup() {
  "${as[@]}" "$bin/pg_ctl" stop -s -m immediate -D "$dir/servers/data" 2>/dev/null
  rm -rf "$dir"
}
trap 'cleanup || true' EXIT
trap 'exit 130' INT TERM
while :; do
  port=$((20000 + RANDOM % 20000))
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done

"${as[@]}" "$bin/initdb" -U postgres -A trust -E UTF8 --locale=C -N -D "$dir/servers/data" >/dev/null
cat >>"$dir/servers/data/postgresql.conf" <<EOF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir/servers'
shared_buffers = 512MB
work_mem = 64MB
fsync = off
autovacuum = off
jit = off
max_parallel_workers_per_gather = 0
EOF
"${as[@]}" "$bin/pg_ctl" start -s -w -D "$dir/servers/data" -l "$dir/servers/postgres.log"
superuser=("$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir/servers" -p "$port" -U postgres)

small=aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa large=bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb
echo "filling $rows rows" >&2
"${superuser[@]}" -c 'CREATE DATABASE bench'
"${superuser[@]}" -d bench >/dev/null <<EOF
CREATE TABLE big (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, email text NOT NULL,
  created timestamptz NOT NULL, amount int NOT NULL, tags jsonb NOT NULL, note text NOT NULL);
CREATE TABLE line (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, big_id bigint NOT NULL, quantity int NOT NULL);
-- Every thousandth row is the small tenant's, every tenth the large one's, the others belong to 899 more.
INSERT INTO big SELECT n,
  CASE WHEN n % 1000 = 7 THEN '$small' WHEN n % 10 = 3 THEN '$large' ELSE md5((n % 899)::text) END::uuid,
  'User' || n || '@example.com', '2026-01-01 00:00+00'::timestamptz + n * interval '20 seconds',
  n % 5000, jsonb_build_object('k', n % 1000, 'kind', n % 7), repeat('x', 80)
  FROM generate_series(1, $rows) n;
INSERT INTO line SELECT n, b.tenant_id, b.id, n % 50 FROM generate_series(1, $rows) n JOIN big b ON b.id = n;
CREATE INDEX ON big (tenant_id, id);
CREATE INDEX ON big (tenant_id, lower(email));
CREATE INDEX ON big (tenant_id, created);
CREATE INDEX ON big USING gin (tags);
CREATE INDEX ON line (tenant_id, big_id);
CREATE INDEX ON line (big_id);
VACUUM ANALYZE;
-- Row-level security is one of the forms: whoever takes another one is not bound by it.
CREATE ROLE app LOGIN BYPASSRLS; CREATE ROLE confined LOGIN;
CREATE SCHEMA barrier;
CREATE VIEW barrier.big WITH (security_barrier) AS
  SELECT * FROM public.big WHERE tenant_id = current_setting('app.current_tenant')::uuid;
CREATE VIEW barrier.line WITH (security_barrier) AS
  SELECT * FROM public.line WHERE tenant_id = current_setting('app.current_tenant')::uuid;
ALTER TABLE big ENABLE ROW LEVEL SECURITY;
ALTER TABLE line ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON big TO confined USING (tenant_id = current_setting('app.current_tenant')::uuid);
CREATE POLICY tenant ON line TO confined USING (tenant_id = current_setting('app.current_tenant')::uuid);
GRANT USAGE ON SCHEMA barrier TO app;
GRANT SELECT ON ALL TABLES IN SCHEMA public, barrier TO app, confined;
EOF

mkdir "$dir/own/policies"
head -c 48 /dev/urandom | base64 -w 0 >"$dir/own/secret"
printf 'unused\n' >"$dir/own/upstream"
chmod 600 "$dir/own/secret" "$dir/own/upstream"
cat >"$dir/own/policies/bench.yaml" <<'EOF'
engine: postgres
tenant: {column: tenant_id, type: uuid}
tables:
  public.big: {tenant: tenant_id}
  public.line: {tenant: tenant_id}
EOF
cat >"$dir/own/hedgerow.yaml" <<EOF
identity:
  tenant_claim: tenant_id
  issuers:
    - {issuer: "https://bench.example/", audiences: [bench], algorithms: [HS256], hmac_secret_file: secret}
postgres:
  listen: 127.0.0.1:6432
  upstream: {host: 127.0.0.1, port: $port, user: app, database: bench, password_file: upstream, tls: {mode: disable}}
policies: policies/
audit: {directory: audit}
EOF

# Names of the shapes, and the client's text with \$t for ` AND <the tenant's predicate>`, \$l for line's.
cat >"$dir/own/bench.py" <<'EOF'
import json, statistics, subprocess, sys

binary, config, psql, rounds, rows, small, large, version = sys.argv[1:9]
psql, rounds, rows = json.loads(psql), int(rounds), int(rows)

# (name, what the client writes; {b} and {l} are where a predicate by hand goes)
SHAPES = [
    ("look-up by key", "SELECT id, email, amount FROM {s}big b WHERE b.id = {id}{b}"),
    ("range of 50", "SELECT id, email FROM {s}big b WHERE b.id > {id}{b} ORDER BY b.id LIMIT 50"),
    ("join", "SELECT b.id, l.quantity FROM {s}big b JOIN {s}line l ON l.big_id = b.id"
             " WHERE b.id BETWEEN {id} AND {end}{b}{l}"),
    ("aggregate", "SELECT count(*), max(amount), min(created) FROM {s}big b WHERE b.amount >= 0{b}"),
    ("lower(email) =", "SELECT id FROM {s}big b WHERE lower(b.email) = 'user{id}@example.com'{b}"),
    ("time range", "SELECT count(*) FROM {s}big b WHERE b.created >= '{day} 00:00+00'"
                   " AND b.created < '{day} 06:00+00'{b}"),
    ("jsonb @>", "SELECT count(*) FROM {s}big b WHERE b.tags @> '{{\"k\": {k}}}'{b}"),
]
FORMS = ["by hand", "Hedgerow", "row-level security", "barrier view"]
COLORS = ["#9aa69c", "#2f7a3d", "#2f6fb5", "#b3402e"]

def texts(shape, tenant, ident):
    fill = dict(id=ident, end=ident + 20000, day="2026-03-01", k=ident % 1000, s="", b="", l="")
    client = shape.format(**fill)
    predicate = lambda alias: f" AND {alias}.tenant_id = '{tenant}'"
    by_hand = shape.format(**{**fill, "b": predicate("b"), "l": predicate("l")})
    explained = subprocess.run(
        [binary, "explain", "--config", config, "--tenant", tenant, "--live", "--format", "json", client],
        capture_output=True, text=True)
    if explained.returncode:
        sys.exit(f"explain: {explained.stdout}{explained.stderr}")
    sent = json.loads(explained.stdout)["sent"]
    return [by_hand, sent, client, shape.format(**{**fill, "s": "barrier."})]

def session(commands):
    run = subprocess.run(psql, input="\n".join(commands), capture_output=True, text=True)
    if run.returncode or "ERROR" in run.stderr:
        sys.exit(run.stderr)
    return run.stdout

def role(form):
    return "confined" if form == 2 else "app"

table, plot = [], []
for size, tenant, ident in [("1,000", small, 500007), ("100,000", large, 500003)]:
    ident = ident * rows // 1000000 // 1000 * 1000 + ident % 1000
    for name, shape in SHAPES:
        print(f"{name}, tenant of {size}", file=sys.stderr)
        forms = texts(shape, tenant, ident)
        start = [f"SET app.current_tenant = '{tenant}';"]
        results = [session(start + [f"SET ROLE {role(n)};", f"{text};"]) for n, text in enumerate(forms)]
        if any(sorted(result.splitlines()) != sorted(results[0].splitlines()) for result in results):
            sys.exit(f"{name}: the forms give different results\n" + "\n".join(forms))
        commands = list(start)
        for _ in range(rounds + 2):
            for n, text in enumerate(forms):
                commands += [f"SET ROLE {role(n)};",
                             f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {text};"]
        decoder, output, plans = json.JSONDecoder(), session(commands), []
        while output.strip():
            plan, end = decoder.raw_decode(output.lstrip())
            output = output.lstrip()[end:]
            plans.append(plan[0])
        times = [[], [], [], []]
        buffers = [0, 0, 0, 0]
        for at, plan in enumerate(plans):
            if at >= 8:  # the first two rounds warm the cache
                times[at % 4].append(plan["Execution Time"] + plan["Planning Time"])
            buffers[at % 4] = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        ratios = [statistics.median(t / h for t, h in zip(own, times[0])) for own in times]
        table.append((size, name, statistics.median(times[0]), ratios, buffers))
        plot.append((size, name, ratios))

out = ["# Guards", "",
       "<!-- Written by bench/guards.sh. -->", "",
       "What it costs in the database that a query is bound to its tenant: seven shapes of queries over"
       f" {rows:,} rows, for a tenant of 1,000 and one of 100,000 rows. Ratios are to the same query with the"
       " tenant's predicate written by hand, which leaks ([ARCHITECTURE.md](../ARCHITECTURE.md), *The leak-safe"
       " form*). Row-level security and the barrier view take the tenant from `current_setting`.", "",
       f"{version}; medians of {rounds} interleaved rounds, planning and execution; one connection, no"
       " parallel workers, no JIT, everything in memory. Under a millisecond a ratio is noisy by some"
       " hundredths; pages (shared buffers touched by the execution) depend on the plan alone.", "",
       "![Ratios of the forms to the query written by hand](guards.svg)", "",
       "| tenant | query | by hand, ms | Hedgerow | row-level security | barrier view |"
       " pages: by hand | Hedgerow | RLS | barrier |",
       "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
for size, name, base, ratios, buffers in table:
    cells = [f"{r:.2f}" if r < 10 else f"{r:.0f}" for r in ratios[1:]]
    cells[0] = f"**{cells[0]}**"
    out.append(f"| {size} | {name} | {base:.3f} | " + " | ".join(cells) + " | "
               + " | ".join(str(b) for b in buffers) + " |")
worst = max(row[3][1] for row in table)
beaten = [f"{row[1]} ({row[0]})" for row in table if row[3][1] > row[3][2] * 1.02]
out += ["", f"Every condition of these queries is total ([functions.md](functions.md)), so that Hedgerow's guard is"
        f" the plain predicate. The dearest ratio is {worst:.2f}."
        + (f" Slower than row-level security by more than 2 %: {', '.join(beaten)}." if beaten else
           " No query is slower than under row-level security by more than 2 %."), "",
        "Run `bench/guards.sh` to measure anew; it takes a few minutes."]
open("docs/guards.md", "w").write("\n".join(out) + "\n")

import math
W, ROW, LEFT, TOP = 960, 46, 220, 70
H = TOP + ROW * len(plot) + 40
scale = lambda r: LEFT + (math.log10(max(r, 0.5)) - math.log10(0.5)) / (3 - math.log10(0.5)) * (W - LEFT - 70)
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" role="img" aria-labelledby="title desc" '
       'font-family="system-ui, -apple-system, \'Segoe UI\', Helvetica, Arial, sans-serif" font-size="13">',
       '<title id="title">What a guard costs</title>',
       '<desc id="desc">Time of each form of a query, relative to the predicate written by hand, on a logarithmic scale.'
       ' The figures are in the table of docs/guards.md.</desc>',
       f'<rect width="{W}" height="{H}" rx="12" fill="#fbfbf7"/>']
for n, form in enumerate(FORMS[1:], 1):
    x = LEFT + (n - 1) * 190
    svg += [f'<rect x="{x}" y="20" width="14" height="14" rx="3" fill="{COLORS[n]}"/>',
            f'<text x="{x + 21}" y="32" fill="#1e2a21">{form}</text>']
for tick in (0.5, 1, 2, 5, 10, 100, 1000):
    x = scale(tick)
    color = "#3b4a3f" if tick == 1 else "#dfe3da"
    svg += [f'<line x1="{x:.1f}" y1="{TOP - 14}" x2="{x:.1f}" y2="{H - 30}" stroke="{color}"/>',
            f'<text x="{x:.1f}" y="{H - 12}" text-anchor="middle" fill="#5c6a5f">×{tick:g}</text>']
for at, (size, name, ratios) in enumerate(plot):
    y = TOP + at * ROW
    svg += [f'<text x="{LEFT - 12}" y="{y + 15}" text-anchor="end" fill="#1e2a21">{name.replace(">", "&gt;")}</text>',
            f'<text x="{LEFT - 12}" y="{y + 30}" text-anchor="end" fill="#5c6a5f" font-size="11">tenant of {size}</text>']
    for n in (1, 2, 3):
        a, b = sorted((scale(1), scale(ratios[n])))
        top = y + (n - 1) * 12
        label = f"{ratios[n]:.2f}" if ratios[n] < 10 else f"{ratios[n]:.0f}"
        svg += [f'<rect x="{a:.1f}" y="{top}" width="{max(b - a, 2):.1f}" height="9" rx="2" fill="{COLORS[n]}"/>',
                f'<text x="{max(a, b) + 5:.1f}" y="{top + 8.5}" font-size="9.5" fill="#3b4a3f">{label}</text>']
svg.append("</svg>")
open("docs/guards.svg", "w").write("\n".join(svg) + "\n")
EOF
psql_words=$(printf '"%s",' "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$dir/servers" -p "$port" -U postgres -d bench)
python3 "$dir/own/bench.py" "$binary" "$dir/own/hedgerow.yaml" "[${psql_words%,}]" "$rounds" "$rows" \
  "$small" "$large" "$("$bin/postgres" --version), $(nproc) cores"
sed -n '/^| tenant/,$p' docs/guards.md

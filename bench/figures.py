#!/usr/bin/env python3
"""Makes tables, and a plot, of what bench/pg.sh measured.

Usage: bench/figures.py DIRECTORY WORDS yes|no. Prints Markdown; with `yes` it also takes the place of
what stands between the two marks in docs/performance.md, and the plot is docs/performance.svg.
"""
import pathlib
import statistics
import sys

BEGIN, END = "<!-- bench/pg.sh: begin -->", "<!-- bench/pg.sh: end -->"
TITLES = {"select": "pgbench -S", "tpcb": "TPC-B-like"}
PROXIES = ["direct", "pgbouncer", "hedgerow"]
directory, words, write = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def rounds(name: str) -> list[list[float | None]]:
    path = directory / name
    if not path.exists():
        return []
    number = lambda word: None if word == "-" else float(word)
    return [[number(word) for word in line.split()] for line in path.read_text().splitlines()]


def median(name: str, column: int) -> float:
    return statistics.median(row[column] for row in rounds(name))


def ratio(one: str, other: str, column: int) -> float:
    pairs = zip(rounds(one), rounds(other))
    return statistics.median(a[column] / b[column] for a, b in pairs if b[column])


def cells() -> list[tuple[str, str, int]]:
    """Script, protocol and clients of each cell that was measured."""
    order = ["select", "tpcb", "simple", "extended", "prepared"]
    found = [path.name.removesuffix("-hedgerow").split("-") for path in directory.glob("*-*-*-hedgerow")]
    found = [tuple(name) for name in found if len(name) == 3 and name[0] in TITLES]
    return sorted(
        ((script, protocol, int(clients)) for script, protocol, clients in found),
        key=lambda cell: (order.index(cell[0]), order.index(cell[1]), cell[2]),
    )


out = [words, ""]
points = []
for script in TITLES:
    mine = [cell for cell in cells() if cell[0] == script]
    if not mine:
        continue
    out += [
        f"**{TITLES[script]}**",
        "",
        "| protocol | clients | direct tps | PgBouncer tps | Hedgerow tps | Hedgerow / PgBouncer | Hedgerow / direct"
        " | CPU s per million: PgBouncer | Hedgerow | CPU: Hedgerow / PgBouncer |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in mine:
        at = f"{cell[0]}-{cell[1]}-{cell[2]}"
        direct, bouncer, hedgerow = (f"{at}-{proxy}" for proxy in PROXIES)
        rate, cpu = ratio(hedgerow, bouncer, 0), ratio(hedgerow, bouncer, 1)
        points.append((cell, rate, cpu))
        out.append(
            f"| {cell[1]} | {cell[2]} | {median(direct, 0):.0f} | {median(bouncer, 0):.0f} | {median(hedgerow, 0):.0f}"
            f" | **{rate:.2f}** | {ratio(hedgerow, direct, 0):.2f}"
            f" | {median(bouncer, 1):.1f} | {median(hedgerow, 1):.1f} | **{cpu:.2f}** |"
        )
    out.append("")

alone = [cell for cell in cells() if cell[2] == 1]
if alone:
    out += [
        "**Latency added at one client**, in µs: percentiles through the proxy, less those without one.",
        "",
        "| what | protocol | direct p50, p99 | PgBouncer adds: p50 | p99 | Hedgerow adds: p50 | p99 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for cell in alone:
        direct, bouncer, hedgerow = (f"{cell[0]}-{cell[1]}-1-{proxy}" for proxy in PROXIES)
        p50, p99 = median(direct, 2), median(direct, 3)
        added = [median(name, column) - base for name in (bouncer, hedgerow) for column, base in ((2, p50), (3, p99))]
        out.append(f"| {TITLES[cell[0]]} | {cell[1]} | {p50:.0f}, {p99:.0f} | " + " | ".join(f"{us:.0f}" for us in added) + " |")
    out.append("")

if rounds("connect-hedgerow"):
    out += [
        "**Connections set up a second**, each with one query (4 at a time; through Hedgerow with a token):"
        f" {median('connect-direct', 0):.0f} direct, {median('connect-pgbouncer', 0):.0f} through PgBouncer"
        f" ({median('connect-pgbouncer', 1):.0f} CPU s per million), {median('connect-hedgerow', 0):.0f} through Hedgerow"
        f" ({median('connect-hedgerow', 1):.0f}).",
        "",
    ]
shapes = sorted({path.name.removeprefix("transfer-").removesuffix("-hedgerow") for path in directory.glob("transfer-*-hedgerow")})
if shapes:
    out += [
        "**Large results**, by COPY to a psql that throws them away:",
        "",
        "| rows | GB/s direct | PgBouncer | Hedgerow | CPU s per GB: PgBouncer | Hedgerow | resident behind it, MiB: PgBouncer | Hedgerow |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for shape in shapes:
        of = {proxy: rounds(f"transfer-{shape}-{proxy}") for proxy in PROXIES}
        speed = {proxy: statistics.median(row[0] / row[1] / 1e9 for row in of[proxy]) for proxy in PROXIES}
        cpu = {proxy: statistics.median(row[2] / row[0] * 1e9 for row in of[proxy]) for proxy in PROXIES}
        held = {proxy: max(row[3] for row in of[proxy]) / 1024 for proxy in PROXIES}
        out.append(
            f"| {shape.replace('-', ' ')} | " + " | ".join(f"{speed[proxy]:.2f}" for proxy in PROXIES)
            + f" | {cpu['pgbouncer']:.2f} | {cpu['hedgerow']:.2f} | {held['pgbouncer']:.0f} | {held['hedgerow']:.0f} |"
        )
    out.append("")

idle = [line.split() for line in (directory / "idle").read_text().splitlines()] if (directory / "idle").exists() else []
if idle:
    out += [
        "**Memory of idle clients** over TCP, signed in, no connection upstream:",
        "",
        "| proxy | clients | resident before, KiB | with them, KiB | KiB each |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, count, before, after in idle:
        out.append(f"| {name} | {count} | {before} | {after} | {(int(after) - int(before)) / int(count):.1f} |")
    out.append("")

text = "\n".join(out).rstrip() + "\n"
print(text)
if write != "yes":
    sys.exit()

page = pathlib.Path("docs/performance.md")
before, rest = page.read_text().split(BEGIN)
_, after = rest.split(END)
plot = "![Throughput and CPU of Hedgerow relative to PgBouncer](performance.svg)\n"
page.write_text(f"{before}{BEGIN}\n\n{plot}\n{text}\n{END}{after}")

WIDTH, ROW, LEFT, TOP = 960, 30, 230, 74
HEIGHT = TOP + ROW * len(points) + 44
LIMIT = max(2.5, *(max(rate, cpu) for _, rate, cpu in points))
scale = lambda value: LEFT + value / LIMIT * (WIDTH - LEFT - 60)
svg = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title desc" '
    "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"13\">",
    '<title id="title">Hedgerow beside PgBouncer</title>',
    '<desc id="desc">Throughput and CPU of each cell, relative to PgBouncer. The figures are in the table of docs/performance.md.</desc>',
    f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fbfbf7"/>',
]
for x, color, label in [(LEFT, "#2f7a3d", "throughput (more is better)"), (LEFT + 260, "#b3702e", "CPU a transaction (less is better)")]:
    svg += [f'<rect x="{x}" y="20" width="14" height="14" rx="3" fill="{color}"/>', f'<text x="{x + 21}" y="32" fill="#1e2a21">{label}</text>']
ticks = [tick / 2 for tick in range(int(LIMIT * 2) + 1)]
for tick in ticks:
    x, color = scale(tick), "#3b4a3f" if tick == 1 else "#dfe3da"
    svg += [
        f'<line x1="{x:.1f}" y1="{TOP - 14}" x2="{x:.1f}" y2="{HEIGHT - 30}" stroke="{color}"/>',
        f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="middle" fill="#5c6a5f">×{tick:g}</text>',
    ]
for at, (cell, rate, cpu) in enumerate(points):
    y = TOP + at * ROW
    svg.append(f'<text x="{LEFT - 12}" y="{y + 15}" text-anchor="end" fill="#1e2a21">{TITLES[cell[0]]}, {cell[1]}, {cell[2]}</text>')
    for offset, value, color in [(0, rate, "#2f7a3d"), (12, cpu, "#b3702e")]:
        svg += [
            f'<rect x="{LEFT}" y="{y + offset}" width="{scale(value) - LEFT:.1f}" height="9" rx="2" fill="{color}"/>',
            f'<text x="{scale(value) + 5:.1f}" y="{y + offset + 8.5}" font-size="9.5" fill="#3b4a3f">{value:.2f}</text>',
        ]
svg.append("</svg>")
pathlib.Path("docs/performance.svg").write_text("\n".join(svg) + "\n")

"""Compares a suite's outcomes on PostgreSQL with those through Hedgerow, and writes the table of docs/drivers.md."""

import json
import re
from collections import Counter
from dataclasses import dataclass

from reasons import REASONS

BEGIN, END = "<!-- suites: begin -->", "<!-- suites: end -->"
DENIAL = re.compile(r"\b(HR\d{4})(?:: ([^\n]*))?")


@dataclass
class Comparison:
    """One suite, both ways. `lost` maps each test that only fails through Hedgerow to what refused it."""

    name: str
    direct: dict
    through: dict
    lost: dict

    @property
    def passed_directly(self):
        return sorted(test for test, (outcome, _) in self.direct.items() if outcome == "passed")

    @property
    def unexplained(self):
        return sorted(test for test, cause in self.lost.items() if reason(test, cause) is None)

    def summary(self):
        total, lost = len(self.passed_directly), len(self.lost)
        lines = [f"{self.name}: {total} pass directly, {total - lost} of them through Hedgerow ({rate(total - lost, total)})"]
        causes = Counter(cause for test, cause in self.lost.items())
        lines += [f"  {count:5} {cause}" for cause, count in causes.most_common()]
        lines += [f"  unexplained: {test}: {self.lost[test]}" for test in self.unexplained]
        return "\n".join(lines)


def rate(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "–"


def outcomes(path):
    """Test → (outcome, text). A test that fails once has failed."""
    found = {}
    for line in path.read_text().splitlines():
        each = json.loads(line)
        if found.get(each["id"], ("",))[0] != "failed":
            found[each["id"]] = (each["outcome"], each["text"])
    return found


def compare(name, directory):
    direct, through = (outcomes(directory / f"{name}-{way}.jsonl") for way in ("direct", "hedgerow"))
    lost = {}
    for test, (outcome, _) in direct.items():
        if outcome != "passed" or through.get(test, ("",))[0] == "passed":
            continue
        lost[test] = cause_of(*through.get(test, ("missing", text_of_class(test, through))))
    return Comparison(name, direct, through, lost)


def text_of_class(test, through):
    """A test that did not run at all: what its class's preparations met."""
    owner = test.rpartition(".")[0]
    return "".join(text for other, (_, text) in through.items() if f"({owner})" in other)


def cause_of(outcome, text):
    denials = DENIAL.findall(text)
    if denials:
        code, thing = denials[0]
        return f"{code}: {thing}" if thing else code
    last = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{outcome}: {last[-1][:160] if last else 'no text'}"


def reason(test, cause):
    return next((why for pattern, why in REASONS if re.search(pattern, cause) or re.search(pattern, test)), None)


def table(compared):
    lines = ["| suite | pass directly | pass through Hedgerow | |", "|---|---:|---:|---:|"]
    for each in compared:
        total = len(each.passed_directly)
        kept = total - len(each.lost)
        lines.append(f"| {each.name} | {total} | {kept} | {rate(kept, total)} |")
    lines += ["", "| tests | are refused because |", "|---:|---|"]
    whys = Counter()
    for each in compared:
        whys.update(reason(test, cause) or f"not explained: {cause}" for test, cause in each.lost.items())
    lines += [f"| {count} | {why} |" for why, count in whys.most_common()]
    return "\n".join(lines)


def write(path, compared):
    text = path.read_text()
    head, rest = text.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n\n{table(compared)}\n\n{END}{rest.split(END)[1]}")

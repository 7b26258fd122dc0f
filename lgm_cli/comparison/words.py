"""What a comparison says in sentences, and its table as plain text and Markdown."""

from __future__ import annotations

import math

from lgm_cli.comparison.read import SPLIT, Run
from lgm_cli.comparison.table import NAMES, NEAR, Comparison, Group, mean, spread
from lgm_cli.errors import printable

MOST_LINES = 20  # of the table on the terminal
WIDEST = 34  # characters of a cell there
SURE = 2.0  # standard errors of a mean difference from which two groups count as apart


def verdicts(comparison: Comparison) -> list[str]:
    """The comparison in whole sentences: how runs ended, which group leads and by how much, who came near, what to
    choose.
    """
    runs = comparison.runs
    found = [f"{_many(len(runs), 'run')}: {Group('', (), runs).statuses()}."]
    found += _leader(comparison)
    found += _times(comparison)
    found += _choices(comparison)
    return found


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _leader(comparison: Comparison) -> list[str]:
    """Which group has the highest mean, and whether the seeds that it shares with the next separate the two."""
    name, track = NAMES[comparison.track], comparison.track
    known = [group for group in comparison.groups if group.numbers(track)]
    known.sort(key=lambda group: -mean(group.numbers(track)))
    if not known:
        return [f"No run has a final {name}."]
    if len(known) == 1:
        values = known[0].numbers(track)
        around = f", standard deviation {spread(values):.2g}" if len(values) > 1 else ""
        return [f"The mean {name} is {mean(values):.4f} nats per entry over {_many(len(values), 'run')}{around}."]
    first, second = known[:2]
    if any(_learned_from(run) != _learned_from(known[0].runs[0]) for group in known for run in group.runs if run.sound):
        return ["The runs have learned from different data, so that their likelihoods are no measure of each other."]
    text = f"{first.label} has the highest mean {name}, {mean(first.numbers(track)):.4f} nats per entry"
    gaps = _paired(comparison, first, second)
    if len(gaps) < 2:
        return [f"{text}; next is {second.label} with {mean(second.numbers(track)):.4f}. They share fewer than two "
                "seeds, which does not tell a difference from chance."]  # fmt: skip
    gap, error = mean(gaps), spread(gaps) / math.sqrt(len(gaps))
    apart = abs(gap) > SURE * error and gap != 0
    told = "the seeds tell them apart" if apart else "the seeds do not tell them apart"
    return [f"{text}; on the same {len(gaps)} seeds it is {gap:.2g} above {second.label} "
            f"(standard error {error:.2g}): {told}."]  # fmt: skip


def _learned_from(run: Run) -> object:
    """The data as they were asked for; which entries are hidden may differ, as it does from seed to seed."""
    data = run.config.get("data")
    return {key: value for key, value in data.items() if key != "split_seed"} if isinstance(data, dict) else None


def _paired(comparison: Comparison, first: Group, second: Group) -> list[float]:
    """Differences between two groups on each seed that both have."""
    by_seed: list[dict[object, float]] = []
    for group in (first, second):
        own = {tuple(run.value(key) for key in SPLIT): run.last(comparison.track) for run in group.runs if run.sound}
        by_seed.append({seed: value for seed, value in own.items() if math.isfinite(value)})
    return [value - by_seed[1][seed] for seed, value in by_seed[0].items() if seed in by_seed[1]]


def _times(comparison: Comparison) -> list[str]:
    if not comparison.targets:
        return ["No run with exact posteriors has ended, so there is no best exact run to measure times against."]
    near = f"within {NEAR:g} nats per entry of the best exact run on the same hidden entries"
    texts = [f"{group.label}: {text}" for group in comparison.groups if (text := comparison.reached(group)) != "-"]
    if len(texts) > 6:
        missed = sum("not reached" in text for text in texts)
        return [f"The table has the seconds to come {near}; {missed} of {len(texts)} groups have runs that never do."]
    return [f"Seconds of learning to come {near}: {'; '.join(texts)}."] if texts else []


def _choices(comparison: Comparison) -> list[str]:
    """Which value of the varying number BIC and the likelihood of hidden entries choose."""
    found = []
    for label, line in comparison.lines():
        parts = []
        for name, sign, values in (
            ("BIC", -1, [(x, mean(group.own("bic"))) for x, group in line]),
            (f"the {NAMES[comparison.track]}", 1, [(x, mean(group.numbers(comparison.track))) for x, group in line]),
        ):
            if finite := [(x, value) for x, value in values if math.isfinite(value)]:
                parts.append(f"{name} chooses {max(finite, key=lambda pair, sign=sign: sign * pair[1])[0]:g}")
        if parts:
            found.append(f"Of {comparison.number}{' with ' + label if label else ''}, {' and '.join(parts)}.")
    return found


def terminal(comparison: Comparison) -> str:
    """The table on a terminal: what varies, at most 20 lines."""
    rows = [[printable(text) for text, _ in comparison.row(group)] for group in comparison.groups]
    head = comparison.columns()
    room = MOST_LINES - 2
    left_out = len(rows) - room if len(rows) > room else 0
    shown = [head, *(rows[: room - 1] if left_out else rows)]
    shown = [[text if len(text) <= WIDEST else text[: WIDEST - 1] + "…" for text in row] for row in shown]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    if left_out:
        lines.append(f"... and {left_out + 1} more rows, in comparison.md")
    return "\n".join(lines)


def markdown(comparison: Comparison) -> str:
    """comparison.md: verdicts, the table, failed runs and the command of each run."""
    lines = ["# Comparison", "", *(f"- {_plain(text)}" for text in verdicts(comparison)), ""]
    head = comparison.columns()
    lines += [_row(head), _row(["---"] * len(head))]
    lines += [_row([text for text, _ in comparison.row(group)]) for group in comparison.groups]
    lines += ["", "Numbers are means ± standard deviations over the runs of a row; failed, diverged and unfinished "
              "runs are counted under status and left out of the means."]  # fmt: skip
    if failed := [run for run in comparison.runs if not run.sound]:
        lines += ["", "## Runs without a result", "", *(f"- {_plain(told(run))}" for run in failed)]
    lines += ["", "## Commands", ""]
    for run in comparison.runs:
        lines += [f"    {printable(run.command)}"]
    return "\n".join(lines) + "\n"


def told(run: Run) -> str:
    return f"{run.name}: {run.status}" + (f", {run.reason}" if run.reason else "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = printable(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|*_[]`":
        text = text.replace(mark, f"\\{mark}")
    return text

"""What several runs say together: which keys vary, mean and spread over seeds, times to the best exact run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from lgm_cli.comparison.read import SPLIT, Run
from lgm_cli.results.run_folder import key_of

NEAR = 0.01  # nats per entry: how close to the best exact run counts as having reached it
NUMBERS = ("model.latent_dim", "model.order", "model.num_components")  # sizes that BIC chooses among
TEST, TRAIN = "test_log_likelihood", "train_log_likelihood"
NAMES = {TEST: "test log-likelihood", TRAIN: "train log-likelihood"}


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seeds alone."""

    label: str
    values: tuple[str, ...]  # of the keys that vary
    runs: tuple[Run, ...]

    def statuses(self) -> str:
        """How its runs ended: 'converged', or '2 converged, 1 failed'."""
        found = [run.status for run in self.runs]
        kinds = list(dict.fromkeys(found))
        return kinds[0] if len(kinds) == 1 else ", ".join(f"{found.count(kind)} {kind}" for kind in kinds)

    def numbers(self, column: str) -> list[float]:
        """The final numbers of its sound runs."""
        found = [run.last(column) for run in self.runs if run.sound]
        return [value for value in found if math.isfinite(value)]

    def own(self, key: str) -> list[float]:
        found = [run.own(key) for run in self.runs if run.sound]
        return [value for value in found if math.isfinite(value)]


def spread(values: Sequence[float]) -> float:
    """The standard deviation with divisor n - 1; NaN of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


@dataclass(frozen=True)
class Comparison:
    """Several runs, at least one, and what they say together."""

    runs: tuple[Run, ...]

    @cached_property
    def varying(self) -> list[str]:
        """The keys given on the command line whose values are not the same in all runs, seeds last."""
        keys = dict.fromkeys(key_of(item) for run in self.runs for item in run.overrides)
        found = [key for key in keys if len({run.value(key) for run in self.runs}) > 1]
        return sorted(found, key=lambda key: key in SPLIT)

    @cached_property
    def keys(self) -> list[str]:
        """The varying keys but for seeds: what a group has in common."""
        return [key for key in self.varying if key not in SPLIT]

    @cached_property
    def track(self) -> str:
        """The column that runs are compared by: of hidden entries, or of training where none were hidden."""
        return TEST if any(math.isfinite(value) for run in self.runs for value in run.course.get(TEST, [])) else TRAIN

    @cached_property
    def groups(self) -> list[Group]:
        found: dict[tuple[str, ...], list[Run]] = {}
        for run in self.runs:
            values = tuple("-" if (value := run.value(key)) is None else value for key in self.keys)
            if not self.varying and len(self.runs) > 1:
                values = (run.name,)  # nothing else tells them apart
            found.setdefault(values, []).append(run)
        return [Group(self._label(values, runs), values, tuple(runs)) for values, runs in found.items()]

    def _label(self, values: tuple[str, ...], runs: Sequence[Run]) -> str:
        if not self.keys:
            return values[0] if values else "all runs" if len(self.runs) > 1 else runs[0].name
        return " ".join(f"{key}={value}" for key, value in zip(self.keys, values, strict=True))

    def split(self, run: Run) -> tuple[object, ...]:
        """Runs of one split have the same data and the same hidden entries, so that their likelihoods compare."""
        data = run.summary.get("data")
        return (data.get("fingerprint") if isinstance(data, dict) else None,)

    @cached_property
    def targets(self) -> dict[tuple[object, ...], float]:
        """For each split the value of the best exact run, less NEAR; nothing where no exact run has ended."""
        best: dict[tuple[object, ...], float] = {}
        for run in self.runs:
            value = run.last(self.track)
            if run.exact and run.sound and math.isfinite(value):
                best[self.split(run)] = max(value, best.get(self.split(run), -math.inf))
        return {key: value - NEAR for key, value in best.items()}

    def seconds_to_reach(self, run: Run) -> float | None:
        """Seconds of learning until a run first comes within NEAR of the best exact run on the same split.

        Infinity when it never does; None when there is no exact run to compare with, or no course.
        """
        target = self.targets.get(self.split(run))
        course = run.course.get(self.track, [])
        if target is None or not course:
            return None
        pairs = zip(course, run.course.get("fit_seconds", []), strict=False)
        return next((seconds for value, seconds in pairs if value >= target), math.inf)

    def reached(self, group: Group) -> str:
        """The times of a group in words: their mean and spread, or how many never came near."""
        times = [time for run in group.runs if (time := self.seconds_to_reach(run)) is not None]
        near = [time for time in times if math.isfinite(time)]
        if not times:
            return "-"
        if not near:
            return "not reached"
        text = plus_minus(near, ".3g")
        return text if len(near) == len(times) else f"{text}; {len(times) - len(near)} of {len(times)} not reached"

    @cached_property
    def number(self) -> str | None:
        """The one varying key that is a number of latent dimensions, an order or a number of components."""
        found = [key for key in self.keys if key in NUMBERS]
        return found[0] if len(found) == 1 else None

    def lines(self) -> Iterator[tuple[str, list[tuple[float, Group]]]]:
        """Groups along the varying number, by what else varies."""
        if self.number is None:
            return
        position, found = self.keys.index(self.number), {}
        for group in self.groups:
            others = [
                f"{key}={value}" for key, value in zip(self.keys, group.values, strict=True) if key != self.number
            ]
            with suppress(ValueError):
                found.setdefault(" ".join(others), []).append((float(group.values[position]), group))
        for label, pairs in found.items():
            if len(pairs) > 1:
                yield label, sorted(pairs, key=lambda pair: pair[0])

    def columns(self) -> list[str]:
        """The headings of the short table."""
        own = self.keys or (["run"] if self.groups[0].values else [])
        found = [*own, "runs", "status", NAMES[self.track]]
        found += ["test rmse"] if self._any("test_rmse") else []
        found += ["bic"] if any(group.own("bic") for group in self.groups) else []
        return [*found, "seconds", f"seconds to within {NEAR:g}"]

    def _any(self, column: str) -> bool:
        return any(group.numbers(column) for group in self.groups)

    def row(self, group: Group) -> list[tuple[str, float | str]]:
        """The cells of a group: what is shown, and what is sorted by."""
        cells: list[tuple[str, float | str]] = [(value, _sortable(value)) for value in group.values]
        cells += [(str(len(group.runs)), float(len(group.runs))), (group.statuses(), group.statuses())]
        measured = [(group.numbers(self.track), ".4f")]
        measured += [(group.numbers("test_rmse"), ".4g")] if self._any("test_rmse") else []
        measured += [(group.own("bic"), ".1f")] if any(other.own("bic") for other in self.groups) else []
        measured += [(group.numbers("fit_seconds"), ".3g")]
        cells += [(plus_minus(values, form), mean(values)) for values, form in measured]
        times = [time for run in group.runs if (time := self.seconds_to_reach(run)) is not None]
        return [*cells, (self.reached(group), mean(times))]


def _sortable(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def plus_minus(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation, or a dash.

    >>> plus_minus([1.0, 3.0], ".1f")
    '2.0 ± 1.4'
    >>> plus_minus([1000.0, 1300.0], ".1f")
    '1150.0 ± 212'
    """
    if not values:
        return "-"
    around = spread(values)
    digits = ".0f" if around >= 10 else ".2g"
    return f"{mean(values):{form}}" + (f" ± {around:{digits}}" if math.isfinite(around) else "")

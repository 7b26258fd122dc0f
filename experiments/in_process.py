"""Runs of `lgm-run` inside one process, on one thread and the processor's clock, and a page that holds their table."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from lgm_cli.command import choices, rules
from lgm_cli.observations.chunk import Chunk
from lgm_cli.report.text import Result
from lgm_cli.results import write
from lgm_cli.run import auto, loop

FIXED = ("device=cpu", "device.threads=1", "save_posterior=false")


def composed(overrides: list[str]) -> dict[str, Any]:
    """The checked configuration, as the command line makes it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(choices.conf_folder()), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", overrides), resolve=True)
    assert isinstance(plain, dict)
    return rules.check({str(key): value for key, value in plain.items()})


@contextmanager
def processor_clock() -> Iterator[None]:
    """Learning is timed by the processor's clock, which depends less on what else a machine does."""
    before, clock = loop.time, SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)
    loop.time = auto.time = clock  # pyright: ignore
    try:
        yield
    finally:
        loop.time = auto.time = before


class CountingLearner(loop.Learner):
    """A learner that counts the posteriors of data points that are computed while its clock runs: those of E-steps, of
    likelihoods that an M-step climbs, of the guard of an extrapolation and of looks around, not of evaluations.

    A likelihood's gradient takes the posteriors once. Posteriors by an iterative solver count once, whatever its
    iterations and samples.
    """

    newest: CountingLearner

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.computed, self.counting = 0, False
        self.passes: list[tuple[int, float]] = []  # step of a row of metrics.csv, passes until then
        model, e_step = self.method.model, self.method.expectation
        model.posterior = self._counted(model.posterior, 1)
        if hasattr(e_step, "solver"):
            e_step.posteriors = self._counted_yields(e_step.posteriors)
        self.method.step = self._on_the_clock(self.method.step)
        self.boundary.attempt = self._on_the_clock(self.boundary.attempt)
        CountingLearner.newest = self

    def _counted(self, function: Any, place: int) -> Any:
        @wraps(function)
        def counted(*given: Any, **named: Any) -> Any:
            self._count(given[place])
            return function(*given, **named)

        return counted

    def _counted_yields(self, function: Any) -> Any:
        def counted(*given: Any) -> Iterator[Any]:
            for found in function(*given):
                self._count(found[0])
                yield found

        return counted

    def _count(self, chunk: Chunk) -> None:
        self.computed += self.counting * len(chunk.points)

    def _on_the_clock(self, function: Any) -> Any:
        def counted(*given: Any, **named: Any) -> Any:
            self.counting = True
            try:
                return function(*given, **named)
            finally:
                self.counting = False

        return counted

    def _look_around(self) -> Any:
        before = loop.higher_nearby
        loop.higher_nearby = self._on_the_clock(before)
        try:
            return super()._look_around()
        finally:
            loop.higher_nearby = before

    def _record(self, scores: Any, info: Any, progress: Any) -> None:
        super()._record(scores, info, progress)
        self.passes.append((self.method.steps, self.computed / self.method.model.observations.shape[0]))


def counted_run(overrides: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary of a run, and the rows of its metrics.csv with the passes over the data until each; UserError where
    it is refused. Its other files, pictures above all, are not written."""
    from lgm_cli.run.runner import run

    learner, files = loop.Learner, write.write
    loop.Learner, write.write = CountingLearner, lambda *_: (Result([]), {})
    given = [*overrides, *FIXED]
    try:
        with tempfile.TemporaryDirectory() as scratch, processor_clock():
            summary = run(composed(given), Path(scratch), given, bar=False)
    finally:
        loop.Learner, write.write = learner, files
    done, passes = CountingLearner.newest, dict(CountingLearner.newest.passes)
    return summary, [row | {"passes": passes[row["step"]]} for row in done.recorder.rows]


def write_page(page: Path, text: str) -> None:
    """Put a table into a page, between its two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- table -->")
    after = rest.partition("<!-- /table -->")[2]
    page.write_text(f"{before}<!-- table -->\n{text}\n<!-- /table -->{after}", encoding="utf-8")

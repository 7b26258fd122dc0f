"""How a run is going: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

LINE_EVERY_SECONDS = 10.0
SHOWN = {
    "train_log_likelihood": "train {:.4f}",
    "test_log_likelihood": "test {:.4f}",
}

log = logging.getLogger(__name__)


def describe(row: Mapping[str, Any]) -> str:
    """The likelihoods of a row of metrics.csv, in nats per entry, as far as it has them.

    >>> describe({"train_log_likelihood": -1.25, "test_log_likelihood": None, "test_rmse": 0.8714})
    'train -1.2500'
    """
    return ", ".join(form.format(row[name]) for name, form in SHOWN.items() if row.get(name) is not None)


class Progress:
    """Shows the step, the newest evaluation and the time that is left at most; use it as a context manager.

    The log gets the first evaluation, the last, and between them one every LINE_EVERY_SECONDS. Where standard
    error is a terminal there is a bar, which takes the place of those lines there (a log file still gets
    them) and makes room for the lines of others.
    """

    def __init__(
        self,
        max_steps: int,
        max_seconds: float | None = None,
        *,
        step: int = 0,
        fit_seconds: float = 0.0,
        bar: bool = True,
    ) -> None:
        """A resumed run goes on at `step` and `fit_seconds`; `bar=False` suits runs that share a terminal."""
        self.max_seconds = max_seconds
        self._seconds = fit_seconds
        self._evaluated = self._pending = ""
        self._written = -math.inf
        self._consoles: list[logging.Handler] = []
        self._bar = tqdm(
            total=max_steps,
            initial=step,
            disable=None if bar else True,  # None: unless standard error is a terminal
            leave=False,
            dynamic_ncols=True,
            bar_format="step {n_fmt}/{total_fmt} {bar}{postfix}",
        )

    def __enter__(self) -> Progress:
        if not self._bar.disable:
            handlers = [*logging.getLogger().handlers, *logging.getLogger("lgm_cli").handlers]
            self._consoles = [handler for handler in handlers if _on_terminal(handler)]
        for handler in self._consoles:
            handler.addFilter(self._make_room)
        return self

    def __exit__(self, *_: object) -> None:
        self._write_pending()
        for handler in self._consoles:
            handler.removeFilter(self._make_room)
        self._bar.close()

    def stepped(self, step: int, fit_seconds: float) -> None:
        """A step was taken, `fit_seconds` into learning."""
        self._seconds = fit_seconds
        if not self._bar.disable:
            self._bar.set_postfix_str(", ".join(filter(None, (self._evaluated, self._left()))), refresh=False)
            self._bar.update(step - self._bar.n)

    def evaluated(self, row: Mapping[str, Any]) -> None:
        """An evaluation was made: a row of metrics.csv."""
        self._evaluated = describe(row)
        parts = (
            f"step {row['step']}",
            self._evaluated,
            f"{row['fit_seconds']:.1f} s of learning",
            self._left(),
        )
        self._pending = ", ".join(filter(None, parts))
        if time.monotonic() - self._written >= LINE_EVERY_SECONDS:
            self._write_pending()

    def _write_pending(self) -> None:
        if self._pending:
            log.info(self._pending)
            self._pending, self._written = "", time.monotonic()

    def _left(self) -> str:
        """The time until max_seconds, where the user set it. Nobody knows when a run will have converged."""
        if self.max_seconds is None:
            return ""
        return f"at most {tqdm.format_interval(max(0.0, self.max_seconds - self._seconds))} left"

    def _make_room(self, record: logging.LogRecord) -> bool:
        """A filter for the terminal: the bar stands for this module's lines and yields to all others."""
        if record.name == log.name:
            return False
        self._bar.clear()
        return True


def _on_terminal(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)  # None: a file that is not open yet
    return stream is not None and not stream.closed and stream.isatty()

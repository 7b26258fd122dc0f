"""The signals that stop a run."""

from __future__ import annotations

import logging
import signal
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)


class Stop:
    """What SIGINT and SIGTERM do; use it as a context manager.

    Once `patient`, the first is noted: learning ends between two steps, and everything is written. Before that, and the
    second time, KeyboardInterrupt is raised at once.
    """

    def __init__(self) -> None:
        self.asked = self.patient = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> Stop:
        with suppress(ValueError):  # not the main thread: whoever owns it handles signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True
        log.info("%s: ending this step, then writing what was learned; again to stop now", signal.Signals(number).name)

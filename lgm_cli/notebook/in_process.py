"""One command of lgm-run inside a Python program that goes on after it, whose state is left as it was.

Hydra and logging keep their state in the process, so one command runs at a time: another thread waits for its turn.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lgm_cli.errors import PrintableFormatter

TURN = threading.Lock()
NO_LOGGING_BY_HYDRA = ("hydra.job_logging.root=null", "hydra.hydra_logging.root=null")
LOGGER = "lgm_cli"


def call(arguments: list[str], folder: Path, verbose: bool) -> None:
    """Run the arguments of one command line, whose files go to `folder`. UserError where the user can mend something.

    verbose: show the log that lgm-run prints; run.log is written in any case. KeyboardInterrupt passes through, once
    the run has written what it had learned.
    """
    with TURN, _state_kept(), _logged(folder, verbose):
        from lgm_cli.command import cli

        cli.in_python(arguments)


@contextmanager
def _logged(folder: Path, verbose: bool) -> Iterator[None]:
    """Let the program's own messages go to run.log and, if asked, to standard output; those of others stay as they
    are."""
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.level, logger.propagate
    file = logging.FileHandler(folder / "run.log", encoding="utf-8", delay=True)
    file.setFormatter(PrintableFormatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    handlers: list[logging.Handler] = [file]
    if verbose:
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(PrintableFormatter("%(message)s"))
        handlers.append(console)
    logger.handlers[:], logger.propagate = handlers, False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        file.close()
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


@contextmanager
def _state_kept() -> Iterator[None]:
    """Give back, however the command ends: Hydra's state, random numbers, threads and numbers of torch, the
    environment."""
    with ExitStack() as stack:
        stack.callback(_restore_environment, dict(os.environ))
        stack.callback(random.setstate, random.getstate())
        _keep_hydra(stack)
        _keep_numpy(stack)
        _keep_torch(stack)
        yield


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _keep_hydra(stack: ExitStack) -> None:
    """A notebook may have initialised Hydra for itself, which refuses to begin while it has begun."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    begun, config = GlobalHydra.instance(), HydraConfig.instance()
    stack.callback(setattr, begun, "hydra", begun.hydra)
    stack.callback(setattr, config, "cfg", config.cfg)
    begun.clear()


def _keep_numpy(stack: ExitStack) -> None:
    import numpy as np

    stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002  the state that others may use
    stack.callback(lambda settings: np.seterr(**settings), np.geterr())


def _keep_torch(stack: ExitStack) -> None:
    import torch

    stack.callback(torch.set_num_threads, torch.get_num_threads())
    stack.callback(torch.set_default_dtype, torch.get_default_dtype())
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    strict = torch.are_deterministic_algorithms_enabled()
    stack.callback(lambda: torch.use_deterministic_algorithms(strict, warn_only=warns))

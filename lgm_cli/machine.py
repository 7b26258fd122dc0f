"""What the machine allows a process: cores, threads, memory."""

from __future__ import annotations

import errno
import logging
import os
import re

from lgm_cli.errors import printable, shortened

try:
    import resource
except ImportError:  # Windows
    resource = None

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (  # the words of libraries whose errors have no type of their own
    "out of memory|(can't|cannot|unable to) allocate|bad_alloc|failed to map segment|can't start new thread"
    "|storage size calculation overflowed|array is too big|maximum allowed dimension"
)


MOST_THREADS = 4  # for each core


def threads_asked() -> int | None:
    """The threads that OMP_NUM_THREADS asks for; None when it is not set.

    What is not a number of threads is said and taken out, so that OpenMP, which reads it when torch is imported, does
    not complain of it too.
    """
    text = os.environ.get("OMP_NUM_THREADS")
    if text is None:
        return None
    most = MOST_THREADS * cores()
    outermost = re.fullmatch(r"\s*(\d{1,6})\s*(,\s*\d+\s*)*", text, re.ASCII)  # a list is of nested regions
    if outermost and 1 <= (threads := int(outermost[1])) <= most:
        return threads
    if text.strip():
        shown = printable(shortened(text))  # here too: bytes that were no text can go into no report
        log.warning("OMP_NUM_THREADS=%s is left aside: it is no number from 1 to %d", shown, most)
    del os.environ["OMP_NUM_THREADS"]
    return None


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_is_limited() -> bool:
    """Whether `ulimit -v` bounds the addresses of this process."""
    return resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory is used up. Under a limit, a library that cannot be loaded says so too."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if re.search(OUT_OF_MEMORY, str(error), re.IGNORECASE):
        return True
    return isinstance(error, ImportError | SystemError) and memory_is_limited()

"""Where the steps of several series stand in a table."""

from __future__ import annotations

import numpy as np
import torch


class Chains:
    """The rows of a table by series. The steps of a series up to its last observed one are learned from; those after
    it, and those past its end, are forecast.

    series (rows,): which series each row is of, from 0 on; None where all are one. seen (rows,): whether a row has an
    observed entry. classes (rows,): the state of each row, -1 where it is not known; a known one is observed, too.
    """

    def __init__(self, series: np.ndarray | None, seen: np.ndarray, classes: np.ndarray | None = None) -> None:
        seen = seen if classes is None else seen | (classes >= 0)
        series = np.zeros(len(seen), np.int64) if series is None else series
        order = np.argsort(series, kind="stable")
        sizes = np.bincount(series)
        turn = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
        last = np.zeros(len(sizes), np.int64)
        of_seen = seen[order]
        np.maximum.at(last, series[order][of_seen], turn[of_seen])
        known = turn <= np.repeat(last, sizes)
        place = np.empty(len(order), np.int64)
        place[np.concatenate([order[known], order[~known]])] = np.arange(len(order))
        self.learned = torch.as_tensor(order[known])  # rows, one series after the other
        self.place = torch.as_tensor(place)  # of each row among those learned from and then those that are forecast
        self.starts = tuple((last + 1).cumsum() - (last + 1))  # first step of each series among those learned from
        self.ahead = tuple((sizes - last - 1).tolist())  # steps of each series that are forecast
        follows = np.ones(len(self.learned) - 1, bool)
        follows[np.array(self.starts[1:], np.int64) - 1] = False
        self.known = None if classes is None else torch.as_tensor(classes[order[known]])  # (steps,) states, or -1
        self.follows = torch.as_tensor(follows)  # (steps - 1,) whether the next step is of the same series

    @property
    def steps(self) -> int:
        return len(self.learned)

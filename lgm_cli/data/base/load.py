"""From the name of a data set to its data, with entries hidden."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from lgm_cli.data.base.check import check
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.split import hide
from lgm_cli.data.series import require_more_than_season


def load(options: dict[str, Any], seed: int, simulate: Callable[[dict[str, Any]], dict[str, Any]]) -> Data:
    """Read the data that `options` (the configuration's data group) describes and hide entries by `seed`.

    `simulate` draws from the model; only simulated data call it.
    """
    table = importlib.import_module(f"lgm_cli.data.{options['name']}").load(options, simulate)
    check(table)
    data = Data(table, hide(table, options["test_fraction"], seed))
    if table.transform is not None:
        check(data.learned.table)
    if data.season is not None:
        require_more_than_season(data.learned)
    return data

"""Whether a saved state is one that this program would have saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

LARGEST = 2**53  # whole numbers below it are exact in every format


def require(found: Any, like: Any, name: str) -> None:
    """Raise ValueError, with the name of what is wrong, unless a part of a state is as it was saved.

    like: a tensor (found must have its shape and dtype, and be finite), a dictionary of the same keys, a dataclass
    whose fields were saved as a dictionary, or a type. Whole numbers are counts, which are not negative.
    """
    if isinstance(like, Tensor):
        alike = isinstance(found, Tensor) and (found.shape, found.dtype, found.layout) == (
            like.shape, like.dtype, torch.strided,
        )  # fmt: skip
        good = alike and bool(found.isfinite().all())
    elif isinstance(like, Mapping) or is_dataclass(like):
        like = get_type_hints(like) if is_dataclass(like) else like
        good = isinstance(found, dict) and found.keys() == like.keys()
        for key in like if good else ():
            require(found[key], like[key], f"{name}.{key}")
    elif isinstance(like, UnionType):
        kinds = [kind for kind in get_args(like) if kind is not type(None)]
        good = found is None or len(kinds) == 1
        if found is not None and good:
            require(found, kinds[0], name)
    elif get_origin(like) is list:
        good = isinstance(found, list)
        for number, item in enumerate(found if good else ()):
            require(item, get_args(like)[0], f"{name}[{number}]")
    elif get_origin(like) is dict:
        good = isinstance(found, dict) and all(isinstance(key, get_args(like)[0]) for key in found)
        for key in found if good else ():
            require(found[key], get_args(like)[1], f"{name}.{key}")
    elif like in (int, float):
        good = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < LARGEST
        good = good or (like is float and isinstance(found, float))
    else:
        good = like is Any or found is like or (like is not None and isinstance(found, get_origin(like) or like))
    if not good:
        raise ValueError(name)

"""Parameters of models: tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

NEAR_FLOOR = 3.0  # floors up to which a variance has ended at its own: steps towards it grow ever shorter


Parameters = dict[str, Tensor]


def sound(exported: Mapping[str, Tensor]) -> bool:
    """Whether exported parameters can be those of a model: all finite, variances and precisions not negative."""
    for name, value in exported.items():
        if name.endswith("covariance"):
            value = value.diagonal(dim1=-2, dim2=-1)
        elif not name.endswith(("variance", "precision", "precisions")):
            value = value.abs()
        if not bool(exported[name].isfinite().all()) or bool((value < 0).any()):
            return False
    return True

"""Parameters of models and expected sufficient statistics: tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

NEAR_FLOOR = 3.0  # floors up to which a variance has ended at its own: steps towards it grow ever shorter
ANY = -1  # in the shape of a parameter: a size that the data decided, such as that of the most categories

Parameters = dict[str, Tensor]
Statistics = dict[str, Tensor]


def has_shapes(exported: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether exported parameters have these names and shapes."""
    return exported.keys() == shapes.keys() and all(
        value.dim() == len(shape) and all(size in (own, ANY) for own, size in zip(value.shape, shape, strict=True))
        for value, shape in zip((exported[name] for name in shapes), shapes.values(), strict=True)
    )


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


def with_imagined(statistics: Statistics, imagined: Statistics) -> Statistics:
    """The sums of both. imagined: those of imaginary data, perhaps none, and perhaps with sums that the statistics of
    real data do not need. What has no imaginary part, such as an entropy, stays."""
    found = {name: value + imagined[name] if name in imagined else value for name, value in statistics.items()}
    return found | {name: value for name, value in imagined.items() if name not in statistics}

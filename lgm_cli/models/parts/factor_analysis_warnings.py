"""What is said of factors that the data do not determine."""

from __future__ import annotations


def not_identified(dim: int, columns: int, offset: bool, most: int, most_without_offset: int) -> list[str]:
    """A warning where there are more factors than the covariances of the columns determine, which are `most`."""
    if dim <= most:
        return []
    mend = [f"model.latent_dim={most} or less"] if most else []
    mend += ["model.offset=false"] if offset and dim <= most_without_offset else []
    return [
        f"model.latent_dim={dim}{' with an offset' if offset else ''} is too much for {columns} columns: their "
        "covariances do not determine the loadings and the noise variances, others fit as well "
        f"({', or '.join(mend) or 'more columns'})"
    ]


def heywood_case(names: list[str], dim: int, floor: float, lower: str) -> str:
    """A warning of columns whose noise variances ended at their floor; `lower` says how it is lowered."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    fewer = "fewer factors or more data for it tell" if dim > 1 else "more data for it tell"
    return (
        f"Heywood case: the noise variance of {shown} ended at its floor, {floor:g} of the variance, or just above "
        f"({lower}; where it ends at that floor too, {fewer} noise from signal, or a prior keeps it from there: "
        "model.prior_noise=4)"
    )

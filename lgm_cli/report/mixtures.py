"""Components of a mixture of normals: where they are, and what they differ in."""

from __future__ import annotations

import numpy as np

from lgm_cli import plots
from lgm_cli.models.gaussian_mixture import GaussianMixture
from lgm_cli.report.learned import Learned, Picture, drawn_units

NAMED = 3  # columns that make up most of an axis
SHOWN_POINTS = 4000  # of a larger table, rows at even distances


def pictures(model: GaussianMixture, learned: Learned) -> dict[str, Picture]:
    """Regions of the components in the plane of the two columns, or of the two discriminants that separate the
    components best; of one column, their densities; of several, their means."""
    data, (center, scale, unit) = learned.data, drawn_units(learned.data)
    names = list(map(str, data.table.titles_of_columns))
    classes = [] if data.table.class_names is None else list(map(str, data.table.class_names))
    weights, means = (learned.exported[name].numpy() for name in ("weights", "means"))
    covariances = model.covariances_of(learned.exported).numpy()
    if data.shape[1] == 1:
        line = data.train_values, weights, means[:, 0], covariances[:, 0, 0], names[0]
        return {"components": lambda path: plots.component_densities(*line, path, classes)}
    rows = np.unique(np.linspace(0, data.shape[0] - 1, SHOWN_POINTS).round().astype(int))
    values = _filled(learned, rows)
    responsibilities = learned.inferred()["responsibilities"].double().numpy()[rows]
    deviations = np.sqrt(covariances.diagonal(axis1=1, axis2=2))
    found: dict[str, Picture] = {
        "component_means": lambda path: plots.component_means(
            (means - center) / scale, deviations / scale, weights, names, path, unit, classes
        )
    }
    axes, labels, origin = np.eye(2), names, np.zeros(2)
    if data.shape[1] > 2:
        axes, labels = discriminants(weights, means, covariances)
        origin = weights @ means
        spread = np.sqrt(np.einsum("k,kij->ij", weights, covariances).diagonal())
        most = np.argsort(-np.abs(axes * spread), axis=1, kind="stable")[:, :NAMED]
        labels = [f"{label}: {', '.join(names[i] for i in own)}" for label, own in zip(labels, most, strict=True)]
    found["components"] = lambda path: plots.component_regions(
        (values - origin) @ axes.T, responsibilities, weights, (means - origin) @ axes.T,
        axes @ covariances @ axes.T, labels, path, classes,
    )  # fmt: skip
    return found


def _filled(learned: Learned, rows: np.ndarray) -> np.ndarray:
    """Values of some rows, in the data's units, what was not seen in learning replaced by its prediction."""
    data = learned.data
    table = np.full(data.shape, np.nan)
    table[data.train_rows, data.train_columns] = data.train_values
    values = table[rows]
    row, column = np.nonzero(np.isnan(values))
    if len(row):
        values[row, column] = learned.predict(rows[row], column)[0]
    return values


def discriminants(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> tuple[np.ndarray, tuple[str, str]]:
    """Two axes (2, M), each of unit variance within components, and their names: those along which means differ most
    beside it (Fisher, Annals of Eugenics 7 (1936) 179-188), positive in the column that counts most.

    With fewer than three components the second, or both, have no such difference: there it is the direction of most
    variance that is uncorrelated with the first.
    """
    apart = means - weights @ means
    within = np.einsum("k,kij->ij", weights, covariances)
    unit = np.sqrt(within.diagonal())
    size, turned = np.linalg.eigh(within / unit / unit[:, None])
    whiten = (turned / np.sqrt(np.maximum(size, 1e-12 * size[-1]))).T / unit  # (M, M), rows of unit variance within
    _, strength, axes = np.linalg.svd(np.sqrt(weights)[:, None] * (apart @ whiten.T), full_matrices=False)
    found = [axis @ whiten for axis, by in zip(axes[:2], strength, strict=False) if by > 1e-6]
    names = [f"discriminant {number + 1}" for number in range(len(found))]
    total = (within + (weights[:, None] * apart).T @ apart) / unit / unit[:, None]
    while len(found) < 2:
        for axis in found:
            part = total @ (axis * unit)
            total = total - np.outer(part, part) / (part @ (axis * unit))
        _, turned = np.linalg.eigh(total)
        axis = turned[:, -1] / unit
        found.append(axis / np.sqrt(axis @ within @ axis))
        names.append("direction of most variance" if len(found) == 1 else "most variance beside it")
    axes = np.stack(found)
    most = np.take_along_axis(axes, np.abs(axes * unit).argmax(1)[:, None], 1)
    return axes * np.sign(most), (names[0], names[1])

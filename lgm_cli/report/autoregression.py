"""A series of its own past: its fit, and its spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lgm_cli import plots
from lgm_cli.models.autoregressive import Autoregressive
from lgm_cli.report.learned import Learned, Picture
from lgm_cli.report.series import channels


def pictures(model: Autoregressive, learned: Learned) -> dict[str, Picture]:
    if learned.data.table.transform is not None:
        return _of_transformed(model, learned)
    found = {name: value.numpy() for name, value in learned.exported.items()}
    data, length = learned.data, model.dim
    values, hidden = np.full((2, length), np.nan)
    values[data.train_rows], hidden[data.test_rows] = data.train_values, data.test_values
    end = int(data.train_rows.max()) + 1
    unit = f"units of {data.table.column_labels[0]}"
    level = found["mean"] + data.seasonal(np.arange(length), np.zeros(length, int))

    def fit() -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = (value[:, 0].numpy() for value in learned.inferred().values())
        return level + mean, deviation

    def predicted() -> tuple[np.ndarray, np.ndarray]:
        return learned.predict(np.arange(length), np.zeros(length, int))

    def series(path: Path) -> object:
        names = str(data.table.column_labels[0]), data.table.index_name or "step"
        return plots.fitted_series(
            data.table.row_labels.to_numpy(), values, hidden, *fit(), *predicted(), end, *names, path
        )

    def spectrum(path: Path) -> object:
        mean, deviation = predicted()
        gap = np.isnan(values[:end])
        complete = np.where(gap, mean[:end], values[:end]) - level[:end]
        variances = float(found["innovation_variance"]), float(found["noise_variance"])
        missing = float((deviation[:end] ** 2)[gap].sum() / end)
        return plots.spectrum(complete, found["coefficients"], *variances, path, missing=missing, unit=unit)

    return {"series": series, "spectrum": spectrum}


def _of_transformed(model: Autoregressive, learned: Learned) -> dict[str, Picture]:
    """The series in the data's units with its forecasts, and the spectrum of what was learned from."""
    data, length = learned.data.learned, model.dim
    found = {name: value.numpy() for name, value in learned.exported.items()}

    def spectrum(path: Path) -> object:
        level = found["mean"] + data.seasonal(np.arange(length), np.zeros(length, int))
        mean, deviation = (value[:, 0].numpy() for value in learned.inferred().values())
        begin, end = data.train_rows.min(), data.train_rows.max() + 1
        values, noise = np.full(length, np.nan), float(found["noise_variance"])
        values[data.train_rows] = data.train_values
        values, gap = values[begin:end] - level[begin:end], np.isnan(values[begin:end])
        complete = np.where(gap, mean[begin:end], values)
        missing = float((deviation[begin:end] ** 2 + noise)[gap].sum() / len(gap))
        variances = float(found["innovation_variance"]), noise
        unit = f"{learned.data.table.transform} of {data.table.column_labels[0]}"
        return plots.spectrum(complete, found["coefficients"], *variances, path, missing=missing, unit=unit)

    return {"series": channels(learned)["channels"], "spectrum": spectrum}

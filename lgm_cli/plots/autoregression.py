"""A series with its fit and its forecast, and the spectrum of an autoregression."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from lgm_cli.plots.style import AHEAD, FAINT, FILLED, HIDDEN, LEARNED, QUIET, STYLE, plain, save, shorten

HALF = 1.645  # of a 90% interval, in standard deviations
FREQUENCIES = 4000
BANDS = 150  # of frequencies, that a long periodogram is averaged over
DOTS = 600  # steps up to which each value has a dot


def fitted_series(
    labels: np.ndarray,  # (T,) of the steps
    learned: np.ndarray,  # (T,) values that were learned from, NaN elsewhere
    hidden: np.ndarray,  # (T,) values that were not, NaN elsewhere
    fit: np.ndarray,  # (T,) posterior mean of the series without its noise
    fit_deviation: np.ndarray,  # (T,)
    predicted: np.ndarray,  # (T,) mean of what is observed
    predicted_deviation: np.ndarray,  # (T,)
    end: int,  # steps up to the last value that was learned from: a forecast follows
    name: str,
    index_name: str,
    path: Path,
) -> Figure:
    """The whole series above, its end with the forecast below; a rug where the series has gaps."""
    length, ahead = len(learned), len(learned) - end
    x, index_name = _places(labels, index_name)
    from_last = max(0, min(end - 20, length - max(5 * ahead, 60)))
    parts = [0, from_last] if from_last > 0.1 * length else [0]
    with matplotlib.rc_context(STYLE):
        figure = Figure((8, 2.7 * len(parts) + 0.7), layout="constrained")
        grid = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
        for axes, start in zip(grid, parts, strict=True):
            shown = np.arange(start, length)
            past, future = shown[shown < end], shown[shown >= max(end - 1, 0)]
            dots = {"linestyle": "none", "markersize": 2.6 if len(shown) > 150 else 3.6}
            low, high = fit - HALF * fit_deviation, fit + HALF * fit_deviation
            axes.fill_between(x[past], low[past], high[past], color=FILLED, alpha=0.25, linewidth=0)
            width = 1.1 if len(shown) <= DOTS else 0.5
            axes.plot(x[past], fit[past], color=FILLED, linewidth=width, label="fit with its 90% band")
            if len(shown) <= DOTS:
                axes.plot(x[shown], learned[shown], marker="o", color=LEARNED, label="learned from", **dots)
                axes.plot(
                    x[shown], hidden[shown], marker="o", markerfacecolor="white", color=HIDDEN, zorder=4,
                    label="hidden", **dots,
                )  # fmt: skip
            if ahead:
                low, high = predicted - HALF * predicted_deviation, predicted + HALF * predicted_deviation
                low[end - 1 : end], high[end - 1 : end] = predicted[end - 1 : end], predicted[end - 1 : end]
                axes.fill_between(x[future], low[future], high[future], color=AHEAD, alpha=0.3, linewidth=0)
                axes.plot(x[future], predicted[future], color=AHEAD, linewidth=1.4, label="forecast, 90%")
            gaps = past[np.isnan(learned[past]) & np.isnan(hidden[past]) & (len(shown) <= DOTS)]
            edge = axes.get_xaxis_transform()
            axes.plot(x[gaps], np.full(len(gaps), 0.012), marker="|", linestyle="none", color=FAINT, markersize=5,
                      transform=edge, zorder=0, label="gap")  # fmt: skip
            margin = (x[-1] - x[start]) * 0.01
            axes.set_xlim(x[start] - margin, x[-1] + margin)
            axes.set_ylabel(shorten(name, 24))
            if x.dtype.kind == "M":
                dates = AutoDateLocator(minticks=4, maxticks=9)
                axes.xaxis.set_major_locator(dates)
                axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))
        if len(parts) > 1:
            grid[1].set_title(f"the last {length - from_last:,} steps", color=QUIET, fontsize=8)
        grid[-1].set_xlabel(plain(index_name))
        handles, names = grid[-1].get_legend_handles_labels()
        kept = [pair for pair in zip(handles, names, strict=True) if np.isfinite(_heights(pair[0])).any()]
        figure.legend(*zip(*kept, strict=True), loc="outside lower center", ncols=len(kept), fontsize=8)
        return save(figure, path, f"{shorten(name, 40)}: fit{' and forecast' if ahead else ''}")


def _heights(handle: object) -> np.ndarray:
    """What a line of the legend has to show."""
    values = np.asarray(getattr(handle, "get_ydata", lambda: [0.0])(), float)
    return values if values.size else np.array([np.nan])


def _places(labels: np.ndarray, index_name: str) -> tuple[np.ndarray, str]:
    """Where to draw the steps: by their labels where these are numbers or dates that rise, else by their positions."""
    with np.errstate(all="ignore"):
        places = labels
        if labels.dtype.kind not in "iufM":
            try:
                places = pd.to_datetime(pd.Series(labels), format="ISO8601", utc=True).dt.tz_localize(None).to_numpy()
            except (ValueError, TypeError):
                return np.arange(len(labels)), "step"
    rising = len(labels) < 2 or bool((np.diff(places) > np.zeros(1, np.diff(places).dtype)).all())
    return (places, index_name) if rising else (np.arange(len(labels)), "step")


def spectrum(
    complete: np.ndarray,  # (T,) the series about its mean, without gaps
    coefficients: np.ndarray,  # (p,)
    innovation_variance: float,
    noise_variance: float,
    path: Path,
    missing: float = 0.0,
    unit: str = "units of the data",
) -> Figure:
    """q / |1 - sum_k a_k exp(-2 pi i f k)|^2 + s over the frequency f, and its highest peak, beside the periodogram.

    missing: variance that gaps filled by their means lack, on the average over all steps, taken to be white.
    unit: of the series that was learned from.
    """
    density, at = periodogram(complete)
    density = density + missing
    band = max(1, len(density) // BANDS)
    density, at = (each[: len(each) // band * band].reshape(-1, band).mean(1) for each in (density, at))
    frequency = np.linspace(0, 0.5, FREQUENCIES)
    lags = np.arange(1, len(coefficients) + 1)
    transfer = 1 - np.exp(-2j * np.pi * np.outer(frequency, lags)) @ coefficients
    signal = innovation_variance / np.abs(transfer) ** 2
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set_yscale("log")
        said = "periodogram, straight trend removed, Hann taper" + ", gaps filled" * (missing > 0)
        said += f",\naverages over {band} frequencies" * (band > 1)
        axes.plot(at, density, color=FAINT, linewidth=0.9, label=said)
        top = max(density.max(), (signal + noise_variance).max())
        least = float((signal + noise_variance).min())
        bottom = min(np.quantile(density, 0.05), least, max(noise_variance, 1e-3 * least))
        bottom = max(bottom, 1e-7 * top) / 2
        axes.set_ylim(bottom, 12 * top)  # with room for the legend
        noisy = noise_variance > bottom
        law = "autoregression and noise" if noisy else "autoregression"
        axes.plot(frequency, signal + noise_variance, color=FILLED, linewidth=1.6, label=law)
        if noisy:
            axes.axhline(noise_variance, color=QUIET, linewidth=1, linestyle="--", label="noise")
        inner = signal[1:-1]
        peaks = 1 + np.flatnonzero((inner > signal[:-2]) & (inner > signal[2:]))
        if len(peaks):
            peak = peaks[signal[peaks].argmax()]
            _mark(axes, float(frequency[peak]), float(signal[peak] + noise_variance))
        axes.set_xlim(0, 0.5)
        axes.set_xlabel("frequency [cycles per step]")
        axes.set_ylabel(f"spectral density\n[squared {shorten(unit, 50)}]")
        axes.legend(loc="upper right", fontsize=8)
        return save(figure, path, "Spectrum that the parameters imply")


def periodogram(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|sum_t w_t x_t exp(-2 pi i f t)|^2 / sum_t w_t^2 at the frequencies f = 1/T, 2/T, .. up to 1/2, and these.

    x is the series (T,) without its straight trend, w the Hann taper: a trend and the jump between the ends would leak
    into all frequencies (Percival & Walden, Spectral Analysis for Physical Applications, 1993, chapter 6).
    """
    length = len(series)
    place = np.arange(length)
    trend = np.polynomial.Polynomial.fit(place, series, 1)(place) if length > 2 else series.mean()
    taper = np.sin(np.pi * (place + 0.5) / length) ** 2
    power = np.abs(np.fft.rfft(taper * (series - trend))[1:]) ** 2 / (taper**2).sum()
    return power, np.fft.rfftfreq(length)[1:]


def _mark(axes: Axes, frequency: float, height: float) -> None:
    axes.plot([frequency], [height], marker="o", color=HIDDEN, markersize=4)
    axes.annotate(
        f"period {1 / frequency:.3g} steps", (frequency, height), xytext=(4, 5), textcoords="offset points",
        color=HIDDEN, fontsize=8, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )  # fmt: skip

"""Which pairs of families are conjugated, what calling others so would cost, and the program's models by one formula.

    python experiments/conjugation/run.py

Writes pairs.csv, models.csv, pairs.png and the tables of README.md. Takes about a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import lgm_cli
from experiments.conjugation import harmonium
from experiments.conjugation.pairs import Pair, all_pairs
from experiments.in_process import write_page
from lgm_cli.data.base import packaged
from lgm_cli.data.liver import MEASURED
from lgm_cli.data.lsat6 import QUESTIONS
from lgm_cli.data.penguins import MEASURED as MEASURES
from lgm_cli.data.visits import COUNTED
from lgm_cli.plots.style import COLOURS, STYLE, save

HERE = Path(__file__).parent
ROWS = 200  # that errors are means over
HIDDEN = 2  # entries, of the second figure
ROUNDING = 1e-16  # what is drawn in place of zero
RUN = ("method=em", "data.test_fraction=0", "device.dtype=float64", "max_steps=20", "save_posterior=false")


def measured(pair: Pair) -> dict[str, object]:
    """R^2 of the worst entry, and means over draws of the errors, with all entries seen and with two of them hidden."""
    random, errors = np.random.default_rng(0), []
    for _ in range(ROWS):
        values = pair.draw(random)
        gaps = values.copy()
        gaps[random.permutation(len(values))[:HIDDEN]] = np.nan
        errors.append([*pair.errors(values), *pair.errors(gaps)])
    nats, predicted, distance, nats_gaps, _, distance_gaps = np.mean(errors, 0)
    return {
        "pair": pair.name,
        "conjugated": "yes" if pair.conjugated else "no",
        "r_squared": pair.r_squared(),
        "residual": float(np.abs(pair.residual()).max()),
        "nats": nats,
        "predicted": predicted,
        "total_variation": distance,
        "nats_with_gaps": nats_gaps,
        "total_variation_with_gaps": distance_gaps,
    }


def with_gaps(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A fifth of the entries missing, and the second row altogether."""
    hidden = np.random.default_rng(seed).random(frame.shape) < 0.2
    hidden[1] = True
    return frame.astype(float).mask(hidden).reset_index(drop=True)


def models() -> dict[str, tuple[pd.DataFrame, list[str], Callable[[harmonium.Parameters, np.ndarray], float]]]:
    """By its name: data with gaps, what is chosen, and the log-likelihood by the formula."""
    penguins = packaged.frame("modeldata", "penguins").filter(MEASURES)
    visits = packaged.frame("AER", "NMES1988").filter(COUNTED).head(400)
    yes = packaged.frame("psych", "lsat6").filter(QUESTIONS).head(400)
    answers = packaged.frame("psych", "bfi").iloc[:300, 1:11]
    geyser = packaged.frame("MASS", "geyser").filter(["waiting", "duration"])
    inventions = packaged.frame("datasets", "discoveries").filter(["value"])
    shares = packaged.frame("datasets", "EuStockMarkets").iloc[:150, 1:]
    two, components = "model.num_components=2", "model.num_components=3"

    def of(kind: Callable[..., float], family: str) -> Callable[[harmonium.Parameters, np.ndarray], float]:
        return lambda parameters, values: kind(family, parameters, values)

    return {
        "gaussian_mixture, diagonal": (
            penguins, ["model=gaussian_mixture", components, "model.covariance=diagonal"],
            of(harmonium.mixture, "normal"),
        ),
        "bernoulli_mixture": (yes, ["model=bernoulli_mixture", two], of(harmonium.mixture, "bernoulli")),
        "multinoulli_mixture": (answers - 1, ["model=multinoulli_mixture", two], of(harmonium.mixture, "categorical")),
        "poisson_mixture": (visits, ["model=poisson_mixture", components], of(harmonium.mixture, "poisson")),
        "gamma_mixture": (
            packaged.frame("survival", "pbc").filter(MEASURED), ["model=gamma_mixture", two],
            of(harmonium.mixture, "gamma"),
        ),
        "negative_multinomial_mixture": (
            visits, ["model=negative_multinomial_mixture", two], harmonium.negative_multinomial,
        ),
        "hidden_markov, diagonal": (
            geyser, ["model=hidden_markov", components, "model.covariance=diagonal"],
            of(harmonium.hidden_markov, "normal"),
        ),
        "hidden_markov, counts": (
            inventions, ["model=hidden_markov", two, "model.emission=poisson"], of(harmonium.hidden_markov, "poisson"),
        ),
        "composed_chain, counts": (
            inventions, ["model=composed_chain", two, "model.blocks=[{family:poisson}]"],
            of(harmonium.hidden_markov, "poisson"),
        ),
        "composed, counts": (
            visits, ["model=composed", components, "model.blocks=[{family:poisson}]"],
            of(harmonium.mixture, "poisson"),
        ),
        "factor_analysis": (answers, ["model=factor_analysis", "model.latent_dim=2"], harmonium.factor_analysis),
        "ppca": (answers, ["model=ppca", "model.latent_dim=2"], harmonium.factor_analysis),
        "state_space": (shares, ["model=state_space", "model.latent_dim=3"], harmonium.state_space),
    }  # fmt: skip


def compared(name: str) -> dict[str, object]:
    """The log-likelihood that a run reports, and the formula's from the parameters that it has written."""
    frame, options, formula = models()[name]
    frame = with_gaps(frame)
    run = lgm_cli.fit(frame, *options, *RUN)
    values = frame.to_numpy(float)
    entries = int((~np.isnan(values)).sum())
    reported = float(run.metrics["train_log_likelihood"].iloc[-1]) * entries
    found = formula({key: np.asarray(value, float) for key, value in run.parameters.items()}, values)
    return {
        "model": name, "entries": entries, "reported": reported, "formula": found,
        "relative_difference": abs(found - reported) / abs(reported),
    }  # fmt: skip


def draw(pairs: pd.DataFrame, path: Path) -> Figure:
    """The error of log p(x) of each pair, all entries seen and two hidden."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((8.4, 4.6), layout="constrained")
        axes = figure.subplots()
        height = -np.arange(len(pairs))
        for place, (column, label, marker) in enumerate(
            (("nats", "all entries seen", "o"), ("nats_with_gaps", "two entries hidden", "s"))
        ):
            axes.plot(pairs[column].clip(lower=ROUNDING), height - 0.12 + 0.24 * place, marker, color=COLOURS[place],
                      label=label, markersize=5)  # fmt: skip
        axes.set_yticks(height, pairs["pair"])
        axes.set_xscale("log")
        axes.set_xlabel("error of log p(x) where the pair is called conjugated [nats]")
        axes.axhline(0.5 - list(pairs["conjugated"]).count("yes"), color="#888888", linewidth=1)
        axes.legend(fontsize=8, loc="lower left")
        return save(figure, path, "Above the line conjugated pairs, whose error is rounding; below it others")


def main() -> None:
    pairs = pd.DataFrame([measured(pair) for pair in all_pairs()])
    found = pd.DataFrame([compared(name) for name in models()])
    pairs.to_csv(HERE / "pairs.csv", index=False, float_format="%.6g")
    found.to_csv(HERE / "models.csv", index=False, float_format="%.12g")
    draw(pairs, HERE / "pairs.png")
    write_page(HERE / "README.md", "\n".join(tables(pairs, found)))


def tables(pairs: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Both as lines of Markdown."""
    lines = [
        "| pair | conjugated | R² | error, nats | half the variance | posterior, total variation | error, two hidden |",
        "|---" * 7 + "|",
    ]
    for row in pairs.to_dict("records"):
        errors = (row[name] for name in ("nats", "predicted", "total_variation", "nats_with_gaps"))
        cells = [row["pair"], row["conjugated"], f"{row['r_squared']:.6f}", *(f"{error:.1e}" for error in errors)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "The program's models, with a fifth of the entries missing, beside the formula:", ""]
    lines += ["| model | entries | log-likelihood | relative difference |", "|---" * 4 + "|"]
    for row in found.to_dict("records"):
        difference = f"{row['relative_difference']:.1e}"
        lines.append(f"| {row['model']} | {row['entries']:,} | {row['reported']:.6f} | {difference} |")
    return lines


if __name__ == "__main__":
    main()

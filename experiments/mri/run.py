"""An MRI slice from a quarter of its frequencies: sparse Bayesian learning beside l1 by FISTA.

    python experiments/mri/run.py [--threads 1] [--folder outputs/mri] [--report DIR]

Two masks of the frequencies; all reconstructions are from the same measurements, in the same wavelet basis. The
weight of l1 is the one nearest to the true image, which no one could choose without it; sparse Bayesian learning is
the preset `lgm-run experiment=mri`. The tables of README.md, the picture and results.csv are written to --report.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
import yaml
from fista import Solution, fista
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from experiments.whole_process import on_threads, run_in
from lgm_cli.data.base.data import Data
from lgm_cli.data.base.load import load
from lgm_cli.models.sparse_bayes import bands_of, basis_of, group_of, operator_of
from lgm_cli.plots import STYLE

HERE = Path(__file__).parent
MASKS = {"centre": "centre and uniform", "density": "variable density"}
DRAWN = "centre"  # the preset's own
WEIGHTS = np.geomspace(0.02, 0.0005, 17)  # of l1, in units of the largest pixel; each solution begins the next
TOLERANCE, MOST = 1e-4, 5000  # of FISTA
LEVEL, BRAIN = 0.9, 0.05  # of the intervals; of the largest pixel, above which a pixel of the truth is of the brain
MARGIN, ERROR = 14, 0.04  # of the picture: pixels around the brain; the largest error it tells apart
CURVE = (5, 10, 20, 30, 60)  # steps
ZERO, L1, GROUPED, BAYES = "zero-filled", "l1, best weight", "l1 of 2 x 2 groups, best weight", "sparse Bayes"
NAMES = (ZERO, L1, GROUPED, BAYES)


def command(overrides: list[str], threads: int, folder: Path) -> float:
    """Run `lgm-run experiment=mri`; the seconds it took, its start included."""
    begun = time.perf_counter()
    run_in(
        folder, "experiment=mri", *overrides, "device=cpu", f"device.threads={threads}", environment=on_threads(threads)
    )
    return time.perf_counter() - begun


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """In dB, against the largest pixel."""
    return float(10 * np.log10(np.abs(truth).max() ** 2 / np.mean((image - truth) ** 2)))


def zero_filled(data: Data) -> np.ndarray:
    """Zero at frequencies of which nothing is known; the image is real, so that of their conjugates they are."""
    dictionary = data.table.dictionary
    assert dictionary is not None and dictionary.kept is not None
    real, imaginary = np.split(data.train_values, 2)
    spectrum, count = np.zeros(dictionary.shape, complex), np.zeros(dictionary.shape)
    spectrum.flat[dictionary.kept], count.flat[dictionary.kept] = real + 1j * imaginary, 1
    total, known = (part + np.roll(np.flip(part.conj()), 1, (0, 1)) for part in (spectrum, count))
    return np.fft.ifft2(total / np.maximum(known, 1), norm="ortho").real


def l1(data: Data, truth: np.ndarray, side: int) -> tuple[np.ndarray, dict[str, Any]]:
    """FISTA in float64, of squares of `side` coefficients, at the weight of WEIGHTS whose reconstruction has the
    highest PSNR; seconds are of that weight alone, beginning at zero."""
    dictionary = data.table.dictionary
    assert dictionary is not None
    basis = basis_of(dictionary)
    assert basis is not None
    operator = operator_of(dictionary, basis, torch.float64, torch.device("cpu"))
    measured = torch.as_tensor(data.train_values)
    groups = None if side == 1 else group_of(dictionary, side, bands_of(dictionary))

    def image(solution: Solution) -> np.ndarray:
        return basis.transpose(solution.coefficients).view(dictionary.shape).numpy()

    weights, scores, start = WEIGHTS * np.abs(truth).max(), [], None
    for weight in weights:
        solution = fista(operator, measured, weight, TOLERANCE, MOST, start, groups)
        start = solution.coefficients
        scores.append(psnr(image(solution), truth))
    best = int(np.argmax(scores))
    if best in (0, len(weights) - 1):
        raise SystemExit(f"the best weight, {weights[best]:g}, is at an end of the grid")
    begun = time.perf_counter()
    solution = fista(operator, measured, weights[best], TOLERANCE, MOST, None, groups)
    seconds = time.perf_counter() - begun
    if not solution.converged:
        raise SystemExit(f"FISTA has not converged within {MOST} iterations")
    return image(solution), {"seconds": seconds, "weight": WEIGHTS[best], "iterations": solution.iterations}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's."""
    return float(pd.Series(first.ravel()).rank().corr(pd.Series(second.ravel()).rank()))


def uncertainty(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What the standard deviations say about the errors; and how much of that is the brain against the background."""
    error, width = np.abs(mean - truth), NormalDist().inv_cdf((1 + LEVEL) / 2)
    brain = truth > BRAIN * truth.max()
    found = {"rank correlation, brain or not": rank_correlation(brain, error)}
    for part, where in (("all", np.ones_like(brain)), ("brain", brain), ("background", ~brain)):
        e, s = error[where], deviation[where]
        found |= {
            f"pixels, {part}": int(where.sum()),
            f"rank correlation, {part}": rank_correlation(s, e),
            f"coverage, {part}": float(np.mean(e < width * s)),
            f"rms error, {part}": math.sqrt(np.mean(e**2)) / truth.max(),
            f"rms deviation, {part}": math.sqrt(np.mean(s**2)) / truth.max(),
        }
    return found


def compare(mask: str, threads: int, folder: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A row for each reconstruction from the frequencies of one mask, and the images."""
    seconds = command([f"data.mask={mask}"], threads, folder)
    configured = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    data = load(configured["data"], configured["seed"], lambda _: {})
    assert data.table.truth is not None and data.table.dictionary is not None
    truth = data.table.truth["signal"][0].reshape(data.table.dictionary.shape)
    summary = pd.read_json(folder / "summary.json", typ="series")["last_row"]
    posterior = load_file(folder / "posterior.safetensors")
    mean, deviation = (posterior[f"signal_{name}"].astype(float) for name in ("mean", "standard_deviation"))
    begun = time.perf_counter()
    filled = zero_filled(data)
    filling = time.perf_counter() - begun
    sparse, how = l1(data, truth, 1)
    grouped, how_grouped = l1(data, truth, 2)
    learned = {
        "seconds": summary["fit_seconds"],
        "seconds of the command": seconds,
        "peak memory [MiB]": summary["peak_memory_mib"],
        "steps": summary["step"],
    }
    images = {"truth": truth, ZERO: filled, L1: sparse, GROUPED: grouped, BAYES: mean}
    rows = [
        {"mask": mask, "reconstruction": name, "psnr_db": psnr(images[name], truth), **more}
        for name, more in (
            (ZERO, {"seconds": filling}),
            (L1, how),
            (GROUPED, how_grouped),
            (BAYES, learned | uncertainty(mean, deviation, truth)),
        )
    ]
    return rows, images | {"standard deviation": deviation}


def curve(mask: str, threads: int, folder: Path) -> pd.DataFrame:
    """PSNR of sparse Bayes by steps."""
    command([f"data.mask={mask}", f"max_steps={max(CURVE)}", "eval_every=5", "tolerance=0"], threads, folder)
    metrics = pd.read_csv(folder / "metrics.csv").set_index("step").loc[list(CURVE)]
    return metrics.reset_index().assign(mask=mask, reconstruction=BAYES)


def reconstruction_table(results: pd.DataFrame) -> str:
    """PSNR and seconds of each reconstruction, and the weights of l1."""
    lines = [f"| PSNR [dB] | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for mask, label in MASKS.items():
        rows = results[results["mask"] == mask].set_index("reconstruction").loc[list(NAMES)]
        cells = [f"{row['psnr_db']:.2f} ({row['seconds']:.2g} s)" for _, row in rows.iterrows()]
        for place, name in ((1, L1), (2, GROUPED)):
            cells[place] += f"<br>{rows.loc[name, 'weight']:.4f}, {rows.loc[name, 'iterations']:.0f} iterations"
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def uncertainty_table(results: pd.DataFrame) -> str:
    """What the standard deviations of sparse Bayes say."""
    lines = [
        f"| mask | pixels | rank correlation | coverage of {LEVEL:.0%} intervals | rms error "
        "| rms standard deviation |",
        "|---" * 6 + "|",
    ]
    for mask, label in MASKS.items():
        row = results[(results["mask"] == mask) & (results["reconstruction"] == BAYES)].iloc[0]
        lines += [
            f"| {label} | {part}, {row[f'pixels, {part}']:,.0f} | {row[f'rank correlation, {part}']:.2f} "
            f"| {row[f'coverage, {part}']:.1%} | {row[f'rms error, {part}']:.4f} "
            f"| {row[f'rms deviation, {part}']:.4f} |"
            for part in ("all", "brain", "background")
        ]
        lines.append(f"| {label} | all, brain or not | {row['rank correlation, brain or not']:.2f} | | | |")
    return "\n".join(lines)


def step_table(curves: pd.DataFrame) -> str:
    """PSNR and seconds of learning by steps."""
    lines = [f"| PSNR [dB] after | {' | '.join(f'{step} steps' for step in CURVE)} |", "|---" * (len(CURVE) + 1) + "|"]
    for mask, label in MASKS.items():
        rows = curves[curves["mask"] == mask]
        cells = (f"{row['psnr_db']:.2f} ({row['fit_seconds']:.0f} s)" for _, row in rows.iterrows())
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(images: dict[str, np.ndarray], path: Path) -> None:
    """The image and its reconstructions above; their errors and the standard deviation below, on their own scale."""
    truth, names = images["truth"], (ZERO, L1, BAYES)
    peak, where = truth.max(), np.nonzero(truth > BRAIN * truth.max())
    cut = tuple(slice(max(places.min() - MARGIN, 0), places.max() + MARGIN + 1) for places in where)
    above = {f"{name}, {psnr(images[name], truth):.1f} dB": images[name] for name in names}
    errors = {f"error: {name}": np.abs(images[name] - truth) for name in names}
    rows = (
        ({"truth": truth} | above, 1.0),
        ({f"standard deviation: {BAYES}": images["standard deviation"]} | errors, ERROR),
    )
    style: dict[Any, Any] = STYLE | {"axes.titlesize": 10}
    with matplotlib.rc_context(style):
        figure = Figure((11, 5.2), layout="constrained")
        for panels, (shown, most) in zip(figure.subplots(2, 4), rows, strict=True):
            drawn = None
            for axes, (title, image) in zip(panels, shown.items(), strict=True):
                drawn = axes.imshow(image[cut] / peak, cmap="gray", vmin=0, vmax=most, interpolation="nearest")
                axes.set_title(title)
                axes.set_axis_off()
            assert drawn is not None
            bar = figure.colorbar(drawn, ax=list(panels), pad=0.01, extend="neither" if most == 1 else "max")
            bar.set_label("share of the largest pixel")
        figure.savefig(path, dpi=130)


def write_report(results: pd.DataFrame, curves: pd.DataFrame, report: Path) -> None:
    """README.md's tables and results.csv."""
    report.mkdir(parents=True, exist_ok=True)
    results.to_csv(report / "results.csv", index=False, float_format="%.6g")
    columns = ["mask", "step", "fit_seconds", "psnr_db", "active", "train_log_likelihood"]
    curves[columns].to_csv(report / "steps.csv", index=False, float_format="%.6g")
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    for name, content in (
        ("reconstructions", reconstruction_table(results)),
        ("uncertainty", uncertainty_table(results)),
        ("steps", step_table(curves)),
    ):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        readme = re.sub(pattern, lambda found, text=content: f"{found[1]}{text}\n{found[2]}", readme, flags=re.DOTALL)
        print(f"\n{content}")
    (report / "README.md").write_text(readme, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="processor threads of everything (1)")
    parser.add_argument("--folder", type=Path, default=Path("outputs/mri"), help="of the runs (outputs/mri)")
    parser.add_argument("--report", type=Path, default=HERE, help="where README.md, the CSV files and the picture go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = (arguments.folder / time.strftime("%Y-%m-%d_%H-%M-%S")).resolve()
    rows, curves = [], []
    for mask in MASKS:
        found, images = compare(mask, arguments.threads, folder / mask)
        rows += found
        curves.append(curve(mask, arguments.threads, folder / f"{mask}-steps"))
        if mask == DRAWN:
            arguments.report.mkdir(parents=True, exist_ok=True)
            draw(images, arguments.report / "reconstructions.png")
    write_report(pd.DataFrame(rows), pd.concat(curves), arguments.report)


if __name__ == "__main__":
    main()

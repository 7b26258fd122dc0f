"""An MRI slice from a quarter of its frequencies: sparse Bayesian learning beside zero filling and l1 by FISTA.

    python experiments/mri/run.py [--threads 1] [--folder outputs/mri] [--report DIR]

Two masks of the frequencies; all three reconstructions are from the same measurements, in the same wavelet basis. The
weight of l1 is the one nearest to the true image, which no one could choose without it; sparse Bayesian learning is
the preset `lgm-run experiment=mri`. The tables of README.md, the picture and results.csv are written to --report.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
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

from lgm_cli.data import Data, load
from lgm_cli.models.sparse_bayes import basis_of, operator_of
from lgm_cli.plots import STYLE

HERE = Path(__file__).parent
MASKS = {"centre": "centre and uniform", "density": "variable density"}
DRAWN = "centre"  # the preset's own
WEIGHTS = np.geomspace(0.02, 0.0005, 17)  # of l1, in units of the largest pixel; each solution begins the next
TOLERANCE, MOST = 1e-4, 5000  # of FISTA
LEVEL, HEAD = 0.9, 0.05  # of the intervals; of the largest pixel, above which a pixel is of the head
CURVE = (5, 10, 20, 30, 60)  # steps
ZERO, L1, BAYES = "zero-filled", "l1, best weight", "sparse Bayes"


def command(overrides: list[str], threads: int, folder: Path) -> float:
    """Run `lgm-run experiment=mri`; the seconds it took, its start included."""
    arguments = ["experiment=mri", *overrides, "device=cpu", f"device.threads={threads}", f"hydra.run.dir='{folder}'"]
    begun = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-m", "lgm_cli", *arguments], check=True, env=environment)
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


def l1(data: Data, truth: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """FISTA in float64 at the weight of WEIGHTS whose reconstruction has the highest PSNR; seconds are of that weight
    alone, beginning at zero."""
    dictionary = data.table.dictionary
    assert dictionary is not None
    basis = basis_of(dictionary)
    assert basis is not None
    operator = operator_of(dictionary, basis, torch.float64, torch.device("cpu"))
    measured = torch.as_tensor(data.train_values)

    def image(solution: Solution) -> np.ndarray:
        return basis.transpose(solution.coefficients).view(dictionary.shape).numpy()

    weights, scores, start = WEIGHTS * np.abs(truth).max(), [], None
    for weight in weights:
        solution = fista(operator, measured, weight, TOLERANCE, MOST, start)
        start = solution.coefficients
        scores.append(psnr(image(solution), truth))
    best = int(np.argmax(scores))
    if best in (0, len(weights) - 1):
        raise SystemExit(f"the best weight, {weights[best]:g}, is at an end of the grid")
    begun = time.perf_counter()
    solution = fista(operator, measured, weights[best], TOLERANCE, MOST)
    seconds = time.perf_counter() - begun
    if not solution.converged:
        raise SystemExit(f"FISTA has not converged within {MOST} iterations")
    return image(solution), {"seconds": seconds, "weight": WEIGHTS[best], "iterations": solution.iterations}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's."""
    return float(pd.Series(first.ravel()).rank().corr(pd.Series(second.ravel()).rank()))


def uncertainty(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What standard deviations say about the errors, and what the brightness of the reconstruction says already."""
    error, width = np.abs(mean - truth), NormalDist().inv_cdf((1 + LEVEL) / 2)
    found = {}
    for part, where in (("all pixels", truth == truth), ("head", truth > HEAD * truth.max())):
        e, s, m = error[where], deviation[where], mean[where]
        found |= {
            f"rank correlation, {part}": rank_correlation(s, e),
            f"of the brightness, {part}": rank_correlation(np.abs(m), e),
            f"coverage, {part}": float(np.mean(e < width * s)),
            f"error over deviation, {part}": math.sqrt(np.mean(e**2) / np.mean(s**2)),
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
    sparse, how = l1(data, truth)
    learned = {
        "seconds": summary["fit_seconds"],
        "seconds of the command": seconds,
        "peak memory [MiB]": summary["peak_memory_mib"],
        "steps": summary["step"],
    }
    images = {"truth": truth, ZERO: filled, L1: sparse, BAYES: mean}
    rows = [
        {"mask": mask, "reconstruction": name, "psnr_db": psnr(images[name], truth), **more}
        for name, more in (
            (ZERO, {"seconds": filling}),
            (L1, how),
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
    """PSNR and seconds of each reconstruction."""
    names = (ZERO, L1, BAYES)
    lines = [f"| PSNR [dB] | {' | '.join(names)} | seconds of each | weight of l1 |", "|---" * 6 + "|"]
    for mask, label in MASKS.items():
        rows = results[results["mask"] == mask].set_index("reconstruction").loc[list(names)]
        scores = " | ".join(f"{value:.2f}" for value in rows["psnr_db"])
        seconds = " / ".join(f"{value:.1f}" if value > 0.1 else f"{value:.2f}" for value in rows["seconds"])
        weight, iterations = rows.loc[L1, ["weight", "iterations"]]
        lines.append(f"| {label} | {scores} | {seconds} | {weight:.4f}, {iterations:.0f} iterations |")
    return "\n".join(lines)


def uncertainty_table(results: pd.DataFrame) -> str:
    """What the standard deviations of sparse Bayes say."""
    lines = [
        "| mask | pixels | rank correlation of standard deviation and error | of brightness and error "
        f"| coverage of {LEVEL:.0%} intervals | rms error / rms standard deviation |",
        "|---" * 6 + "|",
    ]
    for mask, label in MASKS.items():
        row = results[(results["mask"] == mask) & (results["reconstruction"] == BAYES)].iloc[0]
        lines += [
            f"| {label} | {part} | {row[f'rank correlation, {part}']:.2f} | {row[f'of the brightness, {part}']:.2f} "
            f"| {row[f'coverage, {part}']:.1%} | {row[f'error over deviation, {part}']:.2f} |"
            for part in ("all pixels", "head")
        ]
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
    """The image and its reconstructions above, their errors below, beside them what sparse Bayes says of its own."""
    truth, deviation = images["truth"], images["standard deviation"]
    peak, names = truth.max(), (ZERO, L1, BAYES)
    errors = {name: np.abs(images[name] - truth) / peak for name in names}
    most = float(np.quantile(np.concatenate([error.ravel() for error in errors.values()]), 0.995))
    most = math.ceil(100 * most) / 100
    with matplotlib.rc_context(STYLE):
        figure = Figure((11, 6), layout="constrained")
        panels = figure.subplots(2, 4)
        top: dict[str, np.ndarray] = {"truth": truth / peak} | {name: images[name] / peak for name in names}
        below = {"standard deviation,\nsparse Bayes": deviation / peak}
        below |= {f"error,\n{name}": error for name, error in errors.items()}
        for row, shown, limit, label in (
            (panels[0], top, 1.0, "of the largest pixel"),
            (panels[1], below, most, "of the largest pixel"),
        ):
            drawn = None
            for axes, (title, image) in zip(row, shown.items(), strict=True):
                drawn = axes.imshow(image, cmap="gray", vmin=0, vmax=limit, interpolation="nearest")
                score = f", {psnr(images[title], truth):.1f} dB" if title in names else ""
                axes.set_title(title + score)
                axes.set_axis_off()
            assert drawn is not None
            bar = figure.colorbar(drawn, ax=list(row), shrink=0.85, pad=0.01, extend="max" if limit < 1 else "neither")
            bar.set_label(label)
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

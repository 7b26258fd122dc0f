"""How a run is shown: one line of text, or a table with pictures in a notebook."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli.errors import UserError, printable

if TYPE_CHECKING:
    from lgm_cli.notebook.finished import Run

SHOWN = 3  # pictures under the table
KINDS = {".png": "image/png", ".svg": "image/svg+xml"}
VERDICTS = {
    "converged": "converged",
    "max_steps": "stopped at max_steps, not converged",
    "max_seconds": "stopped at max_seconds, not converged",
    "diverged": "diverged",
    "interrupted": "interrupted",
    "failed": "failed",
    "applied": "applied to new data",
}


class Picture:
    """A picture of a run, which Jupyter draws."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<picture {self.path}>"

    def _repr_html_(self) -> str:
        return image(self.path)


def image(path: Path) -> str:
    """The picture as HTML that holds it; a format that a page cannot hold is named instead."""
    if (kind := KINDS.get(path.suffix)) is None:
        return f"<p>{escape(str(path))}</p>"
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(path.stem)}" style="max-width: 100%" src="data:{kind};base64,{content}">'


def text(run: Run) -> str:
    """Verdict, log-likelihood and folder, in one line."""
    facts = _facts(run)
    parts = [facts["verdict"], *(f"{name} {value}" for name, value in list(facts["numbers"].items())[:1])]
    return printable(f"<Run {facts['model']}: {', '.join(parts)}; {run.folder}>")


def html(run: Run) -> str:
    """Verdict, warnings, a table of numbers, the first pictures. Everything that comes from a file is escaped."""
    facts = _facts(run)
    rows = {**facts["numbers"], "folder": str(run.folder)}
    cells = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th><td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    warnings = "".join(f"<p>Warning: {escape(printable(warning))}</p>" for warning in facts["warnings"])
    pictures = "".join(map(image, list(run.pictures.values())[:SHOWN]))
    title = f"{escape(facts['model'])}: {escape(facts['verdict'])}"
    return f"<div><p><b>{title}</b></p>{warnings}<table>{cells}</table>{pictures}</div>"


def _facts(run: Run) -> dict[str, Any]:
    """What is shown, as text; also of a run that has not ended or whose summary is damaged."""
    try:
        summary = run.summary
    except UserError as error:
        return {"model": "run", "verdict": error.what, "numbers": {}, "warnings": []}
    config, row = run._configuration(), summary.get("last_row") or {}
    names = [config.get(part, {}).get("name") for part in ("model", "data", "method")]
    status = summary["status"]
    error = summary.get("error") or {}
    verdict = (VERDICTS.get(status) or str(status)) + (f": {error['what']} ({error['mend']})" if error else "")
    if (step := row.get("step")) is not None:
        verdict += f" (step {step})"
    labels = {
        "train_log_likelihood": ("log-likelihood per entry", "nats"),
        "test_log_likelihood": ("log-likelihood per hidden entry, given the others", "nats"),
        "test_rmse": ("rmse of hidden entries", ""),
    }
    numbers = {
        label: f"{row[key]:.4f} {unit}".strip()
        for key, (label, unit) in labels.items()
        if isinstance(row.get(key), float | int)
    }
    numbers |= {key.upper(): f"{summary[key]:.6g}" for key in ("aic", "bic") if isinstance(summary.get(key), float)}
    model = ", ".join(str(name) for name in names if name) or "run"
    return {"model": model, "verdict": verdict, "numbers": numbers, "warnings": summary.get("warnings", [])}

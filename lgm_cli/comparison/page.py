"""report.html: one page that needs nothing else, of several runs or of one. Whatever comes from files is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from lgm_cli.comparison import words
from lgm_cli.comparison.assets import SCRIPT, STYLE
from lgm_cli.comparison.read import Run
from lgm_cli.comparison.table import NAMES, NEAR, Comparison
from lgm_cli.errors import printable

KINDS = {".png": "image/png", ".svg": "image/svg+xml"}
LINKED = ".pdf"  # which an <img> does not show
CAPTIONS = {
    "convergence": "How learning went: the further to the right, the longer it had learned. A curve that has become "
    "flat has nothing left to gain; the small frames enlarge its end.",
    "predictions": "Some known values were hidden from learning. Left: what was predicted for them against what they "
    "are; on the dashed line a prediction is right. Right: how often the stated intervals hold the true value.",
    "gaps": "The gaps of the table, filled: above, the values that are known; below, what was filled in, each with the "
    "interval that holds it with a probability of 90%.",
    "loadings": "How strongly each column goes with each factor: blue and red are opposite directions, pale is weak.",
    "factors": "What lies at both ends of each factor.",
    "latents": "Each point is one row of the data, placed by its first two factors.",
    "weights": "How much each input moves the response, the strongest first, with 90% intervals.",
    "series": "The series, what was learned of it and what is forecast, with 90% intervals.",
    "channels": "Each channel of the series with what was learned of it; shaded bands are 90% intervals.",
    "states": "The hidden states over time, and what each of them moves.",
    "spectrum": "Which periods the series repeats with: peaks are rhythms.",
    "components": "The groups that were found, and how they differ.",
    "component_means": "What is typical of each group.",
    "responsibilities": "How surely each row of the data belongs to its group.",
    "reconstruction": "What was measured, the image that was reconstructed from it, where it errs, and how far it can "
    "be trusted.",
    "signal": "The signal that was found beside what was measured, and the few parts that it consists of.",
    "free_energy": "The bound that learning raises, below the log-likelihood until it has converged.",
    "bound": "What the first step of learning gains by way of its bound.",
}
ENDS = {
    "converged": "The run converged: more learning would gain next to nothing.",
    "max_steps": "The run ended at its limit of steps; more may be gained by going on.",
    "max_seconds": "The run ended at its limit of time; more may be gained by going on.",
    "diverged": "The run diverged: it went astray, and the last good parameters were kept.",
    "interrupted": "The run was interrupted; what it had learned until then was kept.",
    "failed": "The run failed, and there is no result to rely on.",
    "killed": "The run was broken off before it wrote a result.",
    "running": "The run had not ended when this page was written.",
    "applied": "A finished run was applied to new data; nothing was learned from these.",
    "sampled": "The samples were drawn, and the chains agree.",
    "not_mixed": "The samples were drawn, but the chains do not agree: do not rely on them yet.",
}


def _page(title: str, body: Iterable[str]) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_safe(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + f"\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def _safe(text: object) -> str:
    """Text as HTML shows it, in an element or between quotes."""
    return escape(printable(str(text)), quote=True)


def _picture(content: bytes, kind: str, caption: str) -> str:
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{_safe(caption)}" src="data:{kind};base64,{data}">'
        f"<figcaption>{_safe(caption)}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[tuple[str, float | str]]], links: Sequence[str] = ()) -> str:
    """A table that sorts. rows: what each cell shows and is sorted by. links: where first cells lead."""
    lines = ['<div class="wide" tabindex="0"><table class="sortable"><thead><tr>']
    lines += [f'<th scope="col"><button type="button">{_safe(name)}</button></th>' for name in head]
    lines += ["</tr></thead><tbody>"]
    for place, row in enumerate(rows):
        cells = []
        for column, (text, value) in enumerate(row):
            sort = ("" if math.isnan(value) else repr(value)) if isinstance(value, float) else value
            sort = "Infinity" if sort == "inf" else sort
            shown = _safe(text)
            if column == 0 and place < len(links) and links[place]:
                shown = f'<a href="{_safe(links[place])}">{shown}</a>'
            kind = ' class="number"' if isinstance(value, float) else ""
            cells.append(f'<td{kind} data-value="{_safe(sort)}">{shown}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def of_several(comparison: Comparison, picture: bytes, selection: bytes | None, folder: Path) -> str:
    """The page of several runs. picture, selection: PNGs. folder: where the page will lie."""
    runs, name = comparison.runs, NAMES[comparison.track]
    body = [f"<h1>Comparison of {len(runs):,} run{'s' * (len(runs) != 1)}</h1>", '<ul class="verdict">']
    body += [f"<li>{_safe(text)}</li>" for text in words.verdicts(comparison)] + ["</ul>"]
    if any(len(group.runs) > 1 for group in comparison.groups):
        body += ["<h2>What varies, over the seeds</h2>"]
        body += [_table(comparison.columns(), (comparison.row(group) for group in comparison.groups))]
        note = (
            "Numbers are means ± standard deviations over the runs of a row. Failed, diverged and unfinished runs are "
        )
        note += "counted under status and left out of the means. A click on a heading sorts."
        body += [f'<p class="quiet">{note}</p>']
    caption = (
        f"Left: the {name} of every run against the time that it had learned; higher is better. Right: how long each "
        f"took to come within {NEAR:g} nats per entry of the best exact run on the same hidden entries."
    )
    body += ["<h2>The course of all runs</h2>", _picture(picture, "image/png", caption)]
    if selection is not None:
        caption = f"The {name}, and BIC where it is known, against {comparison.number}. A ring marks what each chooses."
        body += [f"<h2>Which {_safe(comparison.number)}</h2>", _picture(selection, "image/png", caption)]
    body += ["<h2>Every run</h2>", _every_run(comparison, folder)]
    if failed := [run for run in runs if not run.sound]:
        body += [
            "<h2>Runs without a result</h2><ul>",
            *(f"<li>{_safe(words.told(run))}</li>" for run in failed),
            "</ul>",
        ]
    body += ["<h2>The command that repeats each run</h2>"]
    body += [f'<p class="quiet">{_safe(run.name)}</p><pre>{_safe(run.command)}</pre>' for run in runs]
    return _page(f"Comparison of {len(runs)} runs", body)


def _every_run(comparison: Comparison, folder: Path) -> str:
    """One row for each run, with a link to its own page where that lies beside or below."""
    columns = {name: column for column, name in (
        (comparison.track, NAMES[comparison.track]), ("test_rmse", "test rmse"), ("step", "steps"),
        ("fit_seconds", "seconds"),
    )}  # fmt: skip
    has_bic = any(not math.isnan(run.own("bic")) for run in comparison.runs)
    rows, links = [], []
    for run in comparison.runs:
        values = ["-" if (value := run.value(key)) is None else value for key in comparison.varying]
        row: list[tuple[str, float | str]] = [(run.name, run.name)]
        row += [(text, text) for text in values] + [(run.status, run.status)]
        numbers = [run.last(column) for column in columns.values()] + [run.own("bic")] * has_bic
        row += [("-" if math.isnan(number) else f"{number:.6g}", number) for number in numbers]
        time = comparison.seconds_to_reach(run)
        text = "-" if time is None else "not reached" if math.isinf(time) else f"{time:.3g}"
        rows.append([*row, (text, math.nan if time is None else time)])
        inside = run.folder.is_relative_to(folder) and (run.folder / "report.html").is_file()
        links.append(quote(str(run.folder.relative_to(folder) / "report.html")) if inside else "")
    head = ["run", *comparison.varying, "status", *columns, *["bic"] * has_bic, f"seconds to within {NEAR:g}"]
    return _table(head, rows, links)


def of_one(run: Run) -> str:
    """The page of one run, for whoever has not run it: verdict, result, pictures, the command."""
    names = [text for key in ("model", "data", "method") if (text := run.value(key)) is not None]
    title = ", ".join(names) or run.name
    bad = "" if run.sound else " bad"
    body = [f"<h1>{_safe(title)}</h1>", f'<div class="verdict{bad}"><p>{_safe(ENDS.get(run.status, run.status))}</p>']
    body += [f"<p>{_safe(run.reason)}</p>"] * bool(run.reason) + ["</div>"]
    warnings = run.summary.get("warnings")
    if isinstance(warnings, list) and warnings:
        body += ["<h2>Warnings</h2><ul>", *(f"<li>{_safe(text)}</li>" for text in warnings), "</ul>"]
    body += ["<h2>Result</h2>", _result(run)]
    if pictures := sorted(path for path in (run.folder / "plots").glob("*") if path.suffix in (*KINDS, LINKED)):
        body += ["<h2>Pictures</h2>"]
        for path in sorted(pictures, key=lambda path: path.stem in ("convergence", "bound", "free_energy")):
            caption = CAPTIONS.get(path.stem, path.stem.replace("_", " "))
            if path.suffix == LINKED:
                link = f'<a href="{quote(f"plots/{path.name}")}">{_safe(path.name)}</a>'
                body.append(f"<p>{link}: {_safe(caption)}</p>")
            else:
                body.append(_picture(path.read_bytes(), KINDS[path.suffix], caption))
    body += ["<h2>The command that repeats this run</h2>", f"<pre>{_safe(run.command)}</pre>"]
    return _page(title, body)


def _result(run: Run) -> str:
    """summary.txt where the run has one, or else its final numbers."""
    path = run.folder / "summary.txt"
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return '<pre class="result" tabindex="0">' + "\n".join(map(_safe, lines)) + "</pre>"
    shown = {
        "train_log_likelihood": "train log-likelihood, nats per entry", "test_log_likelihood": "test log-likelihood, "
        "nats per entry", "test_rmse": "root mean squared error of hidden entries", "step": "steps",
        "fit_seconds": "seconds of learning",
    }  # fmt: skip
    numbers = [(name, run.last(column)) for column, name in shown.items()]
    numbers += [(name, run.own(name)) for name in ("aic", "bic")]
    rows = [[(name, name), (f"{value:.6g}", value)] for name, value in numbers if not math.isnan(value)]
    return _table(["what", "value"], rows) if rows else "<p>There are no final numbers.</p>"

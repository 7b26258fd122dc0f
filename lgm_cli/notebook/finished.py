"""`Run`: what the folder of a run holds, as Python objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from lgm_cli.errors import UserError, nearest
from lgm_cli.notebook import display, door, frames, in_process
from lgm_cli.results import run_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Run:
    """A run of lgm-run, which is its folder: everything is read from the files there when it is asked for.

    Copies and pickles of a Run name the same folder. A file that the run has not left is a UserError that says which
    runs leave it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()
        if not any((self.folder / name).exists() for name in ("summary.json", ".hydra", "metrics.csv")):
            raise UserError(f"{self.folder} holds no run", "give a folder that lgm-run has written")

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: status, warnings, scores of the last step, seed, arguments, versions, host."""
        found = run_folder.summary_of(self.folder)
        if found is None:
            raise UserError(
                f"{self.folder} has no summary.json: the run has not ended",
                "wait for it, or go on with it by lgm_cli.load(DIR).resume()",
            )
        return found

    @property
    def status(self) -> str:
        """How the run ended: converged, max_steps, max_seconds, diverged, interrupted, failed or applied."""
        return self.summary["status"]

    @property
    def warnings(self) -> list[str]:
        """What the run warns of."""
        return list(self.summary["warnings"])

    @property
    def metrics(self) -> pd.DataFrame:
        """metrics.csv: one row for each evaluation."""
        return self._table("metrics.csv", "runs that learn leave it; a run that is applied does not")

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The learned parameters by name, in the data's own units, of 64 bits."""
        return self._tensors("parameters.safetensors", "runs that have learned something leave it")

    @property
    def loadings(self) -> pd.DataFrame:
        """loadings.csv: one row for each column of the data, one column for each factor or component."""
        return self._table("loadings.csv", "model=factor_analysis and model=ppca leave it").set_index("column")

    @property
    def scores(self) -> pd.DataFrame:
        """scores.csv: how well the hidden entries of each column are predicted."""
        return self._table("scores.csv", "runs with hidden entries leave it")

    @property
    def predictions(self) -> pd.DataFrame:
        """predictions.csv: the hidden entries by row and column, the true value, the predicted mean and its standard
        deviation."""
        return self._table("predictions.csv", "runs that learn, and regressions that are applied, leave it", "row")

    @property
    def latents(self) -> pd.DataFrame:
        """The posterior means of the latent variables: scores of factors, states of a series, weights of a regression.

        One row for each data point, under its own label where the run has learned from a table with row names, and one
        column for each latent variable. Mixtures and hidden Markov models have probabilities of components or states
        instead.
        """
        import pandas as pd

        found = self._tensors("posterior.safetensors", "runs with save_posterior=true leave it")
        name = next((n for n in ("latent_mean", "responsibilities", "state_probabilities") if n in found), None)
        if name is None:
            raise UserError(f"{self.folder} has no latent variables, only {', '.join(found)}", "read posterior instead")
        stem = {"latent_mean": "latent", "responsibilities": "component", "state_probabilities": "state"}[name]
        values = found[name]
        frame = pd.DataFrame(values, columns=[f"{stem}_{k + 1}" for k in range(values.shape[1])])
        if (labels := self._row_labels(len(frame))) is not None:
            frame.index = labels
        return frame

    @property
    def posterior(self) -> dict[str, np.ndarray]:
        """Everything in posterior.safetensors, by name."""
        return self._tensors("posterior.safetensors", "runs with save_posterior=true leave it")

    @overload
    def impute(self, with_deviation: Literal[False] = False) -> pd.DataFrame: ...

    @overload
    def impute(self, with_deviation: Literal[True]) -> tuple[pd.DataFrame, pd.DataFrame]: ...

    def impute(self, with_deviation: bool = False) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
        """The table that the run has read, its own gaps filled by their predicted means.

        with_deviation: give also the standard deviations, in a table of the same shape, NaN where a value was given.
        """
        filled = self._rows_of("imputed.csv")
        return (filled, self._rows_of("imputed_standard_deviation.csv")) if with_deviation else filled

    def forecast(self) -> pd.DataFrame:
        """forecast.csv: the steps past the end of a series, for each channel the predicted mean, its standard deviation
        and a 90% interval. The rows are named by the dates, or numbers, that come next."""
        frame = self._table("forecast.csv", 'runs on a series with "data.forecast=STEPS" leave it', "row")
        return frame.set_index("row")

    @property
    def aic(self) -> float:
        """Akaike's information criterion of all observed entries that were learned from, in nats; smaller is better."""
        return self._criterion("aic")

    @property
    def bic(self) -> float:
        """The Bayesian information criterion, in nats; smaller is better."""
        return self._criterion("bic")

    @property
    def pictures(self) -> dict[str, Path]:
        """The files in plots/ by name, convergence first."""
        found = sorted((self.folder / "plots").glob("*.*"), key=lambda path: (path.stem != "convergence", path.stem))
        return {path.stem: path for path in found if path.suffix in (".png", ".svg", ".pdf")}

    def show(self, name: str = "convergence") -> Any:
        """One of the pictures, shown in a notebook: an object that Jupyter draws."""
        if (path := self.pictures.get(name)) is None:
            names = ", ".join(self.pictures) or "none"
            near = nearest(name, self.pictures)
            raise UserError(
                f"{self.folder} has no picture {name!r}", f"did you mean {near!r}?" if near else f"there are: {names}"
            )
        return display.Picture(path)

    def apply(
        self,
        table: frames.Table,
        *overrides: str,
        folder: str | os.PathLike[str] | None = None,
        verbose: bool = False,
    ) -> Run:
        """The finished run on new data, as `lgm-run apply=` does it: nothing is learned.

        table: as in `lgm_cli.fit`, with the columns that the run has learned from. overrides: such as
        "data.forecast=12". The answer is a Run whose posterior, impute(), forecast() and predictions are those of the
        new data. folder, verbose: as in `lgm_cli.fit`.
        """
        place = door.temporary("applied") if folder is None else Path(folder).expanduser().absolute()

        def arguments(read: dict[str, str]) -> list[str]:
            given = {run_folder.key_of(item) for item in overrides}
            keys = {"data.index": "null"} | read
            added = [f"{key}={value}" for key, value in keys.items() if key not in given]
            return [f"apply={self.folder}", *overrides, *added, f"hydra.run.dir={place}"]

        door.run_on(table, place, arguments, verbose)
        return Run(place)

    def resume(self, *overrides: str, verbose: bool = False) -> Run:
        """Go on with the run, in its own folder, as `lgm-run resume=` does it.

        overrides: a larger "max_steps=" or "max_seconds=", a smaller "tolerance=". Gives this Run.
        """
        in_process.call([f"resume={self.folder}", *overrides], self.folder, verbose)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    def _file(self, name: str, which: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{self.folder} has no {name}", which)
        return path

    def _table(self, name: str, which: str, labels: str | None = None) -> pd.DataFrame:
        """A CSV of the run. labels: a column whose texts are labels of rows."""
        import pandas as pd

        path = self._file(name, which)
        texts = {"column": str} | ({} if labels is None else {labels: str})  # as they are: NA is a name, too
        frame = pd.read_csv(path, converters=texts)
        if labels is not None:
            frame[labels] = frames.read_labels(pd.Series(frame[labels]))
        return frame

    def _tensors(self, name: str, which: str) -> dict[str, np.ndarray]:
        from safetensors.numpy import load_file

        return load_file(self._file(name, which))

    def _criterion(self, name: str) -> float:
        summary = self.summary
        if (value := summary.get(name)) is None:
            version = summary.get("versions", {}).get("lgm-run", "unknown")
            raise UserError(
                f"{self.folder} does not say its {name}: it was written by version {version}, or its likelihood is not "
                "exact",
                "learn the run again with a version that writes it, with method=em",
            )
        return float(value)

    def _configuration(self) -> dict[str, Any]:
        """What the run was configured by; of a run that was applied, that of the run, with what was given for it."""
        import yaml

        path = self.folder / ".hydra" / "config.yaml"
        if path.is_file():
            return yaml.safe_load(path.read_text(encoding="utf-8"))
        summary = run_folder.summary_of(self.folder) or {}
        learned = Path(summary.get("run", {}).get("folder", "")) / ".hydra" / "config.yaml"
        if summary.get("status") != "applied" or not learned.is_file():
            return {}
        found = yaml.safe_load(learned.read_text(encoding="utf-8"))
        given = dict(item.partition("=")[::2] for item in summary["overrides"])
        if (index := given.get("data.index")) is not None:
            found["data"]["index"] = None if index == "null" else index
        return found

    def _rows_of(self, name: str) -> pd.DataFrame:
        """imputed.csv or its standard deviations, with the labels of the rows as the index where it has any."""
        import pandas as pd

        which = "runs that read a table or a series of your own leave it"
        header = pd.read_csv(self._file(name, which), nrows=0).columns
        label = self._configuration().get("data", {}).get("index")
        if label is None and str(header[0]).startswith("Unnamed: "):
            label = header[0]
        frame = self._table(name, which, label)
        if label is None:
            return frame
        frame = frame.set_index(label)
        return frame.rename_axis(None) if str(label).startswith("Unnamed: ") else frame

    def _row_labels(self, count: int) -> pd.Index | None:
        """The labels of so many rows in the order of the posterior; None where the files do not say them."""
        data = self._configuration().get("data", {})
        if not (self.folder / "imputed.csv").is_file() or ("target" in data and data["target"] is not None):
            return None
        index = self.impute().index
        if data["name"] == "series":
            if data.get("series") is not None:
                return None
            if index.inferred_type != "string":  # rows with other labels keep the order of the file
                index = index.sort_values()
            if len(index) < count and (self.folder / "forecast.csv").is_file():
                index = index.append(self.forecast().index.unique())
        return index if len(index) == count else None

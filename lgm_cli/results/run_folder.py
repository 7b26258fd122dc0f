"""What the folder of a run says: how it ended, and by which configuration it was written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lgm_cli.errors import ANEW, UserError
from lgm_cli.results.files import atomic_path

# What may be given anew, and the YAML that states its rule. Limits may only be raised, the tolerance only lowered.
OPEN = {"max_steps": "config", "max_seconds": "config", "tolerance": "config", "device.threads": "device/cpu"}


BEYOND = {"max_steps": "max_steps", "max_seconds": "max_seconds", "converged": "tolerance"}  # by how a run ended

# Keys that came after the first checkpoints, by group and choice, with values by which runs without them go on.
LATER_KEYS: dict[tuple[str, str], dict[str, Any]] = {
    ("solver", name): {"rank": "auto"}
    for name in ("conjugate_gradient", "gradient_descent", "nesterov", "steepest_descent")
}
LATER_KEYS |= {("method", "em"): {"acceleration": "none"}}
LATER_KEYS |= {("method", "unroll"): {"update": "gradient", "statistics": "auto"}}
LATER_KEYS |= {("data", name): {"labels": None} for name in ("csv", "penguins")}
LATER_KEYS[("data", "csv")] |= {"categories": None}
LATER_KEYS |= {("data", "series"): {"series": None, "labels": None, "categories": None}}
LATER_KEYS |= {
    ("data", "image"): {"measurements": None, "mask_file": None, "slice": ["auto"], "axis": "auto", "masks": "auto"}
    | {"zero_frequency": "auto", "origin": "auto", "normalisation": "ortho", "complex": "auto"}
}
LATER_KEYS[("data", "series")] |= {"log": False, "difference": 0, "seasonal_difference": None}
LATER_KEYS |= {
    ("model", name): {"prior_loadings": 0, "prior_noise": 0, "prior_noise_variance": 0.5}
    for name in ("factor_analysis", "ppca")
}
LATER_KEYS[("model", "factor_analysis")] |= {"rotation": "varimax"}
LATER_KEYS[("model", "ppca")] |= {"rotation": "none"}
LATER_KEYS |= {
    ("model", name): {"prior_weights": 0, key: 0}
    for name, key in (
        ("gaussian_mixture", "prior_covariance"),
        ("bernoulli_mixture", "prior_probabilities"),
        ("multinoulli_mixture", "prior_probabilities"),
        ("poisson_mixture", "prior_rates"),
    )
}
LATER_KEYS |= {("model", "hidden_markov"): {"prior_transitions": 0, "prior_emissions": 0}}
LATER_TOP_KEYS: dict[str, Any] = {  # the same, of keys that belong to no group
    "starts": 1,
    "plots": {"format": "png"},
    "standard_errors": False,
}


def with_later_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run, with the keys that its version of the program did not have."""
    filled = LATER_TOP_KEYS | dict(config)
    for (group, name), keys in LATER_KEYS.items():
        part = config.get(group)
        if isinstance(part, Mapping) and part.get("name") == name:
            filled[group] = {**keys, **part}
    return filled


def summary_of(folder: Path) -> dict[str, Any] | None:
    """What a run says of its end; None when it was killed before it did. UserError when it cannot be understood."""
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        summary = None
    if not isinstance(summary, dict) or not isinstance(summary.get("status"), str):
        raise UserError(
            f"{path} is damaged", f"remove it, and lgm-run {shlex.quote(f'resume={folder}')} writes it again"
        )
    return summary


def status_of(folder: Path) -> str | None:
    """How a run ended according to its summary; None when it was killed before it wrote one."""
    summary = summary_of(folder)
    return None if summary is None else summary["status"]


def verify(asked: Mapping[str, Any], saved: Mapping[str, Any], folder: Path) -> None:
    """Refuse a checkpoint that another configuration has written (`saved`), naming what differs."""
    flat, saved_flat = _flat(asked), _flat(saved)
    differing = [key for key in flat.keys() | saved_flat.keys() if flat.get(key) != saved_flat.get(key)]
    if differing := sorted(str(key) for key in differing if key not in OPEN):
        raise UserError(
            f"the checkpoint in {folder} does not fit .hydra/config.yaml: {', '.join(differing)}",
            f"write the configuration as it was, or {ANEW}",
        )


def record(folder: Path, config: Mapping[str, Any], overrides: list[str]) -> None:
    """Write what was given anew into .hydra/, for whoever reads the folder or resumes again."""
    for name, content in (("config.yaml", dict(config)), ("overrides.yaml", overrides)):
        (folder / ".hydra").mkdir(exist_ok=True)
        with atomic_path(folder / ".hydra" / name) as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def key_of(item: str) -> str:
    return item.partition("=")[0].lstrip("+~")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as the command line spells them."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat

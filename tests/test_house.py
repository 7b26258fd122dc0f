"""Imports point one way, and nothing heavy is imported before a run begins."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lgm_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Libraries that only some modules may import, directly.
RESERVED = {
    "hydra": r"command\.(cli|arguments|sweep)|notebook\.in_process",  # whose state a notebook keeps
    "omegaconf": r"command\.(cli|sweep)",
    "matplotlib": r"plots\..*",
}
# Parts of the package, from what was typed down to what knows nothing of the rest. A part imports those below it: never
# one above, nor one beside it on the same line.
LAYERS = (
    ("notebook",),
    ("command",),
    ("run",),
    ("comparison",),
    ("results",),
    ("evaluation",),
    ("report", "methods"),
    ("models",),
    ("posteriors",),
    ("observations",),
    ("solvers", "operators", "data"),
    ("numerics",),
    ("machine",),
    ("errors", "randomness"),
)
# What may not be imported, although it is below: each with its reason.
FORBIDDEN = {
    r"(?!command\.cli$|__main__$|notebook\.in_process$).*": ["lgm_cli.command.cli"],
    r"(?!report|results|plots|comparison).*": ["lgm_cli.plots"],  # pictures are drawn where a run has ended
    r"plots(\..*)?": ["torch", *(f"lgm_cli.{name}" for layer in LAYERS for name in layer)],
    r"comparison(\..*)?": ["torch", "pandas", "numpy"],  # an old run is reported at once
    r"data(\..*)?": ["torch"],  # data are read without it
    # What a typing error is answered by, at once:
    r"command\..*|results\.(files|run_folder|metrics)|run\.progress|errors|__init__|__main__": [
        "torch",
        "pandas",
        "numpy",
    ],
}
# A file directly in one of these folders is a word that a YAML may use.
CHOICES = {
    "models": ("model", "name"),
    "solvers": ("solver", "name"),
    "data": ("data", "name"),
    "methods/e_steps": ("method", "posterior"),
    "methods/statistics": ("method", "statistics"),
    "methods/m_steps": ("method", "update"),
}
LONGEST, SHORTEST = 350, 15  # lines of a module
DEFAULTS = {"statistics": "fresh"}  # of a YAML that does not name one


def name_of(path: Path) -> str:
    """models.factor_analysis for lgm_cli/models/factor_analysis.py; models for its __init__.py."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file; those for type checkers too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports(path: Path, target: str) -> bool:
    return any(f"{name}.".startswith(f"{target}.") for name in imports_of(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    name = name_of(path)
    for library, owner in RESERVED.items():
        assert re.fullmatch(owner, name) or not imports(path, library), f"only {owner} imports {library}"
    for part, targets in FORBIDDEN.items():
        if re.fullmatch(part, name):
            for target in targets:
                assert not imports(path, target), f"{name} may not import {target}"


def layer_of(name: str) -> int | None:
    """Where a module stands; None for the package, __main__ and plots, which have rules of their own."""
    return next((level for level, parts in enumerate(LAYERS) if name.split(".")[0] in parts), None)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_part_imports_one_above_or_beside_it(path: Path) -> None:
    name, found = name_of(path), []
    here = layer_of(name)
    for target in sorted(imports_of(path)):
        if not target.startswith("lgm_cli.") or here is None:
            continue
        there = layer_of(target.removeprefix("lgm_cli."))
        same = target.split(".")[1] == name.split(".")[0]
        if there is not None and not same and there <= here:
            found.append(target)
    assert not found, f"{name} imports what is above it or beside it"


def test_no_module_looks_at_the_type_of_a_posterior() -> None:
    """Posteriors have one face: whoever needs an expectation asks for it."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                found += [f"{name_of(path)}:{node.lineno}" for name in asked if name.endswith("Posterior")]
    assert not found


def test_there_is_no_circle() -> None:
    """Of imports at the head of modules, which are all that can fail."""
    heads: dict[str, set[str]] = {}
    names = {name_of(path) for path in MODULES}
    for path in MODULES:
        found = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lgm_cli."):
                base = (node.module or "").removeprefix("lgm_cli.")
                found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        heads[name_of(path)] = (found & names) - {name_of(path)}
    done: set[str] = set()
    while ready := {name for name, needs in heads.items() if name not in done and needs <= done}:
        done |= ready
    assert not names - done


@pytest.mark.parametrize(("folder", "where"), CHOICES.items())
def test_a_file_in_a_folder_of_choices_is_a_word_of_a_yaml(folder: str, where: tuple[str, str]) -> None:
    group, key = where
    words = set()
    for path in (ROOT / "conf" / group).glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        rule = content.get("allowed", {}).get(key, "").removeprefix("one of ").partition(", or ")[0]
        words |= {path.stem} if key == "name" else {content.get(key, DEFAULTS.get(key)), *rule.split(", ")}
    files = {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__"}
    assert files <= words, "what is no choice belongs into base/, parts/ or families/"


def test_no_module_is_long() -> None:
    long = {name_of(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST}
    assert not long, "a coherent part goes to base/ or parts/"


def test_no_module_is_a_few_lines() -> None:
    """But for data sets, each a word of a YAML, and what Python asks for by name."""
    named = re.compile(r"(data\.\w+|.*__main__)")
    short = {
        name_of(path)
        for path in MODULES
        if path.stem != "__init__" and len(path.read_text(encoding="utf-8").splitlines()) < SHORTEST
    }
    assert not {name for name in short if not named.fullmatch(name)}, "it goes to the module that uses it"


def test_the_rules_are_about_modules_that_exist() -> None:
    names = [name_of(path) for path in MODULES]
    for pattern in [*RESERVED.values(), *FORBIDDEN]:
        assert any(re.fullmatch(pattern, name) for name in names), pattern


def test_nothing_heavy_is_imported_before_a_run_begins() -> None:
    program = "import sys, lgm_cli.command.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "lgm_cli" in loaded
    assert not {"torch", "numpy", "pandas", "matplotlib", "hydra", "omegaconf"} & set(loaded)


def test_the_pictures_need_nothing_else_of_the_package() -> None:
    """plots turns a run's files into pictures on a machine that has nothing but them."""
    program = "import sys, lgm_cli.plots; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name.split(".")[1] for name in loaded if name.startswith("lgm_cli.")} == {"plots"}
    assert "torch" not in loaded

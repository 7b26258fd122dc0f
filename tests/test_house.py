"""Imports point one way, and nothing heavy is imported before a run begins."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lgm_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Libraries that only some modules may import, directly.
RESERVED = {
    "hydra": r"cli|arguments|sweep",
    "omegaconf": r"cli",
    "matplotlib": r"plots\..*",
}
# What a part of the package may not import: cli -> runner -> methods -> (models, solvers); data on its own.
FORBIDDEN = {
    r"(?!cli$|__main__$).*": ["lgm_cli.cli"],
    r"(?!cli$|runner$|__main__$).*": ["lgm_cli.runner"],
    r"models(\..*)?": ["lgm_cli.methods", "lgm_cli.solvers"],
    r"solvers(\..*)?": ["lgm_cli.methods", "lgm_cli.models", "lgm_cli.data"],
    r"operators(\..*)?": ["lgm_cli.methods", "lgm_cli.models", "lgm_cli.solvers", "lgm_cli.data"],
    r"data(\..*)?": ["torch", "lgm_cli.models", "lgm_cli.solvers", "lgm_cli.methods", "lgm_cli.recorder"],
    r"plots(\..*)?": ["torch"],
    r"cli|arguments|config|catalogue|mistakes|usage|errors|recorder|progress|__init__|__main__": [
        "torch",
        "pandas",
        "numpy",
    ],
}


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


def test_the_rules_are_about_modules_that_exist() -> None:
    names = [name_of(path) for path in MODULES]
    for pattern in [*RESERVED.values(), *FORBIDDEN]:
        for alternative in pattern.split("|") if "(" not in pattern else [pattern]:
            assert any(re.fullmatch(alternative, name) for name in names), alternative


def test_nothing_heavy_is_imported_before_a_run_begins() -> None:
    program = "import sys, lgm_cli.cli; print(*{name.partition('.')[0] for name in sys.modules})"
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

"""Values are checked against the rules that stand beside them in conf/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lgm_cli.command import choices
from lgm_cli.command.rules import Rule, check, check_recorded
from lgm_cli.errors import UserError

Compose = Callable[..., dict[str, Any]]

SOURCES = [
    "config",
    *(f"{group}/{choice}" for group in choices.GROUPS for choice in choices.choices(group)),
]


@pytest.mark.parametrize(
    ("rule", "value", "converted"),
    [
        ("integer", 3, 3),
        ("integer >= 1", 1e3, 1000),
        ("integer >= 1, or auto", "auto", "auto"),
        ("integer >= 0 and < 4294967296", 4294967295, 4294967295),
        ("number > 0", 2, 2.0),
        ("number >= 0 and < 1", 0, 0.0),
        ("number > 0, or none", None, None),
        ("number > 0, or none", "none", None),
        ("boolean", False, False),
        ("text", "date", "date"),
        ("text", 2010, "2010"),
        ("text, or none", None, None),
        ("texts", "a", ["a"]),
        ("texts, or none", ["a", -999, 1.5], ["a", "-999", "1.5"]),
        ("one of none, jacobi", "none", "none"),
        ("blocks of a, b, or auto", "auto", "auto"),
        (
            "blocks of a, b",
            [{"family": "b", "columns": 7}, {"family": "a"}],
            [{"family": "b", "columns": ["7"]}, {"family": "a", "columns": None}],
        ),
    ],
)
def test_an_allowed_value_is_given_back_in_its_own_type(rule: str, value: Any, converted: Any) -> None:
    result = Rule.parse(rule).convert(value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("integer", True),
        ("integer", 1.5),
        ("integer", "3"),
        ("integer", None),
        ("integer", float("inf")),
        ("integer", 10**400),
        ("integer", -(2**53)),
        ("integer >= 1", 0),
        ("integer >= 0 and < 4294967296", 4294967296),
        ("integer >= 1, or auto", "none"),
        ("integer >= 1", "auto"),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", float("-inf")),
        ("number", 10**400),
        ("number", False),
        ("number", "1e-3"),
        ("number", [1.0]),
        ("number > 0", 0.0),
        ("number >= 0 and < 1", 1.0),
        ("number >= 0 and <= 1", 1.1),
        ("boolean", 1),
        ("boolean", "yes"),
        ("text", ""),
        ("text", None),
        ("text", True),
        ("text", {"a": 1}),
        ("texts", []),
        ("texts", ["a", ""]),
        ("texts", [["a"]]),
        *(("blocks of a, b", value) for value in ("a", [], ["a"], [{}], [{"columns": ["x"]}], [{"family": "c"}])),
        *(("blocks of a, b", [{"family": "a", "columns": value}]) for value in ([""], {"x": 1}, True)),
        ("blocks of a, b", [{"family": "a", "dim": 2}]),
        ("one of none, jacobi", None),
        ("one of none, jacobi", "Jacobi"),
        ("one of none, jacobi", ["jacobi"]),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(rule: str, value: Any) -> None:
    with pytest.raises(ValueError, match="^$"):
        Rule.parse(rule).convert(value)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("integer >= 1, or auto", "an integer >= 1, or auto"),
        ("number > 0 and < 1", "a number > 0 and < 1"),
        ("number <= 1.0e-3, or auto, or none", "a number <= 0.001, or auto, or none"),
        ("boolean", "true or false"),
        ("one of none, jacobi", "one of none, jacobi"),
        ("blocks of a, b, or auto", "a list of blocks, [{family:a,columns:[A,B]},..], of a, b, or auto"),
    ],
)
def test_a_rule_reads_as_a_sentence(rule: str, text: str) -> None:
    assert str(Rule.parse(rule)) == text


@pytest.mark.parametrize(
    "text", ["integers", "integer > ", "integer >= 1 and", "number = 3", "integer, or never", "", ">= 1"]
)
def test_what_is_not_in_the_grammar_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match="not a rule|could not convert"):
        Rule.parse(text)


@pytest.mark.parametrize("source", SOURCES)
def test_every_key_has_a_rule_that_its_default_keeps(source: str) -> None:
    content = choices.flat(choices.read(source))
    if source.startswith("experiment/"):
        assert "allowed" not in content  # a preset sets keys, it has none of its own
        return
    rules = content.get("allowed", {})
    content = {key: value for key, value in content.items() if not key.startswith("hydra.")}
    assert set(content) - {"name", "defaults", "allowed"} == set(rules)
    for key, text in rules.items():
        rule = Rule.parse(text)
        if content[key] != "???":
            rule.convert(content[key])
        else:
            assert rule.kind == "path"


@pytest.mark.parametrize("source", [source for source in SOURCES if source.partition("/")[0] in choices.GROUPS[:-1]])
def test_a_choice_is_named_like_its_file_and_says_what_it_is(source: str) -> None:
    group, _, choice = source.partition("/")
    assert choices.read(source)["name"] == choice
    assert choices.describe(group, choice)


@pytest.mark.parametrize("source", SOURCES)
def test_every_choice_composes_and_is_allowed(source: str, compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    group, _, choice = source.partition("/")
    overrides = [f"{group}={choice}"] if choice else []
    if group == "solver" and choice == "cholesky":
        overrides.append("method=em")
    if "path" in choices.keys(source):
        overrides.append(f"data.path={tmp_path}/table.csv")
    checked = check(compose(*overrides))
    assert not any("allowed" in part for part in checked.values() if isinstance(part, dict))
    assert "allowed" not in checked
    assert group in ("config", "experiment") or checked[group]["name"] == choice


@pytest.mark.parametrize("model", choices.choices("model"))
def test_every_model_picks_its_data(model: str) -> None:
    assert choices.picks("model", model)["data"] in choices.choices("data")


@pytest.mark.parametrize("method", choices.choices("method"))
def test_every_method_picks_its_solver(method: str) -> None:
    assert choices.picks("method", method)["solver"] in choices.choices("solver")


@pytest.mark.parametrize(
    ("overrides", "solver", "data"),
    [
        ([], "conjugate_gradient", "movielens"),
        (["method=em"], "cholesky", "movielens"),
        (["method=gradient_em"], "cholesky", "movielens"),
        (["method=unroll", "solver=nesterov"], "nesterov", "movielens"),
        (["solver=steepest_descent", "data=bfi", "model=factor_analysis"], "steepest_descent", "bfi"),
        (["experiment=large_latent"], "conjugate_gradient", "simulated"),
        (["experiment=large_latent", "method=gradient_em"], "cholesky", "simulated"),
        (["experiment=large_latent", "data=bfi", "solver=nesterov"], "nesterov", "bfi"),
        (["experiment=mri"], "conjugate_gradient", "mri"),
        (["experiment=mri", "data=camera", "method=em"], "cholesky", "camera"),
    ],
)
def test_what_the_user_chooses_wins_over_what_a_choice_picks(
    overrides: list[str], solver: str, data: str, compose: Compose
) -> None:
    if "data=bfi" in overrides and "experiment=large_latent" in overrides:
        overrides = [*overrides, "~data.num_points", "~data.num_dimensions", "~data.latent_dim"]
        overrides += ["~data.factor_share", "~data.hidden_share"]
    checked = check(compose(*overrides))
    assert (checked["solver"]["name"], checked["data"]["name"]) == (solver, data)


def test_the_preset_sets_what_its_name_says(compose: Compose) -> None:
    checked = check(compose("experiment=large_latent", "data.seed=3"))
    assert checked["model"]["latent_dim"] == 400
    assert checked["data"]["num_points"] == 4000
    assert checked["data"]["seed"] == 3


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            "solver.max_iterations=abc",
            "solver.max_iterations=abc is not an integer >= 1, or auto (e.g. solver.max_iterations=auto)",
        ),
        ("max_seconds=0", "max_seconds=0 is not a number > 0, or none (e.g. max_seconds=null)"),
        ("model.offset=yes", "model.offset=yes is not true or false (e.g. model.offset=true)"),
        ("max_seconds=true", "max_seconds=true is not a number > 0, or none (e.g. max_seconds=null)"),
        ("seed=null", "seed=null is not an integer >= 0 and < 4294967296 (e.g. seed=0)"),
        (
            "solver.preconditioner=jacoby",
            "solver.preconditioner=jacoby is not one of none, jacobi, nystrom, or auto "
            "(e.g. solver.preconditioner=jacobi)",
        ),
        (
            "method.update=closed_form method.learning_rate=0.1",
            "method.learning_rate=0.1 has no meaning with method.update=closed_form "
            "(leave method.learning_rate out, or use method.update=gradient)",
        ),
        (
            "method.update=gradient method.statistics=settling",
            "method.statistics=settling has no meaning with method.update=gradient "
            "(leave method.statistics out, or use method.update=closed_form)",
        ),
        (
            "method.optimizer=adam method.statistics=fresh",
            "method.optimizer=adam is of method.update=gradient, and method.statistics=fresh of "
            "method.update=closed_form (leave one of them out)",
        ),
        (
            "method=em method.update=gradient",
            "method.update=gradient is not possible with method=em (leave method.update out, or choose another method: "
            f"{', '.join(other for other in choices.choices('method') if other != 'em')})",
        ),
        (
            "device=mps device.dtype=float64",
            "device.dtype=float64 is not possible with device=mps "
            "(leave device.dtype out, or choose another device: auto, cpu, cuda)",
        ),
        ("data=csv", "data.path is missing (add data.path=..., a file)"),
        ("~solver.tolerance", "solver.tolerance is missing (add solver.tolerance=..., a number > 0 and < 1, or auto)"),
        ("+solver.tolerence=1", "there is no key solver.tolerence (did you mean solver.tolerance?)"),
        ("+latent_dim=3", "there is no key latent_dim (did you mean model.latent_dim or data.latent_dim?)"),
        (
            "method=em solver=nesterov",
            "method=em takes the exact posterior, which solver=nesterov only nears "
            "(leave solver out, or use method=unroll solver=nesterov)",
        ),
    ],
)
def test_a_refusal_says_what_was_given_and_what_to_change(overrides: str, line: str, compose: Compose) -> None:
    with pytest.raises(UserError) as caught:
        check(compose(*overrides.split()))
    assert str(caught.value) == line


def test_a_group_that_was_taken_away_is_missed(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"^no device is chosen \(choices: auto, cpu, cuda, mps\)$"):
        check(compose("~device"))


def test_a_file_is_looked_for_and_its_neighbour_suggested(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("1,2,3\n")
    assert check(compose("data=csv", f"data.path={tmp_path}/ratings.csv"))["data"]["path"] == f"{tmp_path}/ratings.csv"
    with pytest.raises(UserError, match=r"ratngs.csv does not exist \(did you mean .*/ratings.csv\?\)$"):
        check(compose("data=csv", f"data.path={tmp_path}/ratngs.csv"))
    with pytest.raises(UserError, match="is a folder"):
        check(compose("data=csv", f"data.path={tmp_path}"))
    with pytest.raises(UserError, match="nowhere/table.csv does not exist"):
        check(compose("data=ratings", f"data.path={tmp_path}/nowhere/table.csv"))


def test_a_recorded_configuration_is_checked_by_the_same_rules(compose: Compose) -> None:
    recorded = check(compose("data=simulated", "method=em", "tolerance=1"))
    assert check_recorded(recorded, complete=True) == recorded
    for wrong in ({"seed": "abc"}, {"model": recorded["model"] | {"latent_dim": 0}}, {"data": None}, {"solver": {}}):
        with pytest.raises(UserError):
            check_recorded(recorded | wrong, complete=False)
    whole_number = recorded | {"tolerance": 1, "seed": 0.0}
    checked = check_recorded(whole_number, complete=True)
    assert checked == recorded and type(checked["tolerance"]) is float and type(checked["seed"]) is int


def test_a_recorded_configuration_may_be_of_another_version_and_name_files_that_are_gone(compose: Compose) -> None:
    recorded = check(compose("data=simulated", "method=em"))
    older = {key: value for key, value in recorded.items() if key != "tolerance"}
    own = {"data": {"name": "mine", "anything": [1]}}
    gone = {"data": {"name": "csv", "path": "gone.csv", "index": None, "target": None, "test_fraction": 0.1}}
    for each in (recorded | own, recorded | gone):
        assert check_recorded(each, complete=each["data"] == own["data"]) == each
    assert check_recorded(older, complete=False) == older
    with pytest.raises(UserError, match="knew other keys: tolerance"):
        check_recorded(older, complete=True)

"""Arguments that cannot be meant are refused in one line of lgm-run's own, with exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lgm_cli.command.arguments import MOST_RUNS
from lgm_cli.command.cli import main
from lgm_cli.command.error_messages import explain, unknown_choice
from lgm_cli.errors import UserError

SWEEP = "--multirun"
CSV = "data=csv"
# The arguments, and what the line must contain.
REFUSED: list[tuple[list[str], str]] = [
    # what is no argument
    ([""], "an argument is empty (leave it out"),
    ([CSV, " "], "an argument is empty"),
    (["="], "the argument = names no key (write KEY=VALUE"),
    (["=3"], "the argument =3 names no key"),
    (["~"], "the argument ~ names no key"),
    (["\x1b[31mseed=1"], r"cannot read the argument \x1b[31mseed=1"),
    (["seed=\u202e1"], r"cannot read the argument seed=\u202e1"),
    (["seed=" + "9" * 5000], "9... (5,005 characters) (its number has too many digits)"),
    (["seed=" + "9" * 4000], "9... (4,000 characters) is not an integer >= 0"),
    (["seed=" + "[" * 20 + "]" * 20], "is not an integer >= 0"),
    (["seed=" + "[" * 400 + "]" * 400], "(its brackets are nested too deeply)"),
    (["seed=${"], "cannot read the argument seed=${"),
    (["seed=shout(3)"], "cannot read the argument seed=shout(3)"),
    # choices
    (["model@x=ppca"], "model@x names a place for model (write model=CHOICE"),
    (["model=[factor_analysis,ppca]"], "model=[factor_analysis,ppca] is not one choice"),
    (["model={a: 1}"], "is not one choice"),
    (["model="], "there is no model= (choices: factor_analysis, "),
    (["experiment=null"], "there is no experiment=null"),
    (["model=null"], "there is no model=null"),
    (["model=../data/csv"], "there is no model=../data/csv (choices: factor_analysis, "),
    (["model=/etc/passwd"], "there is no model=/etc/passwd"),
    (["model=${oc.env:HOME}"], "there is no model=${oc.env:HOME}"),
    (["~model"], "model cannot be taken away (choose one: factor_analysis, "),
    (["~method=unroll"], "method cannot be taken away"),
    (["+model=ppca"], "model is there already"),
    (["++model=ppca"], "model is there already"),
    ([SWEEP, "model=ppca,facter_analysis"], "did you mean model=factor_analysis?"),
    # code and configurations from elsewhere
    (["+hydra.callbacks.x={_target_: os.system}"], "hydra.callbacks cannot be set"),
    (["hydra/callbacks=x"], "hydra/callbacks cannot be set"),
    (["hydra.searchpath=[file:///tmp]"], "given by --config-dir DIR"),
    (["hydra.launcher._target_=os.system"], "names code by _target_"),
    (["hydra.sweeper={a: [{_target_: os.system}]}"], "hydra.sweeper names code by _target_"),
    (["hydra.run.dir="], "hydra.run.dir= is not the name of a folder"),
    # sweeps
    (["seed=1,2"], "seed has several values (add --multirun"),
    ([SWEEP, "seed=range(3000)", "max_steps=range(1,1001)"], "3,000,000 runs: 3,000 of seed x 1,000 of max_steps"),
    ([SWEEP, "seed=range(0,1e30)"], "more than 10^15 runs"),
    ([SWEEP, "tolerance=range(0,1,1e-9)"], "1,000,000,000 runs"),
    ([SWEEP, "tolerance=range(0,1,0)"], "tolerance=range(0,1,0) has no number of values"),
    ([SWEEP, "tolerance=range(0,inf)"], "has no number of values"),
    ([SWEEP, "seed=range(5,1)"], "the sweep has no runs: 0 of seed"),
    ([SWEEP, "seed=interval(0,1)"], "choose a sweeper that draws from it"),
    ([SWEEP, "+hydra.sweeper.params.seed='range(30000)'"], "30,000 runs"),
    ([SWEEP, "hydra.sweeper.params={seed: 'range(30000)'}"], "30,000 runs"),
    # options
    ([SWEEP, "--cfg", "job"], "--multirun and --cfg cannot be joined"),
    (["--resolve"], "--resolve goes with --cfg"),
    (["--config-dir", "nowhere"], "--config-dir nowhere is not a folder"),
    # what Hydra and OmegaConf say in words of their own
    (["seed=${seed}"], "seed refers to itself (write a value)"),
    (["max_steps=${seed}", "seed=${max_steps}"], "refers to itself"),
    (["seed=${oc.env:LGM_NOPE}"], "seed refers to a variable of the environment, LGM_NOPE, that is not set"),
    (["seed=${nope:3}"], "seed refers to nope:, which is not there"),
    (["seed='${'"], "cannot read the reference in seed='${'"),
    (["hydra.run.dir=${hydra.run.dir}"], "hydra.run.dir refers to itself"),
    (["hydra.mode=nope"], "hydra.mode=nope is not possible: Invalid value 'nope'"),
    (["~hydra"], "hydra cannot be set as a whole"),
    (["hydra=3"], "hydra cannot be set as a whole"),
    (["~hydra.run"], "~hydra.run is not possible"),
    (["hydra/launcher=3"], "there is no hydra/launcher=3 (pip install"),
    (["hydra.run.dir=" + "a" * 300], "File name too long (choose another"),
    # files
    ([CSV, "data.path="], "data.path= is not a file (e.g. data.path=FILE)"),
    ([CSV, "data.path=[a,b]"], "data.path=[a,b] is not a file"),
    ([CSV, "data.path=" + "y" * 300], "cannot be a file: File name too long"),
    ([CSV, "data.path=" + "y/" * 3000], "cannot be a file: File name too long"),
    ([CSV, 'data.path="~no-such-user/x"'], "cannot be a file: Could not determine home directory"),
    ([CSV, "data.path=/dev/zero"], "data.path=/dev/zero is a pipe or a device"),
    ([CSV, 'data.path="\x1b[31mx\n.csv"'], r"data.path=\x1b[31mx\n.csv does not exist"),
    (["resume=" + "a" * 300], "File name too long"),
    # numbers
    (["model=sparse_bayes", "data.noise=1e300"], "data.noise=1e+300 is not a number >= 1e-09 and <= 1000000"),
    (["model=sparse_bayes", "data=camera", "data.levels=9007199254740991"], "is not an integer >= 1 and <= 30"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[" ".join(line)[:40] for line, _ in REFUSED])
def test_what_cannot_be_meant_is_refused_in_one_line(
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("lgm-run: error: ") and line.endswith(")\n") and line[:-1].isprintable()
    assert text in line
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_of_the_largest_size_is_counted_by_the_last_of_equal_keys() -> None:
    from lgm_cli.command.arguments import check

    check([f"seed=range({MOST_RUNS})", "max_steps=1,2", "max_steps=3", "model=glob(pp*)"], sweep=True)
    check([f"seed=range({2 * MOST_RUNS})", "hydra/sweeper=optuna"], sweep=True)  # draws as many as it is told
    with pytest.raises(UserError, match="1,001 runs"):
        check([f"seed=range({MOST_RUNS + 1})"], sweep=True)


def test_the_cure_for_a_plugin_is_the_one_that_brings_it() -> None:
    assert "lgm-run[launchers]" in unknown_choice("hydra/launcher", "joblib").mend
    assert "lgm-run[launchers]" not in unknown_choice("hydra/sweeper", "optuna").mend
    assert "hydra-optuna-sweeper" in unknown_choice("hydra/sweeper", "optuna").mend
    assert "pip install" not in unknown_choice("hydra/job_logging", "nope").mend


def test_memory_that_is_used_up_while_hydra_composes_is_no_bad_configuration() -> None:
    assert explain(MemoryError(), []).exit_code == 1

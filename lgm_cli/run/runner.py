"""One run, from a checked configuration to the files of the contract, whatever happens on the way."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgm_cli.data.base.load import load as load_data
from lgm_cli.errors import ANEW, Interrupted, UserError
from lgm_cli.machine import threads_asked
from lgm_cli.results import run_folder
from lgm_cli.results.files import atomic_path, write_json_atomic
from lgm_cli.results.host import host, reset_peak_memory, versions
from lgm_cli.results.metrics import FREE_ENERGY, Recorder
from lgm_cli.run.failure import explained, going_on
from lgm_cli.run.interrupts import Stop
from lgm_cli.run.progress import Progress

if TYPE_CHECKING:  # for their names alone: torch is imported later
    from lgm_cli.data.base.data import Data
    from lgm_cli.evaluation.information import StandardErrors
    from lgm_cli.models.base.latent_variable_model import LatentVariableModel
    from lgm_cli.models.base.parameters import Parameters
    from lgm_cli.results.outcome import Outcome

log = logging.getLogger(__name__)


def run(
    config: Mapping[str, Any], folder: Path, overrides: list[str], *, resumed: bool = False, bar: bool = True
) -> dict[str, Any]:
    """Learn as configured and leave the record in `folder` (which exists); the summary.

    resumed: go on from the checkpoint in `folder`. bar: show a progress bar if there is a terminal.

    UserError: bad data, an impossible device, a checkpoint that does not fit; what was there before stays as it was.
    RunFailed: the disk is full, the folder gone, the memory used up, the program wrong; as much as can be is recorded.
    Interrupted: by SIGINT or SIGTERM; while learning, the first is answered when everything has been written.
    """

    def work(summary: dict[str, Any], stop: Stop) -> None:
        _run(config, folder, summary, stop, resumed, bar)

    return recorded(config, folder, overrides, work, resumed)


def recorded(
    config: Mapping[str, Any],
    folder: Path,
    overrides: list[str],
    work: Callable[[dict[str, Any], Stop], None],
    resumed: bool = False,
) -> dict[str, Any]:
    """Do the work, which fills the summary, in a folder that the caller has claimed, and write how it ended."""
    begun = time.monotonic()
    summary: dict[str, Any] = {"status": "failed", "warnings": [], "error": None, "last_row": {}}
    summary |= {"seed": config["seed"], "overrides": overrides, "versions": versions(), "total_seconds": 0.0}
    with Stop() as stop:
        threads_asked()
        try:
            work(summary, stop)
            summary["total_seconds"] += time.monotonic() - begun
            write_json_atomic(folder / "summary.json", summary)
        except (Exception, KeyboardInterrupt) as error:
            ended = explained(error, config, folder, stop.patient)
            if stop.patient or not resumed:  # else the record of the earlier part stays
                summary["total_seconds"] += time.monotonic() - begun
                _record_end(folder, summary, ended)
            if ended is error:
                raise
            raise ended from error
    if stop.asked:
        if summary["status"] == "interrupted":
            raise Interrupted(f"{folder} has what was learned{going_on(folder, config)}")
        raise Interrupted(f"{folder} has what was learned", summary)
    return summary


def _run(
    config: Mapping[str, Any], folder: Path, summary: dict[str, Any], stop: Stop, resumed: bool, bar: bool
) -> None:
    if config["device"]["name"] == "mps":  # before torch is imported: some of its operations have no kernel there
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    state = _checkpoint(config, folder) if resumed else None
    log.info("reading data=%s", config["data"]["name"])

    def simulate(options: Mapping[str, Any]) -> dict[str, Any]:
        from lgm_cli.run import build

        return build.model(config).simulate(options)

    data = load_data(dict(config["data"]), config["seed"], simulate)
    log.info("%s", data.describe())
    if state and state["identity"]["fingerprint"] != data.fingerprint:
        raise UserError(
            f"the data are not those that the run in {folder} was learning from",
            "bring them back as they were, or start a run of its own on the new ones",
        )
    summary["data"] = data.summary

    # torch is imported from here on: what can be refused without it has been
    from lgm_cli.evaluation.criteria import UNFINISHED, criteria
    from lgm_cli.evaluation.evaluator import Evaluator
    from lgm_cli.evaluation.given_back import require_possible
    from lgm_cli.evaluation.information import require_affordable
    from lgm_cli.observations.blocks import observe
    from lgm_cli.observations.units import plain_units
    from lgm_cli.results import write
    from lgm_cli.results.closing import VERDICTS, closing
    from lgm_cli.run import auto, build, cheaper
    from lgm_cli.run import device as devices
    from lgm_cli.run.loop import Learner, Limits
    from lgm_cli.run.starts import starts_of
    from lgm_cli.run.stopping import Convergence

    reset_peak_memory()
    device = devices.device(config["device"])
    model = build.model(config)
    dtype = devices.dtype(config["device"], model)
    require_possible(model, data, config["model"]["name"])
    model.check(data.learned)
    size, units = auto.block_size(config, data.layout[0]), None if model.standardise else plain_units(data)
    model = model.bind(observe(data.learned, config["seed"], dtype, device, size, units))
    devices.spare_threads(config["device"], model)
    summary["host"] = host() | devices.describe(device, dtype)
    start = model.start(config["seed"])
    if config["standard_errors"]:
        require_affordable(model, start)
    decided = dict(state["identity"].get("decided", {})) if state else {}
    if config["method"]["name"] == "auto":
        config, decided = cheaper.decided(config, model, start)
        log.info("method=%s was chosen: %s", decided["method"], decided["reason"])
        run_folder.record(folder, config, summary["overrides"])  # which a resumed run goes on with
    method, chosen = auto.method(config, model, start)
    several = starts_of(config, model, method, state, folder) if config["starts"] > 1 else None
    begun = state if several is None or several.tried.complete else None  # what the learner itself goes on from
    evaluator = Evaluator(model, data, config["seed"])
    columns = [FREE_ENERGY] * method.has_free_energy + evaluator.own_columns
    limits = Limits(
        max_steps=auto.max_steps(config),
        max_seconds=config["max_seconds"],
        eval_every=None if config["eval_every"] == "auto" else config["eval_every"],
        checkpoint_seconds=config["checkpoint_seconds"],
    )
    learner = Learner(
        method,
        evaluator,
        Recorder.resume(folder, begun["row"], columns) if begun else Recorder(folder, columns),
        Convergence(config["tolerance"] * (model.settled_gain or 1.0)),
        limits,
        folder / "checkpoint",
        stop,
        identity={"config": dict(config), "fingerprint": data.fingerprint, "decided": decided},
    )
    if begun:
        learner.load()
    if state:
        learner.earlier_seconds = summary["total_seconds"] = state["earlier_seconds"]
        run_folder.record(folder, config, summary["overrides"])
        learner.recorder.rewind()
        for partial in folder.rglob(".*.partial*"):  # of a process that was killed while it wrote
            partial.unlink(missing_ok=True)
        (folder / "summary.json").unlink(missing_ok=True)  # a run without one is going on, or was killed
        log.info("going on after %s", f"step {method.steps}" if begun else "the starts tried so far")
    stop.patient = True
    try:
        if several and not several.tried.complete:
            several.run(learner, bar)
        steps, seconds = learner.method.steps, learner.seconds
        with Progress(limits.max_steps, limits.max_seconds, step=steps, fit_seconds=seconds, bar=bar) as progress:
            outcome = learner.learn(progress)
    finally:
        summary["last_row"] = learner.recorder.last
        summary |= {"starts": several.tried.summary()} if several else {}
    names, errors = list(map(str, data.table.column_labels)), None
    if config["standard_errors"] and outcome.status not in UNFINISHED:
        errors = errors_of(config, data, outcome)
        summary["standard_error_seconds"] = errors.seconds
    summary |= {
        "warnings": outcome.warnings
        + [f"all {config['starts']} starts are the same with these data, and one was taken"]
        * (config["starts"] > 1 and several is None)
        + list(data.table.warnings)
        + model.warnings(outcome.parameters, names)
        + (errors.warnings if errors else []),
        "evaluation": evaluator.describe(outcome.scores),
        **objective(model, outcome.parameters),
        **criteria(model, evaluator, outcome.parameters, outcome.scores, outcome.status),
        "chosen": decided | chosen,
        "parameter_counts": {name: value.numel() for name, value in model.export(outcome.parameters).items()},
    }
    values = errors and errors.values
    learned, summary["scores"] = write.write(folder, config, model, data, evaluator, outcome, values)
    notes = [f"method={decided['method']} was chosen: {decided['reason']}"] if "method" in decided else []
    lines = closing(folder, config, model, data, outcome, summary, learned, notes)
    with atomic_path(folder / "summary.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    level, verdict = logging.INFO, False
    for line in lines:
        if not line.startswith("  "):  # which goes on with the line before
            level = logging.WARNING if line.startswith("warning: ") else logging.INFO
            verdict = line.startswith(VERDICTS)
        log.log(level, "%s", line, extra={"verdict": verdict})
    summary["status"] = outcome.status


def errors_of(config: Mapping[str, Any], data: Data, outcome: Outcome) -> StandardErrors:
    """Standard errors of what a run has learned, by a model of its own in double precision, on the CPU."""
    import torch

    from lgm_cli.evaluation.information import standard_errors
    from lgm_cli.observations.blocks import observe
    from lgm_cli.observations.units import plain_units
    from lgm_cli.run import build

    model = build.model(config)
    units = None if model.standardise else plain_units(data)
    model = model.bind(observe(data.learned, config["seed"], torch.float64, torch.device("cpu"), units=units))
    inside = {name: value.detach().cpu().double() for name, value in outcome.parameters.items()}
    log.info("standard errors: second derivatives in %s free parameters", f"{model.free_parameters(inside):,}")
    return standard_errors(model, model.canonical(inside))


def objective(model: LatentVariableModel, parameters: Parameters) -> dict[str, Any]:
    """What was raised, for summary.json, and the log prior, in nats, up to a constant."""
    prior = model.log_prior(parameters)
    if prior is None:
        return {"objective": "log-likelihood"}
    return {"objective": "log-likelihood + log prior", "log_prior": float(prior)}


def _checkpoint(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The state to go on from; UserError when it belongs to another configuration or has reached the run's limit."""
    from lgm_cli.methods.saved_state import require
    from lgm_cli.results.checkpoint import read_checkpoint
    from lgm_cli.run import auto

    state = read_checkpoint(folder / "checkpoint")
    try:
        identity = {"decided": {}, "starts": {}} | state["identity"]  # nothing was, in runs of earlier versions
        kinds = {"config": dict, "fingerprint": str, "decided": dict[str, str], "starts": dict}
        require(identity, kinds, "identity")
    except ValueError as error:
        raise UserError(f"the checkpoint in {folder} is not a run's", ANEW) from error
    saved = run_folder.with_later_keys(state["identity"]["config"])
    run_folder.verify(config, saved, folder)
    steps, seconds, status = state["method"]["steps"], state["seconds"], run_folder.status_of(folder)
    if status == "max_steps" and steps >= auto.max_steps(config):
        raise UserError(f"{folder} has taken its {steps} steps", f"raise the limit, e.g. max_steps={2 * steps}")
    if status == "max_seconds" and config["max_seconds"] is not None and seconds >= config["max_seconds"]:
        more = f"max_seconds={2 * config['max_seconds']:g}"
        raise UserError(
            f"{folder} has learned for its {config['max_seconds']:g} seconds", f"raise the limit, e.g. {more}"
        )
    return state


def _record_end(folder: Path, summary: dict[str, Any], ended: BaseException) -> None:
    """Say in the folder how the run ended, if the folder can still be written."""
    if isinstance(ended, UserError):
        summary |= {"status": "failed", "error": {"what": ended.what, "mend": ended.mend}}
    else:
        summary["status"] = "interrupted"
    with suppress(OSError):
        write_json_atomic(folder / "summary.json", summary)

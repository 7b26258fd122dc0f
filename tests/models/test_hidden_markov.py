"""Hidden Markov model: likelihoods by dense sums, maxima that other programs find, and what is reported."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm, poisson
from torch import Tensor

from lgm_cli.data.base import packaged
from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.models.base.parameters import Parameters
from lgm_cli.models.hidden_markov import LEAST, HiddenMarkov, stationary
from lgm_cli.observations.blocks import observe
from lgm_cli.observations.chunk import Chunk
from tests import cases

KINDS = [("normal", "full"), ("normal", "diagonal"), ("normal", "tied"), ("poisson", "full"), ("categorical", "full")]
kinds = pytest.mark.parametrize(("emission", "covariance"), KINDS)
DOUBLE: dict[str, Any] = {"dtype": torch.float64}
OPTIONS = {
    "num_points": 60, "num_dimensions": 2, "latent_dim": 1, "factor_share": 0.6, "hidden_share": 0.25, "seed": 3
}  # fmt: skip


def model_of(emission: str, covariance: str = "full", states: int = 2, floor: float = 1e-6) -> HiddenMarkov:
    return HiddenMarkov(states, emission, covariance, floor)


def bound(emission: str, covariance: str = "full", states: int = 2, steps: int = 60) -> HiddenMarkov:
    """A model bound to data of its own with gaps, among them a whole step."""
    model = model_of(emission, covariance, states)
    values = model.simulate(OPTIONS | {"num_points": steps})["values"]
    values[steps // 2] = np.nan
    found = cases.bind(model, cases.as_data(values, kind="series"))
    assert isinstance(found, HiddenMarkov)
    return found


def chunk_of(model: HiddenMarkov) -> Chunk:
    (chunk,) = model.observations.chunks
    return chunk


def moved(model: HiddenMarkov, seed: int = 0) -> Parameters:
    """Parameters away from the start, valid."""
    free, draw = model.free(model.start(0)), torch.Generator().manual_seed(seed)
    return model.constrain(
        {name: value + 0.3 * torch.randn(value.shape, generator=draw, **DOUBLE) for name, value in free.items()}
    )


def likelihood(model: HiddenMarkov, parameters: Parameters) -> float:
    """In the data's own units."""
    posterior = model.posterior(parameters, chunk_of(model))
    return float(model.log_likelihood(parameters, chunk_of(model), posterior).sum())


def learned(model: HiddenMarkov, steps: int, seed: int = 0) -> Parameters:
    parameters = model.start(seed)
    for _ in range(steps):
        statistics = model.statistics(chunk_of(model), model.posterior(parameters, chunk_of(model)))
        parameters = model.maximise(parameters, statistics)
    return parameters


def density(exported: Parameters, emission: str, row: np.ndarray, state: int) -> float:
    """log p(observed entries of a row | state), in the data's own units, by scipy."""
    seen = np.flatnonzero(~np.isnan(row))
    if emission == "poisson":
        return float(poisson.logpmf(row[seen], exported["rates"][state].numpy()[seen]).sum())
    if emission == "categorical":
        return float(sum(exported["probabilities"][state, m, int(row[m])].log() for m in seen))
    mean, spread = exported["means"][state].numpy()[seen], exported["covariances"][state].numpy()[np.ix_(seen, seen)]
    return float(multivariate_normal.logpdf(row[seen], mean, spread)) if len(seen) else 0.0


def observed(model: HiddenMarkov) -> np.ndarray:
    """The table (T, M) in the data's own units, NaN in its gaps."""
    table, observations = model.table(chunk_of(model)), model.observations
    center, scale = (part.view(-1, model.channels)[: model.steps] for part in (observations.center, observations.scale))
    return torch.where(table.weight > 0, center + scale * table.values, math.nan).numpy()


@kinds
def test_the_likelihood_is_the_sum_over_all_paths(emission: str, covariance: str) -> None:
    model = bound(emission, covariance, steps=6)
    parameters = moved(model)
    exported, rows = model.export(parameters), observed(model)
    weights = []
    for path in itertools.product(range(2), repeat=len(rows)):
        weight = float(exported["initial"][path[0]].log())
        weight += sum(float(exported["transition"][j, k].log()) for j, k in itertools.pairwise(path))
        weights.append(weight + sum(density(exported, emission, row, k) for row, k in zip(rows, path, strict=True)))
    assert abs(likelihood(model, parameters) - np.logaddexp.reduce(weights)) < 1e-9


def test_the_geyser_has_the_maximum_that_hmmlearn_and_statsmodels_find() -> None:
    values = packaged.frame("MASS", "geyser")[["waiting"]].to_numpy(float)
    model = cases.bind(model_of("normal"), cases.as_data(values, kind="series"))
    assert isinstance(model, HiddenMarkov)
    parameters = model.canonical(learned(model, 32))
    found = model.export(parameters)
    assert likelihood(model, parameters) == pytest.approx(-1092.399468, abs=1e-6)
    assert found["means"].flatten().tolist() == pytest.approx([82.4759, 59.1488], abs=1e-3)
    assert found["transition"].flatten().tolist() == pytest.approx([0.2245, 0.7755, 1, 0], abs=1e-4)


@pytest.mark.parametrize(
    ("states", "value", "rates"), [(2, -206.178987, [2.439, 5.686]), (3, -202.827388, None)], ids=["two", "three"]
)
def test_discoveries_have_the_known_maxima(states: int, value: float, rates: list[float] | None) -> None:
    values = packaged.frame("datasets", "discoveries")[["value"]].to_numpy(float)
    model = cases.bind(model_of("poisson", states=states), cases.as_data(values, kind="series"))
    assert isinstance(model, HiddenMarkov)
    parameters = model.canonical(learned(model, 50 if states == 2 else 80))
    assert likelihood(model, parameters) == pytest.approx(value, abs=2e-6)
    if rates is not None:
        assert model.export(parameters)["rates"].flatten().tolist() == pytest.approx(rates, abs=1e-3)


def test_loaded_dice_are_told_apart() -> None:
    """A die of which a six comes up half of the time, and a fair one: no single throw says which it is."""
    draw, state, throws = np.random.default_rng(0), 0, []
    for _ in range(1500):
        state = 1 - state if draw.random() < (0.03, 0.06)[state] else state
        throws.append(draw.choice(6, p=([1 / 6] * 6, [0.08] * 5 + [0.6])[state]))
    model = cases.bind(model_of("categorical"), cases.as_data(np.array(throws, float)[:, None], kind="series"))
    assert isinstance(model, HiddenMarkov)
    found = model.export(model.canonical(learned(model, 80)))
    assert found["probabilities"][:, 0, 5].tolist() == pytest.approx([1 / 6, 0.6], abs=0.08)
    assert found["transition"].diagonal().tolist() == pytest.approx([0.97, 0.94], abs=0.04)


@kinds
def test_steps_never_lower_the_likelihood_and_the_bound_touches_it(emission: str, covariance: str) -> None:
    model, last = bound(emission, covariance, states=3), -math.inf
    parameters, chunk = model.start(0), chunk_of(model)
    for _ in range(12):
        posterior = model.posterior(parameters, chunk)
        assert posterior.log_evidence is not None
        value, statistics = float(posterior.log_evidence), model.statistics(chunk, posterior)
        assert abs(float(statistics["entropy"] - model.expected_loss(parameters, statistics)) - value) < 1e-9
        assert value > last - 1e-9
        last, parameters = value, model.maximise(parameters, statistics)
    other = model.statistics(chunk, model.posterior(moved(model), chunk))
    assert float(other["entropy"] - model.expected_loss(parameters, other)) < last - 1e-3


@kinds
def test_the_free_energy_and_the_divergence_add_up_to_the_likelihood(emission: str, covariance: str) -> None:
    """F(q) + KL(q || p) = l for the posterior q of another chain, the divergence summed over paths (and, of the hidden
    entries of full covariances, left to them: q and p share their conditionals here)."""
    model = bound(emission, covariance, steps=6)
    chunk, parameters = chunk_of(model), moved(model)
    p = model.posterior(parameters, chunk)
    others = moved(model, seed=1)
    q = model.posterior(parameters | {name: others[name] for name in ("initial", "transition")}, chunk)
    statistics = model.statistics(chunk, q)
    energy = float(statistics["entropy"] - model.expected_loss(parameters, statistics))

    def chances(posterior: Any) -> Tensor:
        pairs, single = posterior.pairs(), posterior.state_probabilities
        every = torch.tensor(list(itertools.product(range(2), repeat=6)))
        found = single[0, every[:, 0]]
        for t in range(5):
            found = found * pairs[t, every[:, t], every[:, t + 1]] / single[t, every[:, t]]
        return found

    one, two = chances(q), chances(p)
    divergence = float((one * (one / two).log()).sum())
    assert p.log_evidence is not None
    assert divergence > 1e-3
    assert abs(energy + divergence - float(p.log_evidence)) < 1e-9


@kinds
def test_the_maximum_step_is_where_the_expected_loss_is_flat(emission: str, covariance: str) -> None:
    """Gradient zero in free coordinates, but for what floors hold; and each block alone lowers the loss."""
    model = bound(emission, covariance, states=3)
    parameters = moved(model)
    statistics = model.statistics(chunk_of(model), model.posterior(parameters, chunk_of(model)))
    statistics = {name: value.detach() for name, value in statistics.items()}
    best = model.maximise(parameters, statistics)
    free = {name: value.requires_grad_() for name, value in model.free(best).items()}
    model.expected_loss(model.constrain(free), statistics).backward()
    for name, value in free.items():
        assert value.grad is not None
        assert float(value.grad.abs().max()) < 1e-4, name
    start, steps = float(model.expected_loss(parameters, statistics)), parameters
    for block in model.blocks:
        one = model.maximise(parameters, statistics, block)
        changed = [name for name in one if not torch.equal(one[name], parameters[name])]
        assert changed == list(block)
        assert float(model.expected_loss(one, statistics)) < start
        steps = model.maximise(steps, statistics, block)
    with torch.no_grad():
        assert abs(float(model.expected_loss(steps, statistics) - model.expected_loss(best, statistics))) < 1e-9


@kinds
def test_gradients_by_the_bound_are_those_of_the_likelihood(emission: str, covariance: str) -> None:
    model = bound(emission, covariance)
    chunk, parameters = chunk_of(model), moved(model)
    inputs = cases.leaves(parameters)
    value = model.posterior(inputs, chunk).log_evidence
    assert value is not None
    direct = torch.autograd.grad(value.sum(), list(inputs.values()))
    posterior = model.posterior(parameters, chunk)
    loss = model.complete_loss(inputs, chunk, posterior)
    for one, two in zip(direct, torch.autograd.grad(-loss, list(inputs.values())), strict=True):
        assert torch.allclose(one, two, rtol=1e-8, atol=1e-8)
    name = "transition"
    change = torch.randn(2, 2, generator=torch.Generator().manual_seed(0), **DOUBLE) * parameters[name]
    ends = []
    for sign in (1, -1):
        end = model.posterior(parameters | {name: parameters[name] + sign * 1e-5 * change}, chunk).log_evidence
        assert end is not None
        ends.append(float(end))
    slope = float((direct[list(inputs).index(name)] * change).sum())
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-6)


@kinds
def test_what_is_written_leads_back(emission: str, covariance: str) -> None:
    model = bound(emission, covariance, states=3)
    parameters = model.canonical(moved(model))
    exported = model.export(parameters)
    again = model.restore(exported)
    for name, value in parameters.items():
        assert torch.allclose(again[name], value, atol=1e-10), name
    table = cases.as_data(observed(model), kind="series").table
    shapes = model.exported_shapes(table)
    assert {name: tuple(value.shape) for name, value in exported.items()} == shapes
    free = model.constrain(model.free(parameters))
    for name, value in parameters.items():
        assert torch.allclose(free[name], value, atol=1e-10), name


@kinds
def test_states_are_written_by_falling_stationary_probability(emission: str, covariance: str) -> None:
    model = bound(emission, covariance, states=3)
    parameters = moved(model)
    before, after = model.export(parameters), model.export(model.canonical(parameters))
    shares = stationary(after)
    assert bool((shares.diff() <= 0).all())
    assert torch.allclose(shares @ after["transition"], shares, atol=1e-8)
    assert likelihood(model, model.canonical(parameters)) == pytest.approx(likelihood(model, parameters), abs=1e-9)
    turned = {name: value.flip(0) for name, value in after.items()} | {"transition": after["transition"].flip(0, 1)}
    assert model.parameter_error(parameters, {name: value.numpy() for name, value in turned.items()}) < 1e-12
    assert float((stationary(before) - shares).abs().max()) > 1e-3 or torch.equal(
        before["transition"], after["transition"]
    )


def test_shares_of_time_are_those_of_a_long_chain() -> None:
    transition = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]], **DOUBLE)
    found = stationary({"initial": torch.full((3,), 1 / 3, **DOUBLE), "transition": transition})
    torch.testing.assert_close(found, torch.linalg.matrix_power(transition, 400)[0], atol=1e-7, rtol=0)


def test_the_stationary_distribution_of_closed_classes_is_that_from_the_start() -> None:
    transition = torch.tensor([[0.5, 0.3, 0.2], [0, 1, 0], [0, 0, 1]], **DOUBLE)
    found = stationary({"initial": torch.tensor([1.0, 0, 0], **DOUBLE), "transition": transition})
    assert found.tolist() == pytest.approx([0, 0.6, 0.4], abs=1e-7)


def test_hidden_entries_of_a_step_are_predicted_from_the_others_and_the_states() -> None:
    """Against the conditional of the joint normal of a step, mixed by the smoothed probabilities."""
    model = bound("normal", "full")
    parameters, rows = moved(model), observed(model)
    exported, posterior = model.export(parameters), model.posterior(parameters, chunk_of(model))
    hidden = np.isnan(rows)
    step = int(np.flatnonzero(hidden[:, 1] & ~hidden[:, 0])[0])
    both = int(np.flatnonzero(hidden.all(1))[0])
    entry = torch.tensor([[2 * both, 2 * step + 1, 2 * both + 1]])
    found = model.predict(parameters, posterior, entry)
    chances = posterior.state_probabilities.numpy()
    means, spreads = exported["means"].numpy(), exported["covariances"].numpy()
    slope = spreads[:, 0, 1] / spreads[:, 0, 0]
    mean = means[:, 1] + slope * (rows[step, 0] - means[:, 0])
    variance = spreads[:, 1, 1] - slope * spreads[:, 0, 1]
    total = chances[step] @ mean
    assert float(found.mean[0, 1]) == pytest.approx(total, abs=1e-10)
    assert float(found.variance[0, 1]) == pytest.approx(chances[step] @ (variance + mean**2) - total**2, abs=1e-10)
    assert float(found.mean[0, 0]) == pytest.approx(chances[both] @ means[:, 0], abs=1e-10)
    value = np.log(chances[step] @ norm.pdf(1.3, mean, np.sqrt(variance)))
    assert float(found.log_density(torch.full((1, 3), 1.3, **DOUBLE))[0, 1]) == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize("emission", ["poisson", "categorical"])
def test_whole_numbers_are_scored_by_their_probability(emission: str) -> None:
    model = bound(emission)
    parameters = moved(model)
    exported, posterior = model.export(parameters), model.posterior(parameters, chunk_of(model))
    steps = torch.arange(10)
    found = model.predict(parameters, posterior, (2 * steps + 1)[None])
    chances, values = posterior.state_probabilities.numpy(), np.arange(10) % 3
    expected = []
    for t, value in enumerate(values):
        row = np.array([np.nan, value])
        expected.append(
            np.logaddexp.reduce([np.log(chances[t, k]) + density(exported, emission, row, k) for k in (0, 1)])
        )
    assert np.allclose(found.log_density(torch.as_tensor(values, **DOUBLE)[None])[0], expected, atol=1e-10)
    total = torch.zeros(10, **DOUBLE)
    for value in range(400 if emission == "poisson" else 4):
        total = total + found.log_density(torch.full((1, 10), float(value), **DOUBLE))[0].exp()
    assert torch.allclose(total, torch.ones(10, **DOUBLE), atol=1e-9)


def test_steps_after_the_last_value_are_forecast_and_not_learned_from() -> None:
    values = model_of("normal").simulate(OPTIONS)["values"]
    longer = np.vstack([values, np.full((3, 2), np.nan)])
    short, long = (cases.bind(model_of("normal"), cases.as_data(each, kind="series")) for each in (values, longer))
    assert isinstance(long, HiddenMarkov)
    assert isinstance(short, HiddenMarkov)
    parameters = learned(short, 5)
    for name, value in learned(long, 5).items():
        assert torch.allclose(value, parameters[name], atol=1e-12)
    posterior = long.posterior(parameters, chunk_of(long))
    exported, last = long.export(parameters), posterior.state_probabilities[-1]
    chances = last @ torch.linalg.matrix_power(exported["transition"], 3)
    found = long.predict(parameters, posterior, torch.tensor([[2 * 62]]))
    assert float(found.mean) == pytest.approx(float(chances @ exported["means"][:, 0]), abs=1e-12)
    inferred = long.inferred(parameters, posterior)
    assert inferred["state_probabilities"].shape == (63, 2)
    assert torch.allclose(inferred["state_probabilities"][-1], chances, atol=1e-12)
    assert inferred["most_probable_path"].shape == (63,)


@pytest.mark.parametrize("emission", ["normal", "poisson", "categorical"])
def test_one_step_is_enough(emission: str) -> None:
    values = np.array([[1.0, 2.0], [np.nan, np.nan]])
    units = (np.zeros(2), np.array([2.0, 3.0])) if emission == "normal" else (np.zeros(2), np.ones(2))
    data = cases.as_data(values, kind="series")
    model = model_of(emission, states=1).bind(observe(data, 0, torch.float64, cases.CPU, units=units))
    assert model.steps == 1
    parameters = learned(model, 2)
    assert all(bool(value.isfinite().all()) for value in parameters.values())
    assert parameters["initial"].tolist() == [1.0]
    assert math.isfinite(likelihood(model, parameters))


def test_drawn_paths_and_entries_are_statistics_too() -> None:
    """Averages of the statistics of draws near those of the posterior, for paths and hidden entries together."""
    model, draw = bound("normal", "full", steps=12), torch.Generator().manual_seed(0)
    posterior = model.posterior(moved(model), chunk_of(model))
    expected = model.statistics(chunk_of(model), posterior)
    found = [model.statistics(chunk_of(model), posterior.draw(draw)) for _ in range(150)]
    assert "entropy" not in found[0]
    for name, value in expected.items():
        if name != "entropy":
            drawn = torch.stack([each[name] for each in found])
            error = drawn.std(0) / math.sqrt(len(found)) + 1e-3
            assert float(((drawn.mean(0) - value) / error).abs().max()) < 4.5, name


def test_a_temperature_leaves_the_bound_and_moves_towards_all_states() -> None:
    model = bound("normal", "diagonal")
    parameters = moved(model)
    warm = model.posterior(parameters, chunk_of(model), 0.2)
    assert warm.log_evidence is None
    cold = model.posterior(parameters, chunk_of(model))
    assert float(warm.state_probabilities.max(1).values.mean()) < float(cold.state_probabilities.max(1).values.mean())


def test_a_state_that_is_not_visited_keeps_its_parameters() -> None:
    model = bound("normal", "full", states=3)
    parameters = model.start(0)
    statistics = model.statistics(chunk_of(model), model.posterior(parameters, chunk_of(model)))
    empty = torch.tensor([1.0, 1.0, 0.0], **DOUBLE)
    shrunk = {}
    for name, value in statistics.items():
        rows = empty.view(-1, *[1] * (value.dim() - 1)) if value.dim() else 1.0
        shrunk[name] = value * rows * (empty if name == "transitions" else 1.0)
    new = model.maximise(parameters, shrunk)
    for name in ("transition", "means", "covariances"):
        assert torch.equal(new[name][2], parameters[name][2])
    assert float(new["transition"][:2, 2].max()) == pytest.approx(LEAST)
    assert all(bool(value.isfinite().all()) for value in new.values())


@pytest.mark.parametrize(
    ("emission", "values", "words"),
    [
        ("poisson", [[1.0], [2.5]], "has 2.5 in 'y0', and counts are whole"),
        ("poisson", [[1.0], [-2.0]], "has -2 in 'y0', and counts are whole"),
        ("categorical", [[1.0], [0.5]], "has 0.5 in 'y0', and categories are whole"),
        ("categorical", [[1.0], [4000.0]], "a category 4000"),
        ("normal", [[1.0]], "2 states cannot be learned from 1 steps"),
    ],
)
def test_data_that_states_cannot_emit_are_refused(emission: str, values: list[list[float]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        model_of(emission).check(cases.as_data(np.array(values), kind="series"))


def test_what_a_user_should_know() -> None:
    """A state of equal values ends at its floor; one that is never visited is named."""
    draw = np.random.default_rng(0)
    values = np.concatenate([np.full(40, 5.0), draw.normal(size=40)])[:, None]
    model = cases.bind(model_of("normal", floor=1e-3), cases.as_data(values, kind="series"))
    assert isinstance(model, HiddenMarkov)
    found = model.warnings(learned(model, 40), ["y"])
    assert len(found) == 1
    assert "ended at its floor, 0.001" in found[0]
    parameters = model.start(0)
    never = torch.tensor([[1 - 1e-9, 1e-9], [1 - 1e-9, 1e-9]], **DOUBLE)
    found = model.warnings(parameters | {"transition": never}, ["y"])
    assert any("state 2 stands for fewer than 2 steps" in text for text in found)


def test_simulated_data_are_those_of_their_parameters() -> None:
    """Moments of 20,000 steps, and the error of the true parameters."""
    for emission in ("normal", "poisson", "categorical"):
        drawn = model_of(emission, states=3).simulate(OPTIONS | {"num_points": 20000, "hidden_share": 0.0})
        truth = {name: torch.as_tensor(value) for name, value in drawn["truth"].items()}
        model = model_of(emission, states=3)
        implied, values = model.implied_covariance(truth), drawn["values"]
        apart = values - values.mean(0)
        near = np.concatenate([apart.T @ apart, apart[1:].T @ apart[:-1]], 1) / len(values)
        assert np.allclose(near, implied, atol=0.1 * np.abs(implied.numpy()).max())
    data: Data = cases.as_data(drawn["values"][:50], kind="series")
    assert data.table.kind == "series"


def test_gradients_towards_a_transition_of_zero_fade_with_it() -> None:
    """Three states of the geyser: EM ends with transitions at LEAST. Where these are put to p, the gradient in free
    coordinates points back to zero, in proportion to p: what gradient_em is slow at is no other maximum."""
    values = packaged.frame("MASS", "geyser")[["waiting", "duration"]].to_numpy(float)
    model = cases.bind(model_of("normal", states=3), cases.as_data(values, kind="series"))
    assert isinstance(model, HiddenMarkov)
    best, slopes = learned(model, 60), []
    none = best["transition"] < 1e-9
    assert int(none.sum()) == 3 and float(best["transition"][~none].min()) > 1e-3
    for chance in (1e-3, 1e-4):
        raised = best["transition"].masked_fill(none, chance)
        free = model.free(best | {"transition": raised / raised.sum(1, keepdim=True)})
        free = {name: value.requires_grad_() for name, value in free.items()}
        evidence = model.posterior(model.constrain(free), chunk_of(model)).log_evidence
        assert evidence is not None
        (slope,) = torch.autograd.grad(evidence.sum(), [free["transition"]])
        slopes.append(slope[none])
    assert float(slopes[0].max()) < 0
    torch.testing.assert_close(slopes[0] / slopes[1], torch.full((3,), 10.0, **DOUBLE), rtol=0.1, atol=0)

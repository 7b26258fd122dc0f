"""The Bernoulli mixture, against enumeration and published maxima."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli

from lgm_cli.data import lsat6
from lgm_cli.data.base.data import Data
from lgm_cli.errors import UserError
from lgm_cli.methods.e_steps.exact import Exact
from lgm_cli.methods.m_steps.closed_form import ClosedForm
from lgm_cli.methods.method import Method
from lgm_cli.models.bernoulli_mixture import BernoulliMixture
from tests import cases


def test_all_patterns_have_probability_one_and_gaps_are_sums() -> None:
    """Enumeration of 2^5 patterns; a row with gaps has the sum over its hidden entries."""
    values = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    gaps = np.array([[1, np.nan, 0, np.nan, 1]])
    model = cases.bind(BernoulliMixture(3, 1e-6), np.concatenate([values, gaps]))
    parameters = cases.moved(model, model.start(0), size=1.0)
    found = np.empty(33)
    for chunk in model.observations.chunks:
        own = model.log_likelihood(parameters, chunk, model.posterior(parameters, chunk))
        found[chunk.points.numpy()] = own.exp().numpy()
    weights, p = parameters["weights"].numpy(), parameters["probabilities"].numpy()
    dense = bernoulli.pmf(values[:, None], p).prod(2) @ weights
    np.testing.assert_allclose(found[:32], dense, rtol=1e-12)
    assert found[:32].sum() == pytest.approx(1, abs=1e-14)
    seen = (values[:, [0, 2, 4]] == [1, 0, 1]).all(1)
    assert found[32] == pytest.approx(dense[seen].sum(), rel=1e-12)


@pytest.mark.parametrize(("components", "wanted"), [(1, -2493.4367), (2, -2467.4055)])
def test_lsat_6_reaches_the_known_maximum(components: int, wanted: float) -> None:
    table = lsat6.load({})
    model = cases.bind(BernoulliMixture(components, 1e-12), Data(table, np.zeros(len(table.values), bool)))
    method = Method(model, Exact(model), ClosedForm(model, model.start(0)), 10**9, 0)
    for _ in range(700):
        method.step()
    assert float(cases.log_likelihood(model, method.parameters)) == pytest.approx(wanted, abs=1e-4)


def test_what_is_no_zero_or_one_is_named() -> None:
    with pytest.raises(UserError, match="has 0.5 in 'y1'"):
        BernoulliMixture(2, 1e-6).check(cases.as_data(np.array([[0, 0.5], [1, 1], [0, 1.0]])))


def test_floors_and_components_that_are_alike_are_named() -> None:
    model = cases.bind(BernoulliMixture(2, 1e-6), np.array([[0, 1.0], [1, 0], [1, 1], [0, 0], [0, 1]]))
    same = torch.tensor([[0.4, 1e-6], [0.4, 1e-6]], dtype=torch.float64)
    found = model.warnings({"weights": torch.tensor([0.9, 0.1]).double(), "probabilities": same}, ["a", "b"])
    assert len(found) == 3
    assert "components 1, 2 in 'b'" in found[0]
    assert found[1].startswith("component 2 stands for fewer than 2 data points")
    assert found[2].startswith("component 2 came out like one before it")

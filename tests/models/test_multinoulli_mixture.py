"""The multinoulli mixture, against enumeration and what must hold of its categories."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lgm_cli.errors import UserError
from lgm_cli.models.multinoulli_mixture import MultinoulliMixture
from tests import cases


def test_all_patterns_have_probability_one_and_gaps_are_sums() -> None:
    """Three columns of 2, 3 and 4 categories, the last numbered from one."""
    values = np.array(list(itertools.product([0.0, 1], [0.0, 1, 2], [1.0, 2, 3, 4])))
    model = cases.bind(MultinoulliMixture(2, 1e-6), np.concatenate([values, [[1, np.nan, 3]]]))
    parameters = cases.moved(model, model.start(0), size=1.0)
    found = np.empty(25)
    for chunk in model.observations.chunks:
        own = model.log_likelihood(parameters, chunk, model.posterior(parameters, chunk))
        found[chunk.points.numpy()] = own.exp().numpy()
    p = parameters["probabilities"].numpy()
    assert (p[:, 2, 0] == 0).all() and (p[:, 0, 2:] == 0).all()
    each = p[:, np.arange(3), values.astype(int)].prod(2)  # (K, 24)
    np.testing.assert_allclose(found[:24], parameters["weights"].numpy() @ each, rtol=1e-12)
    assert found[:24].sum() == pytest.approx(1, abs=1e-14)
    seen = (values[:, [0, 2]] == [1, 3]).all(1)
    assert found[24] == pytest.approx(found[:24][seen].sum(), rel=1e-12)


def test_a_category_that_was_not_seen_in_learning_is_named() -> None:
    values = np.array([[0, 1.0], [1, 2], [0, 3], [1, 1]])
    model = cases.bind(MultinoulliMixture(2, 1e-6), values)
    applied = MultinoulliMixture(2, 1e-6)
    applied.fix(model.export(model.start(0)), {})
    cases.bind(applied, values[:2])
    with pytest.raises(UserError, match="has 7 in '1'"):
        cases.bind(applied, np.array([[0, 7.0], [1, 2]]))
    with pytest.raises(UserError, match="has 0.5 in 'y1'"):
        MultinoulliMixture(2, 1e-6).check(cases.as_data(values / 2))


def test_components_are_written_by_falling_weight() -> None:
    model = cases.bind(MultinoulliMixture(2, 1e-6), np.array([[0, 1.0], [1, 2], [0, 3], [1, 1]]))
    turned = model.start(0) | {"weights": torch.tensor([0.25, 0.75], dtype=torch.float64)}
    exported = model.canonical(turned)
    assert exported["weights"].tolist() == [0.75, 0.25]
    assert torch.equal(exported["probabilities"], turned["probabilities"].flip(0))

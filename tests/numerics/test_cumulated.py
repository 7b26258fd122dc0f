"""Values of a series whose differences are a linear Gaussian chain, against a dense computation and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest

from lgm_cli.data.base.transform import Transform
from lgm_cli.models.parts.autoregressive_chain import companion
from lgm_cli.numerics.cumulated import LinearChain, smoothed


def random_chain(random: np.random.Generator, states: int, channels: int) -> LinearChain:
    g = 0.5 * np.linalg.qr(random.normal(size=(states, states)))[0]
    q, p = (part @ part.T + np.eye(states) for part in random.normal(size=(2, states, states)))
    c, noise = random.normal(size=(channels, states)), random.uniform(0.3, 1.0, channels)
    return LinearChain(g, q, c, noise, random.normal(size=states), p)


def dense(
    chain: LinearChain, level: np.ndarray, values: np.ndarray, transform: Transform
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the unknown values: those of the joint normal distribution of all differences, of which the
    known values leave some directions; unknown first values are without a prior."""
    steps, m = values.shape
    powers = [np.linalg.matrix_power(chain.transition, k) for k in range(steps)]
    spread = [chain.initial_covariance]
    for _ in range(steps - 1):
        spread.append(chain.transition @ spread[-1] @ chain.transition.T + chain.covariance)
    mean, covariance = level.copy(), np.zeros((steps, m, steps, m))
    for t in range(steps):
        mean[t] += chain.observation @ powers[t] @ chain.initial_mean
        for s in range(t + 1):
            block = chain.observation @ powers[t - s] @ spread[s] @ chain.observation.T
            covariance[t, :, s], covariance[s, :, t] = block, block.T
        covariance[t, :, t] += np.diag(chain.noise)
    operator = np.stack([transform.differences(unit) for unit in np.eye(steps)[:, :, None]], 1)[transform.reach :, :, 0]
    d = np.kron(operator, np.eye(m))
    kept = slice(transform.reach * m, None)
    precision = np.linalg.inv(covariance.reshape(steps * m, -1)[kept, kept])
    x, unknown = values.ravel(), np.isnan(values.ravel())
    rest = mean.ravel()[kept] - d[:, ~unknown] @ x[~unknown]
    of_unknown = d[:, unknown]
    found = np.linalg.inv(of_unknown.T @ precision @ of_unknown)
    return found @ of_unknown.T @ precision @ rest, np.diag(found)


@pytest.mark.parametrize(
    "transform", [Transform(difference=1), Transform(difference=2), Transform(difference=1, seasonal_difference=3)]
)
@pytest.mark.parametrize("first_known", [True, False])
def test_gaps_and_forecasts_are_those_of_a_dense_computation(transform: Transform, first_known: bool) -> None:
    random = np.random.default_rng(3)
    chain = random_chain(random, states=3, channels=2)
    level, values = random.normal(size=(2, 24, 2))
    values = values.cumsum(0) + 5
    values[[6, 7, 8, 15]] = np.nan
    values[10, 0] = values[12, 1] = np.nan
    values[-5:] = np.nan
    if not first_known:
        values[0, 0] = values[1, 1] = np.nan
    mean, variance = smoothed(chain, level, values, transform.weights)
    unknown = np.isnan(values)
    expected = dense(chain, level, values, transform)
    tolerance = 1e-9 if first_known else 1e-4  # a prior that is nearly without limit
    np.testing.assert_allclose(mean[unknown], expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(variance[unknown], expected[1], rtol=tolerance)
    np.testing.assert_array_equal(mean[~unknown], values[~unknown])
    assert not variance[~unknown].any()


def test_a_random_walk_is_known_in_closed_form() -> None:
    """Differences that are white with variance 1: h steps ahead the variance is h; in a gap it is a bridge's."""
    values = np.array([1.0, np.nan, np.nan, 4.0, np.nan, np.nan])[:, None]
    chain = companion(np.zeros(1), 0.75, 0.25)
    mean, variance = smoothed(chain, np.zeros((6, 1)), values, np.ones(1))
    np.testing.assert_allclose(mean[:, 0], [1, 2, 3, 4, 4, 4], atol=1e-12)
    np.testing.assert_allclose(variance[:, 0], [0, 2 / 3, 2 / 3, 0, 1, 2], atol=1e-12)


@pytest.mark.parametrize(("difference", "lag"), [(1, None), (2, None), (1, 12)])
def test_forecasts_are_those_of_statsmodels(difference: int, lag: int | None) -> None:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    random, ahead, transform = np.random.default_rng(0), 30, Transform(difference=difference, seasonal_difference=lag)
    series = random.normal(size=120).cumsum()
    peer = SARIMAX(series, order=(2, difference, 0), seasonal_order=(0, int(lag is not None), 0, lag or 0))
    forecast = peer.filter([0.5, -0.3, 1.7]).get_forecast(ahead)
    values = np.concatenate([series, np.full(ahead, np.nan)])[:, None]
    chain = companion(np.array([0.5, -0.3]), 1.7, 1e-13)
    mean, variance = smoothed(chain, np.zeros_like(values), values, transform.weights)
    np.testing.assert_allclose(mean[-ahead:, 0], forecast.predicted_mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance[-ahead:, 0], forecast.var_pred_mean, rtol=1e-6)

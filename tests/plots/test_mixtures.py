"""Pictures of mixtures: what is drawn is read back from the artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Ellipse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lgm_cli import plots
from lgm_cli.report.mixtures import discriminants

pytestmark = pytest.mark.filterwarnings("error")

WEIGHTS = np.array([0.7, 0.3])
MEANS = np.array([[0.0, 1.0], [5.0, -2.0]])
COVARIANCES = np.array([[[2.0, 0.9], [0.9, 0.5]], [[1.0, 0.0], [0.0, 4.0]]])


def points() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    drawn = [random.multivariate_normal(MEANS[k], COVARIANCES[k], 20_000) for k in range(2)]
    return np.concatenate(drawn), np.repeat(np.eye(2), 20_000, 0)


def test_each_ellipse_holds_nine_tenths_of_its_component(tmp_path: Path) -> None:
    drawn, responsibilities = points()
    responsibilities[0] = 0.5  # nobody knows: grey
    figure = plots.component_regions(
        drawn, responsibilities, WEIGHTS, MEANS, COVARIANCES, ["x", "y"], tmp_path / "picture.png"
    )
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    ellipses = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
    for k, ellipse in enumerate(ellipses):
        inside = ellipse.get_path().contains_points(
            ellipse.get_patch_transform().inverted().transform(drawn[20_000 * k : 20_000 * (k + 1)])
        )
        assert inside.mean() == pytest.approx(0.9, abs=0.01)
    assert [text.get_text() for text in axes.texts] == ["1", "2"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1: 70%", "2: 30%"]
    shades = axes.collections[0].get_facecolors()[:2, :3]
    assert np.ptp(shades[0]) < 0.01 < np.ptp(shades[1])


def test_densities_of_one_column_add_up(tmp_path: Path) -> None:
    values = points()[0][:, 0]
    figure = plots.component_densities(
        values, WEIGHTS, MEANS[:, 0], COVARIANCES[:, 0, 0], "x", tmp_path / "picture.png"
    )
    total, *parts = (line.get_xydata() for line in figure.axes[0].lines)
    assert np.trapezoid(total[:, 1], total[:, 0]) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(sum(part[:, 1] for part in parts), total[:, 1])


def test_means_of_many_columns_are_those_that_differ_most(tmp_path: Path) -> None:
    means = np.zeros((2, 60))
    means[1] = np.arange(60)
    names = [f"column {number}" for number in range(60)]
    figure = plots.component_means(means, np.ones((2, 60)), WEIGHTS, names, tmp_path / "picture.png", "units")
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == names[20:]


def test_discriminants_are_those_of_scikit_learn() -> None:
    """Up to sign, and where fewer than two separate means the second is uncorrelated with the first."""
    random = np.random.default_rng(1)
    means, common = 3 * random.standard_normal((3, 4)), np.cov(random.standard_normal((4, 40)))
    weights = np.array([0.5, 0.3, 0.2])
    axes, names = discriminants(weights, means, np.repeat(common[None], 3, 0))
    assert names == ("discriminant 1", "discriminant 2")
    np.testing.assert_allclose(axes @ common @ axes.T, np.eye(2), atol=1e-9)
    labels = np.repeat([0, 1, 2], [5000, 3000, 2000])
    values = means[labels] + random.multivariate_normal(np.zeros(4), common, 10_000)
    peer = LinearDiscriminantAnalysis(solver="eigen").fit(values, labels)
    for axis, other in zip(axes, peer.scalings_.T, strict=False):
        assert abs(np.corrcoef(values @ axis, values @ other)[0, 1]) > 0.999
    axes, names = discriminants(WEIGHTS, np.hstack([MEANS, MEANS]) * [1, 2, 3, 4], np.repeat(common[None], 2, 0))
    assert names == ("discriminant 1", "most variance beside it")
    one, _ = discriminants(np.ones(1), means[:1], common[None])
    assert abs(one[0] @ common @ one[1]) < 1e-9

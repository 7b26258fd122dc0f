"""Pictures say what the numbers say: what is drawn is read back from the figure's artists."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from lgm_cli import plots
from lgm_cli.plots.series import dates
from lgm_cli.plots.signals import coverage
from lgm_cli.report.series import moving
from lgm_cli.results.metrics import COLUMNS, Recorder

pytestmark = pytest.mark.filterwarnings("error")


WAVE = np.sin(np.arange(300) / 7)
PICTURES = [np.outer(WAVE[:40], WAVE[60:80]), np.full((40, 20), 0.1), np.outer(WAVE[:40], WAVE[61:81])]


@pytest.fixture(autouse=True)
def small_and_without_a_trace(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 50)
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


@pytest.fixture
def path(tmp_path: Path):
    path = tmp_path / "picture.png"
    yield path
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def run(points: int = 12, level: float = -1.3, **columns: object) -> pd.DataFrame:
    """Metrics of a run that starts at -4 and comes close to `level`."""
    step = np.r_[0, np.unique(np.geomspace(1, 1000, points - 1).round())][:points]
    path = level + (-4.0 - level) * np.exp(-step)
    frame = pd.DataFrame(np.nan, index=range(len(step)), columns=list(COLUMNS))
    return frame.assign(
        step=step,
        fit_seconds=step * 0.013,
        train_log_likelihood=path,
        test_log_likelihood=path - 0.1,
        test_rmse=0.9 + 0.3 * np.exp(-step),
    ).assign(**columns)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def points(line: Line2D) -> list[list[float]]:
    return np.asarray(line.get_xydata()).tolist()


def renderer(figure: Figure) -> RendererBase:
    return FigureCanvasAgg(figure).get_renderer()


def overlaps(axes: Axes) -> list[tuple[str, str]]:
    """Pairs of texts in `axes` that lie on one another."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    pen = renderer(figure)
    boxes = [(text.get_text(), text.get_window_extent(pen)) for text in axes.texts]
    return [
        (boxes[i][0], boxes[j][0]) for j in range(len(boxes)) for i in range(j) if boxes[i][1].overlaps(boxes[j][1])
    ]


# Convergence


def test_one_run_against_seconds_and_steps(path: Path) -> None:
    frame = run()
    figure = plots.convergence({"movielens unroll": frame}, path, unit="stars")
    panels = [axes for axes in figure.axes if axes.get_ylabel()]
    assert [axes.get_ylabel() for axes in panels] == [
        "train log-likelihood\n[nats per entry]",
        "test log-likelihood\n[nats per entry]",
        "test rmse\n[stars]",
    ]
    assert len({axes.get_position().x0 for axes in panels}) == 1  # one column
    assert [axes.get_xlabel() for axes in panels] == ["", "", "time spent learning [s]"]
    assert figure.get_suptitle() == "movielens unroll"
    assert figure.legends == []
    tracks = ["train_log_likelihood", "test_log_likelihood", "test_rmse"]
    for axes, track in zip(panels, tracks, strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), frame[["fit_seconds", track]].to_numpy(float))
        assert axes.get_xscale() == "symlog"
        assert axes.get_xlim()[0] < 0.0  # the start is in the picture
        low, high = axes.get_ylim()
        assert low < frame[track].min() < frame[track].max() < high


def test_steps_are_written_above_the_seconds_at_which_they_were_taken(path: Path) -> None:
    frame = run()
    axes = plots.convergence({"run": frame}, path).axes[0]
    marks = {text.get_text(): text.xy[0] for text in axes.texts if isinstance(text, Annotation)}
    assert {"0", "10", "100", "1,000 steps"} <= marks.keys()
    for step in (10, 100, 1000):
        label = f"{step:,}{' steps' * (step == 1000)}"
        assert marks[label] == pytest.approx(np.interp(step, frame["step"], frame["fit_seconds"]))
    assert overlaps(axes) == []
    several = plots.convergence({"a": frame, "b": frame}, path).axes[0]
    assert not any("steps" in text for text in texts(several))


def test_the_end_is_enlarged_where_it_is_a_small_part_of_the_range(path: Path) -> None:
    clock = np.arange(101.0)
    frame = run(101).iloc[:0].reindex(range(101)).assign(step=clock, fit_seconds=clock)
    fast = frame.assign(train_log_likelihood=-1.0 - 9 * np.exp(-clock / 3) + 0.05 * np.sin(clock))
    (axes,) = plots.convergence({"run": fast}, path).axes
    (inset,) = axes.child_axes
    np.testing.assert_array_equal(inset.lines[0].get_xydata(), axes.lines[0].get_xydata())
    low, high = inset.get_ylim()
    end = fast["train_log_likelihood"].to_numpy()[10:]
    assert low < end.min() and end.max() < high and high - low < 1.2 * np.ptp(end)
    assert inset.get_xlim()[0] == 10.0
    box = inset.get_window_extent(renderer(axes.figure))
    drawn = axes.transData.transform(axes.lines[0].get_xydata())
    assert not any(box.contains(x, y) for x, y in drawn)  # it lies beside the curve
    slow = frame.assign(train_log_likelihood=-10 + 0.08 * clock)
    settled = frame.assign(train_log_likelihood=-1.0 - 9 * (clock == 0) - 1e-7 * clock)
    for other in (slow, settled):
        assert plots.convergence({"run": other}, path).axes[0].child_axes == []


def test_metrics_are_read_from_the_file_too(tmp_path: Path, path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.row(step=0, fit_seconds=0.0, train_log_likelihood=-2.5)
    recorder.row(step=3, fit_seconds=0.5, train_log_likelihood=-2.25)
    figure = plots.convergence({"run": recorder.path}, path)
    assert len(figure.axes) == 1  # nothing was hidden: no panels for it
    assert points(figure.axes[0].lines[0]) == [[0, -2.5], [0.5, -2.25]]


@pytest.mark.parametrize("values", [[-40.0, -1.4, -1.35, -1.3], [-1.0, -1.1, -1.2, -1.4], [3.0, 3.0]])
def test_the_whole_course_is_in_the_picture_and_the_step_is_its_clock_where_time_stood_still(
    path: Path, values: list[float]
) -> None:
    frame = pd.DataFrame(np.nan, index=range(len(values)), columns=list(COLUMNS))
    frame = frame.assign(step=range(len(values)), fit_seconds=0.0, train_log_likelihood=values)
    axes = plots.convergence({"run": frame}, path).axes[0]
    low, high = axes.get_ylim()
    assert low < min(values) <= max(values) < high
    assert axes.get_xlabel() == "step"


def test_twenty_runs_are_told_apart(path: Path) -> None:
    runs = {f"model=ppca method=unroll seed={seed}": run(6, level=-1.3 - seed / 100) for seed in range(20)}
    figure = plots.convergence(runs, path)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"seed={seed}" for seed in range(20)]
    assert figure.get_suptitle() == "model=ppca method=unroll"
    strokes = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(strokes) == 20
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer(figure))
        assert box is not None
        assert box.x1 < legend.get_window_extent().x0
    low, high = figure.axes[0].get_ylim()
    assert all(low < frame["train_log_likelihood"].iloc[-1] < high for frame in runs.values())


def test_labels_without_a_difference_and_very_long_ones_are_fine(path: Path) -> None:
    long = " ".join(f"a.rather.long.key_{i}=a_rather_long_value" for i in range(9))
    (legend,) = plots.convergence({"seed=0": run(4), f"seed=0 {long}": run(4)}, path).legends
    first, second = (text.get_text() for text in legend.get_texts())
    assert first == "(nothing else)"
    assert second.endswith("…")
    assert max(map(len, second.splitlines())) <= 44


def test_the_band_is_one_standard_error(path: Path) -> None:
    errors = [0.0, 0.01, 0.02, 0.01, 0.01]
    frame = run(5, log_likelihood_se=errors)
    figure = plots.convergence({"run": frame}, path)
    bands = [[part for part in axes.collections if isinstance(part, PolyCollection)] for axes in figure.axes]
    assert [len(band) for band in bands] == [1, 0, 0]
    corners = {(x, round(y, 9)) for x, y in np.asarray(bands[0][0].get_paths()[0].vertices).tolist()}
    for step, value, error in zip(frame["fit_seconds"], frame["train_log_likelihood"], errors, strict=True):
        assert {(step, round(value - error, 9)), (step, round(value + error, 9))} <= corners
    assert figure.axes[0].get_ylabel().endswith("\nband: ± 1 standard error")


def test_a_diverged_run_is_crossed_and_leaves_the_range_to_the_others(path: Path) -> None:
    bad = run(8)
    bad["train_log_likelihood"] = [-4.0, -40.0, -400.0, -4e3, -4e4, -4e5, -math.inf, math.nan]
    figure = plots.convergence({"good": run(8), "bad": bad}, path)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["good", "bad (diverged)"]
    assert -5.0 < figure.axes[0].get_ylim()[0] < -4.0
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [points(line) for line in crosses] == [[[bad["fit_seconds"].iloc[5], -4e5]]]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_run_with_nothing_finite_says_so(path: Path, rows: int) -> None:
    frame = run(2).iloc[:rows].assign(train_log_likelihood=np.nan, test_log_likelihood=np.nan, test_rmse=np.nan)
    figure = plots.convergence({"run": frame}, path)
    (axes,) = figure.axes
    assert texts(axes)[0] == "no finite value"


def test_a_single_row_is_a_visible_point(path: Path) -> None:
    axes = plots.convergence({"run": run().iloc[:1]}, path).axes[0]
    assert [points(line) for line in axes.lines if line.get_marker() == "o"] == [[[0, -4]]]
    assert axes.get_xlim()[0] < 0 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < -4 < axes.get_ylim()[1]


def test_references_are_dashed_lines_within_the_picture(path: Path) -> None:
    references = {"train_log_likelihood": {"truth": -1.25}, "test_rmse": {"predicting the mean": 7.0}}
    first, _, last = plots.convergence({"run": run()}, path, references).axes
    for axes, level, text in ((first, -1.25, "truth: -1.25"), (last, 7.0, "predicting the mean: 7")):
        assert text in texts(axes)
        (drawn,) = (line for line in axes.lines if points(line) == [[0, level], [1, level]])
        assert drawn.is_dashed()
        assert axes.get_ylim()[0] < level < axes.get_ylim()[1]
        assert overlaps(axes) == []


# Loadings and scores


def test_items_are_ordered_by_their_dominant_factor(path: Path) -> None:
    loadings = np.array([[0.1, -0.5], [0.9, 0.2], [0.001, 0.8], [-0.95, -0.001]])
    figure = plots.loadings_table(loadings, ["a", "b", "c_1 cost in $ or $$", "d"], path)
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["d", "b", r"c_1 cost in \$ or \$\$", "a"]
    assert texts(axes) == ["−0.95", "0.00", "0.90", "0.20", "0.00", "0.80", "0.10", "−0.50"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\n65%", "2\n35%"]
    assert "rotated by varimax" in figure.get_suptitle()
    assert "not rotated" in plots.loadings_table(loadings, list("abcd"), path, rotated_by=None).get_suptitle()


def test_components_are_called_so(path: Path) -> None:
    loadings, groups = np.random.default_rng(0).normal(size=(70, 2)), ["a", "b"] * 35
    for figure in (
        plots.loadings_table(loadings[:5], list("abcde"), path, latent="component", meaning=""),
        plots.loadings_table(loadings, range(70), path, latent="component", meaning=""),
        plots.factor_extremes(loadings, range(70), path, latent="component"),
        plots.latent_scatter(loadings, groups, path, latent="component"),
    ):
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert "component" in words and "factor" not in words


def test_a_full_table_of_long_names_has_no_overlaps(path: Path) -> None:
    loadings = np.random.default_rng(0).normal(size=(60, 12)) * 50
    figure = plots.loadings_table(loadings, [f"{i} {'a long name ' * 9}" for i in range(60)], path)
    (axes,) = figure.axes
    assert overlaps(axes) == []
    assert all(label.get_text().endswith("…") for label in axes.get_yticklabels())


@pytest.mark.parametrize(("items", "factors", "panels"), [(61, 2, 2), (5, 13, 6)])
def test_a_large_table_is_summed_up(path: Path, items: int, factors: int, panels: int) -> None:
    loadings = np.random.default_rng(0).normal(size=(items, factors))
    figure = plots.loadings_table(loadings, [f"item {i} {'long ' * 20}" for i in range(items)], path)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == [f"factor {j + 1} of {factors}" for j in range(panels)]
    for factor, axes in enumerate(shown):
        strongest = np.argsort(-np.abs(loadings[:, factor]))[:10]
        assert {text.split()[1] for text in texts(axes)} == {str(item) for item in strongest}
        assert overlaps(axes) == []
    assert ("strongest of" in figure.get_suptitle()) == (items > 10)


def test_a_single_factor_is_a_list_and_not_rotated(path: Path) -> None:
    figure = plots.loadings_table(np.linspace(-1, 1, 25)[:, None], range(25), path)
    assert texts(figure.axes[0]) == [str(item) for item in reversed(range(25))]
    assert "rotated" not in figure.get_suptitle()


def test_loadings_that_are_not_finite_are_drawn_as_such(path: Path) -> None:
    figure = plots.loadings_table(np.array([[math.nan, 0.5], [0.25, math.nan]]), ["a", "b"], path)
    assert sorted(texts(figure.axes[0])) == ["0.25", "0.50", "nan", "nan"]


@pytest.mark.parametrize(("factors", "panels"), [(1, 1), (7, 4)])
def test_both_ends_of_each_factor_by_title(path: Path, factors: int, panels: int) -> None:
    scores = np.random.default_rng(0).normal(size=(300, factors))
    titles = [f"{i} Film, The{' (and a long subtitle)' * 3}" for i in range(300)]
    figure = plots.factor_extremes(scores, titles, path)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == panels
    for factor, axes in enumerate(shown):
        order = np.argsort(-scores[:, factor])
        expected = [str(point) for point in np.r_[order[:6], order[-6:]]]
        assert [text.split()[0] for text in texts(axes)] == expected
        assert [text.get_horizontalalignment() for text in axes.texts] == ["right"] * 6 + [
            "left"
        ] * 6  # beside their dots' stems
        assert overlaps(axes) == []
    assert ("rotated by varimax" in figure.get_suptitle()) == (factors > 1)


def test_few_points_are_each_shown_once_and_those_without_a_score_left_out(path: Path) -> None:
    scores = np.array([[0.5], [math.nan], [-0.25], [0.1]])
    titles = ["$5 a day, $6 a night", "lost", "七人の侍", "c"]
    axes = plots.factor_extremes(scores, titles, path).axes[0]
    assert texts(axes) == [r"\$5 a day, \$6 a night", "c", "七人の侍"]
    none = plots.factor_extremes(np.full((3, 1), math.nan), ["a", "b", "c"], path).axes[0]
    assert texts(none) == []


def test_points_with_few_ratings_are_not_at_the_ends_of_a_factor(path: Path) -> None:
    scores, ratings = np.arange(-50.0, 50.0)[:, None], np.full(100, 30)
    ratings[[0, 98, 99]] = [19, 3, 20]
    titles = [str(point) for point in range(100)]
    figure = plots.factor_extremes(scores, titles, path, weights=ratings, least=20)
    assert texts(figure.axes[0]) == ["99", "97", "96", "95", "94", "93", *"654321"]
    assert "at least 20" in figure.get_suptitle()
    ratings = np.arange(100) / 10  # too few have as many: those with most
    figure = plots.factor_extremes(scores, titles, path, weights=ratings, least=20)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [str(point) for point in range(99, 87, -1)]


@pytest.mark.parametrize("sign", [-1, 1])
def test_no_half_of_a_panel_is_empty_where_all_loadings_have_one_sign(path: Path, sign: int) -> None:
    loadings = sign * np.linspace(0.1, 1, 70)[:, None]
    axes = plots.loadings_table(loadings, [f"item {k}" for k in range(70)], path).axes[0]
    assert 0 in axes.get_xlim()
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert sorted(names) == sorted(f"item {k}" for k in range(10, 70))
    assert texts(axes) == []


def test_dots_have_areas_in_proportion_to_the_weights(path: Path) -> None:
    figure = plots.factor_extremes(
        np.array([[2.0], [1.0], [-1.0]]), ["a", "b", "c"], path, weights=np.array([0, 50, 100])
    )
    (dots,) = (part for part in figure.axes[0].collections if isinstance(part, PathCollection))
    first, second, third = np.asarray(dots.get_sizes(), float)
    assert third - first == pytest.approx(2 * (second - first))
    assert "area of a dot: number of ratings" in figure.get_suptitle()


# Predictions


def group(true: np.ndarray, mean: np.ndarray, deviation: np.ndarray, name: str = "hidden entries") -> plots.Group:
    true, mean, deviation = (np.asarray(part, float) for part in (true, mean, deviation))
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(true == mean, 0.0, np.abs(true - mean) / deviation)
    return plots.Group(name, true, mean, away, {"stars": float(np.sqrt(np.nanmean((true - mean) ** 2)))})


def calibrated(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True values at the quantiles that their predictive distributions give."""
    z = np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=count), rng.uniform(0.5, 2.0, size=count)
    return mean + deviation * z, mean, deviation


def test_coverage_is_nominal_for_calibrated_predictions(path: Path) -> None:
    figure = plots.predictions([group(*calibrated(1000))], path, unit="stars")
    left, right = figure.axes
    nominal, covered = np.transpose(points(right.lines[1]))
    np.testing.assert_allclose(covered, nominal, atol=1.5e-3)
    assert right.get_title("left") == "the 90% intervals cover 90.0%"
    assert left.get_xlabel() == "true [stars]"
    assert left.get_ylabel() == "predicted mean [stars]"


def test_overconfident_predictions_lie_below_and_outside_the_band(path: Path) -> None:
    true, mean, deviation = calibrated(1000)
    right = plots.predictions([group(true, mean, deviation / 2)], path).axes[1]
    share = 2 * NormalDist().cdf(NormalDist().inv_cdf(0.95) / 2) - 1
    covered = float(right.get_title("left").split()[-1].rstrip("%")) / 100
    assert covered == pytest.approx(share, abs=2e-3)
    (band,) = (part for part in right.collections if isinstance(part, PolyCollection))
    edges = np.asarray(band.get_paths()[0].vertices)
    at_half = edges[np.isclose(edges[:, 0], 0.5), 1]
    assert np.ptp(at_half) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(1000))


def test_count_leaves_out_what_is_not_finite_and_every_error_is_said_with_its_unit(path: Path) -> None:
    true, mean = np.array([1.0, 2.0, math.nan, 4.0]), np.array([1.0, 4.0, 3.0, math.inf])
    own = plots.Group("hidden entries", true, mean, np.ones(4), {"standard deviations": 0.91234, "mm": 12.3456})
    left = plots.predictions([own], path).axes[0]
    assert left.get_title("left") == "2 hidden entries: rmse\n0.9123 standard deviations,\n12.35 mm"


def test_forecasts_are_judged_apart_from_gaps(path: Path) -> None:
    groups = [group(*calibrated(400)), group(*calibrated(12), name="forecasts")]
    figure = plots.predictions(groups, path, unit="mm")
    assert len(figure.axes) == 4
    assert [axes.get_title("left").split(":")[0] for axes in figure.axes[::2]] == ["400 hidden entries", "12 forecasts"]
    assert [axes.get_ylabel() for axes in figure.axes[1::2]] == [
        "share of hidden entries inside",
        "share of forecasts inside",
    ]
    for axes, each in zip(figure.axes[::2], groups, strict=True):
        (dots,) = (part for part in axes.collections if isinstance(part, PathCollection))
        np.testing.assert_array_equal(np.asarray(dots.get_offsets()), np.column_stack([each.true, each.mean]))


def test_a_deviation_of_zero_covers_only_what_is_met(path: Path) -> None:
    true, mean = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.5, 4.0])
    assert plots.predictions([group(true, mean, np.zeros(4))], path).axes[1].get_title("left").endswith("75.0%")


def test_ratings_get_a_box_for_each_value(path: Path) -> None:
    rng = np.random.default_rng(0)
    true = rng.choice(np.arange(0.5, 5.1, 0.5), size=3000)
    mean = 3.5 + 0.4 * (true - 3.5) + rng.normal(scale=0.3, size=3000)
    left = plots.predictions([group(true, mean, np.ones(3000))], path).axes[0]
    assert len(left.patches) == 10
    middles = [np.median(mean[true == value]) for value in np.unique(true)]
    drawn = [points(line)[0][1] for line in left.lines if line.get_linewidth() == 2]
    np.testing.assert_allclose(drawn, middles)
    assert left.get_xlim() == left.get_ylim()


def test_many_entries_are_a_density_and_few_are_points(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots.hidden, "DRAWN", 1500)
    many = plots.predictions([group(*calibrated(3000))], path).axes[0]
    (density,) = (part for part in many.collections if isinstance(part, PolyCollection))
    assert (
        1400 < np.nansum(np.asarray(density.get_array(), float)) <= 1500
    )  # drawn from a part, a few beyond the limits
    assert "3,000 hidden entries: " in many.get_title("left")  # counted from all
    few = plots.predictions([group(*calibrated(20))], path).axes[0]
    (dots,) = (part for part in few.collections if isinstance(part, PathCollection))
    assert len(np.asarray(dots.get_offsets())) == 20


@pytest.mark.parametrize("count", [0, 1])
def test_no_entry_or_one_is_no_error(path: Path, count: int) -> None:
    figure = plots.predictions([plots.Group("hidden entries", *np.ones((3, count)), {})], path)
    assert ("no finite prediction" in texts(figure.axes[0])) == (count == 0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plots.convergence({"run": run(4)}, path),
        lambda path: plots.loadings_table(np.eye(3), ["a", "b", "c"], path),
        lambda path: plots.factor_extremes(np.eye(3), ["a", "b", "c"], path),
        lambda path: plots.predictions([group(*calibrated(30))], path),
        lambda path: plots.image(*PICTURES, path, PICTURES[0] > 0, PICTURES[0] * 1.1, (", 31.0 dB", ", 33.5 dB")),
        lambda path: plots.image(*PICTURES, path),
        lambda path: plots.signal(WAVE, 0 * WAVE + 0.1, None, WAVE, path),
    ],
)
def test_everything_lies_within_the_figure(path: Path, draw: Callable[[Path], Figure]) -> None:
    figure = draw(path)
    inches = figure.get_tightbbox(renderer(figure))
    width, height = figure.get_size_inches()
    assert inches.x0 >= -0.02
    assert inches.y0 >= -0.02
    assert inches.x1 <= width + 0.02
    assert inches.y1 <= height + 0.02


# Signals -------------------------------------------------------------------------------------------------------


def line(axes: Axes, label: str) -> Line2D:
    """The line with a label."""
    return next(each for each in axes.lines if each.get_label() == label)


def test_a_signal_is_drawn_beside_the_truth_and_its_coefficients_by_their_size(path: Path) -> None:
    """A window of 200 entries; the true coefficients fall, and the errors are in the title."""
    coefficients = np.where(np.arange(300) % 10 == 0, WAVE, 0.0)
    places = np.arange(0, 300, 3)
    known = np.where(np.arange(300) % 3 == 0, WAVE, 0.0)
    figure = plots.signal(1.1 * WAVE, 0 * WAVE + 0.1, (places, WAVE[places]), coefficients, path, WAVE, coefficients)
    above, below = figure.axes
    assert len(line(above, "truth").get_xdata()) == 200
    sizes = line(below, "truth").get_ydata()
    assert np.all(np.diff(sizes) <= 0)
    of_zeros = np.linalg.norm(known - WAVE) / np.linalg.norm(WAVE)
    assert f"relative error 10.0%, of zeros where nothing was measured (least squares) {of_zeros:.1%}" in (
        figure.get_suptitle()
    )


def test_an_image_has_what_was_measured_and_its_errors_on_one_scale(path: Path) -> None:
    mean, deviation, zero_filled = PICTURES
    mask, truth = np.arange(mean.size).reshape(mean.shape) % 4 == 0, mean + 0.01
    quality = ", 20.0 dB, SSIM 0.500", ", 40.0 dB"
    figure = plots.image(mean, deviation, zero_filled, path, mask, truth, quality, "frequencies")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title("left") for axes in shown] == [
        "truth", "zero-filled, 20.0 dB, SSIM 0.500", "posterior mean, 40.0 dB", "posterior standard deviation",
        "measured: 25.0% of frequencies", "|error| of zero-filled", "|error| of the mean",
        "|error| of the mean in standard deviations",
    ]  # fmt: skip
    limits = [axes.images[0].get_clim() for axes in shown]
    assert limits[0] == limits[1] == limits[2]
    assert limits[3] == (0, deviation.max())  # a scale of its own
    assert limits[5] == limits[6]
    for axes, values in ((shown[4], mask), (shown[6], np.full(mean.shape, 0.01)), (shown[7], 0.01 / deviation)):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array(), float), values)
    alone = plots.image(mean, deviation, zero_filled, path)
    assert [axes.get_title("left") for axes in alone.axes if axes.images] == [
        "zero-filled", "posterior mean", "posterior standard deviation"
    ]  # fmt: skip


def test_coverage_is_said_of_the_object_and_of_all() -> None:
    truth = np.zeros((40, 40))
    truth[:10] = 1.0
    mean = truth.copy()
    mean[:5] += 1.0  # half of the object, an eighth of all
    assert coverage(truth, mean, np.full(truth.shape, 0.5)) == (
        "the 90% intervals hold 88% of all pixels, 50% of those of the object (above 5% of the brightest)"
    )
    assert coverage(truth + 1, truth + 1, truth + 1) == "the 90% intervals hold 100% of all pixels"


# Series --------------------------------------------------------------------------------------------------------


def waves(steps: int = 120, channels: int = 3) -> np.ndarray:
    return np.sin(np.arange(steps)[:, None] / 5 + np.arange(channels))


@pytest.mark.parametrize("count", [1, 2, 20])
def test_channels_show_what_was_hidden_and_the_intervals_of_forecasts(path: Path, count: int) -> None:
    """The band begins with the horizon and has the 90% interval's width; hidden values are there as they are."""
    values = waves(channels=count)
    hidden, given = np.full(values.shape, np.nan), values.copy()
    hidden[50], hidden[100:110] = values[50], values[100:110]
    given[50] = given[100:] = np.nan
    mean, lower, upper = (np.where(np.isnan(given), level, np.nan) for level in (0.25, -0.5, 2.0))
    labels = [f"day {step}" for step in range(120)]
    names = [f"channel ${channel}" for channel in range(count)]
    figure = plots.channels(given, hidden, mean, lower, upper, names, labels, path, 40, horizon=10, forecast=10)
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert len(drawn) == min(count, 8)
    for channel, axes in enumerate(drawn):
        (band,) = [part for part in axes.collections if isinstance(part, PolyCollection)]
        corners = band.get_paths()[0].vertices
        assert corners[:, 0].min() == 100 and corners[:, 0].max() == 119
        assert set(corners[:, 1].tolist()) == {-0.5, 2.0}  # the interval need not have the mean in its middle
        (circles,) = [line for line in axes.lines if line.get_marker() == "o"]
        seen = np.asarray(circles.get_ydata(), float)
        np.testing.assert_array_equal(seen[np.isfinite(seen)], hidden[np.isfinite(hidden[:, channel]), channel])
    assert (f"8 of {count}" in figure.get_suptitle()) == (count > 8)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["learned from", "hidden", "hidden value: 90% interval", "forecast: 90% interval"]


@pytest.mark.parametrize("gaps", [False, True])
def test_the_legend_of_channels_names_what_is_drawn_alone(path: Path, gaps: bool) -> None:
    given = waves(channels=2)
    nothing, lower, mean, upper = np.full(given.shape, np.nan), *np.full((3, *given.shape), np.nan)
    if gaps:
        given[70, 1] = np.nan
        lower[70, 1], mean[70, 1], upper[70, 1] = -1.0, 0.5, 1.0
    figure = plots.channels(given, nothing, mean, lower, upper, ["a", "b"], list(range(120)), path, 40, 0, 0)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["learned from", *["gap: 90% interval"] * gaps]
    (bars,) = (part for part in figure.axes[1].collections if isinstance(part, LineCollection))
    assert [segment.tolist() for segment in bars.get_segments()] == [[[70, -1], [70, 1]]] * gaps


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["2001-02-01 00:00:00", "2001-03-01 00:00:00"], ["2001-02", "2001-03"]),
        (["2001-02-01", "2001-02-02"], ["2001-02-01", "2001-02-02"]),
        (["2001-02-01 00:00:00", "2001-02-01 12:00:00"], ["2001-02-01 00:00:00", "2001-02-01 12:00:00"]),
        (["a-01", "b-01"], ["a-01", "b-01"]),
        ([3, 4], ["3", "4"]),
    ],
)
def test_dates_leave_out_what_says_nothing(labels: list[object], shown: list[str]) -> None:
    assert dates(labels) == shown


def test_states_have_bands_and_say_how_many_there_are(path: Path) -> None:
    mean = waves(channels=10)
    figure = plots.states(mean, np.full(mean.shape, 0.1), [str(step) for step in range(120)], path, observed=100)
    assert len(figure.axes) == 8
    assert "8 of 10" in figure.get_suptitle()
    learned, forecast = figure.axes[2].lines[:2]
    np.testing.assert_array_equal(np.asarray(learned.get_ydata()), mean[:100, 2])
    np.testing.assert_array_equal(np.asarray(forecast.get_xydata()), np.column_stack([range(99, 120), mean[99:, 2]]))
    said = [f"moves channel {state}" for state in range(10)]
    labels = [str(step) for step in range(120)]
    figure = plots.states(mean, np.full(mean.shape, 0.1), labels, path, moves=said, chosen=[1, 4])
    assert [axes.get_title("left") for axes in figure.axes] == ["moves channel 1", "moves channel 4"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["state 2", "state 5"]


def test_a_state_is_told_by_the_channels_that_move_most_with_it() -> None:
    names = ["a-b", "c", "d", "e"]
    assert (
        moving(np.array([-0.9, 0.5, 0.3, 0.1]), names) == "moves a-b \u22120.90, c +0.50 of their standard deviations"
    )
    assert moving(np.array([0.1, 0.0, 0.7, 0.3]), names) == "moves d +0.70 of its standard deviation"


def test_every_picture_is_a_function() -> None:
    """A module of the package with the name of a picture would take its place."""
    for name in plots.__all__:
        assert name.isupper() or callable(getattr(plots, name)), name

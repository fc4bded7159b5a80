"""The charts' data, scales and specifications."""

import json

import altair
import numpy as np
import pandas as pd
import pytest
import vl_convert

from report.synthetic_study import AXES, INFO, study
from sharpscope.report.chart import cut_marks
from sharpscope.report.charts import chart_study
from sharpscope.report.curves import curves
from sharpscope.report.scales import grid_scale, scale_of
from sharpscope.report.theme import config, ramp


@pytest.fixture(scope="module")
def drawn(tables):
    return chart_study(*tables, AXES, INFO, resamples=100)


def test_one_chart_per_measure_and_axis_and_per_measure_and_outcome(drawn):
    assert len(drawn.charts) == 1 + 3 + 6 * 3 + 6 * 2
    assert len({chart.id for chart in drawn.charts}) == len(drawn.charts)


def test_every_specification_is_valid_vega_lite(drawn):
    for chart in drawn.charts:
        spec = chart.specification(drawn.columns, 400)
        # A range may name any entry of the configuration; the schema lists only Vega's own names.
        altair.Chart.from_dict({**_plain_ranges(spec), "data": {"values": []}}, validate=True)


def _plain_ranges(node):
    if isinstance(node, dict):
        return {
            key: "category" if key == "range" and str(value).startswith("ramp") else _plain_ranges(value)
            for key, value in node.items()
        }
    return [_plain_ranges(item) for item in node] if isinstance(node, list) else node


def test_a_trend_holds_every_finished_run_and_the_geometric_mean_of_each_setting(tables, drawn):
    runs, measures, _ = tables
    chart = next(c for c in drawn.trends["lambda_max"] if c.id == "trend-lambda-max-by-lr")
    rows = pd.DataFrame(chart.rows(drawn.columns))
    assert (rows["kind"] == "run").sum() == 47
    values = measures[measures["measure"] == "lambda_max"].set_index("run_id")["value"]
    setting = runs[(runs["lr"] == 0.03) & (runs["batch_size"] == 16) & (runs["optimizer"] == "sgd")]
    expected = np.exp(np.log(values[setting["run_id"]]).mean())
    means = rows[
        (rows["kind"] == "mean") & (rows["x"] == 0.03) & (rows["a2"] == "16") & (rows["a0"] == "sgd")
    ]
    assert means["y"].tolist() == pytest.approx([expected])
    assert means["seeds"].tolist() == [3]
    assert "falls from learning rate 0.01 to 0.3 in all 4 settings" in chart.caption


def test_an_arrow_stands_where_an_interval_is_cut():
    rows = [
        {"kind": "mean", "low": -5.0, "from": 0.0, "high": 2.0, "to": 2.0},
        {"kind": "mean", "low": 1.0, "from": 1.0, "high": 9.0, "to": 3.0},
        {"kind": "mean", "low": None, "from": 0.0, "high": None, "to": 3.0},
        {"kind": "run", "low": -9.0, "from": 0.0, "high": 9.0, "to": 3.0},
    ]
    spec = {"data": {"values": rows}, "layer": cut_marks({"type": "quantitative"}, {})}
    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    assert svg.count('aria-roledescription="point"') == 2


def test_an_outcome_prints_tau_with_interval_and_control(drawn):
    chart = drawn.outcomes["lambda_max"][0]
    tau, control = chart.lines
    row = drawn.correlations.query(
        "measure == 'lambda_max' and target == 'test_loss' and method == 'kendall' and given == ''"
    ).iloc[0]
    assert f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in tau
    assert control.startswith("given training loss: τ_b = ")


def test_missing_values_reach_no_chart(drawn):
    rows = drawn.outcomes["worst_case"][0].rows(drawn.columns)
    assert len(rows) == 46
    assert all(np.isfinite(row["y"]) for row in rows)


def test_a_diverged_run_is_drawn_up_to_its_last_finite_epoch(tables, drawn):
    runs, _, _ = tables
    (bad,) = runs.index[runs["status"] == "diverged"]
    rows = [row for row in drawn.curves[0].rows(drawn.columns) if row["run"] == bad]
    assert [row["x"] for row in rows] == [1, 2, 3]


def test_long_histories_are_thinned_to_both_ends():
    epochs = np.arange(1, 30_001)
    history = pd.DataFrame({"run_id": "a", "epoch": epochs, "train_loss": 1.0 / epochs})
    (chart,) = curves(history, pd.DataFrame({"run_id": ["a"]}), [])
    assert len(chart.data["x"]) <= 12_000
    assert (chart.data["x"][0], chart.data["x"][-1]) == (1, 30_000)
    assert "At most" in chart.caption


def test_the_learning_rate_is_drawn_only_where_a_schedule_moves_it(tables):
    runs, _, history = tables
    assert [c.id for c in curves(history, runs, [])][-1] == "curve-test-accuracy"
    moved = history.assign(lr=history["lr"] / history["epoch"])
    assert [c.id for c in curves(moved, runs, [])][-1] == "curve-lr"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 100.0], "log"),
        ([0.0, 1.0, 2.0], "linear"),
        ([-1.0, 0.5, 0.7], "linear"),
        ([0.0, 0.001, 0.01, 0.1, 10.0], "symlog"),
        ([-90.0, 0.2, 0.3, 1e-17], "symlog"),
        ([3.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([np.nan, np.inf], "linear"),
    ],
)
def test_the_scale_suits_the_values(values, kind):
    scale = scale_of(values)
    assert scale.kind == kind
    low, high = scale.domain
    assert low < high
    assert all(low <= value <= high for value in values if np.isfinite(value))
    assert list(scale.ticks) == sorted(scale.ticks)
    if kind == "log":
        assert low > 0


def test_ticks_stand_on_the_grid():
    assert grid_scale([0.1, 0.001, 0.03]).ticks == (0.001, 0.03, 0.1)
    assert grid_scale([32, "full"]).kind == "ordinal"
    assert grid_scale([0.0, 0.1, 0.5]).kind == "linear"


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return np.dot(parts, [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("ground", "card"), [("light", "#ffffff"), ("dark", "#1b1f27")])
def test_colours_stand_out_from_their_ground(ground, card):
    theme = config(ground)
    marks = [*theme["range"]["category"], *(c for n in range(2, 31) for c in ramp(ground, n))]
    assert min(contrast(colour, card) for colour in marks) >= 2.75
    assert contrast(theme["axis"]["labelColor"], card) >= 4.5
    assert min(contrast(theme["text"]["color"], cell) for cell in theme["range"]["diverging"]) >= 4


def test_runs_without_a_hyperparameter_keep_its_scale_and_form_a_group(tables):
    runs, measures, history = tables
    runs = runs.assign(rho=np.where(runs["seed"] > 0, 0.05 * 10.0 ** runs["seed"], np.nan))
    drawn = chart_study(runs, measures, history, ["rho", "batch_size"], INFO, resamples=20)
    by_rho, by_batch = drawn.trends["lambda_max"]
    assert by_rho.spec["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    assert set(by_batch.data["a0"]) == {"0.5", "5", "–"}
    assert drawn.axes[0].labels == ["0.5", "5", "–"]


def test_settings_that_are_lists_are_shown_as_text(tables):
    runs, measures, history = tables
    runs = runs.assign(hidden=[[64, 64] if i % 2 else [32] for i in range(len(runs))])
    drawn = chart_study(runs, measures, history, ["hidden"], INFO, resamples=20)
    assert drawn.axes[0].labels == ["[32]", "[64, 64]"]


def test_too_many_lines_are_averaged_over():
    runs, measures, history = study(
        rates=(0.1, 0.3), batches=(8, 16, 32, 64, 128, 256, 512), seeds=2, epochs=2
    )
    drawn = chart_study(runs, measures, history, AXES, INFO, resamples=20)
    chart = next(c for c in drawn.trends["lambda_max"] if c.id.endswith("by-lr"))
    assert "Averaged over optimizer" in chart.caption

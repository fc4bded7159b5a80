"""Figures in a paper's own axes: what is drawn, over what, and what is said where nothing can be."""

from math import log10, sqrt

import altair
import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from report.synthetic_figures import SETTINGS, figures, results
from report.test_charts import _plain_ranges
from sharpscope.report import PaperFigure
from sharpscope.report.chart import RunColumns
from sharpscope.report.figures import draw
from sharpscope.report.numbers import number
from sharpscope.report.paper_figures import draw_figures
from sharpscope.report.theme import config


@pytest.fixture(scope="module")
def drawn(tables):
    return {figure.id: figure for figure in draw_figures(figures(*tables))}


def rows(chart, kind=None):
    found = pd.DataFrame({name: list(column) for name, column in chart.data.items()})
    return found if kind is None else found[found["kind"] == kind].reset_index(drop=True)


def test_a_chart_for_each_quantity_and_panel(drawn):
    titles = [chart.title for chart in drawn["fig1"].charts]
    assert titles == [
        "λ_max against learning rate, optimizer adagrad",
        "λ_max against learning rate, optimizer sgd",
        "test accuracy against learning rate, optimizer adagrad",
        "test accuracy against learning rate, optimizer sgd",
    ]
    assert len(drawn["line"].charts) == 2  # one landscape needs no panel
    every = [chart.id for figure in drawn.values() for chart in figure.charts]
    assert len(set(every)) == len(every)


def test_means_and_intervals_over_seeds_are_students_of_the_logarithm(drawn, tables):
    chart = next(c for c in drawn["fig1"].charts if c.title == "λ_max against learning rate, optimizer sgd")
    table = results(*tables[:2])
    table = table[(table["optimizer"] == "sgd") & (table["status"] == "finished")]
    means = rows(chart, "mean")
    for mean in means.itertuples():
        logs = np.log(table[(table["lr"] == mean.x) & (table["batch_size"] == int(mean.c))]["lambda_max"])
        assert mean.y == pytest.approx(np.exp(logs.mean()))
        assert mean.seeds == len(logs) >= 2
        reach = t.ppf(0.975, len(logs) - 1) * logs.std() / sqrt(len(logs))
        assert [mean.low, mean.high] == pytest.approx(
            np.exp([logs.mean() - reach, logs.mean() + reach]).tolist()
        )
    assert len(means) == table.groupby(["lr", "batch_size"]).ngroups
    assert len(rows(chart, "run")) == len(table)


def test_the_reference_line_is_two_over_the_rate_and_not_on_accuracies(drawn):
    of_curvature, of_accuracy = drawn["fig1"].charts[1], drawn["fig1"].charts[3]
    line = rows(of_curvature, "line")
    assert len(line) > 2
    assert line["y"].tolist() == pytest.approx((2 / line["x"]).tolist())
    assert of_curvature.lines[1] == "dashed: 2/η"
    assert not len(rows(of_accuracy, "line"))
    scales = [
        chart.spec["layer"][0]["encoding"]["y"]["scale"]["type"] for chart in (of_curvature, of_accuracy)
    ]
    assert scales == ["log", "linear"]


def test_panels_share_their_scale(drawn):
    domains = [chart.spec["layer"][0]["encoding"]["y"]["scale"]["domain"] for chart in drawn["fig1"].charts]
    assert domains[2] == domains[3] != domains[0]


def test_a_measured_x_makes_every_run_a_mark_and_no_mean(drawn, tables):
    chart = drawn["fig2"].charts[0]
    assert set(rows(chart)["kind"]) == {"run"}
    table = results(*tables[:2])
    assert len(rows(chart)) == np.isfinite(table["lambda_max"] + table["gap"]).sum()
    ratios = sorted(set((table["lr"] / table["batch_size"]).round(9)))
    domain = chart.spec["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert domain == [number(ratio) for ratio in ratios]  # three digits tell them apart


def test_names_on_the_x_axis_stand_in_order(drawn):
    chart = drawn["fig3"].charts[0]
    assert set(rows(chart)["x"]) == {"sgd", "adagrad"}
    assert chart.spec["layer"][0]["encoding"]["x"]["type"] == "ordinal"


def test_curves_are_the_history_and_where_selects(drawn, tables):
    history = tables[2]
    curves = rows(drawn["curves"].charts[0])
    run = curves["id"][0]
    expected = [log10(loss) for loss in history[history["run_id"] == run].sort_values("epoch")["train_loss"]]
    assert curves[curves["id"] == run]["y"].tolist() == pytest.approx(expected, rel=1e-5)
    followed = rows(drawn["followed"].charts[0])
    runs = tables[0].set_index("run_id")
    assert {runs.loc[name, "optimizer"] for name in followed["id"]} == {"sgd"}
    line = followed[followed["kind"] == "line"]
    assert line["y"].tolist() == pytest.approx([2 / runs.loc[name, "lr"] for name in line["id"]], rel=1e-5)


def test_ends_of_a_line_are_marked_at_the_models(drawn):
    ends = rows(drawn["line"].charts[0], "end")
    assert sorted(zip(ends["id"], ends["x"], strict=True)) == [
        ("line 0", 0.0),
        ("line 0", 1.0),
        ("line 1", 0.0),
        ("line 1", 1.0),
    ]


def test_cells_of_a_surface_touch_and_outlines_hold_every_bin(drawn):
    cells = rows(drawn["plane"].charts[0])
    assert len(cells) == 25
    assert (cells["x1"] - cells["x0"]).tolist() == pytest.approx([0.5] * 25)
    assert "learning rate" in drawn["plane"].charts[0].caption
    outline = rows(drawn["weights"].charts[0])
    first = outline[outline["id"] == outline["id"][0]]
    assert first["x"].iloc[[0, -1]].tolist() == pytest.approx([-0.4, 0.4])
    assert {2.0, 9.0, 40.0, 50.0, 8.0, 1.0} <= set(first["y"])


def test_a_figure_may_name_its_axes_legend_and_line(tables):
    names = {"lr": "step size", "lambda_max": "top curvature", "batch_size": "images", "2/lr": "stable"}
    encoded = {"colour": "batch_size", "line": "2/lr", "names": names, "settings": SETTINGS}
    figure = PaperFigure("a", "", "results", results(*tables[:2]), "lr", ("lambda_max", "gap"), **encoded)
    chart, other = draw_figures([figure])[0].charts
    encoding = chart.spec["layer"][-1]["encoding"]
    assert (chart.title, other.title) == (
        "top curvature against step size",
        "generalisation gap against step size",
    )
    assert [encoding[side]["title"] for side in ("x", "y")] == ["step size", "top curvature"]
    assert encoding["color"]["title"] == "images"
    assert chart.lines[1] == "dashed: stable"


def test_twenty_numbers_have_a_colour_each_in_order(tables):
    rates = 0.01 * 1.2 ** np.arange(20)
    table = results(*tables[:2]).iloc[:1].loc[[0] * 20].reset_index(drop=True)
    table = table.assign(run_id=[f"run {i}" for i in range(20)], lr=rates[::-1], lambda_max=1 / rates)
    figure = PaperFigure("a", "", "results", table, "lambda_max", ("gap",), colour="lr", settings=SETTINGS)
    (chart,) = draw_figures([figure])[0].charts
    scale = chart.spec["layer"][-1]["encoding"]["color"]["scale"]
    assert [float(label) for label in scale["domain"]] == pytest.approx(rates, rel=1e-4)
    assert len(set(config("light")["range"][scale["range"]])) == 20


def test_what_cannot_be_drawn_says_why(drawn, tables):
    assert (drawn["later"].charts, drawn["later"].missing) == ((), "the runs that it draws are not done yet")
    table = results(*tables[:2])
    lost = PaperFigure("a", "", "results", table.assign(status="diverged"), "lr", ("trace",))
    empty = PaperFigure("b", "", "results", table.assign(trace=float("nan")), "lr", ("trace",))
    assert [figure.missing for figure in draw_figures([lost, empty])] == [
        "none of the runs that it draws has finished",
        "no run has a finite value of trace yet",
    ]


def test_every_figure_is_valid_vega_lite_and_draws_without_a_browser(drawn):
    for figure in drawn.values():
        for chart in figure.charts:
            spec = chart.specification(RunColumns({}, {}), 400)
            altair.Chart.from_dict({**_plain_ranges(spec), "data": {"values": []}}, validate=True)
    assert draw(drawn["line"].charts[0], RunColumns({}, {}), "svg").startswith(b"<svg")


def test_one_seed_and_one_value_are_drawn_and_say_so(tables):
    table = results(*tables[:2])
    alone = table[(table["seed"] == 0) & (table["lr"] == 0.1)]
    (figure,) = draw_figures(
        [
            PaperFigure(
                "a", "", "results", alone, "lr", ("trace",), x_scale="log", y_scale="log", settings=SETTINGS
            )
        ]
    )
    assert figure.charts[0].lines == ("one seed: no interval",)
    assert rows(figure.charts[0], "mean")["low"].isna().all()

"""Every public result has a chart, HTML for a notebook and a line of text."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import altair
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sharpscope as ss
from sharpscope.curvature.by_layer import trace_by_layer
from sharpscope.estimate import Result
from sharpscope.examination.plots import specification
from sharpscope.measures import weight_histogram


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(9)
    return torch.randn(96, 5, generator=draws).double(), torch.arange(96) % 3


def objective(seed: int = 0) -> ss.Objective:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    return ss.Objective(model, F.cross_entropy, data())


def monitor() -> ss.SharpnessMonitor:
    obj = objective()
    optimizer = torch.optim.SGD(obj.model.parameters(), lr=0.1)
    watching = ss.SharpnessMonitor(obj, every=2, optimizer=optimizer)
    for _ in range(4):
        optimizer.zero_grad()
        inputs, targets = data()
        F.cross_entropy(obj.model(inputs), targets).backward()
        optimizer.step()
        watching.after_step()
    return watching


def results() -> dict[str, Any]:
    obj = objective()
    step = obj.flat() - 0.1 * obj.gradient()
    return {
        "objective": obj,
        "eigenvalues": ss.top_eigenvalues(obj, k=2),
        "trace": ss.trace(obj),
        "density": ss.spectral_density(obj, probes=2, steps=8),
        "between": ss.between_iterates(obj, step, points=3),
        "sampled": ss.lambda_max_from_sample(obj, 80),
        "by layer": trace_by_layer(obj),
        "average": ss.average_direction_sharpness(obj, 0.5, samples=8),
        "worst": ss.worst_case_sharpness(obj, 0.01, batch_size=None, restarts=1),
        "bound": ss.quadratic_bound(obj),
        "histogram": weight_histogram(obj, bins=5),
        "audit": ss.audit(obj, ["gradient_norm", "trace"]),
        "line": ss.interpolate(objective(0).model, objective(1).model, obj, torch.linspace(0, 1, 5).tolist()),
        "surface": ss.surface(obj, points=5),
        "examination": ss.examine(
            obj, k=1, without=["audit", "worst_case", "average_direction"], surface_points=5
        ),
        "monitor": monitor(),
        "table": ss.measure(obj, ["gradient_norm", "trace"]),
    }


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return results()


NAMES = (
    *("objective", "eigenvalues", "trace", "density", "between", "sampled", "by layer", "average", "worst"),
    *("bound", "histogram", "audit", "line", "surface", "examination", "monitor", "table"),
)


@pytest.mark.parametrize("name", NAMES)
def test_it_draws_itself(made, name: str):
    chart = made[name].plot()
    assert isinstance(chart, altair.TopLevelMixin)
    assert chart.to_dict(validate=True)["config"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "table"])
def test_its_text_is_one_line_under_100_characters(made, name: str):
    text = repr(made[name])
    assert "\n" not in text
    assert 5 < len(text) < 100
    assert " object at 0x" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_it(made, name: str):
    page = made[name]._repr_html_()
    assert page.startswith(("<p><code>", "<iframe", "<table"))
    assert "<svg" in page or "&lt;svg" in page or name in ("objective", "table")


OPTIMIZERS = {"SAM", "ASAM", "GSAM", "FriendlySAM", "LookSAM"}
LISTS = {"find_rescalings"}  # a plain list: `audit` is the result that says what they change


def public_results() -> dict[str, type]:
    """Return every class of result that a public name is, or that a public function returns, by that name."""
    found: dict[str, type] = {}
    for name in set(ss.__all__) - OPTIMIZERS - LISTS:
        public = getattr(ss, name)
        if isinstance(public, type):
            if not issubclass(public, BaseException):
                found[name] = public
        else:
            returned = public.__annotations__["return"]
            found[name] = getattr(sys.modules[public.__module__], returned)
    return found


def test_every_public_result_is_among_those_tried(made):
    classes = public_results()
    assert len(classes) > 18
    assert {name: c for name, c in classes.items() if not issubclass(c, Result)} == {}
    tried = tuple(type(result) for result in made.values())
    assert {name for name, c in classes.items() if not any(issubclass(t, c) for t in tried)} == set()


def test_a_chart_of_nothing_is_refused(made):
    empty = ss.SharpnessMonitor(objective(), every=2)
    with pytest.raises(ss.InputError, match="needs rows"):
        empty.plot()
    assert empty._repr_html_().startswith("<p><code>monitor with 0 rows")


@pytest.mark.parametrize(
    ("which", "names"),
    [("largest", ["λ₁", "λ₂"]), ("smallest", ["λ₋₁", "λ₋₂"]), ("both", ["λ₁", "λ₂", "λ₋₁", "λ₋₂"])],
)
def test_a_chart_of_eigenvalues_counts_the_smallest_from_the_bottom(which, names):
    found = ss.top_eigenvalues(objective(), k=2, which=which, tol=0.1)
    assert [row["name"] for row in specification(found)["data"]["values"]] == names


def test_a_density_lies_on_the_axis_where_there_is_nothing(made):
    rows = specification(made["density"])["data"]["values"]
    steps = [b["x"] - a["x"] for a, b in pairwise(rows)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)  # no line is drawn across a gap
    assert min(row["y"] for row in rows) > 0


def test_a_surface_shows_its_trajectory_and_refuses_to_draw_nothing(made):
    plane = made["surface"]
    assert [layer["mark"]["type"] for layer in specification(plane)["layer"][1:]] == ["line", "point"]
    walked = replace(plane, trajectory=np.array([[0.4, 0.2], [0.1, -0.3]]))
    path = next(layer for layer in specification(walked)["layer"] if "point" in layer["mark"])
    assert [(row["x"], row["y"]) for row in path["data"]["values"]] == [(0.4, 0.2), (0.1, -0.3), (0, 0)]
    nothing = replace(plane, losses=np.full_like(plane.losses, np.nan))
    with pytest.raises(ss.InputError, match="needs a finite loss"):
        nothing.plot()
    assert "none finite" in nothing._repr_html_()

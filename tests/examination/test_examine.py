"""An examination: numbers against closed forms, sentences, the page, and a model left as it was."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from ranks import run
from sharpscope import InputError, NotConvergedWarning, Objective, examine, top_eigenvalues
from sharpscope.curvature.by_layer import layers_of, shares_by_layer, trace_by_layer
from sharpscope.data import DataConfig, load
from sharpscope.examination import PARTS, make_plan, measurements, plan
from sharpscope.examination.plan import BRIEF, THOROUGH, Speed, fit
from sharpscope.examination.sampling import Draw
from sharpscope.models import ModelConfig, build

QUICK = {"k": 2, "surface_points": 5}


@pytest.fixture(scope="module")
def obj() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    return Objective(model, F.cross_entropy, (torch.randn(40, 6).double(), torch.arange(40) % 3))


@pytest.fixture(scope="module")
def hessian(obj: Objective) -> torch.Tensor:
    rows = torch.stack([obj.hvp(row) for row in torch.eye(obj.size, dtype=torch.float64)])
    return (rows + rows.T) / 2


@pytest.fixture(scope="module")
def found(obj: Objective):
    return examine(obj, **QUICK)


def test_its_numbers_are_those_of_the_dense_hessian(found, hessian):
    values = torch.linalg.eigvalsh(hessian)
    table = found.to_frame().set_index("measure")
    assert table.loc["lambda_1", "value"] == pytest.approx(float(values[-1]), rel=1e-3)
    assert table.loc["lambda_-1", "value"] == pytest.approx(float(values[0]), rel=1e-2)
    low, high = table.loc["trace", "low"], table.loc["trace", "high"]
    assert low - 0.1 * (high - low) <= float(values.sum()) <= high + 0.1 * (high - low)
    assert found.frobenius_norm.value == pytest.approx(float(hessian.norm()), rel=0.3)


def test_traces_by_layer_add_up_and_each_is_its_block_s(obj, hessian):
    many = trace_by_layer(obj, probes=400)
    start = 0
    for name, value, stderr in zip(many.names, many.values, many.stderrs, strict=True):
        width = sum(obj.layout.split(obj.flat())[n].numel() for n in layers_of(obj)[name])
        exact = float(hessian.diagonal()[start : start + width].sum())
        assert abs(value - exact) < 4 * stderr
        start += width
    assert start == obj.size == sum(many.sizes)


def deep() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(*(m for _ in range(12) for m in (nn.Linear(6, 6), nn.Tanh()))).double()
    return Objective(model, F.mse_loss, (torch.randn(30, 6).double(), torch.randn(30, 6).double()))


def residual() -> Objective:
    """Return a ResNet-18 with a sixteenth of its channels, on digits."""
    digits = load(DataConfig(name="digits"))
    model = build(ModelConfig(name="resnet18", options={"width": 1 / 16}), digits, 0)
    return Objective(model, F.cross_entropy, (digits.train.inputs[:40], digits.train.targets[:40]))


@pytest.mark.parametrize(("problem", "count"), [(deep, 12), (residual, 41)])
def test_all_layers_cost_less_than_three_times_one_eigenvalue(problem, count: int):
    obj = problem()
    before = obj.cost.products
    traces = trace_by_layer(obj)
    by_layer = obj.cost.products - before
    assert len(traces.names) == count
    top_eigenvalues(obj, k=1)
    assert 0 < by_layer <= 3 * (obj.cost.products - before - by_layer)


def test_shares_of_a_vector_are_its_squared_length_by_layer(obj):
    vector = torch.zeros(obj.size, dtype=torch.float64)
    vector[0], vector[-1] = 3.0, 4.0  # the first layer and the last
    assert shares_by_layer(obj, vector[None]).tolist() == [[9 / 25, 16 / 25]]


def test_the_model_is_left_as_it_was(obj):
    before = {name: t.clone() for name, t in obj.model.state_dict().items()}
    state = torch.get_rng_state()
    examine(obj, **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in obj.model.state_dict().items())
    assert all(p.grad is None for p in obj.model.parameters())


def test_words_carry_the_number_and_its_error(found):
    assert re.match(r"λ_max = [\d.]+ ± [\d.e−]+, converged", found.sentences.headline)
    text = str(found)
    assert "40 samples" in text
    assert "83 parameters" in text
    assert len(repr(found)) < 100


def test_the_page_needs_no_network_and_escapes_the_title(obj, tmp_path):
    path = tmp_path / "page.html"
    text = examine(obj, **QUICK, without=["density"], title="<script>alert(1)</script>").to_html(path)
    assert path.read_text(encoding="utf-8") == text
    assert "<script>alert" not in text
    assert text.count("<script") == 2  # the surface's data and what turns it
    loaded = re.findall(r"(?:src|href)\s*=\s*[\"'](?!#)([^\"']+)", text)
    assert loaded == []
    assert text.count("<svg") > 6  # every figure twice, for light and for dark ground


def test_a_notebook_shows_it(found):
    assert found._repr_html_().startswith("<iframe srcdoc=")


def test_the_same_examination_gives_the_same_page(found):
    assert found.to_html() == found.to_html()


def test_parts_can_be_left_out(obj):
    nothing = examine(obj, without=PARTS)
    assert nothing.eigenvalues is None
    assert nothing.to_frame()["measure"].tolist() == ["loss", "gradient_norm"]
    assert "<svg" in nothing.to_html()
    with pytest.raises(InputError, match="without takes names from"):
        examine(obj, without=["eigenvalue"])


def test_what_does_not_apply_is_a_note():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    obj = Objective(model, F.cross_entropy, (torch.randn(12, 4), torch.arange(12) % 2))
    found = examine(obj, **QUICK, without=["surface", "density"])
    assert found.audit is None
    assert any(note.startswith("Not measured: audit (an audit needs channels") for note in found.notes)
    assert "Before you use these numbers" in found.to_html()


def test_batches_of_dicts_are_examined():
    torch.manual_seed(2)
    model = nn.Linear(4, 2)
    batches = [
        {"x": torch.randn(6, 4), "y": torch.arange(6) % 2},
        {"x": torch.randn(3, 4), "y": torch.arange(3) % 2},
    ]
    obj = Objective.from_batch_loss(
        model, batches, lambda m, batch: (F.cross_entropy(m(batch["x"]), batch["y"]), len(batch["y"]))
    )
    found = examine(obj, k=1, surface_points=5)
    assert found.samples == 9
    assert found.eigenvalues is not None
    assert bool(found.eigenvalues.converged[0])


def test_progress_names_every_part(obj):
    seen = []
    examine(obj, **QUICK, progress=seen.append)
    own = [state for state in seen if state.call == "examine" and state.unit == "part"]
    assert [state.done for state in own] == list(range(1, len(PARTS) + 1))
    assert [state.note for state in own] == [part.replace("_", " ") for part in PARTS]


def test_a_deadline_keeps_what_is_done_and_names_what_is_not(obj, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sharpscope.curvature.call_limits.time.perf_counter", lambda: now[0])

    def tell(state):
        now[0] += 100.0 * (state.call == "examine" and state.note == "density")

    found = examine(obj, **QUICK, deadline=50.0, progress=tell)
    assert found.eigenvalues is not None
    assert found.density is not None
    assert found.surface is None
    assert any("deadline" in note and "surface" in note for note in found.notes)
    assert set(found.left_out) == {"average_direction", "worst_case", "surface", "audit"}
    assert "Not measured" in found.to_html()


def test_an_interrupt_keeps_what_is_done(obj):
    def tell(state):
        if state.call == "examine" and state.note == "frobenius norm":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(obj, **QUICK, without=["audit", "surface"], progress=tell)

    calls = []

    def once(state):
        if state.call == "spectral_density" and not calls:
            calls.append(state)
            raise KeyboardInterrupt

    found = examine(obj, **QUICK, without=["audit", "surface"], progress=once, on_interrupt="return")
    assert found.trace is not None
    assert found.density is None
    assert set(found.left_out) == {"density", "average_direction", "worst_case"}
    assert "it was interrupted" in str(found.notes)


def test_the_layers_traces_add_up_to_the_trace_and_cost_nothing_beside_it(found, obj, hessian):
    assert found.by_layer.values.sum() == pytest.approx(found.trace.value, rel=1e-9)
    before = obj.cost.products
    examine(obj, without=[part for part in PARTS if part not in ("by_layer", "trace", "frobenius_norm")])
    together = obj.cost.products - before
    examine(obj, without=[part for part in PARTS if part != "trace"])
    assert obj.cost.products - before == 2 * together
    start = 0
    for name, value, stderr in zip(
        found.by_layer.names, found.by_layer.values, found.by_layer.stderrs, strict=True
    ):
        width = sum(obj.layout.split(obj.flat())[n].numel() for n in layers_of(obj)[name])
        assert abs(value - float(hessian.diagonal()[start : start + width].sum())) < 4.5 * stderr
        start += width


@pytest.fixture(scope="module")
def larger() -> Objective:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    return Objective(model, F.cross_entropy, (torch.randn(600, 4).double(), torch.arange(600) % 2))


def test_intervals_from_samples_hold_what_all_the_data_have(larger):
    parts = ("eigenvalues", "trace", "by_layer", "average_direction")
    without = [part for part in PARTS if part not in parts]
    truth = examine(larger, k=1, without=without).to_frame()
    held = []
    for seed in range(8):
        found = examine(larger, k=1, without=without, samples=100, seed=seed)
        table = found.to_frame()
        assert (table.loc[2:, "samples"] == 100).all()
        assert (table.loc[2:, "samples"] == found.samples).all()
        every = table[(table["interval_for"] == "all the data") & (table["samples"] == 100)]
        assert set(every["measure"]) == {
            "lambda_1", "lambda_-1", "trace", "average_direction", "trace of 0", "trace of 2",
        }  # fmt: skip
        exact = truth.loc[every.index, "value"]
        held += ((every["low"] <= exact) & (exact <= every["high"])).tolist()
        assert "100 samples drawn at random from 600" in str(found)
        assert "on 100 of 600 samples" in repr(found)
    assert sum(held) >= 0.9 * len(held)
    assert "for all the data" in found.to_html()


def test_a_sample_s_own_interval_would_be_too_narrow(larger):
    """What is not an interval for all the data misses them far more often than one time in twenty."""
    hits = 0
    exact = top_eigenvalues(larger).value
    for seed in range(8):
        part = Draw.of(larger, 100, seed).objective()
        value, error = top_eigenvalues(part).value, float(top_eigenvalues(part).error_estimates[0])
        hits += abs(value - exact) <= error
    assert hits <= 4


def test_a_plan_spends_the_time_in_order_of_worth():
    speed = Speed(loss=1.0, gradient=3.0, product=9.0, kept_product=6.0, graph_bytes=1.0)

    def of(deadline: float | None, samples: int | None = None):
        return fit(speed, PARTS, 2000, deadline=deadline, samples=samples, room=200)

    everything = of(None)
    assert everything.effort == THOROUGH
    assert (everything.samples, everything.whole) == (2000, True)
    assert of(2 * everything.seconds).effort == THOROUGH
    brief = of(everything.seconds / 2)
    assert (brief.effort, brief.samples) == (BRIEF, 2000)
    few = of(brief.seconds / 10)
    assert 64 <= few.samples < 500
    assert few.whole
    assert not any(section.left_out for section in few.sections)
    fewest = of(brief.seconds / 60)
    assert fewest.samples >= 64
    assert not fewest.whole
    left = [section.name for section in fewest.sections if section.left_out]
    assert left
    assert left == list(PARTS[-len(left) :])
    assert fewest.seconds <= brief.seconds / 60
    hardly = of(1.0)
    assert [section.name for section in hardly.sections if not section.left_out] == ["eigenvalues"]
    assert of(None, samples=500).samples == 500
    assert all(few.seconds < plan.seconds for plan in (brief, everything))


def test_a_plan_of_batches_leaves_parts_out_and_draws_no_samples():
    speed = Speed(loss=1.0, gradient=3.0, product=9.0, kept_product=6.0, graph_bytes=1.0)
    plan = fit(speed, PARTS, 2000, deadline=1e6, divisible=False)
    assert plan.samples == 2000
    assert any(section.left_out for section in plan.sections)
    with pytest.raises(InputError, match="samples needs samples that can be drawn singly"):
        fit(speed, PARTS, 2000, samples=100, divisible=False)


@pytest.mark.parametrize("options", [{"deadline": 0.0}, {"deadline": -1.0}, {"samples": 1}])
def test_a_plan_refuses(obj, options):
    with pytest.raises(InputError):
        make_plan(obj, **options)


def test_a_trace_that_is_lost_in_its_error_is_not_called_the_largest(found):
    def told(values, stderrs):
        layers = replace(found.by_layer, values=np.array(values), stderrs=np.array(stderrs))
        return str(replace(found, by_layer=layers))

    assert "Layer 2 has the largest trace, 75 % of the whole" in told([1.0, 3.0], [0.01, 0.01])
    assert "Layer 0 has the largest trace that can be told from zero" in told([1.0, 3.0], [0.01, 9.0])
    assert "No layer's trace can be told to be above zero" in told([1.0, 3.0], [9.0, 9.0])


def test_what_goes_wrong_at_some_radii_is_said_once_with_these_radii(obj, monkeypatch):
    measured, real = [], measurements.average_direction_sharpness

    def limited(over: Objective, radius: float, *given: Any, **options: Any):
        measured.append(radius)
        if len(measured) == 3:
            raise InputError("there must be time for two draws, here deadline=3 passed; raise the deadline")
        warnings.warn(
            "average-direction sharpness: too wide after 4 samples; raise max_samples or the width",
            NotConvergedWarning,
            stacklevel=2,
        )
        return real(over, radius, *given, **{**options, "relative_width": 100.0})

    monkeypatch.setattr(measurements, "average_direction_sharpness", limited)
    found = examine(obj, without=[part for part in PARTS if part != "average_direction"])
    radii = [f"{radius:.3g}" for radius in measured]
    about = [note for note in found.notes if "direction" in note and "Not measured" not in note]
    assert about == [
        f"average direction at radii {radii[0]} and {radii[1]}: too wide after 4 samples",
        f"average direction at radius {radii[2]}: not measured (there must be time for two draws, here its share of "
        "the time was over; raise the deadline)",
    ]
    assert [estimate.protocol["radius"] for estimate in found.average_direction] == measured[:2]


def a_rank_s_examination(rank: int, deadline: float) -> dict[str, Any]:
    """Plan and examine on ranks of which the second takes ten times as long, by its clock."""
    ticks = count(step=1 + 9 * rank)
    plan.time = SimpleNamespace(perf_counter=lambda: float(next(ticks)))  # type: ignore[assignment]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(40, 3).double(), torch.arange(40) % 2
    obj = Objective(model, F.cross_entropy, (x[rank::2], y[rank::2]), group=dist.group.WORLD)
    made = make_plan(obj, deadline=deadline)
    plans: list[Any] = [None, None]
    dist.all_gather_object(plans, made)
    if plans[0] != plans[1]:  # by different plans each would wait for the other for good
        return {"plan": repr(made)}
    found = examine(obj, plan=made)
    return {
        "plan": repr(made),
        "brief": made.brief,
        "left out": list(found.left_out),
        "λ_max": found.eigenvalues.value if found.eigenvalues else None,
    }


def test_ranks_of_different_speed_make_one_plan_of_the_slowest(tmp_path: Path):
    deadline = 1100.0
    first, second = run(2, a_rank_s_examination, tmp_path, deadline)
    assert first == second
    assert first["brief"]
    assert first["left out"] == list(PARTS[4:])
    assert first["λ_max"] > 0
    fast = Speed(1 / 40, 1 / 40, 1 / 40, 1 / 40, 0.0)
    alone = fit(fast, PARTS, 40, deadline=deadline, divisible=False)
    assert not alone.brief, "the first rank, for itself, would have had time for everything"

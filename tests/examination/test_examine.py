"""An examination: numbers against closed forms, sentences, the page, and a model left as it was."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpscope import InputError, Objective, examine, top_eigenvalues
from sharpscope.curvature.by_layer import layers_of, shares_by_layer, trace_by_layer
from sharpscope.examination.examination import PARTS

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


def test_all_layers_cost_less_than_three_times_one_eigenvalue():
    torch.manual_seed(0)
    deep = nn.Sequential(*(m for _ in range(12) for m in (nn.Linear(6, 6), nn.Tanh()))).double()
    obj = Objective(deep, F.mse_loss, (torch.randn(30, 6).double(), torch.randn(30, 6).double()))
    before = obj.cost.products
    traces = trace_by_layer(obj)
    by_layer = obj.cost.products - before
    assert len(traces.names) == 12
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
    assert re.match(r"λ_max = [\d.]+ ± [\d.e-]+, converged", found.sentences.headline)
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
    assert any(note.startswith("No audit") for note in found.notes)
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
        now[0] += 10.0 * (state.call == "examine" and state.note == "trace")

    found = examine(obj, **QUICK, deadline=5.0, progress=tell)
    assert found.eigenvalues is not None
    assert found.trace is not None
    assert found.surface is None
    assert any("deadline=5 passed" in note and "surface" in note for note in found.notes)

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measures.test_registry import assert_untouched, snapshot
from problems import PROBLEMS, data, settle
from sharpscope import InputError, Objective, interpolate
from sharpscope.curvature.call_limits import CallProgress
from sharpscope.landscape import Interpolation


def networks() -> tuple[nn.Module, nn.Module, tuple[Tensor, Tensor]]:
    x, y = data(1700, 4)  # statistics are taken in batches of 850
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3))
        models.append(settle(model.double(), x[:50] * (seed + 1)))
    return models[0], models[1], (x, y)


def recomputed(model: nn.Module, x: Tensor) -> nn.Module:
    """Independently: torch's own cumulative average, over the two halves."""
    model = copy.deepcopy(model).eval()
    model[1].reset_running_stats()
    model[1].momentum = None
    model[1].train()
    with torch.no_grad():
        for half in x.split(850):
            model(half)
    return model.eval()


def test_recomputed_statistics_give_the_ends_their_own_loss() -> None:
    a, b, (x, y) = networks()
    a, b = recomputed(a, x), recomputed(b, x)
    line = interpolate(a, b, Objective(a, F.cross_entropy, (x, y)), [0, 0.5, 1])
    for loss, own, model in zip(line.losses[[0, 2]], line.own_losses, (a, b), strict=True):
        assert loss == pytest.approx(own, rel=1e-12)
        assert own == pytest.approx(float(F.cross_entropy(model(x), y).detach()), rel=1e-12)


def test_recomputed_and_frozen_differ_where_statistics_are_stale() -> None:
    a, b, (x, y) = networks()
    obj = Objective(a, F.cross_entropy, (x, y))
    new = interpolate(a, b, obj, [0, 0.5, 1])
    old = interpolate(a, b, obj, [0, 0.5, 1], batch_norm="frozen")
    with torch.no_grad():
        for i, model in ((0, a), (2, b)):
            fresh = recomputed(model, x)
            assert new.losses[i] == pytest.approx(float(F.cross_entropy(fresh(x), y)), rel=1e-12)
            assert new.accuracies[i] == pytest.approx(float((fresh(x).argmax(1) == y).double().mean()))
            assert old.losses[i] == pytest.approx(old.own_losses[i // 2], rel=1e-12)
    assert (abs(new.losses - old.losses) > 1e-3).all()
    assert old.protocol["batch_norm"] == "frozen"


def test_extrapolated_variances_stay_variances() -> None:
    a, b, (x, y) = networks()
    line = interpolate(
        a, b, Objective(a, F.cross_entropy, (x, y)), np.linspace(-2, 3, 7), batch_norm="frozen"
    )
    assert np.isfinite(line.losses).all()
    assert line.alphas.tolist() == sorted({*np.round(np.linspace(-2, 3, 7), 12), 0.0, 1.0})


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_the_line_is_the_objective_along_it_and_nothing_moves(problem) -> None:
    obj = problem.objective()
    other = copy.deepcopy(obj.model)
    with torch.no_grad():
        for name, p in other.named_parameters():
            if name in obj.layout.names:
                p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p))
    before, also = snapshot(obj.model), snapshot(other)
    line = interpolate(obj.model, other, obj, [0, 0.25, 1], batch_norm="frozen")
    assert_untouched(obj.model, before)
    assert_untouched(other, also)
    if problem.mode == "eval":
        end = obj.layout.join(dict(other.named_parameters())[n].detach() for n in obj.layout.names)
        for alpha, loss in zip(line.alphas, line.losses, strict=True):
            assert loss == pytest.approx(obj.loss((1 - alpha) * obj.flat() + alpha * end), rel=1e-10)
        assert line.distance == pytest.approx(float((end - obj.flat()).norm()))


def test_basin_widths() -> None:
    obj = next(p for p in PROBLEMS if p.name.startswith("quadratic")).objective()
    other = copy.deepcopy(obj.model)
    with torch.no_grad():
        other.weight.add_(torch.tensor([[0.0, 0, 3, 0, 0, 0]]))
    line = interpolate(obj.model, other, obj, np.linspace(-3, 4, 1401))
    for end, at in (("a", 0.0), ("b", 1.0)):
        width = line.basin_width(end, rise=0.5)
        level = line.losses[np.isclose(line.alphas, at)][0] + 0.5
        inside = line.alphas[line.losses <= level]  # a parabola: one interval
        assert width.alpha == pytest.approx(np.ptp(inside), abs=0.01)
        assert width.distance == pytest.approx(3 * width.alpha)
        assert width.complete
    short = interpolate(obj.model, other, obj, np.linspace(-0.01, 1.01, 9))
    assert not short.basin_width("a", 100.0).complete
    with pytest.raises(InputError, match="rise"):
        line.basin_width("a", -1.0)


def test_an_interrupted_call_goes_on_and_another_request_is_refused(tmp_path: Path) -> None:
    a, b, batch = networks()
    obj = Objective(a, F.cross_entropy, batch)
    whole = interpolate(a, b, obj, [0, 0.3, 0.7, 1])
    seen: list[int] = []

    def stop(state: CallProgress) -> None:
        seen.append(int(state.done))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interpolate(a, b, obj, [0, 0.3, 0.7, 1], partial=tmp_path / "p.json", progress=stop)
    calls = {"n": 0}
    obj.model.register_forward_hook(lambda *_: calls.__setitem__("n", calls["n"] + 1))
    again = interpolate(a, b, obj, [0, 0.3, 0.7, 1], partial=tmp_path / "p.json")
    assert again.losses.tolist() == whole.losses.tolist()
    with pytest.raises(InputError, match="another request"):
        interpolate(a, b, obj, [0, 1], partial=tmp_path / "p.json")
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        interpolate(a, b, obj, [0, 1], partial=tmp_path / "p.json")


def test_bad_arguments() -> None:
    a, b, batch = networks()
    obj = Objective(a, F.cross_entropy, batch)
    for arguments in ({"alphas": [float("nan")]}, {"batch_norm": "ends"}):
        with pytest.raises(InputError):
            interpolate(a, b, obj, **arguments)
    with pytest.raises(InputError, match="same factory"):
        interpolate(a, nn.Linear(4, 3), obj)


def test_a_basins_edge_is_interpolated_between_coarse_points() -> None:
    alphas = np.linspace(-1, 2, 7)
    line = Interpolation(alphas, 1 + 4 * np.abs(alphas), alphas * np.nan, 3.0, (1.0, 5.0))
    width = line.basin_width("a", rise=0.6)
    assert width.interval == pytest.approx((-0.15, 0.15))
    assert width.distance == pytest.approx(0.9)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from measures.test_registry import assert_untouched, snapshot
from problems import PROBLEMS, data
from sharpscope import InputError, Objective, surface
from sharpscope.curvature.call_limits import CallProgress
from sharpscope.landscape import filter_normalised_directions


def network(dtype: torch.dtype = torch.float64) -> Objective:
    torch.manual_seed(0)
    x, y = data(23, 36)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)),
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 3),
    )
    return Objective(model.to(dtype), F.cross_entropy, (x.to(dtype), y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_keep_every_filters_norm_and_are_orthogonal(dtype: torch.dtype) -> None:
    obj = network(dtype)
    first, second = filter_normalised_directions(obj)
    assert abs(float(first.double() @ second.double())) < 1e-6 * float(first.norm()) ** 2
    weights = obj.layout.split(obj.flat())
    for direction in (first, second):
        for name, d in obj.layout.split(direction).items():
            if weights[name].ndim < 2:
                assert not d.any()
                continue
            norms = weights[name].flatten(1).norm(dim=1)
            torch.testing.assert_close(d.flatten(1).norm(dim=1), norms, rtol=1e-5, atol=0)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_surfaces_are_the_objective_in_their_plane_and_nothing_moves(problem) -> None:
    obj = problem.objective()
    before = snapshot(obj.model)
    try:
        found = surface(obj, points=3, radius=0.5, batch_norm="frozen")
    except InputError:
        assert obj.size < 8 or problem.name == "selected by predicate"
        return
    assert_untouched(obj.model, before)
    gram = found.directions @ found.directions.T
    torch.testing.assert_close(gram, torch.eye(2).to(gram), atol=1e-6, rtol=0)
    if problem.mode == "eval":
        assert found.losses[1, 1] == pytest.approx(obj.loss(), rel=1e-10)
        corner = (
            obj.flat()
            + 0.5 * found.lengths[0] * found.directions[0]
            - 0.5 * found.lengths[1] * found.directions[1]
        )
        assert found.losses[0, 2] == pytest.approx(obj.loss(corner), rel=1e-9)
    assert len(found.table()) == 9


def test_a_trajectory_is_projected_and_its_own_plane_holds_it() -> None:
    obj = network()
    theta = obj.flat()
    g = torch.Generator().manual_seed(1)
    e = torch.linalg.qr(torch.randn(obj.size, 2, generator=g, dtype=torch.float64))[0].T
    places = torch.tensor([[3.0, 0.5], [2.0, -1.0], [1.0, 0.3], [0.2, 0.0]], dtype=torch.float64)
    path = list(theta + places @ e)
    own = surface(obj, points=5, directions="trajectory", trajectory=path)
    assert own.explained == pytest.approx(1.0)
    np.testing.assert_allclose(np.linalg.norm(own.trajectory, axis=1), places.norm(dim=1).numpy(), rtol=1e-9)
    assert own.x.max() >= np.abs(own.trajectory[:, 0]).max()
    other = surface(obj, points=3, trajectory=path)
    assert 0 < other.explained < 0.5
    assert other.trajectory.shape == (4, 2)
    with pytest.raises(InputError, match="at least two"):
        surface(obj, directions="trajectory")
    with pytest.raises(InputError, match="line"):
        surface(obj, directions="trajectory", trajectory=[theta + e[0], theta + 2 * e[0]])


def test_a_surface_resumes(tmp_path: Path) -> None:
    obj = network()
    whole = surface(obj, points=3)

    def stop(state: CallProgress) -> None:
        if state.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        surface(obj, points=3, partial=tmp_path / "s.json", progress=stop)
    assert surface(obj, points=3, partial=tmp_path / "s.json").losses.tolist() == whole.losses.tolist()
    with pytest.raises(InputError, match="another request"):
        surface(obj, points=3, seed=1, partial=tmp_path / "s.json")


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"points": 4}, {"points": 1}, {"directions": "pca"}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        surface(network(), **arguments)

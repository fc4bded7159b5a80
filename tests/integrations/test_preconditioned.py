"""The curvature that an optimizer meets, against the dense matrix S (H + Γ) S."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oracles.dense import dense
from sharpscope import NonFiniteError, Objective, SharpnessMonitor
from sharpscope.errors import InputError
from sharpscope.integrations.preconditioned import as_stepped
from sharpscope.optim import edge_of_stability

cross_entropy = nn.functional.cross_entropy


def problem() -> tuple[nn.Sequential, Objective, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(40, 4).double(), torch.randint(0, 3, (40,))
    obj = Objective(model, cross_entropy, (x, y))

    def train(optimizer: torch.optim.Optimizer, steps: int = 5) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

    return model, obj, train


def groups(model: nn.Sequential) -> list[dict[str, Any]]:
    return [
        {"params": model[0].parameters(), "lr": 0.01, "weight_decay": 0.5},
        {"params": model[2].parameters()},
    ]


OPTIMIZERS: dict[str, Any] = {
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01),
    "adam with a penalty": lambda m: torch.optim.Adam(groups(m), lr=0.03),
    "adamw": lambda m: torch.optim.AdamW(groups(m), lr=0.03),
    "rmsprop": lambda m: torch.optim.RMSprop(groups(m), lr=0.03, momentum=0.3),
    "adagrad": lambda m: torch.optim.Adagrad(groups(m), lr=0.03),
    "groups of sgd": lambda m: torch.optim.SGD(groups(m), lr=0.03, momentum=0.5),
    "one layer alone": lambda m: torch.optim.SGD(m[2].parameters(), lr=0.03),
    "one layer at rate 0": lambda m: torch.optim.Adam(
        [{**g, "lr": 0.01 * i} for i, g in enumerate(groups(m))]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_against_the_dense_matrix(name: str) -> None:
    model, obj, train = problem()
    optimizer = OPTIMIZERS[name](model)
    train(optimizer)
    edge = edge_of_stability(optimizer)
    live = dict(model.named_parameters())

    def flat(values: Any) -> np.ndarray:
        parts = [
            torch.as_tensor(values.get(live[n], 0.0)).double().expand(live[n].shape) for n in obj.layout.names
        ]
        return torch.cat([p.reshape(-1) for p in parts]).detach().numpy()

    s, penalty = flat(edge.scales), flat(edge.decays)
    expected = np.linalg.eigvalsh(s[:, None] * (np.asarray(dense(obj)[2]) + np.diag(penalty)) * s)[-1]
    monitor = SharpnessMonitor(obj, every=1, optimizer=optimizer, tol=1e-4)
    for _ in range(2):  # cold, and from the last result
        row = monitor.measure()
        assert row["lambda_max_preconditioned"] == pytest.approx(expected, rel=1e-3)
        assert row["edge"] == edge.value
        assert row["edge_of"] == edge.formula
        assert row["note"] == ""
    assert row["lambda_max"] == pytest.approx(np.linalg.eigvalsh(dense(obj)[2])[-1], rel=1e-3)


def test_what_gradient_descent_sees_is_the_function_itself() -> None:
    model, obj, train = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.2)
    train(optimizer)
    assert as_stepped(obj, edge_of_stability(optimizer)) is None
    row = SharpnessMonitor(obj, every=1, optimizer=optimizer).measure()
    assert (row["edge"], row["edge_of"]) == (pytest.approx(38 - 0.2), "2(1+β)/η − γ")
    assert row["lambda_max_preconditioned"] is None


def test_states_that_are_not_finite_and_other_optimizers_parameters() -> None:
    model, obj, train = problem()
    adam = torch.optim.Adam(model.parameters())
    train(adam)
    adam.state[model[0].weight]["exp_avg_sq"].fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="state"):
        as_stepped(obj, edge_of_stability(adam))
    row = SharpnessMonitor(obj, every=1, optimizer=adam).measure()
    assert "second moments" in row["note"]
    assert row["average_direction"] is not None  # the rest of the row is there
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(InputError, match="steps none of it"):
        as_stepped(obj, edge_of_stability(other))

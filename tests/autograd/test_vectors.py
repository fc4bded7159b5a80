from __future__ import annotations

import torch

from sharpscope import Objective, top_eigenvalues
from sharpscope.autograd.vectors import dot, norm


def test_sums_over_ten_million_entries_are_right_in_float32() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(10_000_000, generator=g)
    assert abs(norm(a) / float(a.double().norm()) - 1) < 1e-12
    assert abs(float(dot(a, a)) / float(a.double() @ a.double()) - 1) < 1e-12
    small = torch.randn(3, 7, generator=g)
    torch.testing.assert_close(dot(small, small[0]).float(), small @ small[0])
    torch.testing.assert_close(dot(small, small[:2]).float(), small @ small[:2].T)


def test_vectors_of_a_large_float32_model_are_of_length_one() -> None:
    x = torch.randn(20, 1_000_000, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Linear(1_000_000, 1, bias=False)
    obj = Objective(model, lambda o, t: 0.5 * (o - t).square().mean(), (x, torch.zeros(20, 1)))
    truth = float(torch.linalg.eigvalsh(x.double() @ x.double().T / 20)[-1])
    e = top_eigenvalues(obj, tol=1e-5)
    assert abs(float(e.vectors[0].double().norm()) - 1) < 1e-6
    assert abs(e.value / truth - 1) < 1e-5

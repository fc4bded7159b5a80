"""Products and eigenvalues of the Gauss-Newton matrix against dense Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from sharpscope import InputError, Objective
from sharpscope.curvature import frobenius_norm, spectral_density, top_eigenvalues, trace
from sharpscope.curvature.operators import CurvatureProducts

mse = nn.functional.mse_loss
cross_entropy = nn.functional.cross_entropy


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _data(classes: bool) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(4)
    x = torch.randn(37, 4, generator=draws, dtype=torch.float64)
    if classes:
        return x, torch.randint(0, 3, (37,), generator=draws)
    return x, torch.randn(37, 3, generator=draws, dtype=torch.float64)


def _dense(model: nn.Module, loss, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """Σ_i Jᵢᵀ Hᵢ Jᵢ / N, sample by sample."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    total = 0.0
    for xi, yi in zip(x, y, strict=True):
        jacobian = jacrev(lambda p, xi=xi: functional_call(model, p, (xi[None],))[0])(parameters)
        j = torch.cat([part.reshape(3, -1) for part in jacobian.values()], dim=1)  # (3, size)
        h = hessian(lambda f, yi=yi: loss(f[None], yi[None]))(model(xi[None])[0].detach())
        total = total + j.T @ h @ j
    return total / len(x)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_products_are_those_of_the_dense_matrix(loss, memory: int | None) -> None:  # type: ignore[no-untyped-def]
    model, (x, y) = _network(), _data(loss is cross_entropy)
    obj = Objective(model, loss, [(x[:30], y[:30]), (x[30:], y[30:])], chunk_size=8)
    dense = _dense(model, loss, x, y)
    with CurvatureProducts(obj, memory, "ggn") as product:
        for _ in range(2):  # built, then kept or rebuilt
            torch.testing.assert_close(product(torch.eye(obj.size).double()), dense, rtol=1e-10, atol=1e-12)


def test_the_same_calls_take_the_gauss_newton_matrix() -> None:
    model, (x, y) = _network(), _data(classes=True)
    obj = Objective(model, cross_entropy, (x, y))
    dense = _dense(model, cross_entropy, x, y)
    values = torch.linalg.eigvalsh(dense)
    largest = top_eigenvalues(obj, k=2, matrix="ggn", tol=1e-5)
    torch.testing.assert_close(torch.as_tensor(largest.values.copy()), values[-2:].flip(0), rtol=1e-4, atol=0)
    assert largest.protocol["matrix"] == "ggn"
    hessian_values = top_eigenvalues(obj, k=2, tol=1e-5).values
    assert abs(hessian_values[0] - largest.values[0]) > 1e-3  # they are not the same matrix here
    ends = top_eigenvalues(obj, which="both", matrix="ggn")
    assert ends.values[0] == pytest.approx(float(values[-1]), rel=1e-3)
    assert abs(ends.values[1]) < 1e-3 * float(values[-1])  # rank deficient, no negative eigenvalue
    for estimate, truth in (
        (trace(obj, matrix="ggn", rtol=0.02, max_samples=4000), values.sum()),
        (frobenius_norm(obj, matrix="ggn", rtol=0.02, max_samples=4000), values.square().sum().sqrt()),
    ):
        assert abs(estimate.value - float(truth)) < 5 * estimate.stderr
    density = spectral_density(obj, matrix="ggn", probes=4, steps=15)
    assert density.nodes.min() > -1e-9


def test_it_is_the_hessian_of_a_linear_model() -> None:
    torch.manual_seed(0)
    obj = Objective(nn.Linear(4, 3).double(), cross_entropy, _data(classes=True))
    v = torch.randn(2, obj.size, dtype=torch.float64)
    torch.testing.assert_close(CurvatureProducts(obj, matrix="ggn")(v), obj.hvp(v), rtol=1e-11, atol=1e-13)


def test_a_loss_linear_in_the_outputs_has_none() -> None:
    obj = Objective(_network(), lambda f, y: (f * y).mean(), _data(classes=False))
    assert not CurvatureProducts(obj, matrix="ggn")(obj.flat()).any()


def test_it_needs_the_outputs_and_a_known_name() -> None:
    batch_loss = lambda model, batch: (cross_entropy(model(batch[0]), batch[1]), len(batch[1]))  # noqa: E731
    obj = Objective.from_batch_loss(_network(), [_data(classes=True)], batch_loss)
    with pytest.raises(InputError, match="made with from_batch_loss"):
        top_eigenvalues(obj, matrix="ggn")
    with pytest.raises(InputError, match="matrix must be 'hessian' or 'ggn', received 'fisher'"):
        top_eigenvalues(Objective(_network(), cross_entropy, _data(True)), matrix="fisher")  # type: ignore[arg-type]


def test_both_ends_come_largest_first_then_smallest() -> None:
    model, (x, y) = _network(), _data(classes=True)
    obj = Objective(model, cross_entropy, (x, y))
    dense = torch.linalg.eigvalsh(obj.hvp(torch.eye(obj.size).double()))
    ends = top_eigenvalues(obj, k=2, which="both", tol=1e-5)
    expected = torch.cat([dense[-2:].flip(0), dense[:2]])
    torch.testing.assert_close(torch.as_tensor(ends.values.copy()), expected, rtol=1e-4, atol=1e-8)
    assert ends.vectors.shape == (4, obj.size)

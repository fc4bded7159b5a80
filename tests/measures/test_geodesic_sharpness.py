"""Geodesic sharpness against geodesics integrated numerically, closed forms, and attention's symmetries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpscope import Objective, worst_case_sharpness
from sharpscope.measures.geodesic_sharpness import QuotientChart, geodesic_sharpness
from sharpscope.measures.invariance.attention import find_head_pairs, mixed
from sharpscope.models.decoder import Decoder
from sharpscope.models.options import DecoderOptions


def decoder(dtype: torch.dtype = torch.float64) -> Objective:
    torch.manual_seed(0)
    model = Decoder((6,), 7, DecoderOptions(width=8, layers=1, heads=2)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    tokens = torch.randint(0, 7, (24, 7))
    return Objective(model, F.cross_entropy, (tokens[:, :-1], tokens[:, 1:]))


def moved(obj: Objective, seed: int) -> Objective:
    model = mixed(obj.model, find_head_pairs(obj), 4.0, torch.Generator().manual_seed(seed))
    assert obj.evaluator.loss is not None
    return Objective(model, obj.evaluator.loss, obj.evaluator.tensors())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_it_does_not_see_attention_s_symmetries(dtype: torch.dtype, tolerance: float) -> None:
    obj = decoder(dtype)
    options = {"radius": 0.3, "batch_size": 12, "restarts": 2}
    value = geodesic_sharpness(obj, **options).value
    assert value > 0.01
    for seed in (1, 2):
        other = moved(obj, seed)
        assert other.loss() == pytest.approx(obj.loss(), rel=1e-5)
        assert geodesic_sharpness(other, **options).value == pytest.approx(value, rel=tolerance)
        adaptive = [
            worst_case_sharpness(one, 0.3, "l2", batch_size=12, restarts=2).value for one in (obj, other)
        ]
        assert abs(adaptive[1] / adaptive[0] - 1) > 1e-3


def integrated(factor: Tensor, velocity: Tensor, steps: int) -> Tensor:
    """Follow G̈ = Ġ M⁻¹(ĠᵀG + GᵀĠ) − G M⁻¹ĠᵀĠ for unit time by the classical Runge-Kutta method."""

    def change(g: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.inv(g.T @ g)
        return v, v @ inverse @ (v.T @ g + g.T @ v) - g @ inverse @ (v.T @ v)

    h = 1 / steps
    g, v = factor, velocity
    for _ in range(steps):
        a = change(g, v)
        b = change(g + h / 2 * a[0], v + h / 2 * a[1])
        c = change(g + h / 2 * b[0], v + h / 2 * b[1])
        d = change(g + h * c[0], v + h * c[1])
        g = g + h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + d[0])
        v = v + h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + d[1])
    return g


def test_geodesics_are_right_to_second_order_and_have_constant_speed() -> None:
    obj = decoder()
    pairs = find_head_pairs(obj)
    chart = QuotientChart.of(obj, pairs)
    u = chart.horizontal(torch.randn(obj.size, generator=torch.Generator().manual_seed(1)).double())
    places = obj.layout.split(torch.arange(obj.size))
    errors = []
    for size in (1e-2, 5e-3):
        end, worst = chart.end(size * u), 0.0
        for pair in pairs:
            for side in (pair.first, pair.second):
                at = side.read(places)
                start = chart.theta[at]
                step = torch.autograd.functional.jvp(chart.end, torch.zeros_like(u), size * u)[1][at]
                worst = max(worst, float((end[at] - integrated(start, step, 8)).abs().max()))
        errors.append(worst)
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)  # the error is of third order


def test_the_chart_keeps_the_function_and_its_coordinates_measure_lengths_in_the_metric() -> None:
    obj = decoder()
    pairs = find_head_pairs(obj)
    assert len(pairs) == 4
    chart = QuotientChart.of(obj, pairs)
    assert obj.loss(chart.theta) == pytest.approx(obj.loss(), rel=1e-12)
    u = torch.randn(obj.size, generator=torch.Generator().manual_seed(1)).double()
    flat = chart.horizontal(u)
    torch.testing.assert_close(chart.horizontal(flat), flat)
    assert abs(float(flat @ (u - flat))) < 1e-9
    # a direction along an orbit, G a and −H aᵀ, is not horizontal at all
    places = obj.layout.split(torch.arange(obj.size))
    pair = pairs[0]
    first, second = pair.first.read(places), pair.second.read(places)
    g, h = chart.theta[first], chart.theta[second]
    a = torch.randn(4, 4).double()
    gram = [torch.linalg.inv(factor.T @ factor) for factor in (g, h)]
    along = torch.zeros(obj.size, dtype=torch.float64)
    along[first], along[second] = g @ a, -h @ a.T
    change = torch.autograd.functional.jvp(chart.end, torch.zeros_like(u), flat)[1]
    inner = sum(
        float(torch.trace(m @ along[at].T @ change[at])) for m, at in zip(gram, (first, second), strict=True)
    )
    assert abs(inner) < 1e-9
    length = sum(
        float(torch.trace(m @ change[at].T @ change[at])) for m, at in zip(gram, (first, second), strict=True)
    )
    assert length == pytest.approx(float(flat[first].square().sum() + flat[second].square().sum()), rel=1e-9)


def test_without_attention_it_is_the_adaptive_worst_case() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    obj = Objective(model, F.cross_entropy, (torch.randn(30, 4).double(), torch.randint(3, (30,))))
    geodesic = geodesic_sharpness(obj, 0.2, batch_size=None, steps=30)
    adaptive = worst_case_sharpness(obj, 0.2, "l2", batch_size=None, steps=30)
    assert geodesic.protocol["head_pairs"] == 0
    assert geodesic.value == pytest.approx(adaptive.value, rel=1e-6)

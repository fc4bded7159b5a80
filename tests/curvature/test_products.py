from __future__ import annotations

import pytest
import torch

from problems import PROBLEMS, Problem
from sharpscope import InputError
from sharpscope.curvature.operators import CurvatureProducts, budget, graph_bytes


@pytest.mark.parametrize("memory", [0, None, 30_000])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_kept_and_rebuilt_graphs_give_the_same_products(problem: Problem, memory: int | None) -> None:
    obj = problem.objective()
    block = torch.randn(2, obj.size, dtype=torch.float64)
    direct = obj.hvp(block)
    with CurvatureProducts(obj, memory) as product:
        for _ in range(2):
            torch.testing.assert_close(product(block), direct, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(product(block[0]), direct[0], rtol=1e-12, atol=1e-14)
        assert product.kept_bytes <= product.memory
        assert (product.kept_bytes > 0) == (memory != 0)


def test_a_budget_keeps_only_what_fits() -> None:
    obj = next(p for p in PROBLEMS if p.name == "chunked").objective()
    with CurvatureProducts(obj) as product:
        product(obj.flat())
        everything, chunks = product.kept_bytes, len(product._kept)
    with CurvatureProducts(obj, everything // 2) as product:
        product(obj.flat())
        assert 0 < len(product._kept) < chunks
        assert product.kept_bytes <= everything // 2
    assert product.kept_bytes == 0


def test_graph_bytes_counts_each_tensor_once_and_views_by_their_own_size() -> None:
    data = torch.randn(1000, 10)
    w = torch.randn(10, 3, requires_grad=True)
    y = data[:50] @ w  # holds a view of the data (50 · 10 · 4 bytes) and w (10 · 3 · 4)
    held = graph_bytes([y.sum()])
    assert 50 * 10 * 4 <= held <= 50 * 10 * 4 + 10 * 3 * 4
    assert graph_bytes([y.sum(), y.sum()]) == held


def test_budgets_are_read_as_people_write_them() -> None:
    cpu = torch.device("cpu")
    assert budget("512 MiB", cpu) == 2**29
    assert budget("1.5GB", cpu) == 1_500_000_000
    assert budget(None, cpu) > 0
    for bad in ("a lot", "3 parsecs", -1, "-2GiB"):
        with pytest.raises(InputError, match="2GiB"):
            budget(bad, cpu)

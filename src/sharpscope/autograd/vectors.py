"""Inner products and lengths of long vectors, summed in float64.

A float32 sum over ten million entries is off by what it is used to decide: on a CPU torch's ``norm`` by 3e-4, a
matrix-vector product by 1.5e-2 (seen in torch 2.13), and a basis made orthonormal with them gave λ_max of a VGG-11
2e-3 too large.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpscope.autograd.sharded_vectors import ShardedVectors

_SLICE = 1 << 17
"""Entries at a time, so that their copies in float64 stay in the processor's caches."""


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of vectors or rows, in float64.

    Vectors (n,) give a scalar, a block (m, n) and a vector (m,), two blocks (m, n) and (k, n) a matrix (m, k).

    >>> long = torch.full((1 << 24,), 0.1)
    >>> round(float(dot(long, long)) / (1 << 24), 6)
    0.01
    """
    if isinstance(a, ShardedVectors) and isinstance(b, ShardedVectors):
        return a.shards.ranks.total(dot(a.own, b.own))
    rows, columns = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    sums = torch.zeros(len(rows), len(columns), dtype=torch.float64, device=a.device)
    for left, right in zip(rows.split(_SLICE, dim=1), columns.split(_SLICE, dim=1), strict=True):
        sums += left.double() @ right.double().T
    return sums.reshape((*a.shape[:-1], *b.shape[:-1]))


def norm(vector: Tensor) -> float:
    """Return ‖v‖ of a vector (n,).

    >>> norm(torch.tensor([3.0, 4.0]))
    5.0
    """
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def project_out(vectors: Tensor, basis: Tensor, times: int = 2) -> Tensor:
    """Project a vector (n,) or a block (b, n) off the rows of an orthonormal basis (m, n), twice for rounding's sake.

    >>> project_out(torch.tensor([3.0, 4.0]), torch.tensor([[1.0, 0.0]]))
    tensor([0., 4.])
    """
    for _ in range(times):
        vectors = vectors - dot(vectors, basis).to(vectors.dtype) @ basis
    return vectors


def orthonormal_rows(block: Tensor) -> Tensor:
    """Return an orthonormal basis (m, n) of what linearly independent rows (m, n) span.

    >>> orthonormal_rows(torch.tensor([[3.0, 0.0, 4.0]])).abs()
    tensor([[0.6000, 0.0000, 0.8000]])
    """
    if not isinstance(block, ShardedVectors):
        basis: Tensor = torch.linalg.qr(block.T)[0].T
        return basis.contiguous()
    for _ in range(2):  # by Cholesky's factor of their inner products, twice for rounding's sake
        factor = torch.linalg.cholesky(dot(block, block))
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(block)).to(factor), upper=False)
        block = inverse.to(block.dtype) @ block
    return block


def drawn_like(vector: Tensor, draw: Callable[[int], Tensor]) -> Tensor:
    """Return a random vector cut as another one is (n,), from ``draw(k)`` that gives its next k entries.

    >>> drawn_like(torch.zeros(3), torch.ones)
    tensor([1., 1., 1.])
    """
    if isinstance(vector, ShardedVectors):
        return ShardedVectors(vector.shards.drawn(draw), vector.shards)
    return draw(vector.numel())

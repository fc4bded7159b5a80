"""λ_max of all the data from a part of it, with an interval for what the rest may change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm
from sharpscope.curvature.eigenvalues import top_eigenvalues
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory
from sharpscope.errors import InputError
from sharpscope.estimate import CostMeter, Result
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator

BLOCKS = 20
"""Blocks of a half whose curvatures along a direction give that curvature's standard error."""


@dataclass(frozen=True)
class SampledEigenvalue(Result):
    """An estimate of λ_max over all the data, from ``samples`` of them.

    ``below`` is the curvature of one half along the other half's eigenvector (mean of both ways) with its standard
    error: in expectation at most λ_max. ``above`` is the same for the sample's own λ_max: in expectation at least
    λ_max, since the largest eigenvalue is convex in the matrix. ``value`` is the middle of the two.
    """

    value: float
    below: tuple[float, float]
    above: tuple[float, float]
    samples: int
    products: float
    seconds: float
    protocol: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""

    def __repr__(self) -> str:
        """Return one line: the value, its 95 % interval and the samples."""
        low, high = self.interval()
        return f"λ_max = {self.value:.5g} [{low:.5g}, {high:.5g}] from {self.samples} samples"

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return (low, high): ``below`` less, and ``above`` plus, its one-sided Student margin of (1 − level)/2."""
        from scipy.stats import t

        quantile = float(t.ppf(0.5 + level / 2, BLOCKS - 1))
        return self.below[0] - quantile * self.below[1], self.above[0] + quantile * self.above[1]


def lambda_max_from_sample(
    obj: Objective,
    samples: int,
    *,
    tol: float = 1e-3,
    seed: int = 0,
    memory: Memory = None,
    matrix: Matrix = "hessian",
) -> SampledEigenvalue:
    """Estimate λ_max over all the data from ``samples`` of them, drawn at random without replacement.

    For data too large for a single full product. The sample is halved. Each half's top eigenvector is evaluated on
    the other, which knows nothing of it, in 20 blocks; the sample's own top eigenvalue overestimates by fitting its
    direction to the sample. λ_max lies between the two but for sampling error; see `SampledEigenvalue`.
    A sample that lacks the few samples which carry λ_max does not know of them: where one to three outlier samples
    do, the interval held in 4 of 12 cases. Use `top_eigenvalues` where that may be.

    Raises `InputError` for a sample of fewer than 80 or more than all, and where samples interact (train mode) or
    cannot be drawn singly (`from_batch_loss`).

    Examples
    --------
    >>> x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1.0, 1.0])
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(torch.nn.Linear(3, 1, bias=False), half_square, (x, torch.zeros(4000, 1)))
    >>> low, high = lambda_max_from_sample(obj, 800).interval()
    >>> low < top_eigenvalues(obj).value < high
    True

    """
    least, total = 4 * BLOCKS, int(obj.n_samples)
    if not least <= samples <= total:
        raise InputError(
            f"samples must be between {least} and the {total} there are, received {samples}; choose within"
        )
    if obj.evaluator.chunk_size is None:
        raise InputError(
            "lambda_max_from_sample needs samples that do not interact, received an objective in train mode or made "
            "from batches; measure it whole with top_eigenvalues"
        )
    cost = CostMeter()
    order = torch.randperm(total, generator=generator("eigenvalue of a sample", seed))[:samples]
    halves = order[: samples // 2], order[samples // 2 :]
    common = {"tol": tol, "seed": seed, "memory": memory, "matrix": matrix}
    crossed, errors, products = [], [], 0.0
    for mine, other in (halves, halves[::-1]):
        found = top_eigenvalues(obj.subset(mine), **common)  # type: ignore[arg-type]
        curvatures = _in_blocks(obj, other, found.vectors[0], matrix)
        crossed.append(float(curvatures.mean()))
        errors.append(float(curvatures.std()) / math.sqrt(BLOCKS))
        products += (found.products * len(mine) + len(other)) / total
    whole = top_eigenvalues(obj.subset(order), **common)  # type: ignore[arg-type]
    along = _in_blocks(obj, order, whole.vectors[0], matrix)
    below = sum(crossed) / 2, math.hypot(*errors) / 2
    above = whole.value, float(along.std()) / math.sqrt(BLOCKS)
    return SampledEigenvalue(
        value=(below[0] + above[0]) / 2,
        below=below,
        above=above,
        samples=samples,
        products=products + (whole.products + 1) * samples / total,
        seconds=cost.seconds,
        protocol={
            "algorithm": "halves crossed",
            "matrix": matrix,
            "tol": tol,
            "samples": samples,
            "seed": seed,
        }
        | obj.protocol,
        fingerprint=obj.fingerprint,
    )


def _in_blocks(obj: Objective, indices: Tensor, direction: Tensor, matrix: Matrix) -> Tensor:
    """Return uᵀ A_b u for the blocks b that the indices are cut into (BLOCKS,)."""
    unit = direction / norm(direction)
    values = []
    for block in indices.tensor_split(BLOCKS):
        with CurvatureProducts(obj.subset(block), 0, matrix) as product:
            values.append(float(dot(unit, product(unit))))
    return torch.tensor(values, dtype=torch.float64)

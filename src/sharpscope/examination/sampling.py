"""What samples drawn at random leave open about all the data.

n of N samples are drawn without replacement and cut into blocks. Along a fixed direction v the curvature vᵀH_b v of a
block b is an unbiased estimate of vᵀHv, so that the spread over blocks gives the standard error of whatever is linear
in H: of traces, and of the mean rise of the loss. It is multiplied by √(1 − n/N), since nothing is left open where
all samples are drawn.

An eigenvalue is not linear. The largest is convex in the matrix, so that over the samples it is in expectation at
least that over all the data; and the curvature of the rest of the data along the samples' eigenvector, which knows
nothing of that rest, is part of a Rayleigh quotient uᵀHu ≤ λ_max of all the data. `sharpscope.lambda_max_from_sample`
rests on the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpscope.curvature import CurvatureProducts, Eigenpairs
from sharpscope.curvature.by_layer import layers_of
from sharpscope.objective import Objective
from sharpscope.seeding import generator

BLOCKS = 16
"""Blocks whose spread gives a standard error, of at least two samples each."""


@dataclass(frozen=True)
class Draw:
    """``samples`` of the data at random, and as many ``others`` as far as there are any, as indices (n,)."""

    obj: Objective
    samples: Tensor
    others: Tensor

    @classmethod
    def of(cls, obj: Objective, count: int, seed: int) -> Draw:
        """Draw samples of an objective."""
        order = torch.randperm(int(obj.n_samples), generator=generator("examined samples", seed))
        return cls(obj, order[:count].sort().values, order[count : 2 * count])

    def objective(self) -> Objective:
        """Return the objective over the samples."""
        return self.obj.subset(self.samples)

    def blocks(self, indices: Tensor) -> list[Objective]:
        """Return the objectives over blocks of samples; shuffled, since the samples' order may mean something."""
        shuffled = indices[torch.randperm(len(indices), generator=generator("blocks", len(indices)))]
        return [self.obj.subset(block) for block in shuffled.tensor_split(_count(indices))]

    @property
    def block_count(self) -> int:
        """How many blocks the samples are cut into."""
        return _count(self.samples)

    @property
    def correction(self) -> float:
        """√(1 − n/N)."""
        return math.sqrt(1 - len(self.samples) / self.obj.n_samples)

    # -- eigenvalues ---------------------------------------------------------------------------------

    def of_ends(self, pairs: Eigenpairs) -> list[tuple[float, float]]:
        """Return 95 % intervals over all the data for the largest and the smallest eigenvalue over the samples."""
        half = len(pairs.values) // 2
        vectors = pairs.vectors[[0, half]]
        inside = _curvatures(self.blocks(self.samples), vectors)  # (blocks, 2)
        n, total = len(self.samples), self.obj.n_samples
        outside = _curvatures(self.blocks(self.others), vectors) if len(self.others) > 3 else None
        ends = []
        for i, (sign, at) in enumerate(((1.0, 0), (-1.0, half))):
            value, error = float(pairs.values[at]), float(pairs.error_estimates[at])
            outer = sign * value + error + _margin(inside[:, i]) * self.correction
            if outside is None:  # few are left out, all of them with a curvature that is not known
                inner = sign * value - error - _margin(inside[:, i]) * self.correction
            else:
                left = 1 - len(self.others) / (total - n)
                seen = sign * float(outside[:, i].mean()) - _margin(outside[:, i]) * math.sqrt(left)
                inner = (n * (sign * value - error) + (total - n) * seen) / total
            ends.append((inner, outer) if sign > 0 else (-outer, -inner))
        return ends

    # -- sums ----------------------------------------------------------------------------------------

    def of_traces(self, probes: int, seed: int) -> tuple[float, list[float]]:
        """Return standard errors, for the choice of samples alone, of the trace and of every layer's."""
        z = torch.stack([self.obj.layout.signs(generator("sampling", seed, i)) for i in range(probes)]).to(
            self.obj.device, self.obj.dtype
        )  # (probes, size)
        layers = list(layers_of(self.obj).values())
        drawn = torch.zeros(
            len(blocks := self.blocks(self.samples)), probes, len(layers), dtype=torch.float64
        )
        for b, block in enumerate(blocks):
            with CurvatureProducts(block, 0) as product:
                for i, (row, image) in enumerate(zip(z, product(z), strict=True)):
                    parts = self.obj.layout.split((row * image).double())
                    drawn[b, i] = torch.tensor(
                        [sum(float(parts[n].sum()) for n in names) for names in layers]
                    )
        spread = drawn.var(0).mean(0).div(len(blocks)).sqrt() * self.correction  # (layers,)
        whole = drawn.sum(2).var(0).mean().div(len(blocks)).sqrt() * self.correction
        return float(whole), spread.tolist()

    def of_rises(self, steps: Sequence[Tensor]) -> float:
        """Return the standard error, for the choice of samples alone, of the mean rise over steps ± (size,)."""
        centre, drawn = self.obj.flat(), []
        for block in self.blocks(self.samples):
            base = block.loss()
            drawn.append(
                [(block.loss(centre + s) + block.loss(centre - s)) / 2 - base for s in steps]
            )  # (blocks, steps)
        values = torch.tensor(drawn, dtype=torch.float64)
        return float(values.var(0).mean().div(len(values)).sqrt()) * self.correction

    def of_loss(self) -> float:
        """Return the standard error of the mean loss, for the choice of samples."""
        values = torch.tensor([block.loss() for block in self.blocks(self.samples)], dtype=torch.float64)
        return float(values.std() / math.sqrt(len(values))) * self.correction


def _count(indices: Tensor) -> int:
    return max(min(BLOCKS, len(indices) // 2), 2)


def _curvatures(blocks: Sequence[Objective], vectors: Tensor) -> Tensor:
    """Return vᵀH_b v (blocks, k) for rows v (k, size) of length one."""
    rows = []
    for block in blocks:
        with CurvatureProducts(block, 0) as product:
            rows.append((vectors.double() * product(vectors).double()).sum(1).cpu())
    return torch.stack(rows)


def _margin(values: Tensor) -> float:
    """Return half of a 95 % interval of the mean of independent values (m,)."""
    return student(len(values) - 1) * float(values.std() / math.sqrt(len(values)))


def student(freedom: int) -> float:
    """Return the quantile of Student's t for a 95 % interval."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))

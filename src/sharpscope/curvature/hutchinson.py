"""Trace and Frobenius norm of the Hessian by random probes, the leading part of the spectrum taken out first.

With Rademacher probes z (independent signs, E zzᵀ = I): E zᵀHz = tr H and E ‖Hz‖² = tr H² = ‖H‖_F²
(Hutchinson 1990). A few large eigenvalues make both noisy, so for an orthonormal U with known images HU and
P = I − UUᵀ only the rest is left to chance (as in Hutch++, Meyer et al. 2021):

    tr H    = tr UᵀHU + tr PHP
    ‖H‖_F²  = 2‖HU‖_F² − ‖UᵀHU‖_F² + ‖PHP‖_F²

Both hold for any U. It is taken from a subset of the data, whose leading eigenvectors cost next to nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from copy import copy

import numpy as np
import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot, orthonormal_rows, project_out
from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.curvature.lanczos import lanczos
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.objective.importance_sampling import draw
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator, seed_of

TINY = float(np.finfo(np.float64).tiny)

BLOCK = 8
"""Probes taken together; also how often the stopping rule is looked at."""

FEWEST = 16
"""Probes before the stopping rule may hold."""

HOPELESS = 4
"""Where the spread after the fewest probes asks for more than this many times the most that are allowed, the probes
end: the relative error is out of reach, as for the trace of an indefinite Hessian near zero."""

TYPICAL = 50
"""Probes that a trained network's trace takes to 5 %, told before the spread is known."""

DEFLATE = 10
"""Directions taken out by default."""


def trace(
    obj: Objective,
    *,
    rtol: float = 0.05,
    samples: int | None = None,
    max_samples: int = 400,
    deflate: int | None = None,
    memory: Memory = None,
    matrix: Matrix = "hessian",
    seed: int = 0,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Estimate:
    """Estimate tr ∇²L(θ), the sum of all Hessian eigenvalues.

    Parameters
    ----------
    rtol, samples, max_samples
        Probes are drawn until the standard error is at most ``rtol`` · |value| (at least 16, at most
        ``max_samples``), or exactly ``samples`` of them. Probe i depends on ``seed`` and i alone.
    deflate
        Directions taken out first, one product each; by default 10, or none for data too small for a subset.
    memory
        Budget for kept first-order graphs, as for `top_eigenvalues`.
    matrix
        ``"hessian"``, or ``"ggn"`` for the Gauss-Newton matrix, as for `top_eigenvalues`.
    deadline, progress, on_interrupt
        As for `top_eigenvalues`: what is returned early has the standard error of the probes so far.

    Raises
    ------
    InputError
        For a non-positive ``rtol``, fewer than 2 samples, a negative ``deflate``, or a deadline that passes before
        two probes are done.

    Warns
    -----
    NotConvergedWarning
        When ``max_samples``, the deadline or an interrupt is reached first.

    """
    value, stderr, count, cost, converged, rank = _probe(
        obj,
        lambda u, hu: float((u.double() * hu.double()).sum()),
        lambda z, hz: float(dot(z, hz)),
        1.0, rtol, samples, max_samples, deflate, memory, matrix, seed,
        CallLimits("trace", obj, deadline, progress, on_interrupt),
    )  # fmt: skip
    return Estimate(
        "trace",
        value,
        stderr=stderr,
        samples=count,
        converged=converged,
        cost=cost,
        protocol=_protocol(obj, rtol, samples, rank, matrix, seed),
        fingerprint=obj.fingerprint,
    )


def frobenius_norm(
    obj: Objective,
    *,
    rtol: float = 0.05,
    samples: int | None = None,
    max_samples: int = 400,
    deflate: int | None = None,
    memory: Memory = None,
    matrix: Matrix = "hessian",
    seed: int = 0,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Estimate:
    """Estimate ‖∇²L(θ)‖_F = √(Σ λ²), the root of the sum of squared Hessian eigenvalues.

    The standard error follows from that of the square by the delta method, se(q)/(2√q). Parameters, errors and
    warnings as for `trace`.
    """
    square, stderr, count, cost, converged, rank = _probe(
        obj,
        lambda u, hu: 2 * float(hu.double().square().sum()) - float(dot(u, hu).square().sum()),
        lambda z, hz: float(dot(hz, hz)),
        0.5, rtol, samples, max_samples, deflate, memory, matrix, seed,
        CallLimits("frobenius_norm", obj, deadline, progress, on_interrupt),
    )  # fmt: skip
    value = math.sqrt(max(square, 0.0))
    return Estimate(
        "frobenius_norm",
        value,
        stderr=stderr / (2 * value) if value else 0.0,
        samples=count,
        converged=converged,
        cost=cost,
        protocol=_protocol(obj, rtol, samples, rank, matrix, seed),
        fingerprint=obj.fingerprint,
    )


def _probe(
    obj: Objective,
    of_known: Callable[[Tensor, Tensor], float],
    of_probe: Callable[[Tensor, Tensor], float],
    power: float,
    rtol: float,
    samples: int | None,
    max_samples: int,
    deflate: int | None,
    memory: Memory,
    matrix: Matrix,
    seed: int,
    limits: CallLimits,
) -> tuple[float, float, int, dict[str, float], bool, int]:
    """Return the sum, its standard error, the draws behind it, cost, convergence and how many directions U has.

    ``of_known`` takes (U, HU), ``of_probe`` (Pz, PHPz); ``power`` relates the sum's relative error to the value's.

    Stopping as soon as the draws' spread looks small would make intervals too short: on spectra like a network's,
    92 % of them held instead of 95 %. So the spread is the largest that was seen after any block.
    """
    _check(rtol, samples, max_samples, deflate)
    obj = limits.over
    cost = CostMeter(obj)
    limit = samples if samples is not None else max_samples
    rank = DEFLATE if deflate is None else deflate
    limits.expected = float(rank + (limit if samples is not None else TYPICAL))
    draws: list[float] = []
    u = obj.layout.zeros(0, dtype=obj.dtype, device=obj.device)
    known, mean, error, widest, needed, converged = 0.0, 0.0, math.inf, 0.0, 0.0, False
    with CurvatureProducts(obj, memory, matrix) as product, limits.until_it_ends():
        u = _directions(obj, rank, deflate is not None, matrix, seed)  # (m, size)
        limits.in_one = max(len(u), 1)
        known = of_known(u, product(u)) if len(u) else 0.0
        limits.count(len(u))
        while len(draws) < limit and not converged:
            count = min(BLOCK, limit - len(draws))
            block = torch.stack(
                [_rademacher(obj, seed, len(draws) + i) for i in range(count)]
            )  # (count, size)
            block = project_out(block, u, times=1)
            limits.in_one = count
            images = product(block)
            images = project_out(images, u, times=1)
            draws += [of_probe(z, hz) for z, hz in zip(block, images, strict=True)]
            mean, spread = _mean_and_spread(draws)
            widest = max(widest, spread) if samples is None else spread
            error = widest / math.sqrt(len(draws))
            enough = samples is None and len(draws) >= FEWEST
            converged = enough and error * power <= rtol * abs(known + mean)
            needed = (widest * power) ** 2 / max((rtol * abs(known + mean)) ** 2, TINY)
            if samples is None:
                limits.expected = len(u) + min(max(needed, FEWEST), limit)
            limits.count(count, f"{known + mean:.4g} ± {error:.1g}")
            limits.check()
            if enough and not converged and needed > HOPELESS * limit:
                break
    if limits.ended and len(draws) < 2:
        raise InputError(
            f"{limits.call} must be given time for at least two probes, here {limits.ended}; raise the deadline, or "
            "measure fewer samples"
        )
    whole = len(draws) == limit or not limits.ended
    converged = converged or (samples is not None and whole)
    if not converged:
        ended = (
            f"{limits.ended} after"
            if limits.ended
            else f"the relative standard error did not reach {rtol=:g} in"
        )
        remedy = "raise the deadline" if limits.ended else _remedy(needed, limit)
        warnings.warn(
            f"{ended} {len(draws)} probes"
            + (f", and would take about {min(needed, 1e12):.2g}" if samples is None else "")
            + f"; {remedy}",
            NotConvergedWarning,
            stacklevel=3,
        )
    return known + mean, error, len(draws), cost.total(), converged, len(u)


def _remedy(needed: float, limit: int) -> str:
    if needed <= HOPELESS * limit:
        return "raise max_samples"
    return (
        "positive and negative eigenvalues cancel: set samples= for the standard error that they give, "
        "or a looser rtol"
    )


def _mean_and_spread(draws: list[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation."""
    rest = Estimate.of_samples("", draws, {}, {}, "")
    assert rest.stderr is not None
    return rest.value, rest.stderr * math.sqrt(len(draws))


def _directions(obj: Objective, rank: int, asked: bool, matrix: Matrix, seed: int) -> Tensor:
    """Return orthonormal directions (m, size) of large curvature of either sign, from a subset of the data."""
    none = obj.layout.zeros(0, dtype=obj.dtype, device=obj.device)
    if rank == 0:
        return none
    part = draw(obj, seed_of("deflate", seed))
    if part is None:
        if not asked:
            return none
        part = copy(obj)  # a cost of its own, counted below
    draws = generator("deflate", seed)

    def gaussian() -> Tensor:
        return obj.layout.normal(draws, torch.float64).to(obj.device, obj.dtype)

    with CurvatureProducts(part, matrix=matrix) as product:
        krylov = lanczos(product, gaussian(), 2 * rank + 5, gaussian)
    values, vectors, _ = krylov.ritz()
    order = np.argsort(-np.abs(values))[: min(rank, len(values))]
    chosen = torch.as_tensor(vectors[:, order].T.copy(), dtype=obj.dtype, device=obj.device)
    return orthonormal_rows(chosen @ krylov.basis)


def _check(rtol: float, samples: int | None, max_samples: int, deflate: int | None) -> None:
    if samples is not None and samples < 2:
        raise InputError(f"samples must be at least 2 for a standard error, received {samples}; raise it")
    if not (math.isfinite(rtol) and rtol > 0):
        raise InputError(f"rtol must be a positive relative error, received {rtol}; for example 0.05")
    if max_samples < 2:
        raise InputError(f"max_samples must be at least 2, received {max_samples}; raise it")
    if deflate is not None and deflate < 0:
        raise InputError(f"deflate must not be negative, received {deflate}; 0 takes nothing out")


def _rademacher(obj: Objective, seed: int, index: int) -> Tensor:
    return obj.layout.signs(generator("hutchinson", seed, index)).to(obj.device, obj.dtype)


def _protocol(
    obj: Objective, rtol: float, samples: int | None, rank: int, matrix: Matrix, seed: int
) -> dict[str, object]:
    stopping = {"rtol": rtol} if samples is None else {"samples": samples}
    how = {"algorithm": "hutchinson, rademacher", "matrix": matrix, **stopping, "deflated": rank}
    return {**how, "seed": seed, **obj.protocol}

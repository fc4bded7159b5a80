"""Random probes of the Hessian, the leading part of the spectrum taken out first, and the sums that they estimate.

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
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot, orthonormal_rows, project_out
from sharpscope.curvature.by_layer import LayerTraces, layers_of
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


@dataclass(frozen=True)
class Sums:
    """Sums over the spectrum: what U gives, as a function of (U, HU), and a probe, as one of (Pz, HPz, PHPz).

    ``power`` relates a sum's relative error to the value's.
    """

    of_known: Callable[[Tensor, Tensor], list[float]]
    of_probe: Callable[[Tensor, Tensor, Tensor], list[float]]
    power: float = 1.0


TRACE = Sums(
    lambda u, hu: [float((u.double() * hu.double()).sum())],
    lambda z, hz, phz: [float(dot(z, phz))],
)
SQUARES = Sums(
    lambda u, hu: [2 * float(hu.double().square().sum()) - float(dot(u, hu).square().sum())],
    lambda z, hz, phz: [float(dot(phz, phz))],
    0.5,
)


@dataclass
class ProbedSums:
    """Sums with the standard errors of those that were watched, and the draws (probes, sums) behind them."""

    values: list[float]
    errors: list[float]
    draws: list[list[float]]
    cost: dict[str, float]
    converged: list[bool]
    rank: int

    def trace(self, which: int, protocol: dict[str, object], fingerprint: str) -> Estimate:
        """Return a sum as it is."""
        value, stderr, converged = self.values[which], self.errors[which], self.converged[which]
        return Estimate(
            "trace", value, stderr, None, len(self.draws), converged, self.cost, protocol, fingerprint
        )

    def norm(self, which: int, protocol: dict[str, object], fingerprint: str) -> Estimate:
        """Return the root of a sum of squares, its error by the delta method."""
        value, converged = math.sqrt(max(self.values[which], 0.0)), self.converged[which]
        stderr = self.errors[which] / (2 * value) if value else 0.0
        return Estimate(
            "frobenius_norm",
            value,
            stderr,
            None,
            len(self.draws),
            converged,
            self.cost,
            protocol,
            fingerprint,
        )


def run_probes(
    obj: Objective,
    sums: Sequence[Sums],
    rtols: Sequence[float],
    samples: int | None,
    max_samples: int,
    directions: Directions,
    memory: Memory,
    matrix: Matrix,
    seed: int,
    limits: CallLimits,
) -> ProbedSums:
    """Return sums over the spectrum; the first ones are watched until they have the relative errors ``rtols``.

    Stopping as soon as the draws' spread looks small would make intervals too short: on spectra like a network's,
    92 % of them held instead of 95 %. So the spread is the largest that was seen after any block.
    """
    for rtol in rtols:
        _check(rtol, samples, max_samples, directions.rank)
    obj = limits.over
    cost = CostMeter(obj)
    limit = samples if samples is not None else max_samples
    limits.expected = float(directions.most + (limit if samples is not None else TYPICAL))
    watched = [_Watched(one.power, rtol) for one, rtol in zip(sums, rtols, strict=False)]
    draws: list[list[float]] = []
    u = obj.layout.zeros(0, dtype=obj.dtype, device=obj.device)
    known = [0.0] * len(watched)
    enough = False
    with CurvatureProducts(obj, memory, matrix) as product, limits.until_it_ends():
        u = directions.of(obj)  # (m, size)
        limits.in_one = max(len(u), 1)
        hu = product(u) if len(u) else u
        known = [value for one in sums for value in one.of_known(u, hu)]
        del hu
        limits.count(len(u))
        while len(draws) < limit and not enough:
            count = min(BLOCK, limit - len(draws))
            block = torch.stack(
                [_rademacher(obj, seed, len(draws) + i) for i in range(count)]
            )  # (count, size)
            block = project_out(block, u, times=1)
            limits.in_one = count
            for z, hz in zip(block, product(block), strict=True):
                phz = project_out(hz[None], u, times=1)[0]
                draws.append([value for one in sums for value in one.of_probe(z, hz, phz)])
            for i, one in enumerate(watched):
                one.look([draw[i] for draw in draws], known[i], samples is None)
            within = [one.needed for one in watched if one.needed <= HOPELESS * limit]
            if samples is None and len(draws) >= FEWEST:
                enough = all(one.reached for one in watched if one.needed <= HOPELESS * limit)
            if samples is None:
                limits.expected = len(u) + min(max([*within, FEWEST]), limit)
            limits.count(count, f"{watched[0].value:.4g} ± {watched[0].error:.1g}")
            limits.check()
    if limits.ended and len(draws) < 2:
        raise InputError(
            f"{limits.call} must be given time for at least two probes, here {limits.ended}; raise the deadline, or "
            "measure fewer samples"
        )
    whole = samples is not None and (len(draws) == limit or not limits.ended)
    missed = [one for one in watched if not (whole or (one.reached and len(draws) >= FEWEST))]
    if missed:
        needed = max(one.needed for one in missed)
        ended = (
            f"{limits.ended} after"
            if limits.ended
            else f"the relative standard error did not reach rtol={missed[0].rtol:g} in"
        )
        remedy = "raise the deadline" if limits.ended else _remedy(needed, limit)
        warnings.warn(
            f"{ended} {len(draws)} probes"
            + (f", and would take about {min(needed, 1e12):.2g}" if samples is None else "")
            + f"; {remedy}",
            NotConvergedWarning,
            stacklevel=3,
        )
    means = [_mean_and_spread(column)[0] for column in zip(*draws, strict=True)]
    return ProbedSums(
        [a + b for a, b in zip(known, means, strict=True)],
        [one.error for one in watched],
        draws,
        cost.total(),
        [one not in missed for one in watched],
        len(u),
    )


@dataclass(eq=False)
class _Watched:
    """A sum whose relative error the probes are drawn for."""

    power: float
    rtol: float
    widest: float = 0.0
    value: float = 0.0
    error: float = math.inf
    needed: float = 0.0
    reached: bool = False

    def look(self, draws: Sequence[float], known: float, stops: bool) -> None:
        """Take in the draws so far; ``stops`` says whether the probes end by what is seen."""
        mean, spread = _mean_and_spread(draws)
        self.widest = max(self.widest, spread) if stops else spread
        self.value, self.error = known + mean, self.widest / math.sqrt(len(draws))
        allowed = self.rtol * abs(self.value)
        self.reached = self.error * self.power <= allowed
        self.needed = (self.widest * self.power) ** 2 / max(allowed**2, TINY)


def _remedy(needed: float, limit: int) -> str:
    if needed <= HOPELESS * limit:
        return "raise max_samples"
    return (
        "positive and negative eigenvalues cancel: set samples= for the standard error that they give, "
        "or a looser rtol"
    )


def _mean_and_spread(draws: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation."""
    rest = Estimate.of_samples("", draws, {}, {}, "")
    assert rest.stderr is not None
    return rest.value, rest.stderr * math.sqrt(len(draws))


@dataclass(frozen=True)
class Directions:
    """Which orthonormal directions (m, size) are taken out: given ones, or of large curvature of either sign."""

    rank: int | None
    matrix: Matrix
    seed: int
    given: Tensor | None = None

    @property
    def most(self) -> int:
        """How many there are at most."""
        return len(self.given) if self.given is not None else DEFLATE if self.rank is None else self.rank

    def of(self, obj: Objective) -> Tensor:
        """Return them (m, size); those that are not given come from a subset of the data."""
        if self.given is not None:
            return self.given.to(obj.device, obj.dtype)
        none = obj.layout.zeros(0, dtype=obj.dtype, device=obj.device)
        if self.most == 0:
            return none
        part = draw(obj, seed_of("deflate", self.seed))
        if part is None:
            if self.rank is None:
                return none
            part = copy(obj)  # a cost of its own, counted below
        draws = generator("deflate", self.seed)

        def gaussian() -> Tensor:
            return obj.layout.normal(draws, torch.float64).to(obj.device, obj.dtype)

        with CurvatureProducts(part, matrix=self.matrix) as product:
            krylov = lanczos(product, gaussian(), 2 * self.most + 5, gaussian)
        values, vectors, _ = krylov.ritz()
        order = np.argsort(-np.abs(values))[: min(self.most, len(values))]
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


def protocol_of(
    obj: Objective, rtol: float, samples: int | None, rank: int, matrix: Matrix, seed: int
) -> dict[str, object]:
    """Return what defines an estimate by probes."""
    stopping = {"rtol": rtol} if samples is None else {"samples": samples}
    how = {"algorithm": "hutchinson, rademacher", "matrix": matrix, **stopping, "deflated": rank}
    return {**how, "seed": seed, **obj.protocol}


@dataclass(frozen=True)
class Probed:
    """What the same probes say of tr H, ‖H‖_F and the traces of the layers' blocks."""

    trace: Estimate
    frobenius_norm: Estimate
    by_layer: LayerTraces


def probe(
    obj: Objective,
    *,
    rtol: float = 0.05,
    frobenius_rtol: float = 0.05,
    max_samples: int = 400,
    directions: Tensor | None = None,
    memory: Memory = None,
    seed: int = 0,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Probed:
    """Estimate tr H, ‖H‖_F and the trace of every layer's diagonal block, all from the same products.

    With E_ℓ the projection on a layer's parameters the identity of the trace holds for E_ℓH too:
    tr H_ℓℓ = tr UᵀE_ℓHU + tr PE_ℓHP.

    Parameters
    ----------
    rtol, frobenius_rtol
        Relative standard errors of the trace and of the norm at which the probes end.
    directions
        Orthonormal rows (m, size) to take out first, such as known eigenvectors; by default those of `trace`.

    The other parameters, errors and warnings are those of `trace`.

    """
    layers = layers_of(obj)

    def each(a: Tensor, b: Tensor) -> list[float]:
        """Return the layers' parts of the inner products of the rows of two blocks (k, size)."""
        rows = [
            {name: float(part.sum()) for name, part in obj.layout.split(x.double() * y.double()).items()}
            for x, y in zip(a, b, strict=True)
        ]
        return [math.fsum(row[name] for row in rows for name in names) for names in layers.values()]

    limits = CallLimits("probe", obj, deadline, progress, on_interrupt)
    parts = Sums(each, lambda z, hz, phz: each(z[None], hz[None]))
    found = run_probes(
        obj, [TRACE, SQUARES, parts], [rtol, frobenius_rtol], None, max_samples,
        Directions(None, "hessian", seed, directions), memory, "hessian", seed, limits,
    )  # fmt: skip
    spreads = [_mean_and_spread(draws)[1] for draws in zip(*found.draws, strict=True)]
    sizes = obj.layout.split(obj.flat())
    return Probed(
        found.trace(0, protocol_of(obj, rtol, None, found.rank, "hessian", seed), obj.fingerprint),
        found.norm(1, protocol_of(obj, frobenius_rtol, None, found.rank, "hessian", seed), obj.fingerprint),
        LayerTraces(
            tuple(layers),
            tuple(sum(sizes[name].numel() for name in names) for names in layers.values()),
            np.array(found.values[2:]),
            np.array(spreads[2:]) / math.sqrt(len(found.draws)),
            len(found.draws),
        ),
    )

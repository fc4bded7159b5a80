"""Extreme eigenvalues of the Hessian, with residuals, error estimates and the products they cost."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.autograd.vectors import dot
from sharpscope.curvature.davidson.secant_update import SecantUpdate
from sharpscope.curvature.davidson.solver import SMALL, Operator, Pairs, Settings, Subsets, davidson
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory, budget
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.objective.importance_sampling import draw, importance_scores, part_size
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator, seed_of

LOOSEST = 2e-3
"""A looser tolerance is not worked to: below this, a pair of close eigenvalues is rarely told apart."""

SOLVE, BEGIN, LOOK = 0.1, 0.25, 0.5
"""Share of the data that corrections are solved on, and shares of that on which leading vectors are first sought and
for the second look."""

SOLVE_REBUILT = 0.04
"""Share that corrections are solved on where their graphs are rebuilt every time: a product then costs half as much
again, and thirty of a tenth would cost more than all products of the whole data."""

GRAPH = 3.0
"""A first-order graph holds two to three times what the forward pass holds (VGG-11 2.8, ResNet-56 2.0)."""

ROOM = (0.45, 0.2, 0.05)
"""Most of the budget that graphs of the parts to solve on, to look at and to begin with may take: they are multiplied
ten times for every product of all the data, which gets the rest."""

GUIDED, UNGUIDED = "block davidson, subset-preconditioned", "block lanczos, since subsets disagree"

Which = Literal["largest", "smallest", "magnitude", "both"]


@dataclass(frozen=True)
class Eigenpairs:
    """The k eigenpairs asked for, the outermost first; 2k of them for both ends.

    Attributes
    ----------
    values
        Eigenvalues (k): Ritz values plus what the correction equation says is missing of each.
    vectors
        Orthonormal Ritz vectors (k, size).
    residuals
        ‖H v − θ v‖ (k), θ = vᵀHv the Ritz value: some eigenvalue lies within this distance of it.
    error_estimates
        Estimates of the values' errors (k): twice what the last correction equation added, more where earlier rounds
        rose by more than was promised; or, where two subsets predict what is missing, at least three times their
        difference and a quarter of the prediction, more where the next eigenvalue is near for the subset's noise.
        Where the subsets disagree: Kato and Temple's ‖R‖²/gap, R the residuals of the wanted pairs and the gap that
        to the next Ritz value plus its residual. Never more than the residual, never claimed to be below 0.3 tol.
    converged
        Whether the error estimate is at most ``tol`` · |value| (k), after a second look at what may be missing.
    products
        Full-data Hessian-vector products spent.

    """

    values: NDArray[np.float64]
    vectors: Tensor
    residuals: NDArray[np.float64]
    error_estimates: NDArray[np.float64]
    converged: NDArray[np.bool_]
    products: int
    seconds: float
    protocol: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""
    importance_scores: Tensor | None = field(default=None, repr=False, compare=False)
    secant_updates: Mapping[float, SecantUpdate] = field(default_factory=dict, repr=False, compare=False)

    @property
    def value(self) -> float:
        """The outermost eigenvalue."""
        return float(self.values[0])

    @property
    def stderr(self) -> None:
        """None: the estimate is deterministic given its start vector; see ``error_estimates``."""
        return None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the outermost eigenvalue ± its error estimate, whatever the level."""
        return (self.value - float(self.error_estimates[0]), self.value + float(self.error_estimates[0]))


def top_eigenvalues(
    obj: Objective,
    k: int = 1,
    which: Which = "largest",
    tol: float = 1e-3,
    seed: int = 0,
    *,
    max_products: int = 200,
    start: Tensor | Eigenpairs | None = None,
    memory: Memory = None,
    matrix: Matrix = "hessian",
) -> Eigenpairs:
    """Return the k extreme eigenvalues of the Hessian ∇²L(θ) and their eigenvectors.

    ``largest`` means algebraically largest, so λ_max is never a large negative eigenvalue; ``smallest`` the
    other end; ``magnitude`` the largest |λ|, of which the first is the spectral norm; ``both`` k at each end, the
    largest first, then the smallest.

    Parameters
    ----------
    tol
        Error at which an eigenvalue counts as converged, relative to it, or to a thousandth of the Hessian's norm
        where it is smaller than that.
    max_products
        Hessian-vector products after which no further round begins; an answer cut short is flagged and warned about.
    start
        An earlier checkpoint's result, or vectors (size,) or (b, size), to start from. A result also tells which
        samples its subset was drawn from with which probabilities, so that the same are drawn again, and how they
        departed from all the data: with it the next search mostly takes one or two products.
    memory
        Budget for kept first-order graphs: bytes, "2GiB", or None for half of what is free. Where a tenth of the
        data does not fit into a given budget, corrections are solved on a twenty-fifth.
    matrix
        ``"hessian"``, or ``"ggn"``: the generalised Gauss-Newton matrix (1/N) Σ Jᵀ (∂²ℓ/∂f²) J, f the model's
        outputs (Schraudolph 2002), which equals the Hessian where the model is linear and has no negative eigenvalue
        where the loss is convex in f.

    Raises
    ------
    InputError
        For k outside [1, size], a tolerance outside (0, 1) or an unknown ``which``.

    Notes
    -----
    Block Davidson, preconditioned by the Hessian on a random subset of the data (`sharpscope.curvature.davidson`), in
    which samples of large gradient or curvature are likelier and count for less (`importance_scores`).
    A value is its Ritz value plus what the correction equation says is still missing. A residual proves that *some*
    eigenvalue lies within it of the Ritz value; that no larger one was missed is a statistical statement, which two
    subsets support: one starts the search, the other is searched at the end for directions left out. Where a second
    subset or all the data does not confirm the first, the search is plain block Lanczos (``protocol`` says so): then
    what supports it is the random part that it began with.

    Examples
    --------
    >>> import torch
    >>> from sharpscope.objective.objective import Objective
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> e = top_eigenvalues(Objective(model, half_square, (x, torch.zeros(2, 1))), k=2)
    >>> [round(v, 6) for v in e.values.tolist()]
    [3.0, 1.0]

    """
    if not 1 <= k <= obj.size:
        raise InputError(
            f"k must be between 1 and the number of parameters {obj.size}, received {k}; lower it"
        )
    if not 0 < tol < 1:
        raise InputError(f"tol must lie in (0, 1), received {tol}; it is a relative error such as 1e-3")
    if which not in get_args(Which):
        raise InputError(f"which must be one of {', '.join(get_args(Which))}, received {which!r}; choose one")
    if max_products < k:
        raise InputError(f"max_products must be at least k = {k}, received {max_products}; raise it")
    began, before = time.perf_counter(), obj.cost.products
    draws = generator("eigenvalues", seed)

    def gaussian() -> Tensor:
        return torch.randn(obj.size, generator=draws, dtype=torch.float64).to(obj.device, obj.dtype)

    sign = -1.0 if which == "smallest" else 1.0
    first = torch.zeros(0, obj.size, dtype=obj.dtype, device=obj.device)
    earlier: Mapping[float, SecantUpdate] = {}
    by: Tensor | None = None  # what subsets are drawn by
    if start is not None:
        vectors = start.vectors if isinstance(start, Eigenpairs) else start
        if vectors.numel() == 0 or vectors.shape[-1] != obj.size:
            raise InputError(
                f"start must hold vectors of {obj.size} entries, one for each parameter, received the shape "
                f"{tuple(vectors.shape)}; give an earlier result of this model"
            )
        first = vectors.to(obj.device, obj.dtype).reshape(-1, obj.size)
        if isinstance(start, Eigenpairs):
            earlier, by = start.secant_updates, start.importance_scores
            if by is not None and len(by) != obj.n_samples:
                by = None
    ends = [1.0, -1.0] if which in ("magnitude", "both") else [sign]
    with ExitStack() as stack:
        room = budget(memory, obj.device)
        # by a given budget only: what is free now and then must not decide which samples are drawn
        short = memory is not None and ROOM[0] * room < _graphs_of(obj, SOLVE) < math.inf
        share = SOLVE_REBUILT if short else SOLVE
        if by is None and part_size(obj, share) is not None:
            by = importance_scores(obj)

        def part(number: int, share: float) -> Objective | None:
            return draw(obj, seed_of("part", seed, number), share, scores=by)

        few, some = part(0, BEGIN * share), part(0, share)
        if few is not None and some is not None and 2 * few.evaluator.evaluated > some.evaluator.evaluated:
            few = None  # no saving
        parts = some, part(1, LOOK * share), few
        given = [
            0 if one is None else int(min(most * room, _graphs_of(one)))
            for one, most in zip(parts, ROOM, strict=True)
        ]
        full = stack.enter_context(CurvatureProducts(obj, room - sum(given), matrix))
        solve, look, begin = (
            full if one is None else stack.enter_context(CurvatureProducts(one, size, matrix))
            for one, size in zip(parts, given, strict=True)
        )
        if few is None:
            begin = solve
        settings = Settings(
            k, min(tol, LOOSEST), max_products, inner=3 if solve is full else 12, observe=start is not None
        )
        found: list[Pairs] = []
        for end in ends:
            signed = {id(op): _signed(op, end) for op in (full, begin, solve, look)}
            of_begin, of_solve, of_look = (signed[id(op)] for op in (begin, solve, look))
            subsets = Subsets(of_begin, of_solve, of_look, none=solve is full)
            at_start = obj.cost.products

            def spent_here(at_start: int = at_start) -> int:
                return obj.cost.products - at_start

            found.append(
                davidson(signed[id(full)], subsets, first, settings, gaussian, spent_here, earlier.get(end))
            )
    values = np.concatenate([end * p.values for end, p in zip(ends, found, strict=True)])
    vectors = torch.cat([p.vectors for p in found])  # (k or 2k, size)
    residuals, errors = (
        np.concatenate([getattr(p, name) for p in found]) for name in ("residuals", "errors")
    )
    if which == "magnitude":  # where the two ends meet, a pair found from both counts once
        twice = dot(vectors[k:], vectors[:k]).square().sum(1).cpu().numpy() > 0.5
        values = np.where(np.concatenate([np.zeros(k, dtype=bool), twice]), 0.0, values)
        order = np.argsort(-np.abs(values), kind="stable")[:k]
    else:
        order = np.arange(len(values))
    values, residuals, errors = values[order], residuals[order], errors[order]
    vectors = vectors[torch.as_tensor(order)]
    converged = errors <= tol * np.maximum(np.abs(values), SMALL * max(p.norm for p in found))
    spent = obj.cost.products - before
    if not converged.all():
        warnings.warn(
            f"{int((~converged).sum())} of {len(values)} eigenvalues did not reach tol={tol:g} in {spent} products "
            f"(largest error estimate {errors.max():.3g}); raise max_products",
            NotConvergedWarning,
            stacklevel=2,
        )
    return Eigenpairs(
        values=values,
        vectors=vectors,
        residuals=residuals,
        error_estimates=errors,
        converged=converged,
        products=spent,
        seconds=time.perf_counter() - began,
        protocol={
            "algorithm": GUIDED if all(p.aided for p in found) else UNGUIDED,
            "matrix": matrix,
            "which": which,
            "k": k,
            "tol": tol,
            "seed": seed,
            "subsets": "uniform" if by is None else "by influence",
            **({} if share == SOLVE else {"solve_share": share}),
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
        importance_scores=by if all(p.aided for p in found) else None,
        secant_updates={
            end: p.departure for end, p in zip(ends, found, strict=True) if p.departure is not None
        },
    )


def _graphs_of(obj: Objective, share: float = 1.0) -> float:
    """Return the bytes that graphs of a share of an objective's data may take, infinitely many if not known."""
    if obj.evaluator.held_per_sample is None:
        return math.inf
    return GRAPH * obj.evaluator.held_per_sample * share * obj.evaluator.evaluated


def _signed(operator: Operator, sign: float) -> Operator:
    return operator if sign > 0 else lambda v: -operator(v)

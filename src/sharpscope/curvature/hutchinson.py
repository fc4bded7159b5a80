"""Trace and Frobenius norm of the Hessian by random probes; see `sharpscope.curvature.probes`."""

from __future__ import annotations

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.curvature.operators import Matrix, Memory
from sharpscope.curvature.probes import SQUARES, TRACE, Directions, protocol_of, run_probes
from sharpscope.estimate import Estimate
from sharpscope.objective.objective import Objective


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
    limits = CallLimits("trace", obj, deadline, progress, on_interrupt)
    directions = Directions(deflate, matrix, seed)
    found = run_probes(obj, [TRACE], [rtol], samples, max_samples, directions, memory, matrix, seed, limits)
    return found.trace(0, protocol_of(obj, rtol, samples, found.rank, matrix, seed), obj.fingerprint)


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
    limits = CallLimits("frobenius_norm", obj, deadline, progress, on_interrupt)
    directions = Directions(deflate, matrix, seed)
    found = run_probes(obj, [SQUARES], [rtol], samples, max_samples, directions, memory, matrix, seed, limits)
    return found.norm(0, protocol_of(obj, rtol, samples, found.rank, matrix, seed), obj.fingerprint)

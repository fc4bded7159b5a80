"""Extreme eigenvalues of the Hessian, with residuals, error bounds, a confidence and what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.curvature.operators import Matrix, Memory
from sharpscope.curvature.search_run import SUBSET, Found, SearchRun
from sharpscope.curvature.spectral_model import SpectralModel
from sharpscope.curvature.wanted import Wanted, Which
from sharpscope.errors import InputError, NotConvergedWarning, require_at_least, require_one_of
from sharpscope.estimate import Result, with_error
from sharpscope.objective.objective import Objective

Mode = Literal["certified", "fast"]


@dataclass(frozen=True)
class Eigenpairs(Result):
    """The k eigenpairs asked for, the outermost first; 2k of them for both ends, the largest k first.

    Attributes
    ----------
    values
        Eigenvalues (k,): Ritz values vᵀHv, which never lie outside the true ones but for rounding.
    vectors
        Orthonormal Ritz vectors (k, size).
    residuals
        ‖H v − θ v‖ (k,): some eigenvalue lies within this distance of θ. That it is the k-th is not said by it.
    error_estimates
        With a probability of at least ``confidence`` the wanted eigenvalues lie no further than this from ``values``
        (k,), all of them together. It holds whether or not the search converged, and includes rounding. In fast mode
        it is an estimate without a probability.
    converged
        Whether the error is at most ``tol`` · |value| (k,).
    products
        Hessian-vector products, in full-data equivalents: those over a subset count by its share of the samples.
    confidence
        The least probability, over the random start vectors, that ``error_estimates`` hold; where the search did not
        converge, that no wanted eigenvalue lies further out than ``tol`` · |value|. NaN where nothing was probed.
    cost
        What the products cost in gradients of all the data: 2 each, and 1.5 for each time the graph was built.
    seconds
        Wall-clock time.

    """

    values: NDArray[np.float64]
    vectors: Tensor
    residuals: NDArray[np.float64]
    error_estimates: NDArray[np.float64]
    converged: NDArray[np.bool_]
    products: float
    seconds: float
    protocol: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""
    confidence: float = float("nan")
    cost: float = float("nan")
    models: Mapping[float, SpectralModel] = field(default_factory=dict, repr=False, compare=False)

    def __repr__(self) -> str:
        """Return one line: the outermost eigenvalue with its error, how many there are, and the products."""
        more = f" and {len(self.values) - 1} more" if len(self.values) > 1 else ""
        state = "converged" if bool(self.converged.all()) else "not converged"
        value = with_error(self.value, float(self.error_estimates[0]))
        return f"λ = {value}{more}, {state}, {self.products:.3g} products"

    @property
    def value(self) -> float:
        """The outermost eigenvalue."""
        return float(self.values[0])

    @property
    def stderr(self) -> None:
        """None: what is random is the start vector; see ``error_estimates`` and ``confidence``."""
        return None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the outermost eigenvalue ± its error, whatever the level; see ``confidence``."""
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
    mode: Mode = "certified",
    confidence: float = 0.99,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Eigenpairs:
    """Return the k extreme eigenvalues of the Hessian ∇²L(θ) and their eigenvectors.

    Parameters
    ----------
    k, which
        How many of which: ``"largest"`` and ``"smallest"`` are algebraic (negative ones are the smallest),
        ``"magnitude"`` goes by |λ|, ``"both"`` gives the k largest, then the k smallest.
    tol
        Error relative to each |value| at which the search stops. 1e-6 and 1.5e-8 for each sample of a chunk is the
        least that float32 resolves of the largest eigenvalue; values small beside ‖H‖ are resolved less well. Where
        that is reached first the search stops, says so, and ``converged`` is False.
    seed
        Of the random start vectors. Same seed, same bits.
    max_products
        No product begins once so many are done.
    start
        An earlier result, or vectors (b, size), to begin from. It saves products where it is nearly right; it never
        replaces the certificate.
    memory
        Budget for what is kept from one product to the next, graphs and the search's own vectors, such as
        ``"4GiB"``; see `CurvatureProducts`. A product needs room beside it: a chunk's passes and about four vectors.
    matrix
        ``"hessian"``, or ``"ggn"``: the generalised Gauss-Newton matrix (1/N) Σ Jᵀ (∂²ℓ/∂f²) J, f the model's
        outputs (Schraudolph 2002), which equals the Hessian where the model is linear and has no negative eigenvalue
        where the loss is convex in f.
    mode
        ``"certified"``: the errors hold with probability ``confidence``. ``"fast"``: two to three times faster on
        more than a few thousand samples; errors are estimates from a part of the data, and an eigenvalue that the
        part does not show can be missed.
    confidence
        The probability, over the start vectors, with which no wanted eigenvalue may be further out than is said.
    deadline, on_interrupt
        Seconds after which the call returns what it has; whether Ctrl-C does so too (``"return"``) or raises.
    progress
        True, or a function of a `CallProgress`: what a product takes, as soon as the first chunk of the first one is
        done, and about how many are to come; see `sharpscope.curvature.call_limits.Progress`.

    Raises
    ------
    InputError
        For k outside [1, size], a tolerance or confidence outside (0, 1), an unknown ``which`` or ``mode``, and a
        deadline that passes before anything is known.

    Warns
    -----
    NotConvergedWarning
        Where a value did not converge, with the reason.

    Notes
    -----
    Certified mode is Lanczos with full reorthogonalisation from a random vector, stopped by what the run itself says
    about eigenvalues that it has not seen (`sharpscope.curvature.certificate`); for k > 1 a deflated probe from a
    fresh random vector follows (`sharpscope.curvature.certified_search`). For the largest eigenvalues, on more than a
    few thousand samples or from an earlier result, it is Davidson's method with a model of the Hessian, from a part
    of the data drawn by importance or from that result, and a deflated probe of all the data
    (`sharpscope.curvature.davidson`). Fast mode leaves the probe out, and where there is no model it is Lanczos
    stopped by its residuals. Where the model turns out to be unlike the data, the search goes on without one.

    Examples
    --------
    >>> import torch
    >>> from sharpscope.objective.objective import Objective
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> e = top_eigenvalues(Objective(model, half_square, (x, torch.zeros(2, 1))), k=2)
    >>> [round(v, 6) for v in e.values.tolist()], e.confidence
    ([3.0, 1.0], 1.0)

    """
    _check(obj, k, which, tol, max_products, mode, confidence)
    limits = CallLimits("top_eigenvalues", obj, deadline, progress, on_interrupt)
    earlier = start if isinstance(start, Eigenpairs) else None
    with SearchRun(
        limits.over,
        Wanted(k, which, tol, confidence),
        seed,
        max_products,
        _vectors_of(start, obj),
        memory,
        matrix,
        limits,
        _models_of(earlier, obj) if earlier else {},
    ) as run:
        found = run.run(certify=mode == "certified")
    return _report(run, found, mode, limits.seconds)


def _check(
    obj: Objective, k: int, which: str, tol: float, max_products: int, mode: str, confidence: float
) -> None:
    if not 1 <= k <= obj.size:
        raise InputError(
            f"k must be between 1 and the number of parameters {obj.size}, received {k}; lower it"
        )
    for name, value, meaning in (
        ("tol", tol, "it is a relative error such as 1e-3"),
        ("confidence", confidence, "it is a probability such as 0.99"),
    ):
        if not 0 < value < 1:
            raise InputError(f"{name} must lie in (0, 1), received {value}; {meaning}")
    require_one_of("which", which, get_args(Which))
    require_one_of("mode", mode, get_args(Mode))
    require_at_least("max_products", max_products, k, f"k = {k} eigenvalues take at least so many")


def _report(run: SearchRun, found: Found, mode: Mode, seconds: float) -> Eigenpairs:
    """Return the result, with a warning where it did not converge."""
    wanted = run.wanted
    sizes = np.abs(found.values)
    converged = found.errors <= wanted.tol * sizes
    if not converged.all():
        warnings.warn(
            f"{int((~converged).sum())} of {len(sizes)} eigenvalues did not reach tol={wanted.tol:g} in "
            f"{run.products_so_far:.4g} products (largest error {found.errors.max():.3g}): "
            f"{found.why or 'the errors are larger'}; {_remedy(found.why)}",
            NotConvergedWarning,
            stacklevel=3,
        )
    subset = SUBSET in found.algorithm
    return Eigenpairs(
        values=found.values,
        vectors=found.vectors,
        residuals=found.residuals,
        error_estimates=found.errors,
        converged=converged,
        products=run.products_so_far,
        seconds=seconds,
        protocol={
            "algorithm": found.algorithm,
            "mode": mode,
            "matrix": run.matrix,
            "which": wanted.which,
            "k": wanted.k,
            "tol": wanted.tol,
            "confidence": wanted.confidence if mode == "certified" else None,
            "seed": run.seed,
            **({"subsets": "uniform" if run.scores is None else "by importance"} if subset else {}),
            **run.obj.protocol,
        },
        fingerprint=run.obj.fingerprint,
        confidence=found.confidence,
        cost=run.cost,
        models=found.models,
    )


def _vectors_of(start: Tensor | Eigenpairs | None, obj: Objective) -> Tensor:
    """Return the vectors to begin from (b, size), none of them without a start."""
    if start is None:
        return obj.layout.zeros(0, dtype=obj.dtype, device=obj.device)
    vectors = start.vectors if isinstance(start, Eigenpairs) else start
    if vectors.numel() == 0 or vectors.shape[-1] != obj.size:
        raise InputError(
            f"start must hold vectors of {obj.size} entries, one for each parameter, received the shape "
            f"{tuple(vectors.shape)}; give an earlier result of this model"
        )
    return vectors.to(obj.device, obj.dtype).reshape(-1, obj.size)


def _models_of(earlier: Eigenpairs, obj: Objective) -> dict[float, SpectralModel]:
    """Return what an earlier result knows of each end."""
    return {end: model.restored(obj.dtype, obj.device) for end, model in earlier.models.items()}


def _remedy(why: str) -> str:
    for said, remedy in (
        ("from zero", "take them for zero to that accuracy"),
        ("float32 resolves", "measure in float64 (dtype=torch.float64, --float64), or ask for a looser tol"),
        ("resolves", "ask for a looser tol"),
        ("deadline", "raise the deadline"),
        ("max_products", "raise max_products"),
        ("interrupted", "begin again, with start= what was returned"),
    ):
        if said in why:
            return remedy
    return "ask for mode='certified'"

"""Examine a model: everything that a first look at a minimum asks for, in one call."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpscope.curvature import (
    Eigenpairs,
    SpectralDensity,
    frobenius_norm,
    spectral_density,
    top_eigenvalues,
    trace,
)
from sharpscope.curvature.by_layer import LayerTraces, shares_by_layer, trace_by_layer
from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError, suggestion
from sharpscope.estimate import Estimate, Result
from sharpscope.examination.summary import Sentences, sentences_of
from sharpscope.landscape import surface
from sharpscope.landscape.surface import Surface
from sharpscope.measures import audit, average_direction_sharpness, worst_case_sharpness
from sharpscope.measures.invariance.audit import Audit
from sharpscope.objective import Objective

if TYPE_CHECKING:
    import pandas as pd

PARTS = (
    "eigenvalues",
    "trace",
    "frobenius_norm",
    "density",
    "by_layer",
    "average_direction",
    "worst_case",
    "audit",
    "surface",
)
"""What an examination consists of, in the order in which it is measured."""

AVERAGE_RADII = (0.01, 0.03, 0.1)
"""Radii of the average direction as shares of the length of the weights: from where the loss is quadratic to where it
is not, for most networks."""

WORST_RADII = (0.002, 0.005, 0.01)
"""Radii of the adaptive worst case: the largest relative change of each weight."""

AUDIT_SAMPLES = 16
"""Samples that the audit uses. Whether a measure changes under a rescaling does not depend on the data."""


@dataclass(frozen=True)
class Examination(Result):
    """What `examine` found. A part that was left out, or that could not be had, is None; ``notes`` says why.

    Attributes
    ----------
    title
        The model's class, or the title that was given.
    size, samples, loss, gradient_norm
        Number of measured parameters and of samples, L(θ) and ‖∇L(θ)‖.
    eigenvalues
        The k largest and the k smallest eigenvalues with their certificates, the largest first.
    trace, frobenius_norm, density
        tr H, ‖H‖_F and the spectral density.
    by_layer, eigenvector_shares
        Traces of the layers' diagonal blocks, and the share of the first eigenvector in each layer (layers,).
    average_direction, worst_case
        One estimate for each radius.
    audit
        Which measures a function-preserving rescaling changes.
    surface
        The loss on a filter-normalised plane.
    seconds
        Seconds of each part.

    """

    title: str
    size: int
    samples: int
    loss: float
    gradient_norm: float
    eigenvalues: Eigenpairs | None
    trace: Estimate | None
    frobenius_norm: Estimate | None
    density: SpectralDensity | None
    by_layer: LayerTraces | None
    eigenvector_shares: np.ndarray[Any, np.dtype[np.float64]] | None
    average_direction: tuple[Estimate, ...]
    worst_case: tuple[Estimate, ...]
    audit: Audit | None
    surface: Surface | None
    seconds: dict[str, float]
    notes: tuple[str, ...]
    protocol: dict[str, object]
    fingerprint: str
    counted: str = "sample"

    @property
    def sentences(self) -> Sentences:
        """What a person reads first: a headline and a few sentences."""
        return sentences_of(self)

    def __repr__(self) -> str:
        """Return one line: the title and the headline number."""
        return f"Examination of {self.title}: {self.sentences.headline}"

    def __str__(self) -> str:
        """Return the summary in words."""
        return "\n".join([self.sentences.headline, *self.sentences.lines])

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each number: measure, radius, value, low, high, converged.

        Eigenvalues are named ``lambda_1``, ``lambda_2``, … from the top and ``lambda_-1``, … from the bottom.
        """
        import pandas as pd

        return pd.DataFrame(list(_rows(self)))

    def to_html(self, path: Path | str | None = None) -> str:
        """Return the examination as one HTML page that needs no network; write it to ``path`` if one is given."""
        from sharpscope.examination.page import build_page

        page = build_page(self)
        if path is not None:
            from sharpscope.serialization import write_whole

            write_whole(Path(path), page.encode("utf-8"))
        return page

    def _repr_html_(self) -> str:
        from sharpscope.examination.page import in_frame

        return in_frame(self.to_html())


def examine(
    obj: Objective,
    *,
    k: int = 3,
    tol: float = 1e-3,
    without: Sequence[str] = (),
    surface_points: int = 15,
    title: str | None = None,
    counted: str = "sample",
    seed: int = 0,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Examination:
    """Examine the minimum that a model sits in: curvature, sharpness at several radii, rescalings, a surface.

    Each number comes from the function of its own name, at its defaults but for these. Trace and ‖H‖_F have a
    relative standard error of 5 % and 10 %. The density takes 4 probes of 40 steps. The average direction's 95 %
    interval is at most a fifth of the value wide, and its radii are shares of ‖θ‖. The worst case is adaptive, ℓ∞,
    over all the data.

    Parameters
    ----------
    k
        Eigenvalues at each end.
    tol
        Relative error of the eigenvalues.
    without
        Parts to leave out, from `PARTS`.
    surface_points
        Points along each side of the surface; odd.
    title
        Heading of the page; by default the model's class.
    counted
        What the loss is a mean over, for the sentences: ``sample``, or ``token`` for a language model.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`, the unit a part. The part under way returns what it has where it can;
        those after it are left out with a note.

    Raises
    ------
    InputError
        For an unknown part or a negative number, and whatever the loss itself raises. A part that does not apply
        (an audit of a network that cannot be traced) is left out with a note.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> found = examine(Objective(model, half_square, (x, torch.zeros(2, 1))), k=1, without=["audit", "surface"])
    >>> round(found.eigenvalues.value, 6), round(found.trace.value, 6)
    (3.0, 4.0)

    """
    unknown = [name for name in without if name not in PARTS]
    if unknown:
        raise InputError(
            f"without takes names from {', '.join(PARTS)}; received {', '.join(map(repr, unknown))}; "
            f"{suggestion(unknown[0], PARTS)}correct it"
        )
    wanted = [name for name in PARTS if name not in without]
    limits = CallLimits("examine", obj, deadline, progress, on_interrupt, unit="part", expected=len(wanted))
    obj = limits.over
    with limits.until_it_ends():
        loss, gradient = obj.loss_and_gradient()
    if limits.ended:
        raise InputError(
            f"examine must be given time for one gradient, here {limits.ended}; raise the deadline"
        )
    length = float(obj.flat().double().norm())
    notes: list[str] = []
    seconds: dict[str, float] = {}
    k = min(k, max(1, obj.size // 2))
    steps: dict[str, Callable[[], Any]] = {
        "eigenvalues": lambda: top_eigenvalues(obj, k=k, which="both", tol=tol, seed=seed),
        "trace": lambda: trace(obj, rtol=0.05, seed=seed),
        "frobenius_norm": lambda: frobenius_norm(obj, rtol=0.1, seed=seed),
        "density": lambda: spectral_density(obj, probes=4, steps=40, seed=seed),
        "by_layer": lambda: trace_by_layer(obj, seed=seed),
        "average_direction": lambda: tuple(
            average_direction_sharpness(obj, share * length, relative_width=0.2, max_samples=400, seed=seed)
            for share in AVERAGE_RADII
        ),
        "worst_case": lambda: tuple(
            worst_case_sharpness(obj, radius, batch_size=None, restarts=1, seed=seed)
            for radius in WORST_RADII
        ),
        "audit": lambda: audit(_few(obj), seed=seed),
        "surface": lambda: surface(obj, points=surface_points, radius=0.5, seed=seed),
    }
    found: dict[str, Any] = {}
    for done, name in enumerate(wanted):
        if limits.ended or limits.passed:
            lost = ", ".join(part.replace("_", " ") for part in wanted[done:])
            notes.append(f"Not taken: {lost}, for {limits.ended or limits.why}.")
            break
        began = time.perf_counter()
        limits.note = f"{name.replace('_', ' ')}, part {done + 1} of {len(wanted)}"
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                with limits.until_it_ends():
                    found[name] = steps[name]()
            except InputError as error:
                notes.append(f"No {name.replace('_', ' ')}: {error}.".replace("..", "."))
        notes += [
            f"{name.replace('_', ' ')}: {w.message}" for w in heard if issubclass(w.category, UserWarning)
        ]
        seconds[name] = time.perf_counter() - began
        if limits.ended:
            notes.append(f"No {name.replace('_', ' ')}: {limits.ended}.")
        limits.count(1, name.replace("_", " "))
    pairs: Eigenpairs | None = found.get("eigenvalues")
    layers: LayerTraces | None = found.get("by_layer")
    return Examination(
        title=title or type(obj.model).__name__,
        size=obj.size,
        samples=int(obj.n_samples),
        loss=loss,
        gradient_norm=float(gradient.double().norm()),
        eigenvalues=pairs,
        trace=found.get("trace"),
        frobenius_norm=found.get("frobenius_norm"),
        density=found.get("density"),
        by_layer=layers,
        eigenvector_shares=shares_by_layer(obj, pairs.vectors[:1])[0] if pairs and layers else None,
        average_direction=found.get("average_direction", ()),
        worst_case=found.get("worst_case", ()),
        audit=found.get("audit"),
        surface=found.get("surface"),
        seconds=seconds,
        notes=tuple(dict.fromkeys(notes)),
        protocol=dict(obj.protocol),
        fingerprint=obj.fingerprint,
        counted=counted,
    )


COST = {
    "eigenvalues": 150.0,
    "trace": 250.0,
    "frobenius_norm": 60.0,
    "density": 400.0,
    "by_layer": 40.0,
    "average_direction": 100.0,
    "worst_case": 50.0,
    "audit": 25.0,
    "surface": 120.0,
}
"""About what each part costs, in gradients over the data: as counted on LeNet-5 and a perceptron after 100 steps of
training, a product with the Hessian as 2.5 gradients and a loss as 0.4."""


def expected_seconds(obj: Objective, without: Sequence[str] = ()) -> float:
    """Return about how long `examine` will take, from the time of one gradient, which is taken here."""
    began = time.perf_counter()
    obj.gradient()
    return (time.perf_counter() - began) * sum(cost for part, cost in COST.items() if part not in without)


def _few(obj: Objective) -> Objective:
    """Return the objective on its first samples, or as it is where single samples cannot be told apart."""
    import torch

    try:
        return obj.subset(torch.arange(min(AUDIT_SAMPLES, int(obj.n_samples))))
    except InputError:
        return obj


def _rows(found: Examination) -> Iterator[dict[str, object]]:
    exact = {"loss": found.loss, "gradient_norm": found.gradient_norm}
    for name, value in exact.items():
        yield _row(name, value, value, value)
    if found.eigenvalues is not None:
        pairs = found.eigenvalues
        half = len(pairs.values) // 2
        for i, (value, error) in enumerate(zip(pairs.values, pairs.error_estimates, strict=True)):
            name = f"lambda_{i + 1 if i < half else half - i - 1}"
            yield _row(name, value, value - error, value + error, bool(pairs.converged[i]))
    for estimate in (found.trace, found.frobenius_norm, *found.average_direction, *found.worst_case):
        if estimate is not None:
            radius = float(str(estimate.protocol.get("radius", math.nan)))
            yield _row(estimate.measure, estimate.value, *estimate.interval(), estimate.converged, radius)
    if found.by_layer is not None:
        layers = found.by_layer
        for layer, value, (low, high) in zip(layers.names, layers.values, layers.intervals(), strict=True):
            yield _row(f"trace of {layer}", value, low, high)


def _row(
    measure: str, value: float, low: float, high: float, converged: bool = True, radius: float = math.nan
) -> dict[str, object]:
    return {
        "measure": measure,
        "radius": radius,
        "value": float(value),
        "low": float(low),
        "high": float(high),
        "converged": converged,
    }

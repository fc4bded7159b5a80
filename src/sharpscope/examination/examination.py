"""Examine a model: everything that a first look at a minimum asks for, in one call."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpscope.curvature import Eigenpairs, SpectralDensity
from sharpscope.curvature.by_layer import LayerTraces, shares_by_layer
from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError
from sharpscope.estimate import Estimate, Result
from sharpscope.examination.measurements import PartByPart, row_name
from sharpscope.examination.plan import PROBED, ExaminationPlan, Section, make_plan
from sharpscope.examination.sampling import Draw
from sharpscope.examination.summary import Sentences, sentences_of
from sharpscope.landscape.surface import Surface
from sharpscope.measures.invariance.audit import Audit
from sharpscope.objective import Objective

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Examination(Result):
    """What `examine` found. A part that was left out, or that could not be had, is None; ``notes`` says why.

    Attributes
    ----------
    title
        The model's class, or the title that was given.
    size, population, samples
        Number of measured parameters, of samples that there are, and of those drawn at random that were measured.
    loss, gradient_norm, whole
        L(θ) and ‖∇L(θ)‖, over all the data if ``whole``, else over the samples.
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
    intervals
        Where not all samples were measured: 95 % intervals for all the data, by the names of `to_frame`'s rows.
    seconds, left_out
        Seconds of each part that was measured, and why the others were not.

    """

    title: str
    size: int
    population: int
    samples: int
    loss: float
    gradient_norm: float
    whole: bool
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
    intervals: Mapping[str, tuple[float, float]]
    seconds: Mapping[str, float]
    left_out: Mapping[str, str]
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
        """Return one row for each number: measure, radius, value, low, high, converged, samples, interval_for.

        Eigenvalues are named ``lambda_1``, ``lambda_2``, … from the top and ``lambda_-1``, … from the bottom. Where
        not all samples were measured, ``interval_for`` says whether low and high hold for ``all the data``, with what
        the choice of samples leaves open, or for ``these samples`` alone.
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
    k: int | None = None,
    tol: float | None = None,
    without: Sequence[str] = (),
    surface_points: int | None = None,
    samples: int | None = None,
    title: str | None = None,
    counted: str = "sample",
    seed: int = 0,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
    plan: ExaminationPlan | None = None,
) -> Examination:
    """Examine the minimum that a model sits in: curvature, sharpness at several radii, rescalings, a surface.

    Trace, ‖H‖_F and the layers' traces come from the same products, off the eigenvectors that were found before
    (`sharpscope.curvature.probes.probe`); every other number from the function of its own name. How thoroughly is
    said by `sharpscope.examination.plan.THOROUGH`, or by ``BRIEF`` where a deadline asks for it. The average
    direction's radii are shares of ‖θ‖. The worst case is adaptive, ℓ∞, over all the samples.

    Parameters
    ----------
    k, tol
        Eigenvalues at each end and their relative error; by default 3 and 1e-3, or 1 and 1e-2 if brief.
    without
        Parts to leave out, from `PARTS`.
    surface_points
        Points along each side of the surface; odd. By default 15, or 9 if brief.
    samples
        Measure on so many samples, drawn at random, in place of all; intervals then say what that leaves open.
    title
        Heading of the page; by default the model's class.
    counted
        What the loss is a mean over, for the sentences: ``sample``, or ``token`` for a language model.
    deadline
        Seconds that the examination may take. A few samples are timed first; then accuracy, the number of samples
        and last the parts are chosen so that the rest fits, see `sharpscope.examination.plan.make_plan`.
    progress, on_interrupt
        As for `sharpscope.top_eigenvalues`, the unit a part. Parts that an interrupt or the deadline cuts off are
        left out with a note.
    plan
        What `make_plan` returned for this objective; it replaces ``k``, ``tol``, ``without``, ``surface_points``,
        ``samples`` and ``deadline``.

    Raises
    ------
    InputError
        For an unknown part or a number out of range, and whatever the loss itself raises. A part that does not apply
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
    began = time.perf_counter()
    if plan is None:
        plan = make_plan(
            obj,
            without=without,
            deadline=deadline,
            samples=samples,
            k=k,
            tol=tol,
            points=surface_points,
            timed=deadline is not None,
        )
    limit = None if plan.deadline is None else max(plan.deadline - (time.perf_counter() - began), 1e-3)
    parts = [section for section in plan.sections if not section.left_out]
    limits = CallLimits("examine", obj, limit, progress, on_interrupt, unit="part", expected=len(parts))
    drawn = Draw.of(limits.over, plan.samples, seed) if plan.samples < plan.population else None
    part = limits.over if drawn is None else drawn.objective()
    with limits.until_it_ends():
        loss, gradient = (limits.over if plan.whole else part).loss_and_gradient()
    if limits.ended:
        raise InputError(
            f"examine must be given time for one gradient, here {limits.ended}; raise the deadline"
        )
    work = PartByPart(part, drawn, plan.effort, seed)
    if not plan.whole:
        work.sample_loss(loss)
    seconds: dict[str, float] = {}
    left_out = {section.name: section.left_out for section in plan.sections if section.left_out}
    for done, section in enumerate(parts):
        if limits.ended or limits.passed:
            lost = {
                after.name: limits.ended or limits.why for after in parts[done:] if not work.has(after.name)
            }
            left_out |= lost
            break
        name, started = section.name, time.perf_counter()
        limits.note = f"{name.replace('_', ' ')}, part {done + 1} of {len(parts)}"
        share = _share(limits, plan, parts[done:])
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                with limits.until_it_ends():
                    work.measure(name, share)
            except InputError as error:
                left_out[name] = _in_words("", str(error))
        said = "trace and ‖H‖_F" if name in PROBED else name.replace("_", " ")
        work.notes += [_in_words(said, str(w.message)) for w in heard if issubclass(w.category, UserWarning)]
        seconds[name] = time.perf_counter() - started
        if not work.has(name):
            left_out.setdefault(name, limits.ended or "it does not apply")
        limits.count(1, name.replace("_", " "))
    found = work.found
    pairs: Eigenpairs | None = found.get("eigenvalues")
    layers: LayerTraces | None = found.get("by_layer")
    return Examination(
        title=title or type(obj.model).__name__,
        size=obj.size,
        population=plan.population,
        samples=plan.samples,
        loss=loss,
        gradient_norm=float(gradient.double().norm()),
        whole=plan.whole,
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
        intervals=work.intervals,
        seconds={name: took for name, took in seconds.items() if work.has(name)},
        left_out=left_out,
        notes=tuple(dict.fromkeys(_notes(plan, left_out) + work.notes)),
        protocol=dict(obj.protocol),
        fingerprint=obj.fingerprint,
        counted=counted,
    )


OVERRUN = 1.5
"""How much longer than planned a part may take, relative to what is left, before it must return what it has."""


def _share(limits: CallLimits, plan: ExaminationPlan, left: Sequence[Section]) -> float | None:
    """Return the seconds that the next of the parts may take: its share of what is left, and some more."""
    if limits.deadline is None:
        return None
    rest = max(limits.deadline - limits.seconds, 1e-3)
    expected = sum(section.seconds for section in left)
    return rest if expected <= 0 else min(rest, OVERRUN * rest * left[0].seconds / expected) or rest


_OTHER_REMEDIES = re.compile(r"(; (raise max_samples|pass partial=)|: set samples=).*")
"""Remedies by arguments that an examination does not take."""


def _in_words(name: str, message: str) -> str:
    """Return what a part says with its name before it; how much time it was given is the examination's affair."""
    said = re.sub(r"deadline=\S+ passed", "its share of the time was over", message)
    said = _OTHER_REMEDIES.sub("", said)
    return said if said.lower().replace("-", " ").startswith(name) else f"{name}: {said}"


def _notes(plan: ExaminationPlan, left_out: Mapping[str, str]) -> list[str]:
    """Say what was left out for lack of time or because it does not apply, and what being brief means."""
    notes = []
    for why in dict.fromkeys(left_out.values()):
        names = ", ".join(name.replace("_", " ") for name, one in left_out.items() if one == why)
        notes.append(f"Not measured: {names} ({why}).".replace(".).", ")."))
    if plan.brief:
        effort = plan.effort
        notes.append(
            f"Measured briefly, for deadline={plan.deadline:g}: {effort.k} eigenvalue{'s' * (effort.k > 1)} at each "
            f"end to {100 * effort.tol:g} %, {effort.most_probes} probes, a density of {effort.density[0]} × "
            f"{effort.density[1]} products. More time makes the intervals narrower."
        )
    return notes


def _rows(found: Examination) -> Iterator[dict[str, object]]:
    def row(
        name: str, value: float, low: float, high: float, converged: bool = True,
        radius: float = math.nan, key: str = "", whole: bool = False,
    ) -> dict[str, object]:  # fmt: skip
        """Return a row, with the interval for all the data where there is one."""
        every = whole or found.samples == found.population
        if not every and (known := found.intervals.get(key or name)) is not None:
            (low, high), every = known, True
        return {
            "measure": name,
            "radius": radius,
            "value": float(value),
            "low": float(low),
            "high": float(high),
            "converged": converged,
            "samples": found.population if whole else found.samples,
            "interval_for": "all the data" if every else "these samples",
        }

    for name, value in (("loss", found.loss), ("gradient_norm", found.gradient_norm)):
        yield row(name, value, value, value, whole=found.whole)
    if found.eigenvalues is not None:
        pairs = found.eigenvalues
        half = len(pairs.values) // 2
        for i, (value, error) in enumerate(zip(pairs.values, pairs.error_estimates, strict=True)):
            name = f"lambda_{i + 1 if i < half else half - i - 1}"
            yield row(name, value, value - error, value + error, bool(pairs.converged[i]))
    for estimate in (found.trace, found.frobenius_norm, *found.average_direction, *found.worst_case):
        if estimate is not None:
            radius, ends = float(str(estimate.protocol.get("radius", math.nan))), estimate.interval()
            yield row(estimate.measure, estimate.value, *ends, estimate.converged, radius, row_name(estimate))
    if found.by_layer is not None:
        layers = found.by_layer
        for layer, value, (low, high) in zip(layers.names, layers.values, layers.intervals(), strict=True):
            yield row(f"trace of {layer}", value, low, high)

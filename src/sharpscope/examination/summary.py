"""What an examination found, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.estimate import Estimate, with_error
from sharpscope.report.numbers import counted, listed, number

if TYPE_CHECKING:
    from sharpscope.examination.examination import Examination

BULK = 0.98
"""Share of the eigenvalues that the bulk of the density holds."""

OUTLYING = 1.5
"""How many times the bulk's upper end λ_max must be to count as outside of it; few eigenvalues are all bulk."""


@dataclass(frozen=True)
class Sentences:
    """A headline, and sentences that each say one thing."""

    headline: str
    lines: tuple[str, ...]


def sentences_of(found: Examination) -> Sentences:
    """Return what a reader should know first, from the most to the least often asked."""
    lines: list[str] = []
    pairs = found.eigenvalues
    if pairs is None:
        headline = f"loss {number(found.loss)} on {counted(_looked_at(found), found.counted)}"
    else:
        state = "converged" if bool(pairs.converged[0]) else "not converged"
        on = "" if found.samples == found.population else f" on {found.samples} of {found.population} samples"
        headline = f"λ_max = {_with_error(pairs.value, pairs.error_estimates[0])}{on}, {state}"
        lines += _about_ends(found)
    lines.append(
        f"The loss is {number(found.loss)} and its gradient's norm {number(found.gradient_norm)}, over "
        f"{counted(_looked_at(found), found.counted)} and {counted(found.size, 'parameter')}."
    )
    if found.samples < found.population:
        lines.append(
            f"{'Everything else' if found.whole else 'Everything'} is measured on "
            f"{counted(found.samples, found.counted)} drawn at random from {found.population}."
        )
    if found.gradient_norm > 0.1 * max(found.loss, 1e-12) and pairs is not None:
        lines.append(
            "The gradient is not small against the loss: the model has not reached a minimum, and curvature along "
            "the way down differs from curvature at its end."
        )
    lines += _about_bulk(found)
    lines += _about_layers(found)
    lines += _about_perturbations(found)
    lines += _about_audit(found)
    return Sentences(headline, tuple(lines))


def _with_error(value: float, error: float) -> str:
    """Return a value with its error, its minus as long as those of the other numbers."""
    return with_error(float(value), float(error)).replace("-", "−")


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _looked_at(found: Examination) -> int:
    """Return how many samples loss and gradient are over."""
    return found.population if found.whole else found.samples


def _about_ends(found: Examination) -> list[str]:
    pairs = found.eigenvalues
    assert pairs is not None
    half = len(pairs.values) // 2
    top, bottom = float(pairs.values[0]), float(pairs.values[half])
    lines = [f"The smallest eigenvalue is {_with_error(bottom, pairs.error_estimates[half])}."]
    all_data = found.intervals.get("lambda_1")
    if bottom < -1e-3 * abs(top):
        lines[0] = (
            f"The smallest eigenvalue is {_with_error(bottom, pairs.error_estimates[half])}: "
            "the loss bends downwards in some direction, so this point is a saddle or lies on a slope."
        )
    if all_data is not None:
        low, high = (number(end) for end in all_data)
        lines.insert(
            0,
            f"Over all {counted(found.population, found.counted)} λ_max lies between {low} and {high} (95 %), by "
            f"what {counted(found.samples, found.counted)} and as many others say; a few samples that carry it and "
            "were not drawn would not show.",
        )
    if pairs.confidence > 0.5:
        lines.append(
            f"With a probability of at least {pairs.confidence:.4g} over the random start, these errors hold "
            "and no eigenvalue further out was missed."
        )
    if half > 1:
        values = ", ".join(number(float(v)) for v in pairs.values[:half])
        lines.append(f"The {half} largest eigenvalues are {values}.")
    return lines


def _about_bulk(found: Examination) -> list[str]:
    if found.density is None:
        return []
    nodes, weights = found.density.nodes.ravel(), found.density.weights.ravel() / len(found.density.nodes)
    order = np.argsort(nodes)
    share = np.cumsum(weights[order])
    ends = np.searchsorted(share, [(1 - BULK) / 2, (1 + BULK) / 2]).clip(max=len(share) - 1)
    low, high = (float(node) for node in nodes[order][ends])
    text = f"{_share(BULK)} of the eigenvalues lie between {number(low)} and {number(high)}"
    if found.eigenvalues is not None and 0 < OUTLYING * high <= found.eigenvalues.value:
        text += f"; λ_max is {number(found.eigenvalues.value / high, 2)} times the upper end of this bulk"
    return [f"{text}."]


def _about_layers(found: Examination) -> list[str]:
    layers = found.by_layer
    if layers is None or len(layers.names) < 2:
        return []
    lows = layers.intervals()[:, 0]
    largest = int(np.argmax(layers.values))
    first = largest if lows[largest] > 0 else int(np.argmax(lows))
    known, total = bool(lows[first] > 0), float(layers.values.sum())
    if known:
        text = f"Layer {layers.names[first]} has the largest trace"
        text += "" if first == largest else " that can be told from zero"
    else:
        text = f"No layer's trace can be told to be above zero by {counted(layers.probes, 'probe')}"
    if known and total > 0 and layers.values[first] > 0:
        text += f", {_share(layers.values[first] / total)} of the whole"
    if found.eigenvector_shares is not None:
        heavy = int(np.argmax(found.eigenvector_shares))
        share = _share(found.eigenvector_shares[heavy])
        also = "the same layer" if known and heavy == first else f"layer {layers.names[heavy]}"
        text += f"; {share} of the first eigenvector lies in {also}"
    return [f"{text}."]


def _about_perturbations(found: Examination) -> list[str]:
    lines = []
    if found.average_direction:
        lines.append(_rises("In a random direction the loss rises by", found.average_direction))
    if found.worst_case:
        lines.append(
            _rises("If each weight may change by a share of itself, the loss can rise by", found.worst_case)
        )
    return lines


def _rises(start: str, estimates: tuple[Estimate, ...]) -> str:
    parts = [f"{number(e.value)} at radius {number(float(str(e.protocol['radius'])))}" for e in estimates]
    return f"{start} {listed(parts)}."


def _about_audit(found: Examination) -> list[str]:
    if found.audit is None:
        return []
    table = found.audit.table
    safe = [str(name) for name in table["measure"][table["invariant"]]]
    moved = [str(name) for name in table["measure"][~table["invariant"]]]
    lines = []
    if safe:
        lines.append(f"Comparable with models that are scaled differently: {listed(safe)}.")
    if moved:
        lines.append(f"Not comparable across rescalings: {listed(moved)}.")
    return lines

"""What an examination will cost, told before it begins, and how it is cut to fit the time that there is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sharpscope.curvature import CurvatureProducts
from sharpscope.curvature.operators import budget
from sharpscope.errors import InputError, require_at_least, require_positive, suggestion
from sharpscope.objective import Objective
from sharpscope.seeding import generator

PARTS = (
    "eigenvalues",
    "by_layer",
    "trace",
    "frobenius_norm",
    "density",
    "average_direction",
    "worst_case",
    "surface",
    "audit",
)
"""What an examination consists of, in the order in which it is measured: what is most often asked for comes first."""

PROBED = ("by_layer", "trace", "frobenius_norm")
"""Parts that the same products serve; the first of them that is wanted is charged for all."""

AUDIT_SAMPLES = 8
"""Samples that the audit uses. Whether a measure changes under a rescaling does not depend on the data."""

AUDIT_GRADIENTS = 720.0
"""What an audit costs, in gradients of its samples: so many on a ResNet-18, by the clock, most of it in float64."""

FEWEST_SAMPLES = 64
"""Samples below which parts are left out in place of taking fewer: blocks of four are the least that say by how much
samples differ."""

OF_ALL = 0.1
"""Loss and gradient are those of all the data where that takes at most this share of the time of all the rest."""

SLACK = 0.9
"""Share of the time that is planned with; the rest is for what takes longer than expected."""


@dataclass(frozen=True)
class Effort:
    """How thoroughly the parts are measured.

    ``k`` eigenvalues at each end to a relative error of ``tol``. Probes until trace and ‖H‖_F have a relative
    standard error of ``rtol``, at most ``most_probes``, as a rule ``expected_probes``. ``density`` is (probes,
    steps). Each radius of the average direction takes ``draws`` losses, or with a relative ``width`` of its interval
    at most so many. The surface has ``points`` along each side.
    """

    k: int = 3
    tol: float = 1e-3
    rtol: float = 0.1
    most_probes: int = 400
    expected_probes: int = 40
    density: tuple[int, int] = (4, 40)
    draws: int = 400
    width: float | None = 0.4
    expected_draws: int = 84
    points: int = 15


THOROUGH = Effort()

BRIEF = Effort(
    k=1,
    tol=1e-2,
    rtol=0.2,
    most_probes=16,
    expected_probes=16,
    density=(2, 25),
    draws=24,
    width=None,
    expected_draws=24,
    points=9,
)
"""What is done where there is no time for more: a fourth of the cost."""


@dataclass(frozen=True)
class Speed:
    """Seconds that a sample takes in a loss, a gradient, a product, and one with a kept graph of so many bytes."""

    loss: float
    gradient: float
    product: float
    kept_product: float
    graph_bytes: float


@dataclass(frozen=True)
class Section:
    """A part of an examination: on how many samples, its expected seconds, why it is left out ("" if it is not)."""

    name: str
    samples: int
    seconds: float
    left_out: str = ""


@dataclass(frozen=True)
class ExaminationPlan:
    """What will be measured. ``samples`` of ``population`` are looked at, loss and gradient over all if ``whole``."""

    effort: Effort
    population: int
    samples: int
    whole: bool
    sections: tuple[Section, ...]
    deadline: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it is expected to take in all."""
        return sum(section.seconds for section in self.sections)

    @property
    def brief(self) -> bool:
        """Whether the time is too short for the usual accuracy."""
        return self.effort.density == BRIEF.density


def make_plan(
    obj: Objective,
    *,
    without: Sequence[str] = (),
    deadline: float | None = None,
    samples: int | None = None,
    k: int | None = None,
    tol: float | None = None,
    points: int | None = None,
    seed: int = 0,
    timed: bool = True,
) -> ExaminationPlan:
    """Time a few samples, and return what an examination would take, cut to fit ``deadline`` seconds.

    With enough time everything is measured thoroughly on all the data, or on ``samples`` of it. With less the parts
    are measured briefly; then on fewer samples, the same for all parts so that their numbers agree; and from 64
    samples on parts are left out, the least worth first. ``k``, ``tol`` and ``points`` are kept as given.
    Without ``timed`` nothing is evaluated and no seconds are expected, which fits where there is no deadline.
    """
    speed = time_samples(obj, seed) if timed else Speed(0.0, 0.0, 0.0, 0.0, 0.0)
    return fit(
        speed,
        wanted_parts(without),
        int(obj.n_samples),
        deadline=deadline,
        samples=samples,
        divisible=divisible(obj),
        recomputed=any(getattr(m, "running_mean", None) is not None for m in obj.model.modules()),
        room=budget(None, obj.device) if obj.evaluator.distribution is None else 0,
        given={"k": k, "tol": tol, "points": points},
    )


def wanted_parts(without: Sequence[str]) -> list[str]:
    """Return the parts that are not left out, in order; refuse unknown names."""
    unknown = [name for name in without if name not in PARTS]
    if unknown:
        raise InputError(
            f"without takes names from {', '.join(PARTS)}; received {', '.join(map(repr, unknown))}; "
            f"{suggestion(unknown[0], PARTS)}correct it"
        )
    return [name for name in PARTS if name not in without]


def divisible(obj: Objective) -> bool:
    """Say whether single samples can be drawn at random and measured in place of all."""
    return obj.evaluator.separable and obj.evaluator.weights is None and obj.evaluator.distribution is None


def fit(
    speed: Speed,
    wanted: Sequence[str],
    population: int,
    *,
    deadline: float | None = None,
    samples: int | None = None,
    divisible: bool = True,
    recomputed: bool = False,
    room: int = 0,
    given: dict[str, int | float | None] | None = None,
) -> ExaminationPlan:
    """Return the plan for a speed; see `make_plan`. ``room`` are the bytes that kept graphs may take."""
    if deadline is not None:
        require_positive("deadline", deadline, "it is a number of seconds")
    if samples is not None:
        require_at_least("samples", samples, 2, "an interval needs two")
        if not divisible and samples < population:
            raise InputError(
                "samples needs samples that can be drawn singly, received an objective whose samples interact or "
                "that is made from batches; leave it out, or pass fewer batches"
            )
    own = {name: value for name, value in (given or {}).items() if value is not None}
    most = population if samples is None else min(samples, population)

    def planned(effort: Effort, count: int, parts: Sequence[str]) -> ExaminationPlan:
        chosen = replace(effort, **own)  # type: ignore[arg-type]
        costs = _seconds(speed, chosen, parts, count, population, recomputed, room)
        gradient = speed.gradient * population
        whole = count == population or gradient <= OF_ALL * (sum(costs.values()) + gradient)
        sections = [
            Section(part, min(AUDIT_SAMPLES, count) if part == "audit" else count, costs[part])
            if part in costs
            else Section(part, 0, 0.0, f"there is no time for it on {count} samples")
            for part in wanted
        ]
        return ExaminationPlan(chosen, population, count, whole, tuple(sections), deadline)

    plan = planned(THOROUGH, most, wanted)
    time_left = float("inf") if deadline is None else SLACK * deadline
    if _all(plan, speed) <= time_left:
        return plan
    plan = planned(BRIEF, most, wanted)
    if _all(plan, speed) <= time_left or not wanted:
        return plan
    fewest = min(FEWEST_SAMPLES, most) if divisible else most
    parts = list(wanted)
    while len(parts) > 1 and _all(planned(BRIEF, fewest, parts), speed) > time_left:
        parts = parts[: -1 if parts[-1] not in PROBED else -sum(part in PROBED for part in parts)]
    count = fewest
    while count + 8 <= most and _all(planned(BRIEF, count + 8, parts), speed) <= time_left:
        count += 8
    return planned(BRIEF, count, parts)


def _all(plan: ExaminationPlan, speed: Speed) -> float:
    """Return the seconds of a plan with loss and gradient."""
    return plan.seconds + speed.gradient * (plan.population if plan.whole else plan.samples)


def _seconds(
    speed: Speed,
    effort: Effort,
    parts: Sequence[str],
    count: int,
    population: int,
    recomputed: bool,
    room: int,
) -> dict[str, float]:
    """Return the seconds of each part on ``count`` samples."""
    product = count * (speed.kept_product if count * speed.graph_bytes <= room else speed.product)
    loss = count * speed.loss
    part_of_all = count < population
    probes = effort.expected_probes + 2 * effort.k + (PROBES_FOR_SAMPLING if part_of_all else 0)
    first_probed = next((part for part in parts if part in PROBED), "")
    each = {
        # trained networks: 35 products for one at each end, of either sign, 55 for three
        "eigenvalues": product * (25 + 10 * effort.k + (2 * VECTORS_FOR_SAMPLING if part_of_all else 0)),
        first_probed: product * probes,
        "density": product * effort.density[0] * effort.density[1],
        "average_direction": loss * 3 * effort.expected_draws,
        "worst_case": count * speed.gradient * 18,
        "surface": loss * effort.points**2 * (2 if recomputed else 1),
        "audit": min(AUDIT_SAMPLES, count) * speed.gradient * AUDIT_GRADIENTS,
    }
    return {part: each.get(part, 0.0) for part in parts}


VECTORS_FOR_SAMPLING, PROBES_FOR_SAMPLING = 2, 4
"""Eigenvectors and probes whose curvature over blocks of samples says how far the samples may be off."""


def time_samples(obj: Objective, seed: int = 0) -> Speed:
    """Time a loss, a gradient and products of the first samples, as many as are evaluated together."""
    some = obj
    if divisible(obj) and obj.evaluator.chunk_size is not None:
        some = obj.subset(torch.arange(min(obj.evaluator.chunk_size, int(obj.n_samples))))
    elif obj.evaluator.distribution is None:
        some = obj.with_data([obj.evaluator.first_batch()])
    count = float(some.n_samples)

    def seconds(call: object) -> float:
        began = time.perf_counter()
        call()  # type: ignore[operator]
        return (time.perf_counter() - began) / count

    some.loss()  # the first call of a process takes longer
    loss, gradient = seconds(some.loss), seconds(some.gradient)
    vector = obj.layout.normal(generator("speed", seed), torch.float64).to(obj.device, obj.dtype)  # (size,)
    some.evaluator.verify("hessian")
    with CurvatureProducts(some) as product:
        new, kept = seconds(lambda: product(vector)), seconds(lambda: product(vector))
        held = product.kept_bytes / count
    each = [loss, gradient, new, min(kept, new), held]
    if obj.evaluator.distribution is not None:  # all ranks must make the same plan: the slowest one's
        each = [max(column) for column in zip(*obj.evaluator.distribution.ranks.each(each), strict=True)]
    return Speed(*each)

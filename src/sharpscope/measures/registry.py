"""Every sharpness definition by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sharpscope.curvature import frobenius_norm, trace
from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.measures.average_direction import average_direction_sharpness
from sharpscope.measures.extreme_eigenvalues import lambda_max, lambda_min, spectral_norm
from sharpscope.measures.gradient_norm import gradient_norm
from sharpscope.measures.hammoud2023 import hammoud2023_sharpness
from sharpscope.measures.invariance.rescaling_change import rescaling_change
from sharpscope.measures.lambda_max_between_iterates import lambda_max_between_iterates
from sharpscope.measures.quadratic_bound import quadratic_bound_on_the_rise
from sharpscope.measures.sam_step import sam_step_sharpness
from sharpscope.measures.weight_kurtosis import weight_kurtosis
from sharpscope.measures.worst_case import worst_case_sharpness

Spec = str | Mapping[str, Any]
"""A measure's name, or {"measure": name, "name": its label in tables, and any of its options}."""


@dataclass(frozen=True)
class Measure:
    """One sharpness definition: what it is called, what it means, how it is taken."""

    name: str
    title: str
    symbol: str
    definition: str
    source: str
    rescaling_invariant: bool
    function: Callable[..., Estimate]
    unit: str

    @property
    def options(self) -> dict[str, Any]:
        """The options it takes and their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {p.name: p.default for p in parameters}


REGISTRY: dict[str, Measure] = {
    m.name: m
    for m in (
        Measure(
            "lambda_max",
            "Largest Hessian eigenvalue",
            "λ_max",
            "The largest (algebraic) eigenvalue of the Hessian of the loss: curvature in the sharpest direction.",
            "jastrzebski2018, kaur2022",
            False,
            lambda_max,
            "loss / parameter²",
        ),
        Measure(
            "lambda_min",
            "Smallest Hessian eigenvalue",
            "λ_min",
            "The smallest (algebraic) Hessian eigenvalue; negative away from a minimum.",
            "",
            False,
            lambda_min,
            "loss / parameter²",
        ),
        Measure(
            "spectral_norm",
            "Spectral norm of the Hessian",
            "‖H‖₂",
            "The largest absolute eigenvalue of the Hessian.",
            "jastrzebski2018",
            False,
            spectral_norm,
            "loss / parameter²",
        ),
        Measure(
            "frobenius_norm",
            "Frobenius norm of the Hessian",
            "‖H‖_F",
            "Root of the sum of squared Hessian eigenvalues.",
            "jastrzebski2018, figure 1b",
            False,
            frobenius_norm,
            "loss / parameter²",
        ),
        Measure(
            "trace",
            "Trace of the Hessian",
            "tr H",
            "Sum of the Hessian eigenvalues: mean curvature times the number of parameters.",
            "Hutchinson 1990",
            False,
            trace,
            "loss / parameter²",
        ),
        Measure(
            "gradient_norm",
            "Gradient norm",
            "‖∇L‖",
            "Length of the loss gradient: how far from a stationary point the weights are.",
            "",
            False,
            gradient_norm,
            "loss / parameter",
        ),
        Measure(
            "average_direction",
            "Average-direction sharpness",
            "E L(θ+εg) − L(θ)",
            "Expected rise of the loss at distance ε in a uniformly random direction.",
            "patriarca2024, equation 1",
            False,
            average_direction_sharpness,
            "loss",
        ),
        Measure(
            "worst_case",
            "Worst-case sharpness",
            "E max L_S(θ+δ) − L_S(θ)",
            "Expected largest rise of the loss over batches inside a ball around the weights, adaptive (scaled by "
            "the weights' magnitudes) unless stated.",
            "hammoud2023, section II",
            True,
            worst_case_sharpness,
            "loss",
        ),
        Measure(
            "sam_step",
            "One-step worst-case sharpness",
            "L(θ+ρg/‖g‖) − L(θ)",
            "Rise of the loss after one normalised gradient step of length ρ: what SAM climbs in training.",
            "Foret et al. 2021, equation 2",
            False,
            sam_step_sharpness,
            "loss",
        ),
        Measure(
            "hammoud2023",
            "Adaptive worst-case sharpness, hammoud2023's protocols",
            "E max L_S(θ+δ) − L_S(θ)",
            "Adaptive worst-case sharpness as the paper writes it, or as the authors' notebooks compute it; plain "
            "gradient steps make it depend on the scale of the weights.",
            "hammoud2023",
            False,
            hammoud2023_sharpness,
            "loss",
        ),
        Measure(
            "lambda_max_between_iterates",
            "Largest Hessian eigenvalue between iterates",
            "max λ_max",
            "The largest λ_max at evenly spaced points between the weights and one further SGD step, the rule for "
            "networks with batch normalisation.",
            "kaur2022, section 5",
            False,
            lambda_max_between_iterates,
            "loss / parameter²",
        ),
        Measure(
            "quadratic_bound",
            "Quadratic bound on the worst-case rise",
            "ρ‖∇L‖ + ρ²λ_max/2",
            "The most that the loss may rise within ρ if it is quadratic; the rise found by ascent stands beside it.",
            "kaur2022, appendix",
            False,
            quadratic_bound_on_the_rise,
            "loss",
        ),
        Measure(
            "rescaling_change",
            "Change under function-preserving rescalings",
            "max |Δ| / |value|",
            "The largest relative change of a measure, the adaptive worst case unless stated, when channels are "
            "rescaled at random without changing the network's function.",
            "hammoud2023; Dinh et al. 2017",
            True,
            rescaling_change,
            "",
        ),
        Measure(
            "weight_kurtosis",
            "Kurtosis of a layer's weights",
            "m₄/m₂²",
            "Fourth central moment over the squared variance of one layer's weights, the first unless stated: 3 for "
            "normal weights, more for heavier tails.",
            "coldenhoff2022",
            False,
            weight_kurtosis,
            "",
        ),
    )
}


def find(name: str) -> Measure:
    """Return a registered measure; raise `InputError` naming the known ones."""
    if name not in REGISTRY:
        raise InputError(
            f"measure must be one of {', '.join(REGISTRY)}, received {name!r}; check the spelling"
        )
    return REGISTRY[name]


def checked(spec: Spec) -> tuple[str, Measure, dict[str, Any]]:
    """Return (label, measure, options) of a spec; raise `InputError` for unknown names or options."""
    if isinstance(spec, str):
        return spec, find(spec), {}
    options = dict(spec)
    name = options.pop("measure", None)
    if not isinstance(name, str):
        raise InputError(
            f"a measure needs its name under 'measure', received {dict(spec)}; add measure = \"...\""
        )
    found = find(name)
    label = options.pop("name", name)
    for key in options:
        if key not in found.options:
            raise InputError(
                f"{name} takes the options {', '.join(found.options) or 'none'}, received {key!r}; "
                "remove it or check its spelling"
            )
    return label, found, options

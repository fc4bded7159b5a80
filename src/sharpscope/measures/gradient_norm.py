"""The length of the loss gradient."""

from __future__ import annotations

from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective


@register(
    "gradient_norm",
    title="Gradient norm",
    symbol="‖∇L‖",
    definition="Length of the loss gradient: how far from a stationary point the weights are.",
    source="",
    unit="loss / parameter",
    cost="1 gradient",
)
def gradient_norm(obj: Objective) -> Estimate:
    """Return ‖∇L(θ)‖₂: how far from a stationary point the weights are."""
    cost = CostMeter(obj)
    value = float(obj.gradient().double().norm())
    return Estimate(
        "gradient_norm", value, cost=cost.total(), protocol=obj.protocol, fingerprint=obj.fingerprint
    )

"""The length of the loss gradient."""

from __future__ import annotations

import time
from copy import copy

from sharpscope.estimate import Estimate
from sharpscope.objective.objective import Objective


def gradient_norm(obj: Objective) -> Estimate:
    """Return ‖∇L(θ)‖₂: how far from a stationary point the weights are."""
    began, before = time.perf_counter(), copy(obj.spent)
    value = float(obj.gradient().double().norm())
    cost = {**obj.spent.since(before), "seconds": time.perf_counter() - began}
    return Estimate("gradient_norm", value, cost=cost, protocol=obj.protocol, fingerprint=obj.fingerprint)

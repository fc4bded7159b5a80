"""Ways to carry out the steps of runs in flight, all to the same bits; which one is chosen by device and model."""

from sharpscope.training.engines.choice import engine_for
from sharpscope.training.engines.interface import Engine

__all__ = ["Engine", "engine_for"]

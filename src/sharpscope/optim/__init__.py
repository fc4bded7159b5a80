"""Optimizers that look around before they step."""

from sharpscope.optim.sam import ASAM, SAM

__all__ = ["ASAM", "SAM"]

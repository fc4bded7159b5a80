"""What an ascent is to whoever evaluates losses for it: a climb that asks for points one at a time."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from torch import Tensor

Question: TypeAlias = tuple[Tensor, bool]
"""A perturbation δ (size,) and whether the gradient there is wanted beside the loss."""

Answer: TypeAlias = tuple[float, Tensor]
"""L(θ + δ) and ∇L(θ + δ) (size,), zeros where it was not wanted; an infinite loss where the network overflows."""

Climb: TypeAlias = Generator[Question, Answer, tuple[float, float]]
"""Asks its way up and returns the loss at its start and the highest one met."""

Ascending: TypeAlias = Generator[Question, Answer, float]
"""A part of a climb; returns the highest loss met."""

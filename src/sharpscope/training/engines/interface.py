"""What carries out training steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sharpscope.training.member import Member


class Engine(Protocol):
    """Takes the steps of members that stand at the same step of an epoch.

    A member's weights, optimizer state, ``loss_sum`` and ``correct`` after a step are, to the bit, what they would be
    had it been the only one. Between calls of `step` they lie where they always do, in its model and optimizer.
    """

    members: list[Member]

    def begin(self) -> None:
        """Take up the epoch that every member has opened."""

    def step(self, step: int) -> None:
        """Take step number `step` of the epoch for every member."""

    def release(self) -> None:
        """Leave the members: nothing of them is to depend on this engine any more."""

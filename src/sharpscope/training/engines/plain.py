"""One member after the other, each by its own module, autograd and optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.training.computation import forward_of
from sharpscope.training.reproducible import seed_step

if TYPE_CHECKING:
    from torch import Tensor

    from sharpscope.training.member import Member


class PlainEngine:
    """Takes any member's steps; what the other engines are compared with."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self._steps = [Step(member) for member in members]

    def begin(self) -> None:
        """Nothing to prepare."""

    def step(self, step: int) -> None:
        """Take the step of one member after the other."""
        for member, take in zip(self.members, self._steps, strict=True):
            inputs, targets = member.batches[step]
            seed_step(member.run_id, member.epoch, step, member.device)
            take(inputs, targets)

    def release(self) -> None:
        """Nothing to give back."""


class Step:
    """One step of one member: a closure handed to its optimizer, and what it adds to the epoch's sums."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._forward = forward_of(member.config, member.model, member.device)
        self._labelled = member.dataset.task == "classification"

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        """Take the step; loss and hits are those of the weights it starts from.

        The optimizer decides how often the closure runs: once, or several times for those that look around.
        """
        member = self._member
        start: list[Tensor] = []

        def closure() -> Tensor:
            member.optimizer.zero_grad()
            outputs = self._forward(inputs)
            loss = member.loss(outputs, targets)
            loss.backward()
            if not start:
                start.extend((loss.detach(), outputs.detach()))
            return loss

        step: Any = member.optimizer.step  # torch types a closure as returning a float
        try:
            step(closure)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise single_sample(member, len(targets)) from error
        loss, outputs = start
        member.loss_sum.add_(loss, alpha=len(targets))
        if self._labelled:
            member.correct += (outputs.argmax(1) == targets).sum()


def single_sample(member: Member, size: int) -> InputError:
    """Return the refusal of a batch that batch normalisation cannot normalise."""
    return InputError(
        f"batch normalisation cannot normalise a batch of {size} sample; set drop_last = true or choose a batch_size "
        f"that leaves no single sample of {len(member.dataset.train)}."
    )

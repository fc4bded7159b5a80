"""Training steps that several processes take together: each has the whole model and a part of every batch.

The mean loss of a batch is the sum of its parts' means, each times its share of the samples, and so is its gradient.
After one collective every rank holds the gradient of the whole batch, to the same bits, and takes the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sharpscope.errors import InputError, RanksError

if TYPE_CHECKING:
    from torch import nn


class SharedSteps:
    """One rank's part in the steps of a run; every rank makes the same calls.

    Raises `InputError` for a model whose training step is no sum over samples, see `refuse_unlike_alone`.
    """

    def __init__(
        self, group: Any, model: nn.Module, parameters: Sequence[Tensor], device: torch.device
    ) -> None:
        refuse_unlike_alone(model)
        self._group, self._parameters, self._device = group, parameters, device
        self._rank, self._size = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        self._require_equal_weights()

    def _require_equal_weights(self) -> None:
        """Raise `RanksError` on every rank where one begins from other weights than rank 0.

        It is a meeting point too: a rank has loaded the workspace before another saves there.
        """
        mine = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
        first = mine.clone()
        torch.distributed.broadcast(first, group_src=0, group=self._group)
        differs = torch.tensor([int(not torch.equal(mine, first))], device=self._device)
        torch.distributed.all_reduce(differs, group=self._group)
        if differs:
            raise RanksError("ranks begin a run from different weights; give every rank the model of rank 0")

    def agreed(self, asked: bool) -> bool:
        """Return what rank 0 was asked, so that all ranks stop before the same step."""
        answer = torch.tensor([int(asked)], device=self._device)
        torch.distributed.broadcast(answer, group_src=0, group=self._group)
        return bool(answer)

    def gradients(
        self,
        forward: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        targets: Tensor,
        labelled: bool,
    ) -> tuple[Tensor, Tensor]:
        """Give every parameter the gradient of the whole batch; return the batch's mean loss and its hits.

        A parameter that the loss of no rank depends on keeps no gradient, as in one process.
        """
        mine, answers = (part.tensor_split(self._size)[self._rank] for part in (inputs, targets))
        value = hits = torch.zeros((), device=self._device)
        if len(mine):  # a batch may have fewer samples than there are ranks
            outputs = forward(mine)
            share = loss(outputs, answers) * (len(mine) / len(inputs))
            share.backward()
            value = share.detach()
            if labelled:
                hits = (outputs.argmax(1) == answers).sum()
        grads = [parameter.grad for parameter in self._parameters]
        kind = self._parameters[0].dtype
        there = torch.tensor([float(grad is not None) for grad in grads], dtype=kind, device=self._device)
        parts = [
            torch.zeros(parameter.numel(), dtype=kind, device=self._device)
            if grad is None
            else grad.reshape(-1)
            for parameter, grad in zip(self._parameters, grads, strict=True)
        ]
        flat = torch.cat([*parts, there, torch.stack([value.to(kind), hits.to(kind)])])
        torch.distributed.all_reduce(flat, group=self._group)
        gradients = flat.split([*(parameter.numel() for parameter in self._parameters), len(grads), 2])
        for parameter, gradient, used in zip(self._parameters, gradients, gradients[-2] > 0, strict=False):
            parameter.grad = gradient.view_as(parameter) if used else None
        return gradients[-1][0], gradients[-1][1].round().long()


def refuse_unlike_alone(model: nn.Module) -> None:
    """Raise `InputError` for a model that several ranks would train to another result than one process does.

    Batch normalisation in training takes the statistics of a whole batch, and dropout draws one mask for it. A module
    of one's own that draws at random or mixes samples cannot be told, and must not be trained with ranks.
    """
    for name, module in model.named_modules():
        kinds = " ".join(kind.__name__ for kind in type(module).__mro__)
        batch_norm, dropout = "BatchNorm" in kinds, "Dropout" in kinds and getattr(module, "p", 0) > 0
        if batch_norm or dropout:
            what = "dropout" if dropout else "batch normalisation"
            raise InputError(
                f"ranks share out the samples of a batch, and {what} ('{name}') would not be the whole batch's; "
                "train it with --ranks 1, or choose a model without it"
            )

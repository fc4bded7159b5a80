"""The batches of one epoch of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpscope.training.reproducible import epoch_order

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sharpscope.data import Split
    from sharpscope.training.config import RunConfig


class Minibatches:
    """The batches of an epoch, by number; the last one may be smaller.

    ``order`` (samples,) holds the indices in the order they are visited, None where every batch is the whole set.
    """

    def __init__(
        self, split: Split, config: RunConfig, run_id: str, epoch: int, device: torch.device
    ) -> None:
        n = len(split)
        self._split = split
        self.size = n if config.batch_size == "full" else config.batch_size
        passes = config.steps_per_epoch or 1
        self.samples = passes * (n - n % self.size if config.drop_last else n)
        whole = self.size == n  # every sample in one batch: their order has no effect, so none is made
        self.order = None if whole else epoch_order(run_id, epoch, n, device)[: self.samples]

    def __len__(self) -> int:
        return -(-self.samples // self.size)

    def chosen(self, number: int) -> Tensor | None:
        """Return the indices of a batch, None for the whole set."""
        return None if self.order is None else self.order[number * self.size : (number + 1) * self.size]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        chosen = self.chosen(number)
        if chosen is None:
            return self._split.inputs, self._split.targets
        return self._split.inputs.index_select(0, chosen), self._split.targets.index_select(0, chosen)

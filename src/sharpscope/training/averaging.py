"""The exponential moving average of a run's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class WeightAverage:
    """θ̄_t = d θ̄_{t−1} + (1 − d) θ_t after every step t, from θ̄_0 = θ_0, with the decay d.

    Buffers of real numbers, such as the running statistics of batch normalisation, are averaged likewise; whole
    numbers are those of the last step (Polyak & Juditsky 1992; as in `torch.optim.swa_utils`, where θ̄ starts from the
    first step's weights instead).

    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(model.weight, 1.0)
    >>> average = WeightAverage(model, 0.75)
    >>> _ = torch.nn.init.constant_(model.weight, 3.0)
    >>> average.update()
    >>> with average.in_place():
    ...     model.weight.item()
    1.5
    >>> model.weight.item()
    3.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        # tensors that share memory with the model, which changes them in place only
        self._live = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self._average = {name: tensor.clone() for name, tensor in self._live.items()}

    def update(self) -> None:
        """Take the model's weights into the average."""
        for name, mean in self._average.items():
            if mean.is_floating_point():
                mean.lerp_(self._live[name], 1 - self._decay)
            else:
                mean.copy_(self._live[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the model, and the model's own weights back afterwards."""
        live = {name: tensor.clone() for name, tensor in self._live.items()}
        self.publish()
        try:
            yield
        finally:
            self._copy(live)

    def publish(self) -> None:
        """Put the average into the model for good."""
        self._copy(self._average)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged tensors by their names in the model."""
        return dict(self._average)

    def load_state_dict(self, state_dict: dict[str, Tensor], /) -> None:
        """Take averaged tensors back."""
        for name, mean in self._average.items():
            mean.copy_(state_dict[name])

    def _copy(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._live.items():
                tensor.copy_(tensors[name])

"""Faster kernels for a CPU, in place of torch's while a run trains. They serve one derivative, no second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sharpscope.training.cpu.gradient_descent import descending_layers
from sharpscope.training.cpu.narrow_convolution import narrow_convolution
from sharpscope.training.cpu.normalised_pooling import normalised_poolings
from sharpscope.training.cpu.pooling import max_pool, window_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sharpscope.training.run_state import RunState


class FastKernels:
    """Within, layers of a run's model on a CPU take faster ways.

    These are `descending_layers`, `narrow_convolution`, `normalised_poolings` and `max_pool`. A compiled model keeps
    its own layers, because the compiler writes its kernels.
    """

    def __init__(self, run: RunState) -> None:
        self._forwards: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
        if run.device.type == "cpu" and not run.config.compile:
            for layer in run.model.modules():
                if (window := window_of(layer)) is not None:
                    self._forwards[layer] = partial(_pooled, window)
                elif (forward := narrow_convolution(layer)) is not None:
                    self._forwards[layer] = forward
            self._forwards |= normalised_poolings([run.model])
            if run.config.precision == "full" and run.config.clip_norm is None:
                self._forwards |= descending_layers(run.model, run.optimizer)

    def __enter__(self) -> FastKernels:
        for layer, forward in self._forwards.items():
            layer.__dict__["forward"] = forward
        return self

    def __exit__(self, *exception: object) -> None:
        for layer in self._forwards:
            layer.__dict__.pop("forward", None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Give the layers their own forwards: whoever looks at a model in training may differentiate it twice."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


def _pooled(window: list[list[int]], images: Tensor) -> Tensor:
    return max_pool(images, window)

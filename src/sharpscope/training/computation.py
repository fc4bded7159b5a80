"""How a training step is computed: precision, compilation, and how convolutions lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sharpscope.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from sharpscope.training.config import RunConfig

Forward = Callable[["Tensor"], "Tensor"]


@contextmanager
def convolutions_in_channels_last(
    config: RunConfig, model: nn.Module, device: torch.device
) -> Iterator[None]:
    """Within, a convolutional network on a CPU keeps its kernels, and so its feature maps, in channels-last memory.

    Convolution, batch normalisation and pooling of float32 are faster that way on a CPU: a step of the networks of
    the laptop scales takes 0.77 to 0.87 of the time (`benchmarks/README.md`). What is computed is the same up to
    rounding. L-BFGS and optimizers of one's own may want contiguous gradients, and a compiler chooses for itself.
    """
    optimizer = config.optimizer
    faster = (
        device.type == "cpu"
        and config.dtype == "float32"
        and not config.compile
        and ":" not in optimizer.name
        and "lbfgs" not in (optimizer.name, optimizer.options.get("base"))
        and any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    )
    if faster:
        _lay_out(model, torch.channels_last)
    try:
        yield
    finally:
        if faster:
            _lay_out(model, torch.contiguous_format)


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    to: Any = model.to  # torch's annotation leaves this keyword out
    to(memory_format=layout)


def forward_of(config: RunConfig, model: nn.Module, device: torch.device) -> Forward:
    """Return the function from inputs to outputs, in the run's dtype, that training steps differentiate.

    Raises `InputError` where the run asks for compilation and this machine has no compiler. Where compiling fails,
    the returned function raises `InputError`.
    """
    forward: Any = model
    if config.compile:
        _require_compiler(device)
        # After a number of compilations in one process torch stops compiling without a message: count from zero.
        torch.compiler.reset()
        # Every batch size gets its own kernels. With sizes left open, the compiled code would depend on which size
        # came first, and a resumed run could give other bits than the uninterrupted one.
        forward = torch.compile(model, dynamic=False)
    if config.precision == "full":
        return _refusing(forward) if config.compile else forward

    def in_bfloat16(inputs: Tensor) -> Tensor:
        # no cache of converted weights: each is converted once a step anyway
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
            outputs: Tensor = forward(inputs)
        return outputs.float()

    return _refusing(in_bfloat16) if config.compile else in_bfloat16


def _refusing(forward: Forward) -> Forward:
    """Turn a failure of the compiler into one sentence."""
    from torch._dynamo.exc import TorchDynamoException

    def compiled(inputs: Tensor) -> Tensor:
        try:
            return forward(inputs)
        except TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)
            reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
            raise InputError(
                f"torch.compile does not take this model ({reason.strip()}); leave compile out of the configuration."
            ) from error

    return compiled


def _require_compiler(device: torch.device) -> None:
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise InputError(
                "compile = true on a GPU needs Triton, which is not installed; install it or leave it out."
            )
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # torch has moved the class of this one about
        raise InputError(
            "compile = true needs a C++ compiler, and none was found (g++, or what the variable CXX names); install "
            "one or leave compile out of the configuration."
        ) from error

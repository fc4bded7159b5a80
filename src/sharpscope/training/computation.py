"""The forward pass of a training step, in the declared precision, compiled where the run asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from sharpscope.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sharpscope.training.config import RunConfig

Forward = Callable[["Tensor"], "Tensor"]


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

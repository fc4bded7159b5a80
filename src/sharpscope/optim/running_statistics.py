"""Keeps the running statistics of normalisation layers as the first evaluation of a step left them."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


class RunningStatistics:
    """Takes copies of running statistics after the first evaluation and writes them back after the second.

    With a model its modules are copied at once. Without one a hook on all modules copies each module's buffers
    just before its forward pass in the second evaluation.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._held: dict[nn.Module, dict[str, Tensor]] = {}
        self._hook: Any = None

    def hold(self) -> None:
        """Copy the statistics as they are, or each module's when it is about to be evaluated."""
        if self._model is None:
            me = weakref.ref(self)  # the hook is everyone's and must not keep this alive

            def keep(module: nn.Module, _: Any) -> None:
                if (statistics := me()) is not None:
                    statistics._keep(module)

            self._hook = register_module_forward_pre_hook(keep)
        else:
            for module in self._model.modules():
                self._keep(module)

    def release(self) -> None:
        """Write the copies back and forget them."""
        if self._hook is not None:
            self._hook.remove()
        for module, buffers in self._held.items():
            for name, kept in buffers.items():
                module.get_buffer(name).copy_(kept)
        self._held, self._hook = {}, None

    def __del__(self) -> None:
        if getattr(self, "_hook", None) is not None:  # dropped between its two steps
            self._hook.remove()

    def _keep(self, module: nn.Module) -> None:
        if module.training and hasattr(module, "running_mean") and module not in self._held:
            buffers = dict(module.named_buffers(recurse=False))
            self._held[module] = {name: buffer.detach().clone() for name, buffer in buffers.items()}

"""The way from θ to θ + ε and back: what is put back, and what the two steps must know of each other."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from sharpscope.optim.vectors import is_sharded

if TYPE_CHECKING:
    from sharpscope.optim.sharpness_aware import SharpnessAware


class Excursion:
    """Holds the weights θ while the model is at θ + ε.

    There is one for each optimizer. Trainers wrap optimizers in objects that copy or look up their attributes; since
    all that changes between the two steps lies in here, a step taken through a wrapper and one taken without it act
    on the same state.

    Attributes
    ----------
    begun
        Whether the first of two steps has been taken and the second has not.
    by_closures
        Whether a step by closures is under way.
    expects_gradient
        Whether there were gradients at θ, so that there must be some at θ + ε.
    first
        The gradients at θ, where a variant combines them with those at θ + ε; None where the step stays at θ.
    scale
        The loss scale that the first step was told.
    unscaled
        A flag (tensor): whether the gradients at θ were changed after the backward pass, as ``unscale_`` does.

    """

    def __init__(self, model: nn.Module | None) -> None:
        self.begun = self.by_closures = self.expects_gradient = False
        self.first: dict[Tensor, Tensor] | None = None
        self.scale: float | Tensor | None = None
        self.unscaled: Tensor | None = None
        self.statistics = _RunningStatistics(model)
        self._owner: Any = None
        self._origins: dict[Tensor, Tensor] = {}
        self._copies: dict[Tensor, Tensor] = {}  # memory for θ, kept from step to step

    def belongs_to(self, optimizer: SharpnessAware) -> None:
        """Name the optimizer whose state this is."""
        self._owner = weakref.ref(optimizer)

    @property
    def owner(self) -> SharpnessAware:
        """The optimizer itself, also where a wrapper asks."""
        owner: SharpnessAware = self._owner()
        return owner

    @property
    def inside_step(self) -> bool:
        """Whether a step is under way, in one call or between two."""
        return self.begun or self.by_closures

    @property
    def away(self) -> bool:
        """Whether the model's weights are not, or will not be, the optimizer's own."""
        return self.begun or bool(self._origins)

    def keep(self, parameters: Sequence[Tensor]) -> None:
        """Copy parameters that are about to move for the first time."""
        still = [p for p in parameters if p not in self._origins]
        origins = [self._copy_of(p) for p in still]
        _copy(origins, still)
        self._origins.update(zip(still, origins, strict=True))

    def forget(self) -> None:
        """End the step: what the first evaluation left for the second is of no use any more."""
        self.first = self.scale = self.unscaled = None
        self.expects_gradient = False

    @torch.no_grad()
    def back(self) -> None:
        """Give every parameter its θ again, and modules their running statistics."""
        if self._origins:
            _copy(list(self._origins), list(self._origins.values()))
            torch.clear_autocast_cache()  # which holds weights of θ + ε in half precision
        self._origins = {}
        self.begun = False
        self.statistics.release()

    def _copy_of(self, parameter: Tensor) -> Tensor:
        held = self._copies.get(parameter)
        if held is None or held.device != parameter.device or held.dtype != parameter.dtype:
            held = self._copies[parameter] = torch.empty_like(parameter)
        return held

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_copies": {}, "_owner": None, "unscaled": None}


class _RunningStatistics:
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
        if self._model is None and self._hook is None:
            me = weakref.ref(self)  # the hook is everyone's and must not keep this alive

            def keep(module: nn.Module, _: Any) -> None:
                if (statistics := me()) is not None:
                    statistics._keep(module)

            self._hook = register_module_forward_pre_hook(keep)
        elif self._model is not None:
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

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_hook": None}

    def _keep(self, module: nn.Module) -> None:
        if module.training and hasattr(module, "running_mean") and module not in self._held:
            buffers = dict(module.named_buffers(recurse=False))
            self._held[module] = {name: buffer.detach().clone() for name, buffer in buffers.items()}


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if any(is_sharded(t) for t in targets):  # DTensor has no such operation on lists
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
    elif targets:
        torch._foreach_copy_(targets, sources)

"""Situations in which SAM would silently be another optimizer, each found and refused with its remedy."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed

from sharpscope.errors import InputError
from sharpscope.optim.excursion import Excursion
from sharpscope.optim.vectors import is_sharded, local

WITNESSES = 3
"""So many of the smallest parameters are watched: one alone may have a gradient of zeros."""


def require(holds: object, rule: str) -> None:
    """Raise `InputError` with the rule where it does not hold."""
    if not holds:
        raise InputError(rule)


def refuse_sharding_by_others(parameters: Iterable[Tensor]) -> None:
    """Refuse parameters of which this process sees a part only, without a way to the norm of the whole."""
    if any(getattr(p, "_fsdp_flattened", False) for p in parameters):
        raise InputError(
            "SAM needs the norm of the whole gradient, received parameters of FullyShardedDataParallel, of which "
            "each rank sees its own part; use torch.distributed.fsdp.fully_shard (FSDP2)"
        )
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    from torch.distributed.optim import ZeroRedundancyOptimizer

    if _caller(ZeroRedundancyOptimizer) is not None:
        raise InputError(
            "SAM inside ZeroRedundancyOptimizer would perturb each rank's own part only; turn them round: "
            "SAM(params, ZeroRedundancyOptimizer, optimizer_class=torch.optim.SGD, lr=...)"
        )


def refuse_accumulation_by_accelerate() -> None:
    """Refuse a closure where accelerate calls it for the last micro-batch of an accumulation only."""
    module: Any = sys.modules.get("accelerate")
    if module is None or module.state.GradientState().num_steps == 1:  # which is common to all of a process
        return
    wrapper = _caller(module.optimizer.AcceleratedOptimizer)
    if wrapper is not None and (steps := wrapper.gradient_state.num_steps) > 1:
        raise InputError(
            "inside accelerate's accumulate() a closure is evaluated on the last micro-batch only, received one with "
            f"gradient_accumulation_steps={steps}; make the Accelerator with 1 and give step a sequence of closures, "
            "or take the two steps (docs/optimizers.md)"
        )


def _caller(kind: type) -> Any:
    """Return the object of a class among whose methods' callees we are, None where there is none."""
    frame = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), kind):
        frame = frame.f_back
    return None if frame is None else frame.f_locals["self"]


def refuse_half_precision(parameter: Tensor) -> None:
    """Refuse weights to which ε would be lost: near 1 neighbouring numbers lie 1e-3 or 8e-3 apart."""
    if parameter.dtype in (torch.float16, torch.bfloat16):
        raise InputError(
            f"SAM needs weights in float32 or float64, received {str(parameter.dtype).removeprefix('torch.')}, in "
            "which a perturbation is lost to rounding; keep the weights in float32 and use torch.autocast"
        )


def check_scaling(excursion: Excursion, scale: Tensor | None, mixes: bool) -> None:
    """Refuse, in a GradScaler's step, gradients at θ that were used with a scale they did not have.

    ``scale`` is None where ``unscale_`` was called; ``mixes`` says that the length of the gradients at θ matters.
    """
    if mixes and excursion.scale is None:
        raise InputError(
            "this optimizer mixes gradients at θ, whose loss scale it was not told, with others; pass it, "
            "first_step(grad_scale=scaler.get_scale())"
        )
    if scale is None and excursion.unscaled is not None and bool(excursion.unscaled):
        raise InputError(
            "scaler.unscale_(optimizer) belongs between the second backward pass and scaler.step, and the gradients "
            "at θ were changed before first_step(), which needs no unscaling; move it there"
        )


class ClearingCheck:
    """Tells after a closure's evaluation whether the closure had added to gradients of earlier evaluations.

    A few parameters that have a gradient already are watched, small ones, since their old gradients stay: when
    the backward pass brings a new one, the old one must be gone, or have been written to
    (``zero_grad(set_to_none=False)``).
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        filled = [p for p in parameters if p.grad is not None and p.requires_grad]
        self._watched = [_Watched(p) for p in sorted(filled, key=Tensor.numel)[:WITNESSES]]

    def require_cleared(self) -> None:
        """Refuse if the gradients at hand hold more than the closure's own evaluation."""
        kept = [w.verdict() for w in self._watched]
        if any(kept):
            raise InputError(
                "the closure must clear the gradients before its backward pass, received one that added to gradients "
                "of earlier backward passes, which it cannot evaluate again at θ + ε; give step a sequence of "
                "closures, one for each micro-batch, or take first_step() and second_step() (with Lightning: manual "
                "optimization in place of accumulate_grad_batches)"
            )


class _Watched:
    def __init__(self, parameter: Tensor) -> None:
        self._parameter = parameter
        assert parameter.grad is not None
        self._earlier, self._version = parameter.grad, parameter.grad._version
        self._added: bool | None = None
        self._hook = parameter.register_hook(self._before_accumulation)

    def _before_accumulation(self, gradient: Tensor) -> None:
        if self._added is None:
            self._added = self._is_as_it_was() and bool((local(self._earlier) != 0).any())

    def _is_as_it_was(self) -> bool:
        return self._parameter.grad is self._earlier and self._earlier._version == self._version

    def verdict(self) -> bool:
        """Whether the earlier gradient, not zero, is part of the present one."""
        self._hook.remove()
        if self._added is not None:
            return self._added
        if is_sharded(self._parameter):  # FSDP2 brings gradients by another way, past the hook
            return self._parameter.grad is self._earlier and bool((local(self._earlier) != 0).any())
        return self._is_as_it_was() and bool((local(self._earlier) != 0).any())


class UnscaleCheck:
    """Tells whether gradients were changed after the backward pass that made them, as ``GradScaler.unscale_`` does.

    A few small parameters keep a copy of their gradient as the backward pass left it. Inside a
    step none is kept: only gradients that a training script has had in its hands can have been changed.
    """

    def __init__(self, parameters: Iterable[Tensor], excursion: Excursion) -> None:
        candidates = [p for p in parameters if p.requires_grad and p.is_leaf and not is_sharded(p)]
        self._left: dict[Tensor, Tensor] = {}
        self._excursion = excursion
        me = weakref.ref(self)

        def keep(parameter: Tensor) -> None:
            if (check := me()) is None or check._excursion.inside_step:
                return
            if parameter.grad is None or parameter.grad.layout != torch.strided:
                return
            if distributed.is_available() and distributed.is_initialized():
                # DistributedDataParallel averages later, at the end of the backward pass; a callback that is queued
                # by a callback runs after its
                queue = torch.autograd.Variable._execution_engine.queue_callback
                queue(lambda: queue(lambda: check._keep(parameter)))
            else:
                check._keep(parameter)

        smallest = sorted(candidates, key=lambda p: p.numel())[:WITNESSES]
        self._hooks = [p.register_post_accumulate_grad_hook(keep) for p in smallest]

    def changed(self) -> Tensor | None:
        """A flag as a tensor, for which nothing is waited; None where no change is known."""
        pairs = [
            (parameter.grad, left)
            for parameter, left in self._left.items()
            if parameter.grad is not None and parameter.grad.shape == left.shape
        ]
        if all(left.device.type == "cpu" and torch.equal(now, left) for now, left in pairs):
            return None
        flags = [~torch.isclose(now, left, rtol=0, atol=0, equal_nan=True).all() for now, left in pairs]
        return torch.stack([f.to(flags[0].device) for f in flags]).any() if flags else None

    def _keep(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._left[parameter] = parameter.grad.detach().clone()

    def __del__(self) -> None:
        for hook in getattr(self, "_hooks", ()):
            hook.remove()

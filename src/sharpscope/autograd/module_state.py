"""What a measurement changes for its duration, and how it is restored: flags, tensors, random states, switches.

Everything is written directly and put back by assignment, never by a context that is held open while a caller looks
at an intermediate result: such a context would close when the garbage collector finds it, long after the call.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

T = TypeVar("T")

_RUNNING_STATISTICS = "running_mean"
"""A module that carries this attribute normalises by batch statistics when training."""


class RandomState:
    """Python's, NumPy's and torch's global random states, on all devices, at the time of construction."""

    def __init__(self) -> None:
        self.python, self.numpy = random.getstate(), np.random.get_state()
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        """Put the random states back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore Python's, NumPy's and torch's global random states (all devices) on leaving, also on error."""
    before = RandomState()
    try:
        yield
    finally:
        try:
            before.restore()
        except BaseException:  # an interrupt
            before.restore()
            raise


class SavedState:
    """The state of a module and of the process, saved so that it can be changed for a while and then restored.

    Recorded are every submodule's attributes, training flag, parameters and buffers, the random states, the kernels
    that attention and cuDNN may use, autocast, the compiler's stance and whether gradients are recorded.
    ``parameters`` by name and ``buffers`` are those that were found in the model, whatever it holds now;
    ``constants`` are the parameters of a loss that is a module.
    """

    def __init__(self, model: nn.Module, device: torch.device, loss: object = None) -> None:
        self.device = device
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        modules = list(model.modules())
        self.buffers: list[Tensor] = list(model.buffers())
        self.constants: list[Tensor] = []
        if isinstance(loss, nn.Module):
            modules += [module for module in loss.modules() if module not in modules]
            self.buffers += list(loss.buffers())
            known = {id(p) for p in self.parameters.values()}
            self.constants = [p for p in loss.parameters() if id(p) not in known]
        self._attributes = [(module, module.training, dict(vars(module))) for module in modules]
        self._in_model = len(list(model.modules()))
        self._slots: list[tuple[Any, str, Tensor]] = [
            (held, name, tensor)
            for module in modules
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None
        ]
        self._recurrent = [(m, m._flat_weights) for m in modules if isinstance(m, nn.RNNBase)]
        self._embeddings = [(m, m.max_norm) for m in modules if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        self._moved: list[tuple[Tensor, Tensor]] = []
        self._stance: Any = None
        self._random = RandomState()
        self._switches: list[tuple[Callable[[bool], Any], bool]] = [
            (torch.backends.cuda.enable_flash_sdp, torch.backends.cuda.flash_sdp_enabled()),
            (torch.backends.cuda.enable_mem_efficient_sdp, torch.backends.cuda.mem_efficient_sdp_enabled()),
            (torch.backends.cuda.enable_math_sdp, torch.backends.cuda.math_sdp_enabled()),
            (torch.backends.cuda.enable_cudnn_sdp, torch.backends.cuda.cudnn_sdp_enabled()),
            (_enable_cudnn, torch.backends.cudnn.enabled),
            (self._autocast, torch.is_autocast_enabled(device.type)),
            (torch.set_grad_enabled, torch.is_grad_enabled()),
        ]

    def _autocast(self, enabled: bool) -> None:
        torch.set_autocast_enabled(self.device.type, enabled)

    def restore(self) -> None:
        """Put everything back as it was found; a second call does no harm."""
        for module, training, before in self._attributes:
            now = vars(module)
            for name in [name for name in now if name not in before]:
                del now[name]
            for name, value in before.items():
                if now.get(name) is not value:
                    now[name] = value
            if module.training is not training:
                module.training = training
        for held, name, tensor in self._slots:
            if held[name] is not tensor:
                held[name] = tensor
        for parameter, values in self._moved:
            parameter.data = values
        for switch, value in self._switches:
            switch(value)
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
        self._random.restore()

    def set_mode(self, mode: str, dropout: bool) -> None:
        """Put every submodule in the declared mode.

        ``eval``: everything in eval mode. ``train``: batch normalisation (any module with running statistics) on
        batch statistics, everything else in eval mode unless ``dropout`` is true; then everything trains. The flags
        are set directly, since a model may override ``train()``.
        """
        for module, _, _ in self._attributes[: self._in_model]:
            module.training = mode == "train" and (dropout or hasattr(module, _RUNNING_STATISTICS))

    def hold(self, tensors: Mapping[int, Tensor]) -> None:
        """Hold ``tensors[id(t)]`` wherever the module was found to hold the parameter or buffer t.

        Tied parameters and shared submodules are one tensor held in several places; all of them see the substitute.

        Look-up tables become differentiable functions of what they hold, with the derivative of L: ``max_norm``
        would rewrite the weight in place, so the table holds `shortened` rows instead; ``scale_grad_by_freq`` would
        divide gradients by counts, and ``sparse`` gradients have no double backward, so both are off.
        """
        for held, name, tensor in self._slots:
            held[name] = tensors.get(id(tensor), tensor)
        for module, weights in self._recurrent:  # these keep a second list of their weights
            module._flat_weights = [w if w is None else tensors.get(id(w), w) for w in weights]
        for embedding, max_norm in self._embeddings:
            embedding.scale_grad_by_freq = embedding.sparse = False
            if max_norm is not None:
                embedding.max_norm = None
                weight: Any = shortened(embedding.weight, max_norm, embedding.norm_type)
                embedding._parameters["weight"] = weight

    def move(self, values: Mapping[str, Tensor]) -> None:
        """Give parameters other values until `restore`, themselves and not the tensors held in their place."""
        for name, value in values.items():
            parameter = self.parameters[name]
            self._moved.append((parameter, parameter.data))
            parameter.data = value.to(parameter.dtype)

    def use_twice_differentiable_kernels(self) -> None:
        """Choose kernels that have a double backward, and switch autocast off.

        Flash and memory-efficient attention have none, the math kernel has; cuDNN's recurrent layers have none,
        torch's own have. Compiled modules and functions run as they are written.
        """
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            self._stance = torch.compiler.set_stance("force_eager")
        torch.backends.cuda.enable_math_sdp(True)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        if self.device.type == "cuda" and self._recurrent:
            _enable_cudnn(False)
        self._autocast(False)


def restoring(
    model: nn.Module, device: torch.device, function: Callable[[SavedState], T], loss: object = None
) -> T:
    """Return ``function(saved)`` and put the model and the process back as found, however the call ends.

    An interrupt may come while the state is being put back; it is then put back a second time.
    """
    saved = SavedState(model, device, loss)
    try:
        try:
            return function(saved)
        finally:
            saved.restore()
    except BaseException:
        saved.restore()
        raise


def private_copy(model: nn.Module) -> nn.Module:
    """Return a deep copy of a module, also where it holds tensors with a graph.

    The older ``torch.nn.utils.weight_norm`` and ``spectral_norm`` keep the weight that they compute as an attribute,
    which torch does not deep-copy; the copy holds its values, and computes it anew when it is called.
    """
    computed = (
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    )
    return deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in computed})


def shortened(rows: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Return rows (n, width), those longer than ``max_norm`` brought to that length as `torch.nn.Embedding` does.

    >>> shortened(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 1.0, 2.0)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    long = torch.linalg.vector_norm(rows.detach(), norm_type, dim=1, keepdim=True) > max_norm
    safe = torch.where(long, rows, torch.ones_like(rows))  # a norm has no second derivative at zero
    factors = max_norm / (
        torch.linalg.vector_norm(safe, norm_type, dim=1, keepdim=True) + 1e-7
    )  # torch's own 1e-7
    return torch.where(long, safe * factors, rows)


def _enable_cudnn(enabled: bool) -> None:
    torch.backends.cudnn.enabled = enabled

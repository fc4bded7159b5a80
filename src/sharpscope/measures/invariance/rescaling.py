"""Function-preserving rescalings of a network, found by tracing it with torch.fx.

A rescaling multiplies a channel by α > 0 in the layer that makes it and divides by α in the layers that use it. The
function stays the same if every layer between the two commutes with positive factors: ReLU, max and average pooling,
dropout, flattening, addition of channels with the same factor. In front of batch normalisation in eval mode no
division is needed: its running statistics are rescaled instead.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sharpscope.autograd.module_state import private_copy
from sharpscope.errors import InputError

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_COMMUTING = (
    *(nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
_COMMUTING_FUNCTIONS = {
    *(torch.relu, F.relu, F.leaky_relu, torch.flatten, F.dropout, F.max_pool2d, torch.max_pool2d),
    *(F.avg_pool2d, F.adaptive_avg_pool2d, F.max_pool1d),
}
_COMMUTING_METHODS = {"relu", "flatten", "contiguous"}
_ADDITIONS = {operator.add, operator.iadd, torch.add}


@dataclass
class Rescaling:
    """Channels that can be rescaled together.

    ``makers`` are the layers whose output channels are multiplied by the factor, ``users`` those whose input channels
    are divided by it, ``norms`` the normalisations whose running statistics are rescaled. Names are the model's.
    """

    channels: int
    makers: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return who makes and who uses the channels."""
        return f"{', '.join(self.makers)} → {', '.join(self.users + self.norms)} ({self.channels} channels)"


def find_rescalings(model: nn.Module) -> list[Rescaling]:
    """Return the function-preserving rescalings of a model; an empty list where tracing finds none.

    Channels that reach the output, or a layer that does not commute with positive factors (tanh, softmax,
    attention, layer normalisation), are left out; so are layers that are called twice or hold a shared weight.

    Raises `InputError` where torch.fx cannot trace the model.

    >>> found = find_rescalings(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    >>> [str(r) for r in found]
    ['0 → 2 (4 channels)']
    >>> find_rescalings(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    []
    """
    try:
        graph = fx.symbolic_trace(private_copy(model)).graph  # tracing runs the code: it may write to buffers
    except Exception as error:  # whatever a model's forward raises when run on proxies
        raise InputError(
            f"the audit needs a model that torch.fx can trace, {type(model).__name__} cannot be "
            f"({type(error).__name__}: {str(error).splitlines()[0][:100]}); measure the copies you rescale yourself"
        ) from error
    modules = dict(model.named_modules())
    return _Scales(graph, modules, _used_once(graph, modules)).rescalings()


def _used_once(graph: fx.Graph, modules: dict[str, nn.Module]) -> set[str]:
    """Return the names of layers that are called once and whose parameters are neither shared nor parametrised."""
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    holders: dict[int, int] = {}
    for module in modules.values():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    touched = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    return {
        name
        for name in calls
        if calls.count(name) == 1
        and name not in touched
        and not nn.utils.parametrize.is_parametrized(modules[name])
        and all(holders[id(p)] == 1 for p in modules[name].parameters(recurse=False))
    }


class _Scales:
    """A union-find structure over tensors, each with one unknown factor; tensors with the same factor are joined."""

    def __init__(self, graph: fx.Graph, modules: dict[str, nn.Module], free: set[str]) -> None:
        self.graph, self.modules, self.free = graph, modules, free
        self.parent: dict[str, str] = {}
        self.fixed: set[str] = set()

    def root(self, name: str) -> str:
        while self.parent.setdefault(name, name) != name:
            name = self.parent[name]
        return name

    def join(self, names: Iterable[str]) -> None:
        first, *others = [self.root(name) for name in names]
        for other in others:
            self.parent[other] = first

    def rescalings(self) -> list[Rescaling]:
        made: list[tuple[str, str, int]] = []  # (tensor, layer, channels)
        used: list[tuple[str, str]] = []
        absorbed: list[tuple[str, str]] = []
        for node in self.graph.nodes:
            inputs = [n.name for n in node.all_input_nodes]
            layer = self.modules.get(str(node.target)) if node.op == "call_module" else None
            if (
                isinstance(layer, _LINEAR)
                and getattr(layer, "groups", 1) == 1
                and str(node.target) in self.free
            ):
                used.append((inputs[0], str(node.target)))
                made.append((node.name, str(node.target), layer.weight.shape[0]))
            elif isinstance(layer, _NORMS) and layer.track_running_stats and str(node.target) in self.free:
                absorbed.append((inputs[0], str(node.target)))
                if layer.affine:
                    made.append((node.name, str(node.target), layer.num_features))
                else:
                    self.fixed.add(node.name)
            elif self._commutes(node, layer):
                self.join([node.name, *inputs])
            else:  # a placeholder, the output, or a layer that does not commute: its tensors keep their scale
                self.fixed.update([node.name, *inputs])
        fixed = {self.root(name) for name in self.fixed}
        found: dict[str, Rescaling] = {}
        for tensor, layer_name, channels in made:
            if self.root(tensor) not in fixed:
                group = found.setdefault(self.root(tensor), Rescaling(channels))
                group.makers.append(layer_name)
                group.channels = min(group.channels, channels)
        for tensor, layer_name in used:
            if self.root(tensor) in found:
                found[self.root(tensor)].users.append(layer_name)
        for tensor, layer_name in absorbed:
            if self.root(tensor) in found:
                found[self.root(tensor)].norms.append(layer_name)
        return [group for group in found.values() if self._sound(group)]

    def _commutes(self, node: fx.Node, layer: nn.Module | None) -> bool:
        if layer is not None:
            return isinstance(layer, _COMMUTING)
        if node.op == "call_function":
            plain_sum = node.target in _ADDITIONS and len(node.all_input_nodes) == 2 and not node.kwargs
            return plain_sum or node.target in _COMMUTING_FUNCTIONS
        return node.op == "call_method" and node.target in _COMMUTING_METHODS

    def _sound(self, group: Rescaling) -> bool:
        """Return whether all makers have the same channels and every user's inputs are whole blocks of them."""
        layers: dict[str, Any] = self.modules
        made = {len(_out_parameters(self.modules[name])[0]) for name in group.makers}
        wide = [layers[name].weight.shape[1] for name in group.users]
        wide += [layers[name].num_features for name in group.norms]
        return made == {group.channels} and bool(wide) and all(int(w) % group.channels == 0 for w in wide)


def rescale(model: nn.Module, rescalings: list[Rescaling], factors: list[Tensor]) -> nn.Module:
    """Return a copy of a model with each rescaling's channels multiplied by its factors (channels,), all > 0.

    The function is preserved exactly in eval mode, up to rounding: the running variance of a batch normalisation
    becomes α² (σ² + ε) − ε, which accounts for its ε. In train mode ε is not accounted for, and the function changes
    by ε's share of the variance.
    """
    scaled = private_copy(model)
    modules = dict(scaled.named_modules())
    with torch.no_grad():
        for group, factor in zip(rescalings, factors, strict=True):
            for name in group.makers:
                for parameter in _out_parameters(modules[name]):
                    parameter.mul_(_aligned(factor, parameter, 0))
            for name in group.users:
                weight: Any = modules[name].weight
                repeated = factor.repeat_interleave(weight.shape[1] // group.channels)
                weight.div_(_aligned(repeated, weight, 1))
            for name in group.norms:
                norm: Any = modules[name]
                repeated = factor.repeat_interleave(norm.num_features // group.channels).to(norm.running_var)
                norm.running_mean.mul_(repeated)
                norm.running_var.copy_(repeated**2 * (norm.running_var + norm.eps) - norm.eps)
    return scaled


def _out_parameters(module: nn.Module) -> list[Tensor]:
    return [p for p in (module.weight, module.bias) if isinstance(p, Tensor)]


def _aligned(factor: Tensor, parameter: Tensor, axis: int) -> Tensor:
    shape = [1] * parameter.ndim
    shape[axis] = -1
    return factor.to(parameter.device, parameter.dtype).view(shape)

"""Layers of several multilayer perceptrons at once, forward and backward written out, each model to its own bits.

Every operation treats entries one by one, or is the very call that autograd would make for one model, made k times,
or is one call for all models where that is known to give the same bits (`sharpscope.training.engines.agreement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sharpscope.training.engines.agreement import agrees
from sharpscope.training.engines.stack import Rooms, Stack, room

aten: Any = torch.ops.aten

_SMALL_PRODUCT = 1 << 20  # multiplications of one model; calling costs nothing beside a larger one


class Layer(Protocol):
    """A layer of k models; inputs and outputs are stacks (k, n, d) of n samples of d features."""

    def forward(self, x: Stack) -> Stack:
        """Return the layer's outputs, remembering what `backward` needs."""

    def backward(self, d: Stack, onward: bool, rates: Tensor | None) -> Stack:
        """Return ∂L/∂inputs for ∂L/∂outputs `d`, if it goes `onward`, and see to the parameters.

        With the models' `rates` (k, 1, 1) each takes its step, p ← p − η ∂L/∂p; without, their gradients are put in
        place for an optimizer.
        """


class Linear:
    """k linear layers whose weights lie in one tensor, and whose gradients in another.

    The modules' parameters are views into it from here on. A step of gradient descent needs no gradient at all: the
    product that would make it, W ← W − (η d)ᵀ x, adds to the weights. That spares three of five passes over them.
    """

    def __init__(self, modules: Sequence[nn.Linear]) -> None:
        self._k, self._rooms = len(modules), Rooms()
        self._weight = _gathered([module.weight for module in modules])  # (k, out, in)
        self._bias = None if modules[0].bias is None else _gathered([module.bias for module in modules])
        self._modules = modules
        self._gradients: tuple[Stack, Stack | None] | None = None

    def forward(self, x: Stack) -> Stack:
        """Return x Wᵀ + b."""
        (_, n, fan_in), fan_out = x.whole.shape, self._weight.whole.shape[1]
        shapes = ((n, fan_in), (fan_out, fan_in), (fan_out,), (n, fan_out))
        self._together = (
            n * fan_in * fan_out <= _SMALL_PRODUCT
            and x.dense
            and agrees("products", self._k, shapes, x.whole.dtype)
        )
        self._x, y = x, self._rooms("y", x.whole, fan_out)
        if self._together:
            flipped = self._weight.whole.transpose(1, 2)
            if self._bias is None:
                torch.bmm(x.whole, flipped, out=y.whole)
            else:
                torch.baddbmm(self._bias.whole[:, None], x.whole, flipped, out=y.whole)
            return y
        for i in range(self._k):
            if self._bias is None:
                torch.mm(x.parts[i], self._weight.flipped[i], out=y.parts[i])
            else:
                torch.addmm(self._bias.parts[i], x.parts[i], self._weight.flipped[i], out=y.parts[i])
        return y

    def backward(self, d: Stack, onward: bool, rates: Tensor | None) -> Stack:
        """Return d W; the gradients are dᵀ x and the sum of d."""
        dx = self._rooms("dx", self._x.whole) if onward else d
        if onward and self._together:
            torch.bmm(d.whole, self._weight.whole, out=dx.whole)
        elif onward:
            for i in range(self._k):
                torch.mm(d.parts[i], self._weight.parts[i], out=dx.parts[i])
        if rates is None:
            self._leave_gradients(d)
        else:
            self._descend(d, rates)
        return dx

    def _leave_gradients(self, d: Stack) -> None:
        if self._gradients is None:
            self._gradients = (
                _gradients_of([module.weight for module in self._modules]),
                None if self._bias is None else _gradients_of([module.bias for module in self._modules]),
            )
        weight, bias = self._gradients
        if self._together:
            torch.bmm(d.whole.transpose(1, 2), self._x.whole, out=weight.whole)
            if bias is not None:
                torch.sum(d.whole, 1, out=bias.whole)
            return
        for i in range(self._k):
            torch.mm(d.flipped[i], self._x.parts[i], out=weight.parts[i])
            if bias is not None:
                torch.sum(d.parts[i], 0, out=bias.parts[i])

    def _descend(self, d: Stack, rates: Tensor) -> None:
        move = self._rooms("move", d.whole)
        torch.mul(d.whole, rates, out=move.whole).neg_()
        if self._together:
            self._weight.whole.baddbmm_(move.whole.transpose(1, 2), self._x.whole)
            if self._bias is not None:
                self._bias.whole.add_(move.whole.sum(1))
            return
        for i in range(self._k):
            self._weight.parts[i].addmm_(move.flipped[i], self._x.parts[i])
            if self._bias is not None:
                self._bias.parts[i].add_(move.parts[i].sum(0))


class BatchNorm:
    """k batch normalisations, each on its own batch's statistics."""

    def __init__(self, modules: Sequence[nn.BatchNorm1d]) -> None:
        self._modules, self._rooms = modules, Rooms()

    def forward(self, x: Stack) -> Stack:
        """Normalise, scale and shift; the running statistics move."""
        if x.whole.shape[1] == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        self._x, y = x, self._rooms("y", x.whole)
        self._saved: list[tuple[Tensor, Tensor]] = []
        for m, one, out in zip(self._modules, x.parts, y.parts, strict=True):
            assert m.num_batches_tracked is not None
            assert m.momentum is not None
            m.num_batches_tracked.add_(1)
            found, mean, inverse = torch.native_batch_norm(
                one, m.weight, m.bias, m.running_mean, m.running_var, True, m.momentum, m.eps
            )
            out.copy_(found)
            self._saved.append((mean, inverse))
        return y

    def backward(self, d: Stack, onward: bool, rates: Tensor | None) -> Stack:
        """Return the derivative, which knows that the statistics depend on the inputs too."""
        dx = self._rooms("dx", d.whole)
        for i, (m, (mean, inverse)) in enumerate(zip(self._modules, self._saved, strict=True)):
            found, scale, shift = aten.native_batch_norm_backward(
                d.parts[i],
                self._x.parts[i],
                m.weight,
                m.running_mean,
                m.running_var,
                mean,
                inverse,
                True,
                m.eps,
                [True] * 3,
            )
            dx.parts[i].copy_(found)
            if rates is None:
                m.weight.grad, m.bias.grad = scale, shift
            else:
                m.weight.data.sub_(scale.mul_(rates[i, 0]))
                m.bias.data.sub_(shift.mul_(rates[i, 0]))
        return dx


class Relu:
    """k times max(x, 0), whose value and derivative depend on nothing but the entry."""

    def __init__(self) -> None:
        self._rooms = Rooms()

    def forward(self, x: Stack) -> Stack:
        """Return max(x, 0)."""
        self._y = self._rooms("y", x.whole)
        torch.clamp_min(x.whole, 0, out=self._y.whole)
        return self._y

    def backward(self, d: Stack, onward: bool, rates: Tensor | None) -> Stack:
        """Return d where x > 0."""
        dx = self._rooms("dx", d.whole)
        aten.threshold_backward(d.whole, self._y.whole, 0, grad_input=dx.whole)
        return dx


class Smooth:
    """k times tanh, GELU or ELU, one by one: at the end of a tensor torch takes other code than in its middle."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._module, self._rooms = modules[0], Rooms()

    def forward(self, x: Stack) -> Stack:
        """Return the activations."""
        y = self._rooms("y", x.whole)
        for one, out in zip(x.parts, y.parts, strict=True):
            out.copy_(self._module(one))
        self._kept = y if isinstance(self._module, nn.Tanh) else x
        return y

    def backward(self, d: Stack, onward: bool, rates: Tensor | None) -> Stack:
        """Return d times the derivatives."""
        dx = self._rooms("dx", d.whole)
        for slope, kept, out in zip(d.parts, self._kept.parts, dx.parts, strict=True):
            out.copy_(self._derivative(slope, kept))
        return dx

    def _derivative(self, d: Tensor, kept: Tensor) -> Tensor:
        found: Tensor
        if isinstance(self._module, nn.Tanh):
            found = aten.tanh_backward(d, kept)
        elif isinstance(self._module, nn.GELU):
            found = aten.gelu_backward(d, kept, approximate=self._module.approximate)
        else:
            found = aten.elu_backward(d, self._module.alpha, 1, 1, False, kept)
        return found


class Dropout:
    """k dropouts, each with draws of its own: those of torch's after seeding its global generator."""

    def __init__(self, modules: Sequence[nn.Dropout], generators: Sequence[torch.Generator]) -> None:
        self._p, self._generators, self._rooms = modules[0].p, generators, Rooms()

    def forward(self, x: Stack) -> Stack:
        """Return x with some entries dropped and the others scaled up."""
        self._noise, y = self._rooms("noise", x.whole), self._rooms("y", x.whole)
        for noise, draws in zip(self._noise.parts, self._generators, strict=True):
            noise.bernoulli_(1 - self._p, generator=draws)
        torch.mul(x.whole, self._noise.whole.div_(1 - self._p), out=y.whole)
        return y

    def backward(self, d: Stack, onward: bool, rates: Tensor | None) -> Stack:
        """Return d with the same entries dropped."""
        dx = self._rooms("dx", d.whole)
        torch.mul(d.whole, self._noise.whole, out=dx.whole)
        return dx


def _gathered(parameters: Sequence[Tensor]) -> Stack:
    """Move parameters into one stack."""
    whole = room(len(parameters), parameters[0].shape, parameters[0].data)
    for p, here in zip(parameters, whole.parts, strict=True):
        p.data = here.copy_(p.data)
    return whole


def _gradients_of(parameters: Sequence[Tensor]) -> Stack:
    """Make room for parameters' gradients in one stack."""
    whole = room(len(parameters), parameters[0].shape, parameters[0].data)
    for p, slope in zip(parameters, whole.parts, strict=True):
        p.grad = slope
    return whole

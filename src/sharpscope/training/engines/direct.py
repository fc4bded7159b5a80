"""Multilayer perceptrons on a CPU, forward and backward written out, several at a time.

What is saved is everything but arithmetic: the graph that autograd builds, the modules' bookkeeping, memory for
gradients fetched anew in every step, and for plain gradient descent the gradients themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sharpscope.training.engines import layers
from sharpscope.training.engines.agreement import agrees
from sharpscope.training.engines.plain import single_sample
from sharpscope.training.engines.stack import Rooms, Stack
from sharpscope.training.reproducible import step_seed

if TYPE_CHECKING:
    from sharpscope.training.member import Member

_EVALUATE_ELSEWHERE = ("lbfgs", "sam", "asam")  # they ask for gradients away from the weights


class DirectEngine:
    """Takes the steps of multilayer perceptrons of one architecture."""

    def __init__(self, members: list[Member]) -> None:
        self.members, k, first = members, len(members), members[0]
        self._draws = [torch.Generator() for _ in members]
        self._layers, self._with_parameters = self._build()
        self._seeding = any(isinstance(layer, layers.Dropout) for layer in self._layers)
        self._labelled = first.dataset.task == "classification"
        self._descends = all(map(_descends, members))
        train = first.dataset.train
        self._inputs, self._targets = train.inputs.flatten(1), train.targets
        self._one = torch.ones((), dtype=self._inputs.dtype)
        self._loss_sums = torch.zeros(k, dtype=torch.float64)
        self._correct = torch.zeros(k, dtype=torch.int64)
        for member, loss_sum, correct in zip(members, self._loss_sums, self._correct, strict=True):
            member.loss_sum, member.correct = loss_sum.copy_(member.loss_sum), correct.copy_(member.correct)
        self._rooms = Rooms()

    def _build(self) -> tuple[list[layers.Layer], int]:
        """Return the layers and the place of the first that has parameters."""
        built: list[layers.Layer] = []
        columns: Any = zip(*(sequence(member.model) for member in self.members), strict=True)
        for modules in columns:
            first = modules[0]
            if isinstance(first, nn.Linear):
                built.append(layers.Linear(modules))
            elif isinstance(first, nn.BatchNorm1d):
                built.append(layers.BatchNorm(modules))
            elif isinstance(first, nn.Dropout):
                if first.p:
                    built.append(layers.Dropout(modules, self._draws))
            elif isinstance(first, nn.ReLU):
                built.append(layers.Relu())
            elif not isinstance(first, nn.Flatten):
                built.append(layers.Smooth(modules))
        place = next(
            i for i, layer in enumerate(built) if isinstance(layer, layers.Linear | layers.BatchNorm)
        )
        return built, place

    def begin(self) -> None:
        """Gather the members' orders and rates."""
        orders = [member.batches.order for member in self.members]
        self._orders = None if orders[0] is None else torch.stack([o for o in orders if o is not None])
        rates = torch.tensor([member.lr for member in self.members], dtype=self._inputs.dtype)
        self._rates = rates[:, None, None] if self._descends else None

    def step(self, step: int) -> None:
        """Take the step of every member."""
        with torch.no_grad():
            x, targets = self._batch(step)
            if self._seeding:
                for member, draws in zip(self.members, self._draws, strict=True):
                    draws.manual_seed(step_seed(member.run_id, member.epoch, step))
            try:
                for layer in self._layers:
                    x = layer.forward(x)
            except ValueError as error:
                raise single_sample(self.members[0], x.whole.shape[1]) from error
            d = self._hits_and_loss(x, targets)
            for place in range(len(self._layers) - 1, self._with_parameters - 1, -1):
                d = self._layers[place].backward(d, place > self._with_parameters, self._rates)
        for member in () if self._descends else self.members:
            take: Any = member.optimizer.step
            take()

    def _batch(self, step: int) -> tuple[Stack, Tensor]:
        """Return inputs (k, n, d) and targets (k, n) or (k, n, 1)."""
        k = len(self.members)
        if self._orders is None:  # all samples, the same for every model
            return Stack(self._inputs.expand(k, -1, -1)), self._targets.expand(k, *self._targets.shape)
        size = self.members[0].batches.size
        chosen = self._orders[:, step * size : (step + 1) * size]
        x = self._rooms("x", self._inputs.expand(k, -1, -1)[:, : chosen.shape[1]])
        if x.dense:
            torch.index_select(self._inputs, 0, chosen.reshape(-1), out=x.whole.view(-1, x.whole.shape[2]))
        else:
            for one, indices in zip(x.parts, chosen, strict=True):
                torch.index_select(self._inputs, 0, indices, out=one)
        return x, self._targets[chosen]

    def _hits_and_loss(self, outputs: Stack, targets: Tensor) -> Stack:
        """Add to every member's sums; return ∂L/∂outputs (k, n, d), of each member's own mean loss."""
        d = self._rooms("d", outputs.whole)
        if self._labelled:
            self._correct.add_((outputs.whole.argmax(2) == targets).sum(1))
            losses = self._cross_entropy(outputs, targets, d)
        else:
            losses = [self._mse(z, y, out) for z, y, out in zip(outputs.parts, targets, d.parts, strict=True)]
        for member, loss in zip(self.members, losses, strict=True):
            member.loss_sum.add_(loss, alpha=targets.shape[1])
        return d

    def _cross_entropy(self, outputs: Stack, targets: Tensor, d: Stack) -> list[Tensor]:
        """Put ∂L/∂outputs into `d`; return the losses."""
        aten, (k, n, classes), dtype = layers.aten, outputs.whole.shape, outputs.whole.dtype
        if outputs.dense and agrees("log_softmax", k, [(n, classes)] * 2, dtype):
            log_p = torch.log_softmax(outputs.whole, 2)
            back = torch.zeros_like(log_p).scatter_(2, targets[..., None], (-self._one / n).item())
            d.whole.copy_(aten._log_softmax_backward_data(back, log_p, 2, dtype))
            return [
                aten.nll_loss_forward(p, y, None, 1, -100)[0] for p, y in zip(log_p, targets, strict=True)
            ]
        losses = []
        for z, y, out in zip(outputs.parts, targets, d.parts, strict=True):
            log_p = torch.log_softmax(z, 1)
            loss, weight = aten.nll_loss_forward(log_p, y, None, 1, -100)
            back = aten.nll_loss_backward(self._one, log_p, y, None, 1, -100, weight)
            out.copy_(aten._log_softmax_backward_data(back, log_p, 1, dtype))
            losses.append(loss)
        return losses

    def _mse(self, output: Tensor, target: Tensor, d: Tensor) -> Tensor:
        d.copy_(layers.aten.mse_loss_backward(self._one, output, target, 1))
        return nn.functional.mse_loss(output, target)

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        for member in self.members:
            for parameter in member.model.parameters():
                parameter.data, parameter.grad = parameter.data.clone(), None


def takes(member: Member) -> bool:
    """Say whether this engine knows every part of the model and gives the optimizer what it asks for."""
    config, found, train = member.config, sequence(member.model), member.dataset.train
    known = bool(found) and all(_known(module) for module in found)
    rows = train.inputs.ndim == 2 or (bool(found) and isinstance(found[0], nn.Flatten))
    aims = () if member.dataset.task == "classification" else (member.dataset.n_outputs,)
    parameters = list(member.model.parameters())
    return (
        member.device.type == "cpu"
        and not config.compile
        and config.precision == "full"
        and config.optimizer.name not in _EVALUATE_ELSEWHERE
        and known
        and rows
        and train.targets.shape[1:] == aims
        and any(isinstance(module, nn.Linear) for module in found)
        and len(found) == len({id(module) for module in found})
        and len(parameters) == sum(len(list(module.parameters())) for module in found)
        and all(parameter.requires_grad and parameter.is_contiguous() for parameter in parameters)
        and not any(_watched(module) for module in member.model.modules())
    )


def _descends(member: Member) -> bool:
    """True for plain gradient descent, which needs no optimizer's help."""
    return member.config.optimizer.name == "sgd" and not any(member.config.optimizer.options.values())


def sequence(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model that is nothing but a sequence of layers, else none."""
    from sharpscope.models.mlp import MLP

    inner = model.layers if type(model) is MLP else model
    return list(inner) if type(inner) is nn.Sequential else []


def _known(module: nn.Module) -> bool:
    if type(module) is nn.BatchNorm1d:
        return module.affine and module.track_running_stats and module.momentum is not None
    if type(module) is nn.ELU or type(module) is nn.ReLU:
        return not module.inplace
    if type(module) is nn.Flatten:
        return module.start_dim == 1 and module.end_dim == -1
    if type(module) is nn.Dropout:
        return not module.inplace and module.p < 1
    return type(module) in (nn.Linear, nn.Tanh, nn.GELU)


def _watched(module: nn.Module) -> bool:
    """True where somebody hooked into the module, or computes one of its weights."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module) or hasattr(module, "parametrizations")

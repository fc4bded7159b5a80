"""The dense Hessian by an independent route: a copied model, plain modes, torch.autograd.functional."""

from __future__ import annotations

import copy
from unittest import mock

import torch
from torch import Tensor, nn

from sharpscope import Objective
from sharpscope.seeding import seed_of


def dense(obj: Objective) -> tuple[float, Tensor, Tensor]:
    """Return L, ∇L (n,) and ∇²L (n, n), computed without any of Objective's own evaluation."""
    model = copy.deepcopy(obj.model)
    model.eval()
    for module in model.modules():
        if obj.mode == "train" and (
            obj.evaluator.dropout or isinstance(module, nn.modules.batchnorm._NormBase)
        ):
            module.train()
    named = dict(model.named_parameters())
    chosen = [named[name] for name in obj.layout.names]
    shapes = [p.shape for p in chosen]
    frozen = [
        (m, name, b.clone()) for m in model.modules() for name, b in m._buffers.items() if b is not None
    ]

    def value(flat: Tensor) -> Tensor:
        parts = [
            part.view(s) for part, s in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)
        ]
        total, count = torch.zeros((), dtype=flat.dtype), 0.0
        with _swapped(model, chosen, parts):
            for index, batch in enumerate(obj.evaluator.batches):
                for module, name, buffer in frozen:
                    module._buffers[name] = buffer.clone()
                torch.manual_seed(seed_of("dropout", obj.evaluator.dropout_seed, index))
                if obj.evaluator.loss is None:
                    mean, n = obj.evaluator.batch_loss(model, batch)
                else:
                    mean, n = obj.evaluator.loss(model(batch[0]), batch[1]), len(batch[1])
                total = total + mean * n
                count += n
        return total / count

    theta = torch.cat([p.detach().reshape(-1) for p in chosen])
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        mock.patch("torch._weight_norm", _weight_norm),
    ):
        gradient = torch.autograd.functional.jacobian(value, theta)
        hessian = torch.autograd.functional.hessian(value, theta)
        torch.testing.assert_close(hessian, hessian.T, rtol=1e-9, atol=1e-12)  # else autograd itself is wrong
        return float(value(theta).detach()), gradient, (hessian + hessian.T) / 2


def _weight_norm(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """Row-wise, as the problems use it; torch's fused kernel has a wrong second derivative."""
    assert dim == 0
    return g * v / (v * v).sum(1, keepdim=True) ** 0.5


class _swapped:
    """Replace parameters of a private copy, wherever they are held, by given tensors."""

    def __init__(self, model: nn.Module, old: list[nn.Parameter], new: list[Tensor]) -> None:
        places = {id(p): i for i, p in enumerate(old)}
        self.slots = [
            (module, name, parameter, new[places[id(parameter)]])
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None and id(parameter) in places
        ]

    def __enter__(self) -> None:
        for module, name, _, tensor in self.slots:
            del module._parameters[name]
            module.__dict__[name] = tensor
            if isinstance(module, nn.RNNBase):
                module._flat_weights = [
                    module.__dict__.get(w, getattr(module, w)) for w in module._flat_weights_names
                ]

    def __exit__(self, *_: object) -> None:
        for module, name, parameter, _tensor in self.slots:
            del module.__dict__[name]
            module._parameters[name] = parameter

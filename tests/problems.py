"""One table of small float64 problems. Every measure is tested on all of them.

Each breaks a symmetry on purpose: uneven batches, batch normalisation in both modes, tied, frozen and
unused parameters, zero weights, negative curvature, kernels without an obvious double backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sharpscope import Objective


@dataclass(frozen=True)
class Problem:
    """A model, its loss and data; ``build`` returns fresh ones every time."""

    name: str
    build: Callable[[], tuple[nn.Module, Any, Any]]
    mode: str = "eval"
    options: dict[str, Any] = field(default_factory=dict)
    batch_loss: bool = False

    def objective(self, **changes: Any) -> Objective:
        torch.manual_seed(0)
        model, loss, batches = self.build()
        options = {**self.options, **changes}
        if self.batch_loss:
            return Objective.from_batch_loss(model, batches, loss, self.mode, **options)
        return Objective(model, loss, batches, self.mode, **options)


def data(n: int, d: int, classes: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    return x, torch.randint(0, classes, (n,), generator=g)


def uneven(x: Tensor, y: Tensor, sizes: tuple[int, ...] = (11, 5, 3)) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x[: sum(sizes)].split(sizes), y[: sum(sizes)].split(sizes), strict=True))


def classifier(*layers: nn.Module, seed: int = 1) -> tuple[nn.Module, Any, Any]:
    return nn.Sequential(*layers).double(), F.cross_entropy, uneven(*data(19, 4, seed=seed))


def settle(model: nn.Module, x: Tensor) -> nn.Module:
    """Give batch normalisation running statistics that differ from any batch's."""
    model.train()
    with torch.no_grad():
        for scale in (0.5, 2.0, 1.3):
            model(x * scale + 0.2)
    return model


def _regression() -> tuple[nn.Module, Any, Any]:
    x, _ = data(19, 4)
    y = x[:, :2] ** 2 + 0.3
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double(), F.mse_loss, uneven(x, y)


def _batch_norm(dropout: float = 0.0) -> tuple[nn.Module, Any, Any]:
    layers = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(dropout), nn.Linear(5, 3)
    model, loss, batches = classifier(*layers)
    settle(model, batches[0][0])
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 1.5)
    return model, loss, batches


def _batch_norm_without_statistics() -> tuple[nn.Module, Any, Any]:
    return classifier(
        nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Tanh(), nn.Linear(5, 3)
    )


class Autoencoder(nn.Module):
    """Decoder tied to the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.decoder = nn.Linear(3, 4, bias=False)
        self.mixer = nn.Parameter(torch.eye(3))
        self.decoder.weight = nn.Parameter(self.encoder.weight.detach().T.clone())
        self.again = self.decoder

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.encoder(x)) @ self.mixer
        return self.again(h) + self.decoder(h**2)


class TiedWeight(nn.Module):
    """Two layers that hold the very same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def _tied() -> tuple[nn.Module, Any, Any]:
    return TiedWeight().double(), F.cross_entropy, uneven(*data(19, 4))


def _shared_module() -> tuple[nn.Module, Any, Any]:
    x, _ = data(19, 4)
    return Autoencoder().double(), F.mse_loss, uneven(x, x)


def _frozen() -> tuple[nn.Module, Any, Any]:
    model, loss, batches = classifier(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].requires_grad_(False)
    model[0].bias.requires_grad_(False)
    return model, loss, batches


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.never = nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.tensor([1, 0, 1, 1]))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.used(x * self.mask) ** 2


def _unused() -> tuple[nn.Module, Any, Any]:
    return Unused().double(), F.cross_entropy, uneven(*data(19, 4))


def _negative() -> tuple[nn.Module, Any, Any]:
    """Near a saddle: the most negative eigenvalue outweighs the largest positive one."""
    model, _, batches = classifier(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))
    return model, lambda outputs, targets: (-outputs.square().sum(1) * 0.3 + outputs[:, 0]).mean(), batches


def _conv() -> tuple[nn.Module, Any, Any]:
    x, y = data(13, 36)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)),
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return model.double(), F.cross_entropy, uneven(x, y, (8, 5))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 6)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.inner(x.view(-1, 2, 2)).chunk(3, dim=-1)
        return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=True).mean(1))


def _attention() -> tuple[nn.Module, Any, Any]:
    return Attention().double(), F.cross_entropy, uneven(*data(19, 4))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(2, 2, batch_first=True)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.view(-1, 2, 2))[0][:, -1])


def _recurrent() -> tuple[nn.Module, Any, Any]:
    return Recurrent().double(), F.cross_entropy, uneven(*data(19, 4))


def _parametrized() -> tuple[nn.Module, Any, Any]:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return classifier(layer, nn.Tanh(), nn.Linear(3, 3))


def _zero_weights() -> tuple[nn.Module, Any, Any]:
    model, loss, batches = classifier(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        model[2].weight.zero_()
        model[0].weight[0].zero_()
    return model, loss, batches


def _quadratic() -> tuple[nn.Module, Any, Any]:
    """H = diag(5, 2, 2, 0.1, 0.1, 0.1) away from its minimum: eigenvalues with multiplicity."""
    roots = torch.tensor([5.0, 2.0, 2.0, 0.1, 0.1, 0.1], dtype=torch.float64).sqrt()
    x = torch.diag(roots) * 6**0.5
    return (
        nn.Linear(6, 1, bias=False).double(),
        lambda outputs, targets: 0.5 * (outputs - targets).square().mean(),
        (x, torch.ones(6, 1, dtype=torch.float64)),
    )


def _scalar() -> tuple[nn.Module, Any, Any]:
    x, _ = data(9, 1)
    return (
        nn.Linear(1, 1, bias=False).double(),
        lambda o, t: (o - t).pow(4).mean(),
        uneven(x, 2 * x + 1, (7, 2)),
    )


def _dict_batches() -> tuple[nn.Module, Any, Any]:
    """Dict batches that weigh by tokens, not by rows."""
    g = torch.Generator().manual_seed(3)
    batches = [
        {
            "tokens": torch.randint(0, 5, (rows, 3), generator=g),
            "next": torch.randint(0, 5, (rows, 3), generator=g),
        }
        for rows in (4, 1)
    ]
    model = nn.Sequential(nn.Embedding(5, 2), nn.Tanh(), nn.Linear(2, 5)).double()

    def batch_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        logits = model(batch["tokens"])
        return F.cross_entropy(logits.flatten(0, 1), batch["next"].flatten()), batch["next"].numel()

    return model, batch_loss, batches


def _loader() -> tuple[nn.Module, Any, Any]:
    model, loss, _ = classifier(nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 3))
    return model, loss, DataLoader(TensorDataset(*data(19, 4)), batch_size=8)


PROBLEMS = [
    Problem("linear softmax", lambda: classifier(nn.Linear(4, 3))),
    Problem("mlp relu", lambda: classifier(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))),
    Problem("mlp tanh", lambda: classifier(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), seed=4)),
    Problem("mlp gelu", lambda: classifier(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))),
    Problem(
        "deep elu", lambda: classifier(nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 3))
    ),
    Problem("regression mse", _regression),
    Problem("batch norm eval", _batch_norm),
    Problem("batch norm train", _batch_norm, mode="train"),
    Problem("batch norm train, dropout off", lambda: _batch_norm(0.4), mode="train"),
    Problem("dropout on, seeded", lambda: _batch_norm(0.4), "train", {"dropout": True, "dropout_seed": 5}),
    Problem("batch norm without statistics", _batch_norm_without_statistics),
    Problem("layer norm", lambda: classifier(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))),
    Problem("tied weight", _tied),
    Problem("shared module", _shared_module),
    Problem("frozen layers", _frozen),
    Problem("selected by pattern", _frozen, options={"params": ["0.*", "4.weight"]}),
    Problem("selected by predicate", _tied, options={"params": lambda name, p: p.ndim == 1}),
    Problem("unused and integer buffers", _unused),
    Problem("negative curvature", _negative),
    Problem("convolution", _conv),
    Problem("attention", _attention),
    Problem("recurrent", _recurrent),
    Problem("weight norm", _parametrized),
    Problem("zero weights", _zero_weights),
    Problem("quadratic, multiple eigenvalues", _quadratic),
    Problem("one parameter", _scalar),
    Problem("dict batches", _dict_batches, batch_loss=True),
    Problem("data loader", _loader),
    Problem(
        "chunked", lambda: classifier(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), options={"chunk_size": 4}
    ),
]

"""Products of about ninety architectures and losses agree with central differences of the gradient in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from problems import Attention, Autoencoder, Recurrent, TiedWeight, Unused
from sharpscope import Objective
from sharpscope.objective.product_checks import ASYMMETRY

N = 12


def _x(*shape: int) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _classes(count: int = 3) -> Tensor:
    return torch.randint(count, (N,), generator=torch.Generator().manual_seed(2))


def _tokens(length: int = 4, count: int = 7) -> Tensor:
    return torch.randint(count, (N, length), generator=torch.Generator().manual_seed(3))


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def _mlp(activation: nn.Module, width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), activation, nn.Linear(width, 3))


def _images(*layers: nn.Module, size: tuple[int, ...] = (2, 5, 5)) -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(*layers, nn.Flatten()).double()
    x = _x(*size)
    width = model(x).shape[1]
    return nn.Sequential(model, nn.Linear(width, 3)), x


def _sequence(cell: nn.Module, width: int = 3) -> nn.Module:
    return Fn(lambda m, x: m.head(m.cell(x.view(-1, 2, 2))[0][:, -1]), cell=cell, head=nn.Linear(width, 3))


ACTIVATIONS = [
    *(
        nn.ReLU(),
        nn.ReLU6(),
        nn.LeakyReLU(0.1),
        nn.PReLU(),
        nn.RReLU(),
        nn.ELU(),
        nn.CELU(),
        nn.SELU(),
        nn.GELU(),
    ),
    *(
        nn.GELU(approximate="tanh"),
        nn.SiLU(),
        nn.Mish(),
        nn.Softplus(),
        nn.Softsign(),
        nn.Tanh(),
        nn.Sigmoid(),
    ),
    *(
        nn.LogSigmoid(),
        nn.Hardtanh(),
        nn.Hardswish(),
        nn.Tanhshrink(),
        nn.Softshrink(),
        nn.Threshold(0.1, 0),
    ),
    *(nn.Softmax(1), nn.Softmin(1), nn.LogSoftmax(1), nn.ReLU(inplace=True)),
]

IMAGES: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "conv": lambda: _images(nn.Conv2d(2, 3, 3), nn.Tanh()),
    "conv padded, strided": lambda: _images(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU()),
    "conv dilated, grouped": lambda: _images(nn.Conv2d(2, 4, 2, dilation=2, groups=2), nn.ReLU()),
    "conv depthwise, pointwise": lambda: _images(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 3, 1), nn.GELU()),
    "conv same": lambda: _images(nn.Conv2d(2, 2, 3, padding="same"), nn.Tanh()),
    "conv circular": lambda: _images(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.Tanh()),
    "conv reflecting": lambda: _images(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Tanh()),
    "conv 1d": lambda: _images(nn.Conv1d(2, 3, 2), nn.Tanh(), size=(2, 5)),
    "conv 3d": lambda: _images(nn.Conv3d(1, 2, 2), nn.Tanh(), size=(1, 3, 3, 3)),
    "transposed conv": lambda: _images(nn.ConvTranspose2d(2, 2, 2, stride=2), nn.Tanh(), size=(2, 2, 2)),
    "transposed conv 1d": lambda: _images(nn.ConvTranspose1d(2, 2, 2), nn.Tanh(), size=(2, 4)),
    "transposed conv 3d": lambda: _images(nn.ConvTranspose3d(1, 1, 2), nn.Tanh(), size=(1, 2, 2, 2)),
    "channels last": lambda: _channels_last(),
    "max pooling": lambda: _images(nn.Conv2d(2, 2, 2), nn.MaxPool2d(2)),
    "average pooling": lambda: _images(nn.Conv2d(2, 2, 2), nn.AvgPool2d(2), nn.Tanh()),
    "adaptive pooling": lambda: _images(nn.Conv2d(2, 2, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1)),
    "power pooling": lambda: _images(nn.Conv2d(2, 2, 2), nn.Softplus(), nn.LPPool2d(2, 2)),
    "batch norm": lambda: _images(nn.Conv2d(2, 2, 2), nn.BatchNorm2d(2), nn.ReLU()),
    "group norm": lambda: _images(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU()),
    "instance norm": lambda: _images(nn.Conv2d(2, 2, 2), nn.InstanceNorm2d(2, affine=True), nn.ReLU()),
    "local response norm": lambda: _images(nn.Conv2d(2, 3, 2), nn.LocalResponseNorm(2)),
    "upsampling": lambda: _images(
        nn.Conv2d(2, 1, 3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Tanh()
    ),
    "pixel shuffle": lambda: _images(nn.Conv2d(2, 4, 4), nn.PixelShuffle(2), nn.Tanh()),
    "unfold": lambda: _images(nn.Unfold(3), nn.Flatten(), nn.Linear(162, 3), nn.Tanh()),
    "bilinear": lambda: _images(Fn(lambda m, x: m.b(x, x.flip(1)), b=nn.Bilinear(4, 4, 3)), size=(4,)),
    "layer norm": lambda: _images(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), size=(4,)),
    "rms norm": lambda: _images(nn.Linear(4, 5), nn.RMSNorm(5), nn.Tanh(), size=(4,)),
    "dropout": lambda: _images(nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(), nn.AlphaDropout(0.2), size=(4,)),
    "residual": lambda: _images(Fn(lambda m, x: x + torch.tanh(m.a(x)), a=nn.Linear(4, 4)), size=(4,)),
    "gated unit": lambda: _images(nn.Linear(4, 6), nn.GLU(), size=(4,)),
}


def _channels_last() -> tuple[nn.Module, Tensor]:
    model, x = _images(nn.Conv2d(2, 3, 3), nn.ReLU())
    return model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)


def _norm(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(kind(nn.Linear(4, 5), **options), nn.Tanh(), nn.Linear(5, 3)).double()


def _frozen() -> nn.Module:
    model = _mlp(nn.Tanh())
    model[0].requires_grad_(False)  # type: ignore[index]
    return model


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(2, 2, 3, dropout=0.0, batch_first=True)
    return nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(4, 3)
    )


def _decoder() -> nn.Module:
    layer = nn.TransformerDecoderLayer(2, 1, 3, dropout=0.0, batch_first=True)
    return Fn(
        lambda m, x: m.head(m.decoder(x.view(-1, 2, 2), x.view(-1, 2, 2).flip(1)).flatten(1)),
        decoder=layer,
        head=nn.Linear(4, 3),
    )


VECTORS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: _sequence(nn.RNN(2, 3, batch_first=True)),
    "rnn relu, two layers": lambda: _sequence(nn.RNN(2, 3, 2, nonlinearity="relu", batch_first=True)),
    "lstm": lambda: _sequence(nn.LSTM(2, 3, batch_first=True)),
    "lstm projected": lambda: _sequence(nn.LSTM(2, 3, proj_size=2, batch_first=True), 2),
    "gru, both directions": lambda: _sequence(nn.GRU(2, 3, bidirectional=True, batch_first=True), 6),
    "recurrent without biases": lambda: _sequence(nn.GRU(2, 3, bias=False, batch_first=True)),
    "lstm cell": lambda: Fn(lambda m, x: m.b(m.a(x)[0]), a=nn.LSTMCell(4, 3), b=nn.Linear(3, 3)),
    "gru then head": Recurrent,
    "attention, causal": Attention,
    "multi-head attention": lambda: Fn(
        lambda m, x: m.b(m.a(x[None], x[None], x[None])[0][0]) + 0 * x[:, :3],
        a=nn.MultiheadAttention(4, 2),
        b=nn.Linear(4, 3),
    ),
    "transformer encoder": _encoder,
    "transformer decoder": _decoder,
    "tied weights": TiedWeight,
    "frozen layer": _frozen,
    "unused parameters": Unused,
    "weight norm": lambda: _norm(parametrizations.weight_norm),
    "weight norm, old": lambda: _norm(nn.utils.weight_norm),
    "spectral norm": lambda: _norm(parametrizations.spectral_norm),
    "spectral norm, old": lambda: _norm(nn.utils.spectral_norm),
    "scripted": lambda: torch.jit.script(_mlp(nn.Tanh()).double()),
    "traced": lambda: torch.jit.trace(_mlp(nn.GELU()).double(), _x(4)),
    "fourier": lambda: Fn(
        lambda m, x: m.b(torch.fft.rfft(m.a(x)).abs()), a=nn.Linear(4, 4), b=nn.Linear(3, 3)
    ),
    "einsum": lambda: Fn(
        lambda m, x: torch.einsum("ni,ij,nk->njk", x, m.a.weight, m.b(x))[:, :, 0],
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 2),
    ),
    "scan and sort": lambda: Fn(lambda m, x: m.a(x).cumsum(1).sort(1).values ** 2, a=nn.Linear(4, 3)),
    "checkpointed": lambda: Fn(_checkpointed, a=nn.Linear(4, 4), b=nn.Linear(4, 3)),
    "derivative inside": lambda: Fn(_derivative, a=nn.Linear(4, 4), b=nn.Linear(4, 1)),
    "module twice": lambda: Fn(
        lambda m, x: m.b(torch.tanh(m.a(torch.tanh(m.a(x))))), a=nn.Linear(4, 4), b=nn.Linear(4, 3)
    ),
}


def _checkpointed(m: Any, x: Tensor) -> Tensor:
    from torch.utils.checkpoint import checkpoint

    out: Tensor = m.b(checkpoint(lambda z: torch.tanh(m.a(z)), x, use_reentrant=False))
    return out


def _derivative(m: Any, x: Tensor) -> Tensor:
    x.requires_grad_()
    u = m.b(torch.tanh(m.a(x)))
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return torch.cat([u, slope[:, :2]], 1)


def _embedded(embedding: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(embedding, nn.Flatten(), nn.Tanh(), nn.Linear(width, 3))


TOKENS: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: _embedded(nn.Embedding(7, 2), 8),
    "embedding with padding": lambda: _embedded(nn.Embedding(7, 2, padding_idx=0), 8),
    "embedding, sparse": lambda: _embedded(nn.Embedding(7, 2, sparse=True), 8),
    "embedding, by frequency": lambda: _embedded(nn.Embedding(7, 2, scale_grad_by_freq=True), 8),
    "embedding, shortened": lambda: _embedded(nn.Embedding(7, 2, max_norm=0.8), 8),
}

_PROBABILITIES = torch.softmax(_x(3), 1)
LOSSES: dict[str, tuple[Any, Tensor]] = {
    "cross-entropy, smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), _classes()),
    "cross-entropy, class weights": (nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.2])), _classes()),
    "cross-entropy, ignoring": (nn.CrossEntropyLoss(ignore_index=2), _classes()),
    "cross-entropy of probabilities": (F.cross_entropy, _PROBABILITIES),
    "negative log-likelihood": (lambda o, t: F.nll_loss(o.log_softmax(1), t), _classes()),
    "squared error": (nn.MSELoss(), _x(3)),
    "huber": (nn.HuberLoss(), _x(3)),
    "smooth l1": (nn.SmoothL1Loss(beta=0.5), _x(3)),
    "binary cross-entropy": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0])),
        (_x(3) > 0).double(),
    ),
    "binary, of probabilities": (lambda o, t: F.binary_cross_entropy(o.sigmoid(), t), (_x(3) > 0).double()),
    "kl divergence": (lambda o, t: F.kl_div(o.log_softmax(1), t, reduction="batchmean"), _PROBABILITIES),
    "poisson": (nn.PoissonNLLLoss(), _x(3).abs()),
    "gaussian": (lambda o, t: F.gaussian_nll_loss(o[:, :1], t, o[:, 1:2].exp()), _x(1)),
    "soft margin": (nn.SoftMarginLoss(), _x(3).sign()),
    "cosine": (lambda o, t: (1 - F.cosine_similarity(o, t)).mean(), _x(3)),
    "log-cosh": (lambda o, t: (o - t).cosh().log().mean(), _x(3)),
    "by keyword": (partial(F.cross_entropy, weight=torch.tensor([1.0, 2.0, 0.5]).double()), _classes()),
}


def _dictionary() -> Objective:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Tanh(), nn.Linear(3, 7)).double()

    def batch_loss(m: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        logits = m(batch["tokens"])
        return F.cross_entropy(logits.flatten(0, 1), batch["next"].flatten()), batch["next"].numel()

    return Objective.from_batch_loss(model, {"tokens": _tokens(), "next": _tokens().flip(1)}, batch_loss)


def _outputs_by_name() -> Objective:
    model = Fn(
        lambda m, x: {"logits": m.a(x), "hidden": torch.tanh(m.b(x))}, a=nn.Linear(4, 3), b=nn.Linear(4, 2)
    )

    def loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs["logits"], targets) + outputs["hidden"].square().mean()

    return Objective(model.double(), loss, (_x(4), _classes()))


def _compiled(how: str) -> Objective:
    model = _mlp(nn.Tanh()).double()
    if how == "whole":
        model = torch.compile(model)  # type: ignore[assignment]
    elif how == "in place":
        model.compile()
    else:
        model[0] = torch.compile(model[0])  # type: ignore[index, operator]
    return Objective(model, F.cross_entropy, (_x(4), _classes()))


CASES: dict[str, Callable[[], Objective]] = {
    **{
        f"{a}".split("(")[0].lower() + f" {i}": partial(
            lambda a: Objective(_mlp(a).double(), F.cross_entropy, (_x(4), _classes())), a
        )
        for i, a in enumerate(ACTIVATIONS)
    },
    **{
        k: partial(lambda b: Objective((m := b())[0].double(), F.cross_entropy, (m[1], _classes())), b)
        for k, b in IMAGES.items()
    },
    **{
        k: partial(lambda b: Objective(b().double(), _loss, (_x(4), _classes())), b)
        for k, b in VECTORS.items()
    },
    **{
        k: partial(lambda b: Objective(b().double(), F.cross_entropy, (_tokens(), _classes())), b)
        for k, b in TOKENS.items()
    },
    **{
        k: partial(lambda how: Objective(_mlp(nn.Tanh()).double(), how[0], (_x(4), how[1])), how)
        for k, how in LOSSES.items()
    },
    **{f"compiled, {how}": partial(_compiled, how) for how in ("whole", "in place", "a layer")},
    "autoencoder": lambda: Objective(Autoencoder().double(), F.mse_loss, (_x(4), _x(4))),
    "one dictionary": _dictionary,
    "outputs by name": _outputs_by_name,
    "batch norm, training": lambda: Objective(
        (m := IMAGES["batch norm"]())[0].double(), F.cross_entropy, (m[1], _classes()), "train"
    ),
}


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets) if outputs.shape[1] == 3 else outputs.square().mean()


def test_there_are_about_ninety() -> None:
    assert len(CASES) >= 90


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::sharpscope.errors.UnusedParameterWarning", "ignore::DeprecationWarning")
def test_products_are_differences_of_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    obj = CASES[name]()
    centre, step = obj.flat(), 1e-6
    u, v = torch.randn(2, obj.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for weight in obj.layout.split(v), obj.layout.split(u):
        if "padding" in name:
            weight["0.weight"][0] = 0  # this row gets no gradient, by design
    product = obj.hvp(v)
    difference = (obj.gradient(centre + step * v) - obj.gradient(centre - step * v)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-5, atol=1e-7 * max(1, float(product.abs().max())))
    slope = (obj.loss(centre + step * v) - obj.loss(centre - step * v)) / (2 * step)
    assert float(obj.gradient() @ v) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    scale = float(product.norm()) + 1e-30
    assert abs(float(u @ product - v @ obj.hvp(u))) < ASYMMETRY[torch.float64] * scale

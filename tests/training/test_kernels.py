"""Faster kernels: pooling to the bits of torch's own, normalised pooling up to rounding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpscope.data import Dataset, Split
from sharpscope.seeding import generator
from sharpscope.training import evaluate, train
from sharpscope.training.cpu.kernels import FastKernels
from training.small_runs import bits, classification, config, perceptron, timeless


def fast(*layers: nn.Module) -> FastKernels:
    """The faster ways of a run whose model has these layers."""
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    run: Any = SimpleNamespace(model=model, device=torch.device("cpu"), config=config(), optimizer=optimizer)
    return FastKernels(run)


@pytest.mark.parametrize(
    ("window", "shape"),
    [
        ({"kernel_size": 2}, (5, 12, 9, 11)),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (4, 8, 13, 13)),
        ({"kernel_size": 2, "stride": 1}, (3, 16, 7, 7)),
        (
            {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)},
            (2, 9, 15, 12),
        ),
        ({"kernel_size": 2}, (2, 3, 8, 8)),  # too few channels to gain anything: torch's own way
    ],
)
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_agrees_with_torch_s_in_values_and_gradients(
    window: dict[str, Any], shape: tuple[int, ...], ties: bool
) -> None:
    images = torch.randn(shape, generator=generator("pooling"))
    if ties:
        images = (2 * images).round().relu()  # whole windows of zeros
    layer, ours, theirs = nn.MaxPool2d(**window), images.clone(), images.clone()
    expected = layer(theirs.requires_grad_())
    with fast(layer):
        found = layer(ours.requires_grad_())
    assert (type(found.grad_fn).__name__ == "_MaxPoolBackward") == (shape[1] >= 8)
    gradient = torch.randn(expected.shape, generator=generator("gradient"))
    found.backward(gradient)
    expected.backward(gradient)
    assert torch.equal(found, expected)
    assert ours.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def block(scale: float = 1.0, dtype: torch.dtype = torch.float64, **window: Any) -> nn.Sequential:
    norm = nn.BatchNorm2d(9, dtype=dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 9)).mul_(scale)
        norm.bias.copy_(torch.linspace(-1, 1, 9))
    return nn.Sequential(norm, nn.ReLU(), nn.MaxPool2d(**{"kernel_size": 2, **window}))


def through(model: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """Outputs, gradients and running statistics of one pass."""
    x = images.clone().requires_grad_()
    out = model(x)
    gradient = torch.randn(out.shape, generator=generator("upstream"), dtype=out.dtype)
    out.backward(gradient)
    assert x.grad is not None
    slopes = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "x": x.grad, **slopes, **dict(model.named_buffers()), "path": out.grad_fn}


@pytest.mark.parametrize("window", [{}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 2, "stride": 1}])
def test_normalised_pooling_is_normalisation_rectification_and_pooling(window: dict[str, Any]) -> None:
    images = torch.randn(4, 9, 11, 8, generator=generator("maps"), dtype=torch.float64) * 3 + 1
    expected = through(block(**window), images)
    model = block(**window)
    with fast(model):
        found = through(model, images)
    assert type(found.pop("path")).__name__ == "_NormalisedPoolingBackward"
    expected.pop("path")
    assert found.keys() == expected.keys()
    assert 0.1 < float((found["out"] == 0).double().mean()) < 0.9  # ReLU has something to do
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)


def test_where_scales_may_be_negative_the_layers_do_their_own_work() -> None:
    """A decreasing normalisation turns the order in a window round."""
    images = torch.randn(4, 9, 8, 8, generator=generator("maps"), dtype=torch.float64)
    expected = through(block(scale=-1.0), images)
    model = block(scale=-1.0)
    with fast(model):
        found = through(model, images)
    assert type(found.pop("path")).__name__ != "_NormalisedPoolingBackward"
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_evaluation_is_torch_s_own() -> None:
    images = torch.randn(4, 9, 8, 8, generator=generator("maps"))
    model = block(dtype=torch.float32).eval()
    expected = model(images)
    with fast(model):
        assert torch.equal(model(images), expected)


def test_layers_that_serve_twice_or_are_watched_are_left_alone() -> None:
    images = torch.randn(4, 9, 8, 8, generator=generator("maps"))
    relu = nn.ReLU()
    shared = nn.Sequential(nn.Sequential(nn.BatchNorm2d(9), relu, nn.MaxPool2d(2)), nn.Sequential(relu))
    watched = block(dtype=torch.float32)
    seen: list[Tensor] = []
    watched[1].register_forward_hook(lambda module, given, out: seen.append(out))
    with fast(shared, watched):
        for model in (shared, watched):
            assert "NormalisedPooling" not in type(model(images).grad_fn).__name__
    assert seen[0].shape == images.shape


def test_the_model_is_itself_again_afterwards() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(1))

    def failing() -> None:
        with fast(model):
            assert sum("forward" in vars(layer) for layer in model) == 5
            model(torch.zeros(1))

    with pytest.raises(RuntimeError):
        failing()
    assert not any("forward" in vars(layer) for layer in model)


def test_who_looks_at_a_model_after_an_epoch_finds_torch_s_own_layers() -> None:
    """Curvature is measured there, by derivatives that the faster ways do not have."""
    model, seen = convolutional(True), []

    def look(row: Any) -> None:
        inputs = images_of_two_classes().test.inputs[:5]
        model.train()
        seen.append(type(model[:4](inputs).grad_fn).__name__)

    train(config(optimizer={"name": "sam", "lr": 0.1}), images_of_two_classes(), model, on_epoch=look)
    assert seen == ["MaxPool2DWithIndicesBackward0"] * 3


def images_of_two_classes(n: int = 21) -> Dataset:
    inputs = torch.randn(n, 1, 10, 10, generator=generator("images", n))
    split = Split(inputs, (inputs.mean((1, 2, 3)) > 0).long())
    return Dataset("digits", "classification", 2, (1, 10, 10), split, None, split, "none")


def convolutional(normalised: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = [nn.BatchNorm2d(9)] if normalised else []
        head = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(144, 2)]
        return nn.Sequential(nn.Conv2d(1, 9, 3), *norm, nn.ReLU(), nn.MaxPool2d(2), *head)


def test_pooling_changes_no_bit_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, plain, data = convolutional(), convolutional(), images_of_two_classes()
    found = train(config(), data, quick)
    monkeypatch.setattr("sharpscope.training.cpu.pooling.VECTOR", 10**6)
    expected = train(config(), data, plain)
    assert bits(quick) == bits(plain)
    assert timeless(found.history) == timeless(expected.history)


@pytest.mark.parametrize("optimizer", ["sgd", "sam"])
def test_normalised_pooling_changes_a_run_by_rounding_alone(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(optimizer={"name": optimizer, "lr": 0.05}, dtype="float64")
    quick, plain, data = convolutional(True), convolutional(True), images_of_two_classes()
    found = train(run, data, quick)
    assert found.final["test_loss"] == evaluate(quick, data.to("cpu", torch.float64).test, "cross_entropy")[0]
    monkeypatch.setattr("sharpscope.training.cpu.kernels.normalised_poolings", lambda models: {})
    train(run, data, plain)
    assert bits(quick) != bits(plain)
    assert_close(quick, plain)


def assert_close(model: nn.Module, twin: nn.Module) -> None:
    for (name, ours), theirs in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10, msg=name)


def test_scales_that_turn_negative_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """They start so small that training turns some; then the three layers do their own work for a while."""
    run = config(optimizer={"name": "sgd", "lr": 0.5}, dtype="float64", stop={"epochs": 6})
    models = [convolutional(True) for _ in range(2)]
    for model in models:
        model[1].weight.data.fill_(0.02)
    train(run, images_of_two_classes(), models[0])
    assert (models[0][1].weight < 0).any()
    monkeypatch.setattr("sharpscope.training.cpu.kernels.normalised_poolings", lambda models: {})
    train(run, images_of_two_classes(), models[1])
    assert_close(*models)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_grey_images_has_autograds_gradients(
    stride: tuple[int, int], padding: tuple[int, int], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sharpscope.training.cpu.narrow_convolution._ENTRIES", 4000
    )  # several images at a time
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(1, 7, (5, 3), stride, padding, bias=bias).double()
    images = torch.randn(11, 1, 12, 9, generator=generator("grey"), dtype=torch.float64)
    towards = torch.randn(layer(images).shape, generator=generator("towards"), dtype=torch.float64)

    def gradients() -> list[Tensor]:
        outputs = layer(images)
        return [outputs, *torch.autograd.grad(outputs, list(layer.parameters()), towards)]

    expected = gradients()
    with fast(layer):
        found = gradients()
        assert "Narrow" in type(layer(images).grad_fn).__name__
        assert "Narrow" not in type(layer(images.clone().requires_grad_()).grad_fn).__name__
    assert torch.equal(found[0], expected[0])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_other_convolutions_are_left_alone() -> None:
    others = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3, dilation=2), nn.Conv2d(1, 4, 3, padding="same")
    )
    with fast(others):
        assert not any("forward" in vars(layer) for layer in others)


@pytest.mark.parametrize("full", [False, True])
def test_gradient_descent_adds_its_products_to_the_weights(full: bool) -> None:
    """Without a gradient between: the naive loop's numbers up to rounding, and no gradient is left behind."""
    run = config(
        optimizer={"name": "sgd", "lr": 0.1},
        dtype="float64",
        schedule={"kind": "every", "n": 1, "gamma": 0.5},
        batch_size="full" if full else 8,
    )
    model, twin = (nn.Sequential(perceptron(), nn.BatchNorm1d(3)) for _ in range(2))
    model, twin = nn.Sequential(*model[0], model[1]), nn.Sequential(*twin[0], twin[1]).double()
    train(run, classification(), model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    data = classification().to("cpu", torch.float64).train
    for epoch in (1, 2, 3):
        order = torch.randperm(53, generator=generator("order", run.run_id(), epoch))
        for chosen in order.split(53 if full else 8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(twin(data.inputs[chosen]), data.targets[chosen]).backward()
            optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5
    assert all(parameter.grad is None for parameter in model.parameters())
    assert_close(model, twin)

"""Every named model: its size, its outputs, and what measuring asks of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from sharpscope.errors import InputError
from sharpscope.models import NAMES, build, catalogue

# Small enough to differentiate twice in a moment, built by the same code.
SMALL: dict[str, dict[str, Any]] = {
    "lenet5": {"padding": 2},
    "vgg11": {"width": 0.02, "activation": "gelu"},
    "vgg11_bn": {"width": 0.02},
    "resnet": {"depth": 8, "width": 0.25},
    "resnet18": {"width": 0.05},
    "resnet18_no_bn": {"width": 0.05},
    "fixup_resnet": {"depth": 8, "width": 0.25},
    "mlp_patriarca2024": {"hidden": [6, 5]},
    "mlp_jastrzebski2018": {"hidden": [6, 5]},
    "gat": {"hidden": 3, "heads": 2},
    "decoder": {"width": 8, "layers": 1, "heads": 2},
}
OF_OTHER_SAMPLES = {"gat": "cora", "decoder": "python_manual"}
"""Models that take no values, and the data whose samples they take."""


@pytest.mark.parametrize("info", catalogue(), ids=lambda info: info.name)
def test_parameter_counts(info, data):
    model = build(info.name, data(info.reference), seed=0)
    assert sum(p.numel() for p in model.parameters()) == info.parameters


def test_the_papers_counts_are_the_catalogues():
    counts = {info.name: info.parameters for info in catalogue()}
    assert counts["mlp_patriarca2024"] == 1_738_910
    assert counts["lenet5"] == 175_546
    assert counts["fcnn_hammoud2023"] == 4_929
    assert counts["vgg11"] == 9_750_922
    assert counts["resnet56"] == 853_018
    assert counts["resnet18"] == 11_173_962


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OF_OTHER_SAMPLES])
@pytest.mark.parametrize("shape", ["digits", "fashion_mnist", "cifar10", "abalone"])
def test_takes_every_input_that_it_can_and_refuses_the_others_in_a_sentence(name, shape, data):
    dataset = data(shape)
    narrow = {"width": 0.1} if "resnet" in name or "vgg" in name else {}
    if (shape == "abalone" and not name.startswith(("mlp", "fcnn"))) or (
        name == "lenet5" and shape == "digits"
    ):
        with pytest.raises(InputError, match="use (a model|mlp)|or use mlp"):
            build(name, dataset, 0, **narrow)
        return
    outputs = build(name, dataset, 0, **narrow)(dataset.train.inputs)
    assert outputs.shape == (5, dataset.n_outputs)
    assert outputs.isfinite().all()


def test_lenet_takes_digits_with_padding_and_the_smallest_images_it_names(data):
    from sharpscope.models.lenet5 import LeNet5
    from sharpscope.models.options import LeNet5Options

    assert build("lenet5", data("digits"), 0, padding=2)(data("digits").train.inputs).shape == (5, 10)
    for padding, smallest in ((0, 16), (1, 10), (2, 4)):
        options = LeNet5Options(padding=padding)
        assert LeNet5((1, smallest, smallest + 3), 10, options)(
            torch.ones(2, 1, smallest, smallest + 3)
        ).shape == (2, 10)
        with pytest.raises(InputError, match=f"at least {smallest} × {smallest}"):
            LeNet5((1, smallest - 1, 32), 10, options)


def _move_from_start(model):
    """Move every parameter a little: where gradients vanish (Fixup's zero layers) nothing would be tested."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return generator


@pytest.mark.parametrize("name", SMALL)
def test_double_backward_in_float64_agrees_with_differences_of_gradients(name, data):
    dataset = data(OF_OTHER_SAMPLES.get(name, "digits")).to("cpu", torch.float64)
    model = build(name, dataset, 0, **SMALL[name]).double().eval()
    generator = _move_from_start(model)
    parameters = dict(model.named_parameters())
    loss_function = nn.CrossEntropyLoss()

    def gradient(at):
        loss = loss_function(functional_call(model, at, (dataset.train.inputs,)), dataset.train.targets)
        return torch.autograd.grad(loss, list(at.values()), create_graph=True, materialize_grads=True)

    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters.values()]
    product = torch.autograd.grad(
        gradient(parameters), list(parameters.values()), direction, materialize_grads=True
    )
    step = 1e-8  # small, so that no ReLU or maximum changes sides on the way

    def moved(by):
        at = {
            k: (p + by * d).detach().requires_grad_()
            for (k, p), d in zip(parameters.items(), direction, strict=True)
        }
        return gradient(at)

    differences = [(a - b) / (2 * step) for a, b in zip(moved(step), moved(-step), strict=True)]
    exact, finite = (torch.cat([part.reshape(-1) for part in parts]) for parts in (product, differences))
    assert exact.abs().max() > 1e-3
    torch.testing.assert_close(finite, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


def test_every_parameter_takes_part(data):
    for info in catalogue():
        narrow = {k: v for k, v in SMALL.get(info.name, {}).items() if k in ("width", "hidden")}
        dataset = data(info.reference)
        model = build(info.name, dataset, 0, **narrow)
        if info.name == "fixup_resnet":
            _move_from_start(model)
        model(dataset.train.inputs).square().sum().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None, (info.name, name)
            assert p.grad.isfinite().all(), (info.name, name)


def test_batch_normalisation_stands_where_it_is_said_to(data):
    def kinds(name, **options):
        return [type(layer).__name__ for layer in build(name, data("digits"), 0, **options).modules()]

    output = kinds("mlp", hidden=[4, 3], batch_norm="output", dropout=0.1)
    assert output[2:] == [
        "Flatten",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
        "BatchNorm1d",
    ]
    hidden = kinds("mlp", hidden=[4], batch_norm="hidden", activation="tanh")
    assert hidden[2:] == ["Flatten", "Linear", "BatchNorm1d", "Tanh", "Linear"]
    assert kinds("vgg11_bn", width=0.02).count("BatchNorm2d") == 8
    assert "BatchNorm2d" not in kinds("vgg11", width=0.02) + kinds("resnet18_no_bn", width=0.02)
    assert kinds("resnet18", width=0.02).count("BatchNorm2d") == 20
    assert kinds("resnet", depth=14, width=0.25).count("BatchNorm2d") == 13
    assert not [kind for kind in kinds("fixup_resnet", depth=8) if "Norm" in kind]
    assert kinds("vgg11_gelu", width=0.02).count("GELU") == 10


def test_a_resnet_block_with_a_silent_branch_is_its_shortcut():
    from sharpscope.models.resnet import ResNetBlock

    block = ResNetBlock(3, 5, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    images = torch.rand(2, 3, 7, 6)
    outputs = block(images)
    assert torch.equal(outputs[:, :3], images[:, :, ::2, ::2])
    assert torch.count_nonzero(outputs[:, 3:]) == 0


def test_a_decoder_is_causal_and_equals_an_attention_written_out(data):
    model = build("decoder", data("python_manual"), 0, width=8, layers=1, heads=2).eval()
    tokens = data("python_manual").train.inputs
    changed = tokens.clone()
    changed[:, 40:] = (changed[:, 40:] + 1) % 96
    before, after = model(tokens), model(changed)
    assert torch.equal(before[..., :40], after[..., :40])
    assert not torch.equal(before[..., 40:], after[..., 40:])
    block, state = model.blocks[0], torch.randn(1, 5, 8)
    normed = block.norm_attention(state)
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        q, k, v = (layer(normed)[..., part] for layer in (block.query, block.key, block.value))
        scores = q @ k.transpose(1, 2) / 2 + torch.full((5, 5), -torch.inf).triu(1)
        heads.append(scores.softmax(-1) @ v)
    mixed = state + block.output(torch.cat(heads, -1))
    expected = mixed + block.mlp(block.norm_mlp(mixed))
    torch.testing.assert_close(block(state), expected)


def test_models_of_tokens_and_of_values_refuse_each_others_data(data):
    with pytest.raises(InputError, match="use decoder"):
        build("mlp", data("python_manual"), 0)
    with pytest.raises(InputError, match="use a model for its inputs"):
        build("decoder", data("digits"), 0)
    with pytest.raises(InputError, match="multiple of heads"):
        build("decoder", data("python_manual"), 0, width=9, heads=2)


def test_fixup_starts_as_the_method_says(data):
    model = build("fixup_resnet", data("cifar10"), 0)
    images = data("cifar10").train.inputs
    assert torch.count_nonzero(model(images)) == 0
    stem = torch.relu(model.stem(images))
    through = model.blocks[:5](stem)
    assert torch.equal(through, stem)  # every branch is silent at first
    first = torch.cat(
        [block.conv1.weight.flatten() / block.conv1.weight[0].numel() ** -0.5 for block in model.blocks]
    )
    assert float(first.detach().std()) == pytest.approx(
        (2 / 15) ** 0.5, rel=0.01
    )  # 15 blocks, two layers in a branch


def test_the_depth_of_a_cifar_resnet(data):
    with pytest.raises(InputError, match=r"6n \+ 2 .* received 10"):
        build("resnet", data("cifar10"), 0, depth=10)


def test_gat_reads_out_the_nodes_it_is_asked_for_and_holds_the_graph_apart(data):
    dataset = data("cora")
    model = build("gat", dataset, 0).eval()
    everything = model(torch.arange(40))
    picked = torch.tensor([7, 3, 3])
    assert torch.equal(model(picked), everything[picked])
    assert set(dict(model.named_buffers())) == {"features", "edge_index"}
    assert not {"features", "edge_index"} & set(model.state_dict())
    assert model.double().features.dtype == torch.float64
    assert model.edge_index.dtype == torch.int64
    model.train()
    assert not torch.equal(model(picked), model(picked))  # dropout


def test_gat_heads_and_layers(data):
    dataset = data("cora")
    eight = build("gat", dataset, 0, heads=8)
    assert sum(p.numel() for p in eight.parameters()) == 1433 * 64 + 3 * 64 + 64 * 7 + 3 * 7
    three = build("gat", dataset, 0, layers=3, heads=2)
    assert three(torch.arange(4)).shape == (4, 7)


def test_gat_without_torch_geometric_names_the_extra(data, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    with pytest.raises(InputError, match=r"sharpscope\[graphs\]"):
        build("gat", data("cora"), 0)


def test_graph_models_and_the_others_do_not_mix(data):
    with pytest.raises(InputError, match="nodes of a graph; use gat"):
        build("mlp", data("cora"), 0)
    with pytest.raises(InputError, match="gat takes nodes"):
        build("gat", data("digits"), 0)

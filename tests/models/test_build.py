from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sharpscope.errors import InputError
from sharpscope.models import NAMES, ModelConfig, build, catalogue
from sharpscope.models.building_blocks import initialise
from sharpscope.models.construction import build_empty
from sharpscope.models.registry import ARCHITECTURES, SETTINGS


def _weights(model):
    return nn.utils.parameters_to_vector(model.parameters())


def test_the_seed_alone_decides_the_weights(data):
    first = _weights(build("lenet5", data("fashion_mnist"), 3))
    torch.manual_seed(1234)
    assert torch.equal(first, _weights(build("lenet5", data("fashion_mnist"), 3)))
    assert not torch.equal(first, _weights(build("lenet5", data("fashion_mnist"), 4)))
    build("mlp", data("digits"), 2**63 - 1, hidden=[2])  # the largest seed that seed_of gives


def test_default_dtype_and_device_do_not_reach_the_weights(data):
    dataset = data("digits")
    first = build("mlp", dataset, 0)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            second = build("mlp", dataset, 0)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert _weights(second).dtype == torch.float32
    assert _weights(second).device.type == "cpu"
    assert torch.equal(_weights(first), _weights(second))


def test_the_global_random_state_is_left_alone(data):
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    build("mlp", data("digits"), 0)
    with pytest.raises(InputError):
        build("lenet5", data("digits"), 0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert str(np.random.get_state()) == states[2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_empty_model_takes_no_memory_and_is_filled_by_its_state_dict(data, architecture):
    taking = {"nodes": "cora", "tokens": "python_manual", "values": "cifar10"}
    dataset = data(taking[ARCHITECTURES[architecture].takes])
    name = next(n for n, setting in SETTINGS.items() if setting.architecture == architecture)
    config = ModelConfig(name=name, options={"width": 0.1} if "resnet" in name or name == "vgg11" else {})
    before = torch.get_rng_state()
    empty = build_empty(config, dataset)
    assert torch.equal(before, torch.get_rng_state())
    if architecture == "gat":
        assert empty is None, "its graph is in no state dict"
        return
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    whole = build(config, dataset, 0).eval()
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(whole.state_dict())
    x = dataset.train.inputs[:2]
    assert torch.equal(filled.eval()(x), whole(x))


def test_xavier_he_and_default(data):
    dataset = data("fashion_mnist")

    def layers(name):
        model = build(
            ModelConfig(name="mlp", options={"hidden": [400, 300]}, initialisation=name), dataset, 0
        )
        return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]

    xavier = layers("xavier")[1]
    bound = (6 / 700) ** 0.5
    assert bound * 0.999 < float(xavier.weight.detach().abs().max()) <= bound
    assert torch.count_nonzero(xavier.bias) == 0
    he = layers("he")[1]
    assert float(he.weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert torch.count_nonzero(he.bias) == 0
    default = layers("default")[1]
    assert float(default.weight.detach().abs().max()) <= 400**-0.5
    assert torch.count_nonzero(default.bias) > 0
    assert torch.equal(default.weight, layers(None)[1].weight)


def test_convolutions_are_drawn_by_their_fans_and_normalisation_is_left_alone():
    layers = nn.Sequential(nn.Conv2d(8, 40, 5), nn.BatchNorm2d(40))
    initialise(layers, "he")
    assert float(layers[0].weight.detach().std()) == pytest.approx((2 / 200) ** 0.5, rel=0.02)
    assert (layers[1].weight == 1).all()


def test_each_model_has_its_own_default(data):
    vgg = build("vgg11", data("cifar10"), 0, width=0.5)
    first = vgg.features[0]
    assert float(first.weight.detach().std()) == pytest.approx((2 / 27) ** 0.5, rel=0.1)
    assert torch.count_nonzero(first.bias) == 0
    assert torch.count_nonzero(build("fcnn_hammoud2023", data("abalone"), 0).layers[1].bias) == 0
    assert torch.count_nonzero(build("mlp", data("abalone"), 0).layers[1].bias) > 0
    infos = {info.name: info.initialisation for info in catalogue()}
    assert [infos[n] for n in ("mlp", "lenet5", "vgg11", "fixup_resnet")] == [
        "default",
        "xavier",
        "he",
        "own",
    ]


def test_a_shared_weight_is_drawn_once_and_stays_shared():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    torch.manual_seed(0)
    initialise(nn.Sequential(first, second), "he")
    drawn = first.weight.clone()
    torch.manual_seed(0)
    initialise(first, "he")
    assert torch.equal(drawn, first.weight)
    assert second.weight is first.weight


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "mlpp"}, "A model must be one of mlp"),
        ({"name": "mlp", "options": {"widths": [3]}}, "options of mlp are hidden, .* received 'widths'"),
        ({"name": "mlp", "options": {"hidden": [0]}}, "option hidden.0 of mlp"),
        ({"name": "mlp", "options": {"dropout": 1.0}}, "option dropout of mlp"),
        ({"name": "mlp", "options": {"activation": "swish"}}, "option activation of mlp"),
        ({"name": "vgg11", "options": {"width": float("nan")}}, r"width(?s:.*)finite number"),
        ({"name": "fixup_resnet", "initialisation": "he"}, "leave it unset"),
        ({"name": "mlp", "initialisation": "orthogonal"}, "'default', 'xavier' or 'he'"),
        ({"name": "mlp", "depth": 3}, "Extra inputs"),
    ],
)
def test_a_bad_choice_is_refused_by_the_configuration(fields, words):
    with pytest.raises(ValidationError, match=words):
        ModelConfig(**fields)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mlpp", {}, "A model must be one of mlp, .* received 'mlpp'"),
        ("mlp", {"widths": [3]}, "options of mlp are hidden"),
    ],
)
def test_a_bad_choice_is_an_input_error_of_build(name, options, words, data):
    with pytest.raises(InputError, match=words):
        build(name, data("digits"), 0, **options)


def test_options_beside_a_configuration_win(data):
    config = ModelConfig(name="mlp", options={"hidden": [7], "activation": "tanh"})
    model = build(config, data("digits"), 0, hidden=[5])
    assert model.layers[1].out_features == 5
    assert isinstance(model.layers[2], nn.Tanh)


def test_a_configuration_goes_through_json():
    config = ModelConfig(name="mlp", options={"hidden": [7]}, initialisation="he")
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_the_catalogue_is_complete_and_needs_no_torch():
    assert tuple(info.name for info in catalogue()) == NAMES
    code = "import sys; from sharpscope import models; models.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

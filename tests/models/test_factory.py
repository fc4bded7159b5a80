"""Models of the user's own, found in the current folder."""

from __future__ import annotations

import sys
import uuid

import pytest
import torch
from torch import nn

from sharpscope.errors import InputError
from sharpscope.models import ModelConfig, build

SOURCE = """
import torch
from torch import nn

def plain(width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(), nn.Linear(width, 10))

def fitted(dataset, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(dataset.train.inputs[0].numel(), width),
                         nn.Linear(width, dataset.n_outputs))

def failing():
    raise RuntimeError("no weights")

def nothing():
    pass

def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

def misfit():
    return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a new name in the current folder, which is not on the search path."""
    name = f"own_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield name
    assert sys.path == before
    sys.modules.pop(name, None)


def test_a_factory_in_the_current_folder_is_called_with_its_options(module, data):
    model = build(f"{module}:plain", data("digits"), 0, width=6)
    assert model[1].out_features == 6
    assert all(layer.training for layer in model.modules())
    again = build(f"{module}:plain", data("digits"), 0, width=6)
    assert torch.equal(model[1].weight, again[1].weight)
    assert torch.count_nonzero(model[1].bias) > 0


def test_a_factory_that_takes_the_data_set_gets_it(module, data):
    assert build(f"{module}:fitted", data("abalone"), 0, width=3)[1].in_features == 10


def test_initial_weights_can_be_asked_for(module, data):
    config = ModelConfig(name=f"{module}:plain", initialisation="xavier")
    assert torch.count_nonzero(build(config, data("digits"), 0)[1].bias) == 0


def test_a_class_will_do(data):
    model = build("torch.nn:Linear", data("abalone"), 0, in_features=10, out_features=1)
    assert isinstance(model, nn.Linear)


@pytest.mark.parametrize(
    ("attribute", "options", "words"),
    [
        ("absent", {}, "has no 'absent'"),
        ("number", {}, "must be a function or class .* received int"),
        ("plain", {"depth": 2}, "received the options depth"),
        ("fitted", {}, "missing a required argument: 'width'"),
        ("failing", {}, r"raised RuntimeError \(no weights\)"),
        ("nothing", {}, "must return a torch.nn.Module, received NoneType"),
        ("narrow", {}, r"outputs of shape \(2, 10\) for digits, received \(2, 3\)"),
        ("misfit", {}, r"must take the inputs of digits, of shape \(2, 1, 8, 8\)"),
    ],
)
def test_what_can_go_wrong_is_one_sentence(module, data, attribute, options, words):
    with pytest.raises(InputError, match=words) as raised:
        build(f"{module}:{attribute}", data("digits"), 0, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["os:system", "shutil:rmtree", "subprocess:run", "builtins:exec"])
def test_a_module_of_python_itself_is_refused(name, data):
    with pytest.raises(InputError, match="must be of a module of your own"):
        build(name, data("digits"), 0)


def test_what_a_module_has_only_imported_is_refused(module, data):
    with open(f"{module}.py", "a") as file:
        file.write("from os import system\nfrom shutil import rmtree\n")
    with pytest.raises(InputError, match="must be a function or class"):  # a built-in function
        build(f"{module}:system", data("digits"), 0, command="true")
    with pytest.raises(InputError, match="comes from shutil"):
        build(f"{module}:rmtree", data("digits"), 0, path="nowhere")


def test_a_module_that_does_not_exist(data):
    with pytest.raises(InputError, match="'no_such_module', which cannot be imported"):
        build("no_such_module:model", data("digits"), 0)

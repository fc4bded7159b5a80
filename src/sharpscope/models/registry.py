"""The models by name: architectures, and the settings of the papers. Kept free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sharpscope.models.options import (
    DecoderOptions,
    FixupResNetOptions,
    GATOptions,
    LeNet5Options,
    MLPOptions,
    Options,
    ResNet18Options,
    ResNetOptions,
    VGG11Options,
)

if TYPE_CHECKING:
    from sharpscope.models.building_blocks import Initialisation


@dataclass(frozen=True)
class Architecture:
    """One class of models: where it lives, its options, its initial weights when none are asked for.

    ``own_weights``: the initial weights belong to the architecture and cannot be exchanged. ``takes``: what the
    samples are; a model of nodes holds the data set's graph and its inputs are node indices.
    """

    title: str
    entry: str
    options: type[Options]
    needs: str
    initialisation: Initialisation = "default"
    own_weights: bool = False
    takes: Literal["values", "nodes", "tokens"] = "values"


@dataclass(frozen=True)
class ModelInfo:
    """One line of the catalogue.

    ``parameters`` is the count on the data set ``reference``; ``options`` are the defaults, complete;
    ``needs`` says what inputs the model takes.
    """

    name: str
    title: str
    architecture: str
    papers: tuple[str, ...]
    reference: str
    parameters: int
    needs: str
    initialisation: str
    options: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class NamedModel:
    """A named setting of an architecture: what differs from the architecture's defaults."""

    title: str
    architecture: str
    papers: tuple[str, ...]
    reference: str
    parameters: int
    changes: dict[str, Any] = field(default_factory=dict, hash=False)
    initialisation: Initialisation | None = None


_ANY = "inputs of any shape, flattened"
_IMAGES = "images (channels, height, width)"

ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture("Multilayer perceptron", "sharpscope.models.mlp:MLP", MLPOptions, _ANY),
    "lenet5": Architecture(
        "LeNet-5 with batch normalisation",
        "sharpscope.models.lenet5:LeNet5",
        LeNet5Options,
        _IMAGES,
        "xavier",
    ),
    "vgg11": Architecture("VGG-11", "sharpscope.models.vgg11:VGG11", VGG11Options, _IMAGES, "he"),
    "resnet": Architecture(
        "ResNet for CIFAR, parameter-free shortcuts",
        "sharpscope.models.resnet:ResNet",
        ResNetOptions,
        _IMAGES,
        "he",
    ),
    "resnet18": Architecture(
        "ResNet-18 with a 3 × 3 stem", "sharpscope.models.resnet18:ResNet18", ResNet18Options, _IMAGES
    ),
    "fixup_resnet": Architecture(
        "Fixup ResNet for CIFAR, without normalisation",
        "sharpscope.models.fixup_resnet:FixupResNet",
        FixupResNetOptions,
        _IMAGES,
        own_weights=True,
    ),
    "gat": Architecture(
        "Graph attention network",
        "sharpscope.models.gat:GAT",
        GATOptions,
        "nodes of the data set's graph",
        "xavier",
        takes="nodes",
    ),
    "decoder": Architecture(
        "Decoder transformer, pre-normalised",
        "sharpscope.models.decoder:Decoder",
        DecoderOptions,
        "sequences of tokens",
        own_weights=True,
        takes="tokens",
    ),
}

SETTINGS: dict[str, NamedModel] = {
    "mlp": NamedModel("MLP 512-256-128", "mlp", (), "cifar10", 1_738_890),
    "mlp_patriarca2024": NamedModel(
        "MLP 512-256-128, batch normalisation on the outputs",
        "mlp",
        ("patriarca2024",),
        "cifar10",
        1_738_910,
        {"batch_norm": "output"},
    ),
    "mlp_jastrzebski2018": NamedModel(
        "MLP 512-512-512, batch normalisation in every block",
        "mlp",
        ("jastrzebski2018",),
        "fashion_mnist",
        935_434,
        {"hidden": (512, 512, 512), "batch_norm": "hidden"},
    ),
    "mlp_kaur2022": NamedModel(
        "MLP 512-512, dropout after both",
        "mlp",
        ("kaur2022",),
        "fashion_mnist",
        669_706,
        {"hidden": (512, 512), "dropout": 0.2},
    ),
    "fcnn_hammoud2023": NamedModel(
        "Fully connected 10-64-64-1",
        "mlp",
        ("hammoud2023",),
        "abalone",
        4_929,
        {"hidden": (64, 64)},
        "xavier",
    ),
    "lenet5": NamedModel("LeNet-5", "lenet5", ("hammoud2023",), "fashion_mnist", 175_546),
    "vgg11": NamedModel("VGG-11", "vgg11", ("kaur2022", "jastrzebski2018"), "cifar10", 9_750_922),
    "vgg11_bn": NamedModel(
        "VGG-11 with batch normalisation", "vgg11", ("kaur2022",), "cifar10", 9_756_426, {"batch_norm": True}
    ),
    "vgg11_gelu": NamedModel(
        "VGG-11 with GELU", "vgg11", ("kaur2022",), "cifar10", 9_750_922, {"activation": "gelu"}
    ),
    "resnet": NamedModel("ResNet-56 for CIFAR", "resnet", ("jastrzebski2018",), "cifar10", 853_018),
    "resnet20": NamedModel("ResNet-20 for CIFAR", "resnet", (), "cifar10", 269_722, {"depth": 20}),
    "resnet32": NamedModel("ResNet-32 for CIFAR", "resnet", (), "cifar10", 464_154, {"depth": 32}),
    "resnet44": NamedModel("ResNet-44 for CIFAR", "resnet", (), "cifar10", 658_586, {"depth": 44}),
    "resnet56": NamedModel(
        "ResNet-56 for CIFAR", "resnet", ("jastrzebski2018",), "cifar10", 853_018, {"depth": 56}
    ),
    "resnet18": NamedModel("ResNet-18 for CIFAR", "resnet18", ("coldenhoff2022",), "cifar10", 11_173_962),
    "resnet18_no_bn": NamedModel(
        "ResNet-18 for CIFAR without any batch normalisation",
        "resnet18",
        ("coldenhoff2022",),
        "cifar10",
        11_164_362,
        {"batch_norm": False},
    ),
    "fixup_resnet": NamedModel("Fixup ResNet-32", "fixup_resnet", ("kaur2022",), "cifar10", 461_959),
    "gat": NamedModel("GAT, 2 layers of 8 channels", "gat", ("hammoud2023",), "cora", 11_565),
    "decoder": NamedModel("Decoder, 2 blocks of width 64", "decoder", (), "python_manual", 116_576),
}

NAMES: tuple[str, ...] = tuple(SETTINGS)


def options_of(name: str, given: dict[str, Any]) -> Options:
    """Return the complete options of a named setting with the given ones on top.

    Raises pydantic's ValidationError for an unknown option or a value out of range.

    >>> options_of("mlp_kaur2022", {"dropout": 0.5})
    MLPOptions(hidden=(512, 512), activation='relu', batch_norm='none', dropout=0.5, output_activation=False)
    """
    setting = SETTINGS[name]
    return ARCHITECTURES[setting.architecture].options(**{**setting.changes, **given})


def catalogue() -> list[ModelInfo]:
    """Return what there is to choose from, each with its defaults and its number of parameters.

    >>> next(info.parameters for info in catalogue() if info.name == "lenet5")
    175546
    """
    lines = []
    for name, setting in SETTINGS.items():
        architecture = ARCHITECTURES[setting.architecture]
        weights = "own" if architecture.own_weights else setting.initialisation or architecture.initialisation
        lines.append(
            ModelInfo(
                name=name,
                title=setting.title,
                architecture=setting.architecture,
                papers=setting.papers,
                reference=setting.reference,
                parameters=setting.parameters,
                needs=architecture.needs,
                initialisation=weights,
                options=options_of(name, {}).model_dump(mode="json"),
            )
        )
    return lines

"""The four trained networks that measures are benchmarked on; trained once, kept in benchmarks/.cache.

    SHARPSCOPE_DATA=... python benchmarks/problems.py [mlp] [lenet5] [vgg11] [resnet56]

The first two are trained on all of Fashion-MNIST: training loss 0.26 and accuracy 90.5 % (MLP), 0.38 and 85.3 %
(LeNet-5). VGG-11 and ResNet-56 have full width and the first 2000 CIFAR-10 images after a seeded shuffle, so that
each takes about eight minutes on one core: 0.31 and 90.4 % after 17 epochs, 1.12 and 67.7 % after 20. An interrupted
training goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor, nn

from sharpscope.data import load
from sharpscope.models import build
from sharpscope.training import RunConfig, load_checkpoint, save_checkpoint, train, weight_seed

CACHE = Path(__file__).parent / ".cache"

PROBLEMS = {
    # name: (run configuration, samples the Hessian is taken over)
    "mlp": (
        {
            "data": "fashion_mnist",
            "model": {"name": "mlp", "options": {"hidden": [512, 256, 128]}},
            "optimizer": {"name": "sgd", "lr": 0.05},
            "batch_size": 100,
            "stop": {"epochs": 8},
        },
        60_000,
    ),
    "lenet5": (
        {
            "data": "fashion_mnist",
            "model": "lenet5",
            "optimizer": {"name": "sgd", "lr": 0.05},
            "batch_size": 64,
            "stop": {"epochs": 2},
        },
        20_000,
    ),
    "vgg11": (
        {
            "data": {"name": "cifar10", "train_samples": 2000, "test_samples": 1000},
            "model": "vgg11",
            "optimizer": {"name": "sgd", "lr": 0.01, "options": {"momentum": 0.9}},
            "batch_size": 50,
            "stop": {"epochs": 20, "train_accuracy": 0.9},
        },
        2_000,
    ),
    "resnet56": (
        {
            "data": {"name": "cifar10", "train_samples": 2000, "test_samples": 1000},
            "model": "resnet56",
            "optimizer": {"name": "sgd", "lr": 0.05, "options": {"momentum": 0.9}},
            "batch_size": 50,
            "stop": {"epochs": 20, "train_accuracy": 0.9},
        },
        2_000,
    ),
}


def trained(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a trained model in eval mode and the samples (inputs, targets) its Hessian is taken over."""
    settings, samples = PROBLEMS[name]
    config = RunConfig.model_validate(settings)
    dataset = load(config.data)
    model = build(config.model, dataset, weight_seed(config))
    file = CACHE / f"{config.run_id()}.safetensors"
    if file.exists():
        load_checkpoint(file, model)
    else:
        outcome = train(
            config,
            dataset,
            model,
            workspace=CACHE / "work" / config.run_id(),
            on_epoch=lambda row: print(
                name, row["epoch"], row["train_loss"], row["train_accuracy"], file=sys.stderr
            ),
        )
        assert outcome.status == "finished", outcome.status
        CACHE.mkdir(exist_ok=True)
        save_checkpoint(file, model, metadata={"run": config.model_dump(mode="json")})
    return model.eval(), dataset.train.inputs[:samples].contiguous(), dataset.train.targets[:samples]


if __name__ == "__main__":
    for problem in sys.argv[1:] or PROBLEMS:
        trained(problem)

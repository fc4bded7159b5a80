"""Whether a configuration, its data and its model fit together, asked before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sharpscope.errors import InputError
from sharpscope.training.augmentation import Augmentation
from sharpscope.training.evaluation import eval_mode
from sharpscope.training.losses import check_own_loss, loss_function
from sharpscope.training.optimizers import build_optimizer

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset
    from sharpscope.training.config import RunConfig

_LOSS_OF = {"classification": "cross_entropy", "regression": "mse"}


def resolved_loss(config: RunConfig, dataset: Dataset) -> str:
    """Return the name of the run's loss: the configured one, or what the data set's task asks for.

    Raises `InputError` where the two do not fit.
    """
    if config.loss is not None and ":" in config.loss:
        return config.loss
    fitting = _LOSS_OF[dataset.task]
    if config.loss not in (None, fitting):
        raise InputError(
            f"the loss {config.loss} does not fit {dataset.name}, a {dataset.task}; use {fitting} or leave it out."
        )
    return fitting


def validate(config: RunConfig, dataset: Dataset, model: nn.Module) -> None:
    """Raise `InputError`, in one sentence, where this run cannot be what its configuration says.

    The model is run once, in eval mode, on two training samples, to see the shape of its outputs. An optimizer and a
    loss of one's own are imported and tried.
    """
    n = len(dataset.train)
    if dataset.name != config.data.name:
        raise InputError(
            f"the run is configured for {config.data.name}; received the data set {dataset.name}."
        )
    if n == 0:
        raise InputError(f"training needs at least one sample; {dataset.name} came with none.")
    if config.batch_size != "full" and config.batch_size > n:
        raise InputError(
            f"a batch cannot exceed the training set of {n} samples; received batch_size = "
            f'{config.batch_size}: use batch_size = "full" for gradient descent on all of them.'
        )
    if config.stop.train_accuracy is not None and dataset.task == "regression":
        raise InputError(
            f"a regression has no accuracy, and the run on {dataset.name} is to stop at train_accuracy = "
            f"{config.stop.train_accuracy}; use train_loss instead."
        )
    if config.label_smoothing and resolved_loss(config, dataset) != "cross_entropy":
        raise InputError(
            f"label_smoothing is for classes, and {dataset.name} is a {dataset.task}; leave it out."
        )
    if config.augmentation is not None:
        Augmentation(config.augmentation, dataset, "")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"training needs a parameter that requires a gradient; {type(model).__name__} has none."
        )
    with torch.no_grad(), eval_mode(model):
        outputs = model(dataset.train.inputs[:2])
    tokens = dataset.train.targets.shape[1:] if dataset.task == "classification" else ()
    wanted = (min(n, 2), dataset.n_outputs, *tokens)
    if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) != wanted:
        found = (
            f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        )
        raise InputError(
            f"a model of {dataset.name} must return (n, {', '.join(map(str, wanted[1:]))}); "
            f"{type(model).__name__} returned {found} for {wanted[0]} samples."
        )
    if ":" in config.optimizer.name:
        build_optimizer(config.optimizer, [p for p in model.parameters() if p.requires_grad], model)
    name = resolved_loss(config, dataset)
    if ":" in name:
        check_own_loss(name, loss_function(name), dataset, outputs)

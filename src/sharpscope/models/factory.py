"""Models of the user's own, by ``package.module:factory``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sharpscope.errors import InputError
from sharpscope.models.building_blocks import initialise
from sharpscope.models.own_code import call_own, current_folder_importable, find_own, takes

if TYPE_CHECKING:
    from sharpscope.data import Dataset
    from sharpscope.models.config import ModelConfig


def build_own(config: ModelConfig, dataset: Dataset) -> nn.Module:
    """Return what a factory makes, called with the options, and with ``dataset`` if it takes that.

    The module is imported from the current folder or from ``sys.path``. The model must turn two samples of
    the data set into outputs (2, n_outputs). Raises InputError, one sentence for each way this fails.
    """
    with current_folder_importable():
        factory = find_own(config.name, "model", "a model", nn.Module)
        arguments: dict[str, Any] = dict(config.options)
        if takes(factory, "dataset"):
            arguments["dataset"] = dataset
        model = call_own(config.name, "model", factory, **arguments)
        if not isinstance(model, nn.Module):
            raise InputError(
                f"The model factory {config.name} must return a torch.nn.Module, "
                f"received {type(model).__name__}; return the model itself."
            )
        _check_outputs(config.name, model, dataset)
        initialise(model, config.initialisation or "default")
    return model


def _check_outputs(name: str, model: nn.Module, dataset: Dataset) -> None:
    inputs = dataset.train.inputs[:2].cpu()
    if inputs.is_floating_point():
        inputs = inputs.to(next((p.dtype for p in model.parameters()), inputs.dtype))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            outputs = model.eval()(inputs)
    except Exception as error:
        raise InputError(
            f"The model {name} must take the inputs of {dataset.name}, of shape {tuple(inputs.shape)}, "
            f"but raised {type(error).__name__} ({error}); make it fit the data."
        ) from error
    for module, training in modes.items():
        module.training = training
    tokens = dataset.train.targets.shape[1:] if dataset.task == "classification" else ()
    expected = (len(inputs), dataset.n_outputs, *tokens)
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    rows, columns = outputs.shape if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 else (0, 0)
    more = dataset.task == "classification" and rows == len(inputs) and columns > dataset.n_outputs
    if shape != expected and not more:  # a class that does not occur here may have an output
        raise InputError(
            f"The model {name} must return outputs of shape {expected} for {dataset.name}, received {shape}; "
            f"make it fit the data, a {dataset.task}."
        )

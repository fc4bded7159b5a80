"""Models of the user's own, by ``package.module:factory``."""

from __future__ import annotations

import inspect
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sharpscope.errors import InputError
from sharpscope.models.building_blocks import initialise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sharpscope.data import Dataset
    from sharpscope.models.config import ModelConfig


def build_own(config: ModelConfig, dataset: Dataset) -> nn.Module:
    """Return what a factory makes, called with the options, and with ``dataset`` if it takes that.

    The module is imported from the current folder or from ``sys.path``. The model must turn two samples of
    the data set into outputs (2, n_outputs). Raises InputError, one sentence for each way this fails.
    """
    with _current_folder_importable():
        factory = _find(config.name)
        arguments = dict(config.options)
        if _takes_dataset(factory):
            arguments["dataset"] = dataset  # type: ignore[assignment]
        _check_call(config.name, factory, arguments)
        try:
            model = factory(**arguments)
        except Exception as error:
            raise InputError(
                f"The model factory {config.name} must return a model, but raised {type(error).__name__} "
                f"({error}); correct it or its options."
            ) from error
        if not isinstance(model, nn.Module):
            raise InputError(
                f"The model factory {config.name} must return a torch.nn.Module, "
                f"received {type(model).__name__}; return the model itself."
            )
        _check_outputs(config.name, model, dataset)
        initialise(model, config.initialisation or "default")
    return model


def _find(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:
        raise InputError(
            f"The model {name} names the module {module_name!r}, which cannot be imported "
            f"({type(error).__name__}: {error}); run from its folder or correct the name."
        ) from error
    factory = getattr(module, attribute, None)
    if factory is None:
        raise InputError(
            f"The module {module_name} has no {attribute!r}; name a function or class that it defines."
        )
    if not callable(factory):
        raise InputError(
            f"The model {name} must be a function or class that returns a model, "
            f"received {type(factory).__name__}; name the factory."
        )
    return factory  # type: ignore[no-any-return]


def _takes_dataset(factory: Callable[..., Any]) -> bool:
    try:
        return "dataset" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


def _check_call(name: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        received = ", ".join(arguments) or "none"
        raise InputError(
            f"The model factory {name} has the signature {signature}, received the options {received} "
            f"({error}); correct the options."
        ) from None


def _check_outputs(name: str, model: nn.Module, dataset: Dataset) -> None:
    inputs = dataset.train.inputs[:2].cpu()
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
    expected = (len(inputs), dataset.n_outputs)
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != expected:
        raise InputError(
            f"The model {name} must return outputs of shape {expected} for {dataset.name}, received {shape}; "
            "make it fit the data."
        )


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = os.getcwd()
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)

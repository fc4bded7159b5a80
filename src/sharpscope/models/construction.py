"""Building a model for a data set, its weights drawn from a seed alone."""

from __future__ import annotations

import random
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sharpscope.errors import InputError
from sharpscope.models.config import ModelConfig
from sharpscope.models.registry import ARCHITECTURES, SETTINGS, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from sharpscope.data import Dataset


def build(config: ModelConfig | str, dataset: Dataset, seed: int, **options: Any) -> nn.Module:
    """Return a model for a data set, in float32 on the CPU, in training mode.

    A name with keyword options stands for ``ModelConfig(name=..., options=...)``; options beside a
    configuration override its own. The weights depend on the seed only: neither on the global random state,
    which is left untouched, nor on the default dtype or device. Move the model afterwards.

    Raises InputError for an unknown model or option, for data that the model cannot take, and for a factory
    that cannot be imported, called or used.

    >>> from sharpscope.data import load
    >>> model = build("mlp", load("digits"), seed=0, hidden=[32])
    >>> sum(p.numel() for p in model.parameters())
    2410
    """
    config = _configuration(config, options)
    with _drawing_from(seed):
        if ":" in config.name:
            from sharpscope.models.factory import build_own

            return build_own(config, dataset)
        return _build_named(config, dataset)


def build_empty(config: ModelConfig, dataset: Dataset) -> nn.Module | None:
    """Return a model of ours on torch's meta device: shapes without memory, for weights that are still to be read.

    Call ``to_empty`` on it, or on what it is sharded to, and then fill every tensor of its state dict. Returns None
    where only `build` will do: a model of the user's own may compute with its tensors, and one of nodes holds its
    graph in tensors that no state dict has. Raises InputError as `build` does.
    """
    import torch

    if ":" in config.name:
        return None
    with torch.device("meta"):
        model = _build_named(config, dataset)
    held = {name for name, _ in model.named_buffers()} <= set(model.state_dict())
    return model if held else None


def _configuration(config: ModelConfig | str, options: dict[str, Any]) -> ModelConfig:
    if isinstance(config, ModelConfig):
        fields = config.model_dump()
        fields["options"] = {**config.options, **options}
    else:
        fields = {"name": config, "options": options}
    try:
        return ModelConfig(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first.get("ctx", {}).get("error")
        where = ".".join(map(str, first["loc"]))
        message = str(reason) if reason else f"A model's {where} breaks a rule ({first['msg']}), change it."
        raise InputError(message) from None


def _build_named(config: ModelConfig, dataset: Dataset) -> nn.Module:
    from sharpscope.models.building_blocks import initialise

    setting = SETTINGS[config.name]
    architecture = ARCHITECTURES[setting.architecture]
    if architecture.takes != dataset.samples_are:
        samples, remedy = {
            "nodes": ("nodes of a graph", "gat"),
            "tokens": ("sequences of tokens", "decoder"),
            "values": ("neither nodes of a graph nor tokens", "a model for its inputs"),
        }[dataset.samples_are]
        raise InputError(
            f"{config.name} takes {architecture.needs}, received the data set {dataset.name}, "
            f"whose samples are {samples}; use {remedy}."
        )
    module, _, name = architecture.entry.partition(":")
    model_class = getattr(import_module(module), name)
    source = dataset.graph if architecture.takes == "nodes" else dataset.input_shape
    model: nn.Module = model_class(source, dataset.n_outputs, options_of(config.name, config.options))
    if not architecture.own_weights:
        initialise(model, config.initialisation or setting.initialisation or architecture.initialisation)
    return model


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seed every global generator that a constructor may draw from; put all of them back afterwards."""
    import numpy as np
    import torch

    dtype, python, legacy = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    # torch.manual_seed would reseed accelerators too, which fork_rng(devices=[]) does not put back.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(python)
            np.random.set_state(legacy)

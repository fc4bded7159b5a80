"""The choice of a model: everything about it that belongs to a run's identity."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from sharpscope.errors import suggestion
from sharpscope.models.registry import ARCHITECTURES, NAMES, SETTINGS, options_of
from sharpscope.serialization import StrictConfig


class ModelConfig(StrictConfig):
    """Which model, with which options and initial weights.

    ``name`` is one of `NAMES`, or ``package.module:factory`` for a model of your own. ``options`` overrides
    the named setting's defaults; a factory receives them as keyword arguments. ``initialisation`` unset means
    the model's own default (see `catalogue`); ``"default"`` is PyTorch's.

    >>> ModelConfig(name="mlp", options={"hidden": [32]}).initialisation is None
    True
    """

    name: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    initialisation: Literal["default", "xavier", "he"] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if ":" not in name and name not in NAMES:
            raise ValueError(
                f"A model must be one of {', '.join(NAMES)}, or package.module:factory, "
                f"received {name!r}; {suggestion(name, NAMES)}choose one of these."
            )
        return name

    @model_validator(mode="after")
    def _options_apply(self) -> ModelConfig:
        if ":" in self.name:
            return self
        try:
            options_of(self.name, self.options)
        except ValidationError as error:
            raise ValueError(_sentence(self.name, error)) from None
        if self.initialisation and ARCHITECTURES[SETTINGS[self.name].architecture].own_weights:
            raise ValueError(
                f"The initial weights of {self.name} are part of its architecture, received initialisation = "
                f"{self.initialisation!r}; leave it unset."
            )
        return self


def _sentence(name: str, error: ValidationError) -> str:
    """Return the first complaint about a model's options as one sentence."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = ", ".join(options_of(name, {}).model_dump())
        meant = suggestion(key, options_of(name, {}).model_dump())
        return f"The options of {name} are {known}, received {key!r}; {meant}use one of these."
    rule = first["msg"].lower()
    return f"The option {key} of {name} breaks a rule ({rule}), received {first['input']!r}; change it."

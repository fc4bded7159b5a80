"""The strict base of every configuration class, and its refusals in plain words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class StrictConfig(BaseModel):
    """A configuration, or a part of one: frozen, no unknown key, no silent conversion, no NaN or infinity.

    ``"0.1"`` is not a rate and ``true`` is not a number here; an integer is accepted where a real number is
    asked for, and stored as one, so that ``lr = 1`` and ``lr = 1.0`` are the same run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def explain(error: ValidationError) -> str:
    """Say in one sentence what a refused configuration got wrong: the key, the value received, the rule.

    One error is told, with the number of the others; an unknown key first.

    >>> class Decay(StrictConfig):
    ...     min_lr: float
    >>> try:
    ...     Decay.model_validate({"min_lr": float("nan")})
    ... except ValidationError as error:
    ...     print(explain(error))
    min_lr must be a finite number; received nan.
    """
    problems = error.errors(include_url=False)
    # a mistyped key makes another one missing: tell the cause before the consequence
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = first["loc"]
    if first["type"] == "finite_number":  # inside free-form JSON, the branches of its union are no keys
        location = tuple(part for part in location if part not in ("float", "list", "dict"))
    key = ".".join(str(part) for part in location)
    owner = _owner(error.title, location)
    keys = list(owner.model_fields) if owner is not None else []
    sentence = _sentence(first["type"], key, str(first["msg"]), first["input"], keys)
    if len(problems) == 1:
        return sentence
    others = "one more key is wrong" if len(problems) == 2 else f"{len(problems) - 1} more keys are wrong"
    return f"{sentence[:-1]} ({others})."


def _sentence(kind: str, key: str, message: str, value: object, keys: list[str]) -> str:
    if kind == "missing":
        return f"{key} is missing: the configuration must give it."
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(key.rpartition(".")[2], keys, n=1)
        remedy = f"perhaps {close[0]} is meant." if close else f"the keys here are {', '.join(keys)}."
        return f"{key} (received {_shown(value)}) is not a key of the configuration; {remedy}"
    if kind == "value_error":
        rule = message.removeprefix("Value error, ").rstrip(".")
        rule = rule[:1].lower() + rule[1:]
        received = "" if "received" in rule else f"; received {_shown(value)}"
        return f"{key or 'The configuration'}: {rule}{received}."
    if kind == "model_type":
        return f"{key or 'The configuration'} must be a table of keys; received {_shown(value)}."
    rule = message.removeprefix("Input should be ").removesuffix(".")
    return f"{key or 'The configuration'} must be {rule}; received {_shown(value)}."


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _owner(title: str, location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The class whose key stands at `location`, below the configuration class named `title`."""
    owner: type[BaseModel] | None = next((c for c in _classes(StrictConfig) if c.__name__ == title), None)
    for part in location[:-1]:
        field = owner.model_fields.get(str(part)) if owner is not None else None
        if field is None:
            return None
        candidates = (field.annotation, *get_args(field.annotation))
        owner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return owner


def _classes(root: type[Any]) -> Iterator[type[Any]]:
    for child in root.__subclasses__():
        yield child
        yield from _classes(child)

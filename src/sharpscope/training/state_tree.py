"""Nested state as JSON beside named tensors, so that nothing needs pickle.

An optimizer's ``state_dict`` is a tree of dicts with integer keys, lists, tuples, numbers and tensors. JSON
knows neither tensors nor tuples nor integer keys nor infinities, so each of those becomes an object with one
tag. Floats go through ``repr`` and come back to the same bits.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch

from sharpscope.errors import CheckpointError


def encode(value: object, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """Return `value` as JSON, moving its tensors into `tensors` under names that begin with `name`.

    Raises `CheckpointError` for anything else than None, bool, int, float, str, list, tuple, dict, Counter and
    tensor.

    >>> tensors = {}
    >>> encode({0: (1, float("inf"), torch.ones(2))}, tensors, "state")
    {'dict': [[0, {'tuple': [1, {'float': 'inf'}, {'tensor': 'state.0.2'}]}]]}
    >>> list(tensors)
    ['state.0.2']
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        tag = "counter" if isinstance(value, Counter) else "dict"
        return {tag: [[key, encode(item, tensors, f"{name}.{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [encode(item, tensors, f"{name}.{index}") for index, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    raise CheckpointError(
        f"a checkpoint holds tensors, numbers, strings and containers of these; {name} is of type "
        f"{type(value).__name__}: keep it out of the state_dict."
    )


def decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return what `encode` was given.

    >>> tensors = {}
    >>> decode(encode([(2, None), {1: -0.1}], tensors, "x"), tensors)
    [(2, None), {1: -0.1}]
    """
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    match tag:
        case "tensor":
            return tensors[content]
        case "float":
            return float(content)
        case "tuple":
            return tuple(decode(item, tensors) for item in content)
        case "counter":
            return Counter({key: decode(item, tensors) for key, item in content})
        case _:
            return {key: decode(item, tensors) for key, item in content}

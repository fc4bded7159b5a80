"""Merging a study file's layers (shared keys, an experiment's, a scale's) and putting in named values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from sharpscope.errors import InputError

_LABELLED = ("measures", "tracks", "landscapes", "surfaces", "audits", "histograms", "figures", "claims")
"""Lists whose entries a layer may change one by one, by their label."""


def overlay(base: Mapping[str, Any], over: Mapping[str, Any], *, shared: bool = False) -> dict[str, Any]:
    """Return ``base`` with ``over`` on top of it.

    Tables are merged key by key; any other value replaces the one below it. There are two exceptions. Over a list of
    measures, claims and the like, a table of label = changes alters the entries with those labels. A table that gives
    its ``name`` or ``kind`` (another model, another schedule) replaces the table below it, because that one's options
    belong to the other name. ``shared`` means that the layer is for several experiments: a label that this experiment
    does not have is ignored.

    >>> overlay({"run": {"model": "mlp", "seed": 0}}, {"run": {"model": {"options": {"hidden": [8]}}}})
    {'run': {'model': {'name': 'mlp', 'options': {'hidden': [8]}}, 'seed': 0}}
    >>> overlay({"measures": ["trace", {"measure": "lambda_max"}]}, {"measures": {"lambda_max": {"tol": 0.1}}})
    {'measures': ['trace', {'measure': 'lambda_max', 'tol': 0.1}]}
    """
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        below = merged.get(key)
        if key in _LABELLED and isinstance(below, list) and isinstance(value, Mapping):
            merged[key] = _entries(key, below, value, shared)
        elif key == "grid" and isinstance(below, list) and isinstance(value, Mapping):
            raise InputError(
                f"grid is a list of {len(below)} blocks, and the layer above it sets {', '.join(value) or 'nothing'} "
                "without saying of which; write all blocks again as [[grid]], or change a named value that they use"
            )
        elif (
            isinstance(value, Mapping)
            and not {"name", "kind"} & set(value)
            and isinstance(below, Mapping | str)
        ):
            merged[key] = overlay({"name": below} if isinstance(below, str) else below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _entries(key: str, below: list[Any], changes: Mapping[str, Any], shared: bool) -> list[Any]:
    entries = list(below)
    for label, change in changes.items():
        found = [i for i, entry in enumerate(entries) if _label(entry) == label]
        if shared and not found:
            continue
        if not found or not isinstance(change, Mapping):
            known = ", ".join(repr(_label(entry)) for entry in entries) or "none"
            raise InputError(
                f"{key}.{label} must be a table of changes to one of the {key} above it, which are {known}; "
                "check its name"
            )
        entry = entries[found[0]]
        entries[found[0]] = overlay({"measure": entry} if isinstance(entry, str) else entry, change)
    return entries


def _label(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return str(entry.get("name") or entry.get("id") or entry.get("measure") or "")
    return str(entry)


def substitute(content: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """Return ``content`` with every text ``"$name"`` replaced by the value of that name.

    Raises `InputError`, naming the place, for a name that has no value.

    >>> substitute({"batch_size": ["$small", 100]}, {"small": 10})
    {'batch_size': [10, 100]}
    """
    if isinstance(content, Mapping):
        return {k: substitute(v, values, f"{path}.{k}" if path else str(k)) for k, v in content.items()}
    if isinstance(content, list):
        return [substitute(item, values, f"{path}.{i}") for i, item in enumerate(content)]
    if isinstance(content, str) and content.startswith("$"):
        if content[1:] not in values:
            known = ", ".join(values) or "none"
            raise InputError(f"{path} is {content!r}, and the values are {known}; add it to [values]")
        return copy.deepcopy(values[content[1:]])
    return content

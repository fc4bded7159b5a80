"""The grid of settings that a study declares: every combination of its axes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sharpscope.errors import InputError
from sharpscope.serialization import canonical_json


@dataclass(frozen=True)
class GridBlock:
    """One block of a grid: every combination of its axes, at each of its cases.

    Fields:
        axes: dotted path -> the values it takes; the block holds their product, the first axis slowest.
        cases: settings that change together, each a table of dotted path -> value; the product above is
            taken at every case, the cases slowest of all. No cases means one case that changes nothing.

    A value may be a whole table: it replaces the table at its path, and longer paths then change its entries.
    """

    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    cases: Sequence[Mapping[str, Any]] = ()


def expand(base: Mapping[str, Any], blocks: Sequence[GridBlock] = ()) -> list[dict[str, Any]]:
    """Return every setting of a grid: `base` changed by each combination of each block, duplicates dropped.

    Order is kept: blocks as given, within a block the cases, then the axes with the last one fastest. Two
    settings are duplicates when their `canonical_json` is equal. Without blocks the grid is `base` alone.
    Missing tables are made on the way; whether a path means anything is checked by the caller. Settings share the
    tables and values in which they do not differ, which keeps a grid of 100,000 small: read them, do not change them.

    Raises `InputError` when an axis lists no values or is no list, when a path is empty, given twice in a
    block or leads through something that is no table, and when a value cannot be held in JSON.

    >>> grid = expand({"lr": 0.1, "seed": 0}, [GridBlock({"lr": [0.1, 0.2], "seed": [0, 1]})])
    >>> [(setting["lr"], setting["seed"]) for setting in grid]
    [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    >>> expand({}, [GridBlock(cases=[{"opt.lr": 1, "batch": 8}, {"opt.lr": 2, "batch": 16}])])
    [{'batch': 8, 'opt': {'lr': 1}}, {'batch': 16, 'opt': {'lr': 2}}]
    """
    settings: dict[bytes, dict[str, Any]] = {}
    for block in blocks or [GridBlock()]:
        for overrides in _overrides(block):
            setting = dict(base)
            # Shorter paths first, so that a whole table is in place before one of its entries is changed.
            for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
                _set(setting, path, value)
            settings.setdefault(hashlib.sha256(canonical_json(setting).encode()).digest(), setting)
    return list(settings.values())


def _overrides(block: GridBlock) -> Iterator[dict[str, Any]]:
    """Yield the path -> value table of every combination of one block."""
    for path, values in block.axes.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
            raise InputError(f"axis '{path}' is {values!r}, and an axis lists its values; write [{values!r}]")
        if not values:
            raise InputError(f"axis '{path}' lists no values; give at least one")
    if isinstance(block.cases, (str, bytes, Mapping)) or not all(isinstance(c, Mapping) for c in block.cases):
        raise InputError("cases must be a list of tables of dotted path = value; give each case a table")
    for case in block.cases or [{}]:
        for path in case:
            if path in block.axes:
                raise InputError(f"'{path}' is both an axis and in a case of one block; keep one of them")
        for values in itertools.product(*block.axes.values()):
            yield {**case, **dict(zip(block.axes, values, strict=True))}


def _set(setting: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at a dotted path, in copies of the tables on the way, which are made where they are missing."""
    *parents, last = path.split(".")
    if not all([*parents, last]):
        raise InputError(f"the path '{path}' has an empty part; write names joined by single dots")
    table = setting
    for depth, name in enumerate(parents, start=1):
        there = table.get(name)  # None: absent, or an optional table that is switched off
        if not isinstance(there, Mapping | None):
            raise InputError(
                f"the path '{path}' leads through '{'.'.join(parents[:depth])}', which is {there!r} "
                "and no table; give that a table or shorten the path"
            )
        table[name] = dict(there or {})
        table = table[name]
    table[last] = value

"""The settings that a study declares: every combination of a grid's axes, or settings drawn at random."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, prod
from typing import Any

from sharpscope.errors import InputError
from sharpscope.serialization import canonical_json

RANGE = frozenset({"low", "high"})
"""The keys of a table that stands for all values between two, in a block that draws."""


def is_range(values: Any) -> bool:
    """Return whether an axis is a range: two single values, and not the lists of two options of those names."""
    return (
        isinstance(values, Mapping)
        and set(values) == RANGE
        and not any(isinstance(end, list | tuple | Mapping) for end in values.values())
    )


@dataclass(frozen=True)
class GridBlock:
    """One block of a grid: every combination of its axes at each of its cases, or settings drawn at random.

    Fields:
        axes: dotted path -> the values it takes; the block holds their product, the first axis slowest.
        cases: settings that change together, each a table of dotted path -> value; the product above is
            taken at every case, the cases slowest of all. No cases means one case that changes nothing.
        draws: how many settings to draw at each case, in place of the product; 0 for the product. Every axis is drawn
            by itself: each value of a list is as likely as the others, and from ``{low, high}`` the logarithm is
            uniform, rounded to three digits, a whole number where both ends are. What is drawn depends on
            the block's place among all, the case, the path, the number of the draw and ``draw_seed`` alone, so more
            draws keep those before them.
        draw_seed: another number draws other settings from the same values, for a study that asks again.

    A value may be a whole table: it replaces the table at its path, and longer paths then change its entries.
    """

    axes: Mapping[str, Sequence[Any] | Mapping[str, Any]] = field(default_factory=dict)
    cases: Sequence[Mapping[str, Any]] = ()
    draws: int = 0
    draw_seed: int = 0


def expand(base: Mapping[str, Any], blocks: Sequence[GridBlock] = ()) -> list[dict[str, Any]]:
    """Return every setting of a grid: `base` changed by each combination of each block, duplicates dropped.

    Order is kept: blocks as given, within a block the cases, then the axes with the last one fastest. Two
    settings are duplicates when their `canonical_json` is equal. Without blocks the grid is `base` alone.
    Missing tables are made on the way; whether a path means anything is checked by the caller. Settings share the
    tables and values in which they do not differ, which keeps a grid of 100,000 small: read them, do not change them.

    Raises `InputError` when an axis lists no values or is no list (or range, in a block that draws), when a path is
    empty, given twice in a block or leads through something that is no table, and when a value does not fit in JSON.

    >>> grid = expand({"lr": 0.1, "seed": 0}, [GridBlock({"lr": [0.1, 0.2], "seed": [0, 1]})])
    >>> [(setting["lr"], setting["seed"]) for setting in grid]
    [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    >>> expand({}, [GridBlock(cases=[{"opt.lr": 1, "batch": 8}, {"opt.lr": 2, "batch": 16}])])
    [{'batch': 8, 'opt': {'lr': 1}}, {'batch': 16, 'opt': {'lr': 2}}]
    >>> expand({}, [GridBlock({"lr": {"low": 0.01, "high": 0.1}, "batch": [8, 16]}, draws=2)])
    [{'lr': 0.0529, 'batch': 8}, {'lr': 0.0754, 'batch': 8}]
    """
    settings: dict[bytes, dict[str, Any]] = {}
    shared = _Shared()
    for place, block in enumerate(blocks or [GridBlock()]):
        try:
            for overrides in _overrides(block, place):
                setting = dict(base)
                for path, parts, value in overrides:
                    shared.put(setting, path, parts, value)
                settings.setdefault(shared.digest(setting), setting)
        except InputError as error:
            raise error if len(blocks) < 2 else InputError(f"{error} {block_named(place)}") from error
    return list(settings.values())


def block_named(place: int) -> str:
    """Return how a refusal says which of several blocks it is about; `place` counts from 0.

    >>> block_named(1)
    '(block 2 of the grid)'
    """
    return f"(block {place + 1} of the grid)"


_Override = tuple[str, tuple[str, ...], Any]
"""A dotted path, its parts, and the value to put there."""


def _overrides(block: GridBlock, place: int) -> Iterator[list[_Override]]:
    """Yield what every combination of one block changes.

    Shorter paths come first, so that a whole table is in place before one of its entries is changed.
    """
    for path, values in block.axes.items():
        _check_axis(path, values, block.draws > 0)
    if isinstance(block.cases, (str, bytes, Mapping)) or not all(isinstance(c, Mapping) for c in block.cases):
        raise InputError("cases must be a list of tables of dotted path = value; give each case a table")
    for case in block.cases or [{}]:
        for path in case:
            if path in block.axes:
                raise InputError(f"'{path}' is both an axis and in a case of one block; keep one of them")
        paths = [(path, tuple(path.split("."))) for path in (*case, *block.axes)]
        order = sorted(range(len(paths)), key=lambda i: len(paths[i][1]))
        for values in _drawn(block, place, case) if block.draws else itertools.product(*block.axes.values()):
            given = (*case.values(), *values)
            yield [(*paths[i], given[i]) for i in order]


def _check_axis(path: str, values: Any, drawn: bool) -> None:
    if is_range(values):
        if not drawn:
            raise InputError(
                f"axis '{path}' is a range, and a range is drawn from; give the block draws = 20, or list values"
            )
        low, high = values["low"], values["high"]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
        if not numbers or not 0 < low < high <= sys.float_info.max:
            raise InputError(
                f"axis '{path}' needs 0 < low < high, received low = {low!r}, high = {high!r}; swap or raise them"
            )
        return
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
        half = drawn and path.rpartition(".")[2] in RANGE
        remedy = "a range to draw from is { low = 0.01, high = 0.1 }" if half else f"write [{values!r}]"
        raise InputError(f"axis '{path}' is {values!r}, and an axis lists its values; {remedy}")
    if not values:
        raise InputError(f"axis '{path}' lists no values; give at least one")


def _drawn(block: GridBlock, place: int, case: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of the axes in each draw at one case of the block at a place among all."""
    lists = [len(values) for values in block.axes.values() if not is_range(values)]
    if len(lists) == len(block.axes) and prod(lists) <= block.draws:
        raise InputError(
            f"the lists of a block that draws {block.draws} settings have {prod(lists)} combinations; leave draws "
            "out to take them all"
        )
    at = f"{place}/{canonical_json(dict(case))}" + (f"/seed {block.draw_seed}" if block.draw_seed else "")
    for number in range(block.draws):
        yield tuple(_draw(values, f"{at}/{path}/{number}") for path, values in block.axes.items())


def _draw(values: Sequence[Any] | Mapping[str, Any], place: str) -> Any:
    """Return one of the values, chosen by the SHA-256 of a place."""
    uniform = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "big") / 2**64
    if not isinstance(values, Mapping):
        return values[int(uniform * len(values))]
    low, high = values["low"], values["high"]
    if isinstance(low, int) and isinstance(high, int):
        return min(high, int(low * ((high + 1) / low) ** uniform))
    drawn = exp(log(low) + uniform * (log(high) - log(low)))
    return min(max(float(f"{drawn:.3g}"), low), high)


class _Shared:
    """Changed tables and the canonical text of values, each made once: most settings of a grid share them.

    They are found by the identity of what they are made from, which is kept, so that no other object takes it.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple[int, tuple[str, ...], int], tuple[Any, Any, dict[str, Any]]] = {}
        self._texts: dict[int, tuple[Any, str]] = {}

    def put(self, setting: dict[str, Any], path: str, parts: tuple[str, ...], value: Any) -> None:
        """Put a value at a dotted path of a setting, in changed copies of the tables on the way."""
        if not all(parts):
            raise InputError(f"the path '{path}' has an empty part; write names joined by single dots")
        first, *rest = parts
        setting[first] = self._changed(setting.get(first), path, tuple(rest), value) if rest else value

    def _changed(self, table: Any, path: str, parts: tuple[str, ...], value: Any) -> dict[str, Any]:
        """Return a copy of a table with a value at the parts that lead on from it."""
        if not isinstance(table, Mapping | None):  # None: absent, or an optional table that is switched off
            through = path.removesuffix("." + ".".join(parts))
            raise InputError(
                f"the path '{path}' leads through '{through}', which is {table!r} and no table; "
                "give that a table or shorten the path"
            )
        key = (id(table), parts, id(value))
        if key not in self._tables:
            first, *rest = parts
            copy = dict(table or {})
            copy[first] = self._changed(copy.get(first), path, tuple(rest), value) if rest else value
            self._tables[key] = (table, value, copy)
        return self._tables[key][2]

    def digest(self, setting: Mapping[str, Any]) -> bytes:
        """Return the SHA-256 of a setting's canonical JSON."""
        try:
            if not all(isinstance(key, str) for key in setting):
                raise InputError("keys are text")
            text = ",".join(f"{self._text(key)}:{self._text(setting[key])}" for key in sorted(setting))
        except InputError:
            canonical_json(setting)  # says where in the whole setting it is
            raise
        return hashlib.sha256(f"{{{text}}}".encode()).digest()

    def _text(self, value: Any) -> str:
        if id(value) not in self._texts:
            self._texts[id(value)] = (value, canonical_json(value))
        return self._texts[id(value)][1]

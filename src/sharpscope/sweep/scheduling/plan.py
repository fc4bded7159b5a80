"""What is to be done: the grid of settings a study declares, and the tasks that carry them out."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sharpscope.errors import InputError
from sharpscope.serialization import canonical_json

WORKING_FOLDERS = ("coordinators", "failures", "leases", "tmp", "work")
"""The folders that a store keeps beside its results."""

RESERVED_KINDS = (*WORKING_FOLDERS, "report")
"""Folder names of a store that no kind of task may take; a report may lie in the store it is of."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_ENTRY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")


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
    Whether a path means anything is for the caller's validation to say: missing tables are made on the way.

    Raises `InputError` when an axis lists no values or is no list, when a path is empty, given twice in a
    block or leads through something that is no table, and when a value cannot be held in JSON.

    >>> grid = expand({"lr": 0.1, "seed": 0}, [GridBlock({"lr": [0.1, 0.2], "seed": [0, 1]})])
    >>> [(setting["lr"], setting["seed"]) for setting in grid]
    [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    >>> expand({}, [GridBlock(cases=[{"opt.lr": 1, "batch": 8}, {"opt.lr": 2, "batch": 16}])])
    [{'batch': 8, 'opt': {'lr': 1}}, {'batch': 16, 'opt': {'lr': 2}}]
    """
    settings: dict[str, dict[str, Any]] = {}
    for block in blocks or [GridBlock()]:
        for overrides in _overrides(block):
            setting = copy.deepcopy(dict(base))
            # Shorter paths first, so that a whole table is in place before one of its entries is changed.
            for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
                _set(setting, path, value)
            settings.setdefault(canonical_json(setting), setting)
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
    """Put a copy of `value` at a dotted path, making the tables that are missing on the way."""
    *parents, last = path.split(".")
    if not all([*parents, last]):
        raise InputError(f"the path '{path}' has an empty part; write names joined by single dots")
    table = setting
    for depth, name in enumerate(parents, start=1):
        if table.get(name) is None:  # absent, or an optional table that is switched off
            table[name] = {}
        table = table[name]
        if not isinstance(table, dict):
            raise InputError(
                f"the path '{path}' leads through '{'.'.join(parents[:depth])}', which is {table!r} "
                "and no table; give that a table or shorten the path"
            )
    table[last] = copy.deepcopy(value)


@dataclass(frozen=True)
class Task:
    """One piece of work, done once and found again by its id.

    Fields:
        id: its name in the store; results of equal id are equal, so derive it from `content_hash`.
        kind: the store's folder for its result, such as ``runs`` or ``measures``.
        entry: ``"package.module:function"``, called in a worker process as ``function(payload, context)``
            with a `TaskContext`; it writes its files into ``context.output`` and returns nothing.
        payload: what the function needs to know, plain JSON.
        needs: ids of the results whose published folders the function reads.
        label: a few words for people.
        produces: ids of the results it makes, for a task that makes several at once, such as runs trained as one
            batch; empty means one, under the task's own id. Read it as `products`.

    A task that produces several is done when the store holds every one, whoever made them. Each is published on its
    own, under its own id and the task's kind, so that who needs one names that one and never the task's id. The
    function finds what is still to be made in ``context.missing``, and for each of those an empty folder
    ``context.output / <id>``, which must hold at least one file when it returns; it makes all of them or raises.

    Raises `InputError` when the id or kind cannot name a folder, when the entry is not importable by name and when
    `produces` names a result twice.

    >>> Task("b1", "runs", "package.module:train", produces=("r1", "r2")).products
    ('r1', 'r2')
    >>> Task("r1", "runs", "package.module:train").products
    ('r1',)
    """

    id: str
    kind: str
    entry: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    label: str = ""
    produces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        results = [("result", name) for name in self.produces]
        for what, name in (("id", self.id), ("kind", self.kind), *results):
            if not isinstance(name, str) or not _NAME.match(name):
                raise InputError(
                    f"a task's {what} names a folder and is {name!r}; "
                    "use up to 128 letters, digits, '.', '_' and '-', a letter or digit first"
                )
        if self.kind in RESERVED_KINDS:
            raise InputError(f"a task's kind is '{self.kind}', which the store keeps; choose another")
        if not _ENTRY.match(self.entry) or self.entry.startswith("__main__:"):
            raise InputError(
                f"task {self.id} has the entry '{self.entry}', and workers import it by name; "
                "write 'package.module:function'"
            )
        canonical_json(self.payload)  # refuses, here and by its place, what cannot travel to a worker
        if len(set(self.produces)) < len(self.produces):
            raise InputError(f"task {self.id} produces a result twice; name each once")

    @property
    def products(self) -> tuple[str, ...]:
        """The ids of the results it makes."""
        return self.produces or (self.id,)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Task:
        """Return the task whose `dataclasses.asdict` travelled as JSON."""
        return cls(**{**fields, "needs": tuple(fields["needs"]), "produces": tuple(fields["produces"])})

"""A task: one piece of work, done once and found again by its id, and what its function is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharpscope.errors import InputError
from sharpscope.serialization import require_json
from sharpscope.sweep.store.identity import NAME, RESERVED_KINDS

_ENTRY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")


@dataclass(frozen=True, slots=True)
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
            if not isinstance(name, str) or not NAME.match(name):
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
        require_json(self.payload)  # refuses, here and by its place, what cannot travel to a worker
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


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """Raised by a task that was asked to stop, has saved its work in its workspace and now stops."""


def _nothing(event: Mapping[str, Any]) -> None:
    """Report to nobody."""


def _alone(entry: str, payload: Mapping[str, Any]) -> AbstractContextManager[str]:
    """Refuse to ask for other ranks, of which there are none."""
    raise InputError(f"there is one rank, so that no other can call {entry}; do it alone")


def _never() -> bool:
    """Never ask to stop."""
    return False


@dataclass(frozen=True)
class TaskContext:
    """What a task's function is given beside its payload, for one attempt.

    Fields:
        output: a fresh, empty folder; what it holds when the function returns becomes the task's result. A task
            that produces several results finds an empty folder for each missing one in it, named by its id.
        workspace: a folder kept between attempts, for resuming; removed once the result is published. After
            an exception in an attempt that started from an earlier one's workspace, it starts empty again.
        needs: id -> published folder, for every result this task needs.
        missing: ids of the results that are to be made: those of the task's products that the store does not hold,
            in the task's order. For a task of one result that one.
        threads: how many threads a computation may use; the environment already says so.
        report: tells the coordinator of progress; any JSON table. The key ``fraction``, in [0, 1], is the share
            of the whole task that is done, and feeds the time left. Reports less than 50 ms apart are dropped.
        ranks: how many processes compute the task together, of which this is rank 0.
        join: called in a ``with`` block as ``join("package.module:function", payload)``, lets the other ranks call
            that function with (payload, `Rank`); gives the address where ranks meet, for ``torch.distributed``.
        should_stop: whether the task was asked to stop: then save into the workspace and raise `Interrupted`.

    The defaults make a context to call a task's function by hand, as in a test.
    """

    output: Path
    workspace: Path
    needs: Mapping[str, Path] = field(default_factory=dict)
    threads: int = 1
    report: Callable[[Mapping[str, Any]], None] = _nothing
    should_stop: Callable[[], bool] = _never
    missing: tuple[str, ...] = ()
    ranks: int = 1
    join: Callable[[str, Mapping[str, Any]], AbstractContextManager[str]] = _alone

"""What a task's function is given beside its payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """Raised by a task that was asked to stop, has saved its work in its workspace and now stops."""


def _nothing(event: Mapping[str, Any]) -> None:
    """Report to nobody."""


def _never() -> bool:
    """Never ask to stop."""
    return False


@dataclass(frozen=True)
class TaskContext:
    """The world of one attempt at a task.

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

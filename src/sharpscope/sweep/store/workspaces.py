"""The folders in which unfinished tasks keep what they need to go on, and how one passes to the next attempt."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from sharpscope.sweep.store.litter import PRODUCES, owner
from sharpscope.sweep.store.owner import may_live, of_this_machine

_DYING = 2.0  # seconds that a worker whose coordinator was killed may take to die of it


def claim(mine: Path, task_id: str, produces: tuple[str, ...]) -> tuple[Path, bool]:
    """Return `mine`, the workspace for a task, and whether it holds an earlier attempt's work.

    What an earlier attempt left beside it becomes `mine` by a rename, unless its process lives on this machine.
    """
    mine.parent.mkdir(exist_ok=True)
    if mine.is_dir():
        return mine, _worked_in(mine)
    for workspace in sorted(mine.parent.glob(f"{task_id}@*"), key=_worth, reverse=True):
        if _outlived(owner(workspace)):
            with contextlib.suppress(FileNotFoundError):
                workspace.rename(mine)
                return mine, _worked_in(mine)
    mine.mkdir()
    if produces:
        (mine / PRODUCES).write_text(json.dumps(produces), encoding="utf-8")
    return mine, False


def _outlived(tag: str) -> bool:
    """Return whether a process is gone, or of another machine, where the lease says that it is done for."""
    if not of_this_machine(tag):
        return True
    patience = time.monotonic() + _DYING
    while may_live(tag) and time.monotonic() < patience:
        time.sleep(0.02)
    return not may_live(tag)


def _worked_in(workspace: Path) -> bool:
    return any(path.name != PRODUCES for path in workspace.iterdir())


def _worth(workspace: Path) -> tuple[bool, float]:
    """Return by what to choose among workspaces: one that was worked in, the latest of those."""
    try:
        return _worked_in(workspace), workspace.stat().st_mtime
    except OSError:
        return False, 0.0

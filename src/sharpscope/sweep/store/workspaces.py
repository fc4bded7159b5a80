"""The folders in which unfinished tasks work, and what dead processes left behind.

A task's workspace passes from one attempt to the next by a rename. Garbage is what nobody needs any more: temporary
files of processes that are gone, workspaces of tasks whose results are published.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from sharpscope.sweep.store.identity import MARKER
from sharpscope.sweep.store.liveness import is_over, tag_of
from sharpscope.sweep.store.owner import may_live, of_this_machine

PRODUCES = ".produces.json"
"""The hidden file that lists the results of a task of several, in its workspace."""


def garbage(root: Path, published: Collection[str], *, other_machines: bool = False) -> Iterator[Path]:
    """Yield temporary files of processes that are gone, and workspaces of tasks whose results are published.

    What belongs to a living process is kept, and so is the workspace of an unfinished task, from which its next
    attempt goes on. Whether a process of another machine lives is unknown here: its files are kept too, unless
    `other_machines` says that none is at work.
    """

    def gone(path: Path) -> bool:
        name = path.name.rpartition("@")[2].removesuffix(".json")
        over = is_over(name) if "+" in name else not may_live(name)
        return over or (other_machines and not of_this_machine(tag_of(name)))

    for pattern in (f"{MARKER}@*", "tmp/*@*", "leases/*@*", "coordinators/*"):
        yield from (path for path in root.glob(pattern) if gone(path))
    for path in root.glob("work/*@*"):
        if gone(path) and all(product in published for product in products(path)):
            yield path


def owner(path: Path) -> str:
    """Return the tag of the process that owns a temporary file or a workspace."""
    return path.name.rpartition("@")[2]


def products(workspace: Path) -> list[str]:
    """Return the results that a workspace is for."""
    try:
        return [str(product) for product in json.loads((workspace / PRODUCES).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):  # a task of one result, or one that died while it began
        return [workspace.name.rpartition("@")[0]]


def remove(path: Path) -> None:
    """Remove a file or folder as far as the disk allows."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


_DYING = 2.0  # seconds that a worker may outlive its killed coordinator


def claim(mine: Path, task_id: str, produces: tuple[str, ...]) -> tuple[Path, bool]:
    """Return `mine`, the workspace for a task, and whether it holds an earlier attempt's work.

    What an earlier attempt left beside it becomes `mine` by a rename, unless its process lives on this machine.
    """
    mine.parent.mkdir(exist_ok=True)
    if mine.is_dir():
        return mine, _worked_in(mine)
    for workspace in sorted(mine.parent.glob(f"{task_id}@*"), key=_worth, reverse=True):
        if workspace.is_dir() and not workspace.is_symlink() and _outlived(owner(workspace)):
            with contextlib.suppress(FileNotFoundError):
                workspace.rename(mine)
                return mine, _worked_in(mine)
    mine.mkdir()
    if produces:
        (mine / PRODUCES).write_text(json.dumps(produces), encoding="utf-8")
    return mine, False


def _outlived(tag: str) -> bool:
    """Return whether a process is gone; one of another machine is, since the caller holds the lease."""
    if not of_this_machine(tag):
        return True
    patience = time.monotonic() + _DYING
    while may_live(tag) and time.monotonic() < patience:
        time.sleep(0.02)
    return not may_live(tag)


def _worked_in(workspace: Path) -> bool:
    return any(path.name != PRODUCES for path in workspace.iterdir())


def _worth(workspace: Path) -> tuple[bool, float]:
    """Return the key by which workspaces are ordered: those with saved work last, by time."""
    try:
        return _worked_in(workspace), workspace.stat().st_mtime
    except OSError:
        return False, 0.0

"""What dead processes left behind in a store, and what of it may go."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from sharpscope.sweep.scheduling.heartbeat import is_over, tag_of
from sharpscope.sweep.store.owner import may_live, of_this_machine
from sharpscope.sweep.store.version import MARKER

PRODUCES = ".produces.json"
"""The hidden file by which the workspace of a task of several results says which they are."""


def litter(root: Path, published: Collection[str], *, other_machines: bool = False) -> Iterator[Path]:
    """Yield what nobody needs any more: temporary files of processes that are gone, workspaces of published tasks.

    Nothing that belongs to a living process is among it, nor to one of another machine, which cannot be asked,
    unless `other_machines` says that none of them is at work here; nor the workspace of an unfinished task, from
    which its next attempt goes on.
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
    """Remove a file or folder as far as the disk lets go of it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()

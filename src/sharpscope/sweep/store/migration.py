"""Bringing a store of an earlier format up to date, in place."""

from __future__ import annotations

from pathlib import Path

from sharpscope.serialization import write_whole
from sharpscope.sweep.store import manifest
from sharpscope.sweep.store.owner import own_tag
from sharpscope.sweep.store.version import VERSION, write_version


def migrate(root: Path, results: list[Path], version: int) -> None:
    """Bring a store from `version` to the present one.

    From 1 to 2: every result gets a manifest of what it holds now; damage done before goes unnoticed. Each is put in
    place whole and the version is written last, so that a migration that is cut off is taken up again by the next
    call, and two at a time do no harm. A store of an older version is read as it is until something is to be written.
    """
    if version < VERSION:
        for folder in results:
            if not (folder / manifest.NAME).exists():
                text = manifest.describe(folder, folder.name).text()
                scratch = root / "tmp" / f"{manifest.NAME}-{folder.name}@{own_tag()}"
                write_whole(folder / manifest.NAME, text, scratch=scratch)
        write_version(root)

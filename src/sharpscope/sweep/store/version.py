"""The file that says a folder is a store, and in which version of the format."""

from __future__ import annotations

import json
from pathlib import Path

from sharpscope.errors import StoreError
from sharpscope.serialization import write_whole
from sharpscope.sweep.store.owner import own_tag

FORMAT = "sharpscope-store"
VERSION = 2
"""The format this code writes: 2 since every result has a manifest. Version 1 had none."""
MARKER = "sharpscope.json"


def write_version(root: Path) -> None:
    """Say that a folder is a store of the present version."""
    marker = json.dumps({"format": FORMAT, "version": VERSION}) + "\n"
    write_whole(root / MARKER, marker, scratch=root / f"{MARKER}@{own_tag()}")


def read_version(root: Path) -> int:
    """Return a store's version; `StoreError` for a damaged file and for a version newer than this code."""
    marker = root / MARKER
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        known, version = content["format"] == FORMAT, int(content["version"])
    except (ValueError, KeyError, TypeError):
        known, version = False, 0
    if not known or version < 1:
        raise StoreError(
            f"{marker} is damaged or another program's; restore it as "
            f'{{"format": "{FORMAT}", "version": 1}} if this folder is a store, and the next run brings it up to date'
        )
    if version > VERSION:
        raise StoreError(
            f"the store {root} has format version {version} and this sharpscope reads up to {VERSION}; "
            "update sharpscope"
        )
    return version

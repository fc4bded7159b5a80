"""The two files that say what a store is: ``sharpscope.json``, its format, and ``study.json``, what it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.serialization import readable_json, write_whole
from sharpscope.sweep.store.owner import own_tag

WORKING_FOLDERS = ("coordinators", "failures", "leases", "tmp", "work")
"""The folders that a store keeps beside its results."""

RESERVED_KINDS = (*WORKING_FOLDERS, "report")
"""Folder names of a store that no kind of task may take; a report may lie in the store it is of."""

FORMAT = "sharpscope-store"
VERSION = 2
"""The only format version that this code reads and writes."""
MARKER = "sharpscope.json"


def write_version(root: Path) -> None:
    """Say that a folder is a store of the present version."""
    write_whole(root / MARKER, _marker_text(), scratch=root / f"{MARKER}@{own_tag()}")


def check_version(root: Path) -> None:
    """Raise `StoreError` for a damaged ``sharpscope.json`` and for a store of another format version."""
    marker = root / MARKER
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        known, version = content["format"] == FORMAT, int(content["version"])
    except (ValueError, KeyError, TypeError):
        known, version = False, 0
    if not known or version < 1:
        raise StoreError(
            f"{marker} is damaged or another program's; if this folder is a store, let the file hold "
            f"{_marker_text().strip()}"
        )
    if version != VERSION:
        remedy = "update sharpscope" if version > VERSION else "run the study again into a new store"
        raise StoreError(
            f"the store {root} has format version {version} and this sharpscope reads version {VERSION}; {remedy}"
        )


def _marker_text() -> str:
    return json.dumps({"format": FORMAT, "version": VERSION}) + "\n"


def study_text(study: Mapping[str, Any]) -> str:
    """Return what the file holds of a study: the same text for the same study."""
    return readable_json(study)


def read_study(path: Path) -> dict[str, Any] | None:
    """Return what a study's file holds, None where there is none; `StoreError` when it is damaged."""
    if not path.exists():
        return None
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        study = None
    if not isinstance(study, dict):
        raise StoreError(f"{path} is damaged; remove it and run the study again, which keeps every result")
    return study

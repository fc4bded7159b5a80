"""The two files that say what a store is: ``sharpscope.json``, its format, and ``study.json``, what it is for."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.serialization import readable_json, seal_json, unseal_json, write_whole
from sharpscope.sweep.store.owner import own_tag

WORKING_FOLDERS = ("coordinators", "failures", "leases", "tmp", "work")
"""The folders that a store keeps beside its results."""

REPORT = "report"
"""The folder of a report that lies in the store it is of."""

RESERVED_KINDS = (*WORKING_FOLDERS, REPORT)
"""Folder names of a store that no kind of task may take."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
"""The names that results and kinds of result may have."""

FORMAT = "sharpscope-store"
VERSION = 2
"""The only format version that this code reads and writes."""
MARKER = "sharpscope.json"
STUDY = "study.json"


def write_version(root: Path) -> None:
    """Say that a folder is a store of the present version."""
    write_whole(root / MARKER, _marker_text(), scratch=root / f"{MARKER}@{own_tag()}")


def check_version(root: Path) -> None:
    """Raise `StoreError` for a damaged ``sharpscope.json`` and for a store of another format version."""
    marker = root / MARKER
    text = marker.read_bytes()
    if text == _marker_text().encode():
        return
    whole = f"if this folder is a store, {_restore(root)}"
    try:
        content = json.loads(text)
        known, version = content["format"] == FORMAT, int(content["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        known, version = False, 0
    if not known or version < 1 or version == VERSION:
        raise StoreError(f"{marker} is damaged or another program's; {whole}")
    remedy = "update sharpscope" if version > VERSION else "run the study again into a new store"
    raise StoreError(
        f"the store {root} has format version {version} and this sharpscope reads version {VERSION}; {remedy}, or, "
        f"if no other version ever wrote here, {_restore(root)}"
    )


def lost_marker(root: Path) -> StoreError:
    """Return the error for a store whose ``sharpscope.json`` is missing."""
    return StoreError(f"the store {root} has lost its file {MARKER}; {_restore(root)}")


def is_store_without_marker(names: set[str]) -> bool:
    """Return whether a folder of these entries is a store that has lost its ``sharpscope.json``."""
    return STUDY in names or names >= set(WORKING_FOLDERS)


def _restore(root: Path) -> str:
    """Return the words that say how ``sharpscope.json`` is written anew."""
    return (
        f"write it anew with: echo {shlex.quote(_marker_text().strip())} > {shlex.quote(str(root / MARKER))}"
    )


def _marker_text() -> str:
    return json.dumps({"format": FORMAT, "version": VERSION}) + "\n"


def study_text(study: Mapping[str, Any]) -> str:
    """Return the content of ``study.json``, sealed: the same text for the same study."""
    return seal_json(readable_json(study))


def read_study(path: Path) -> dict[str, Any] | None:
    """Return what a ``study.json`` says, None where there is none; `StoreError` when any byte of it has changed."""
    try:
        return unseal_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        why = str(error) if str(error).startswith(("has", "is", "does")) else "is no JSON"
        raise StoreError(
            f"{path} is damaged (it {why}); remove it and run its studies again, which keeps every result"
        ) from error

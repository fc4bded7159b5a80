"""Where data sets lie: the user's folder first, then the cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sharpscope.errors import DataError


def cache_folder() -> Path:
    """Return the folder for downloads and decoded images; it need not exist yet.

    ``SHARPSCOPE_CACHE``, else ``sharpscope`` in the platform's own cache folder (``~/.cache`` on Linux).
    """
    chosen = os.environ.get("SHARPSCOPE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sharpscope"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "sharpscope"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sharpscope"


def data_folder(data_dir: Path | str | None) -> Path | None:
    """Return the user's data folder: ``data_dir``, else what ``SHARPSCOPE_DATA`` names, else None.

    Raises DataError when that is not a folder.
    """
    chosen, origin = data_dir, "the data folder"
    if chosen is None:
        chosen, origin = os.environ.get("SHARPSCOPE_DATA") or None, "the folder that SHARPSCOPE_DATA names"
    if chosen is None:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise DataError(f"{origin[0].upper()}{origin[1:]} must exist, received {folder}; correct the path.")
    return folder


def search_path(name: str, data_dir: Path | str | None) -> list[Path]:
    """Return the folders in which a data set's files are looked for, in order."""
    own = data_folder(data_dir)
    return [*([own / name] if own else []), cache_folder() / "data" / name]


def find(name: str, file: str, data_dir: Path | str | None) -> Path | None:
    """Return the first of the data set's folders' files of that name, or None."""
    return next((path for folder in search_path(name, data_dir) if (path := folder / file).is_file()), None)

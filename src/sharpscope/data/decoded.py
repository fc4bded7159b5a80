"""A cache of decoded images: arrays on disk, memory-mapped, published whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.files import cache_folder
from sharpscope.serialization import sync_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMAT = 1  # part of every key: raise it when the meaning of the arrays changes
_FOOTER = 1 << 16
_WRITING = ".writing-"
_ABANDONED = 3600  # seconds; decoding and writing take a few


@dataclass(frozen=True)
class DecodedImages:
    """Images (n, channels, height, width), uint8, their labels (n,), int64, and how many came as JPEG."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    jpeg: int


def cache_entry(source: Path, name: str) -> Path:
    """Return the cache folder that belongs to a file: keyed by its size, time of change and last 64 KiB."""
    status = source.stat()
    with source.open("rb") as file:
        file.seek(max(0, status.st_size - _FOOTER))
        footer = hashlib.sha256(file.read()).hexdigest()
    key = hashlib.sha256(f"{_FORMAT}/{status.st_size}/{status.st_mtime_ns}/{footer}".encode()).hexdigest()
    return cache_folder() / "decoded" / f"{name}-{source.stem.split('-')[0]}-{key[:16]}"


def read_cache(entry: Path) -> DecodedImages | None:
    """Return the cached arrays, memory-mapped, or None when there are none that can be read."""
    try:
        about = json.loads((entry / "about.json").read_text())
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(entry / "labels.npy", allow_pickle=False)
        if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
            return None
        return DecodedImages(images, labels.astype(np.int64), int(about["jpeg"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def write_cache(entry: Path, decoded: DecodedImages) -> None:
    """Publish the arrays by renaming a finished folder; a cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(entry.parent)
        with tempfile.TemporaryDirectory(
            dir=entry.parent, prefix=_WRITING, ignore_cleanup_errors=True
        ) as temp:
            folder = Path(temp) / "entry"
            folder.mkdir()
            for name, array in (("images.npy", decoded.images), ("labels.npy", decoded.labels)):
                np.save(folder / name, array, allow_pickle=False)
            (folder / "about.json").write_text(json.dumps({"jpeg": decoded.jpeg}))
            sync_tree(folder)  # a crash of the machine must not leave a header over empty blocks
            if read_cache(entry) is None:  # another process may have published meanwhile
                shutil.rmtree(entry, ignore_errors=True)
                folder.rename(entry)


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes left behind that were killed while writing."""
    for left in folder.glob(f"{_WRITING}*"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)

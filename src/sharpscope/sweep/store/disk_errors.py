"""What the disk refuses, told in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from sharpscope.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_BROKEN = {errno.EIO}


@contextlib.contextmanager
def as_store_error(action: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StoreError` with the sentence of `disk_sentence`."""
    try:
        yield
    except OSError as error:
        raise StoreError(disk_sentence(action, error)) from error


def disk_sentence(action: str, error: OSError) -> str:
    """Return one sentence for an error of the operating system during `action`: what, why, and the remedy."""
    if error.errno in _FULL:
        remedy = "free some space, then run the same command again"
    elif error.errno in _FORBIDDEN:
        remedy = "make the folder writable or choose another one"
    else:
        remedy = "check the path and the disk, then run the same command again"
    temporary = "@" in str(error.filename)  # a name that means nothing to the user
    place = f" ({error.filename})" if error.filename and not temporary else ""
    return f"cannot {action}: {error.strerror or error}{place}; {remedy}"


def disk_failure(error: BaseException, root: Path) -> OSError | None:
    """Return the error of the disk under `root` that lies behind an exception, or None.

    The disk is to blame when it is full, read-only, forbidden or broken, and the error names a place under
    `root` or, as when writing to an open file, no place at all. Libraries written in Rust (safetensors) report
    the same in the text of their own exceptions.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError):
            named = isinstance(current.filename, (str, bytes))
            inside = named and Path(os.fsdecode(current.filename)).absolute().is_relative_to(root)
            if current.errno in _FULL | _BROKEN and (inside or not named):
                return current
            if current.errno in _FORBIDDEN and inside:
                return current
        elif f"os error {errno.ENOSPC}" in str(current) or f"code: {errno.ENOSPC}," in str(current):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        current = current.__cause__ or current.__context__
    return None

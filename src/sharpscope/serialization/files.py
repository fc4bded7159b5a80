"""Files that appear whole or not at all: written under another name, forced to the disk, renamed into place."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


@contextlib.contextmanager
def replacing(path: Path, *, scratch: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to; what the block wrote there then takes the place of `path` by one rename.

    The file written is `scratch`, a path on the same disk that no other process uses; by default a hidden name
    beside `path`. It is forced to the disk before the rename and the folder's list of names after it, so that a
    crash of the machine leaves the old content or the new one whole. Without `durable` nothing is forced, which is
    for files that a crash makes void anyway. Where the block or the disk fails, the file written is removed, `path`
    is left as it was and the exception goes on. A device or pipe, such as /dev/null, is refused: the rename would
    put a file in its place.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "a device or pipe cannot be replaced by a file", str(path))
    partial = scratch or path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        if durable:
            _sync_file(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_whole(
    path: Path, content: str | bytes, *, scratch: Path | None = None, durable: bool = True
) -> Path:
    """Put `content` at `path`, whole or not at all, and return the path; see `replacing`.

    Text is written as UTF-8 with its line ends as they are.
    """
    with replacing(path, scratch=scratch, durable=durable) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sync_folder(folder: Path) -> None:
    """Force a folder's list of names to the disk, where the platform has such a thing."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network and container file systems refuse
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Force every file and folder under `folder`, and itself, to the disk, the innermost first."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                _sync_file(path)
        sync_folder(Path(parent))


def _sync_file(path: str | os.PathLike[str]) -> None:
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

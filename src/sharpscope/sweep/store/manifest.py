"""What a published result consists of, written down before it is published: every file's size and SHA-256.

A result's manifest is the file ``MANIFEST`` in its folder: one line of JSON, then one line with that line's own
SHA-256. It shows whether a file was cut off, changed or lost since, and it names the results that this one was made
from, so that what was derived from a damaged result is known.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sharpscope.errors import StoreError

NAME = "MANIFEST"


@dataclass(frozen=True)
class Entry:
    """One file: its size in bytes and the SHA-256 of its content in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A result's id, its files by their path in the folder (with '/'), and the ids it was made from."""

    id: str
    files: Mapping[str, Entry]
    needs: tuple[str, ...] = ()

    def text(self) -> str:
        """Return what the file ``MANIFEST`` holds."""
        files = {path: [entry.size, entry.sha256] for path, entry in sorted(self.files.items())}
        line = json.dumps({"id": self.id, "needs": list(self.needs), "files": files}, separators=(",", ":"))
        return f"{line}\n{_sha256(line.encode())}\n"


def describe(folder: Path, result: str, needs: tuple[str, ...] = ()) -> Manifest:
    """Return the manifest of a folder as it is now."""
    files: dict[str, Entry] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if relative != NAME:
                files[relative] = _entry(path)
    return Manifest(result, files, needs)


def read_manifest(folder: str | os.PathLike[str]) -> Manifest | None:
    """Return a folder's manifest, None where it has none; `ValueError` when it is damaged."""
    try:
        content = _read_regular(os.path.join(folder, NAME))
    except FileNotFoundError:
        return None
    line, _, seal = content.partition(b"\n")
    if seal != _sha256(line).encode() + b"\n":
        raise ValueError("does not match its own SHA-256")
    try:
        fields = json.loads(line)
        files = {path: Entry(int(size), str(sha256)) for path, (size, sha256) in fields["files"].items()}
        manifest = Manifest(str(fields["id"]), files, tuple(map(str, fields["needs"])))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("is no manifest") from error
    if outside := [path for path in files if not _is_inside(path)]:
        raise ValueError(f"names a file outside the result, {outside[0]!r}")
    return manifest


def problem(folder: Path, *, content: bool) -> str | None:
    """Return what is wrong with a published folder, naming the file; None when nothing is.

    Sizes are always compared, and SHA-256 sums too when `content` is asked for. Files that no manifest lists, such as
    a file browser's, are no damage.
    """
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError) as error:
        return f"{NAME} is damaged ({error})"
    if manifest is None:
        return f"{NAME} is missing"
    if manifest.id != folder.name:
        return f"{NAME} is that of '{manifest.id}'"
    for path, entry in manifest.files.items():
        if (found := _file_problem(folder / path, entry, content)) is not None:
            return f"{path} {found}"
    return None


def read_published(path: Path) -> bytes:
    """Return the content of a published file, compared with its result's manifest.

    `path` is that of a file at the top of a result's folder. Raises `StoreError`, naming the file, what is wrong
    with it and the command that mends it.
    """
    folder, name = os.path.split(path)  # a table reads thousands of files, and as text paths cost little
    try:
        manifest = _read_once(folder, _mark(os.path.join(folder, NAME)))
    except (OSError, ValueError) as error:
        raise damaged(path.parent, f"{NAME} is damaged ({error})") from error
    if manifest is None:
        raise damaged(path.parent, f"{NAME} is missing")
    try:
        content = _read_regular(path)
    except OSError as error:
        raise damaged(path.parent, f"{name} cannot be read ({error.strerror})") from error
    entry = manifest.files.get(name)
    if entry is None:
        raise damaged(path.parent, f"{name} is not in its {NAME}")
    if len(content) != entry.size or _sha256(content) != entry.sha256:
        raise damaged(path.parent, f"{name} {_difference(len(content), entry)}")
    return content


def damaged(folder: Path, what: str) -> StoreError:
    """Return the error for a damaged result: its folder, what is wrong, and the command that mends it."""
    store = folder.parent.parent
    # without a manifest, a folder that no study asks for does not count as damaged: name it
    which = "--damaged" if (folder / NAME).exists() else folder.name
    return StoreError(
        f"the result {folder.parent.name}/{folder.name} in the store {store} is damaged: {what}; run "
        f"'sharpscope retry {store} {which}', then the study again, which redoes just that"
    )


def _file_problem(path: Path, entry: Entry, content: bool) -> str | None:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return "is no ordinary file"
        size = found.st_size
        if size != entry.size or (content and _entry(path) != entry):
            return _difference(size, entry)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _difference(size: int, entry: Entry) -> str:
    if size != entry.size:
        return f"has {size} bytes and was published with {entry.size}"
    return "is not what was published (its SHA-256 differs)"


@functools.lru_cache(maxsize=1)  # the files of one result are read one after the other
def _read_once(folder: str, mark: tuple[int, int] | None) -> Manifest | None:
    return read_manifest(folder)


def _mark(path: str) -> tuple[int, int] | None:
    """Return a value that changes when another file takes the place of this one."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of an ordinary file; `OSError` for a link, and for a pipe, which would never end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file")
        return file.read()


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\\" not in path


def _entry(path: Path) -> Entry:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(os.fstat(file.fileno()).st_size, digest)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

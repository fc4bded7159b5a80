"""The files of data sets: the user's folder first, then the cache, into which missing ones are downloaded."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sharpscope.errors import DataError
from sharpscope.serialization import replacing

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Origin:
    """Where the file ``file`` of a data set comes from.

    Either a Hugging Face data set repository ``hub`` with its path ``remote``, or the address ``remote``,
    whose content must have the SHA-256 ``sha256``.
    """

    file: str
    remote: str
    hub: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Access:
    """How files may be reached: the user's folder, whether to download, whom to tell about progress."""

    data_dir: Path | str | None = None
    download: bool = True
    progress: Progress | None = None


def cache_folder() -> Path:
    """Return the folder for downloads and decoded images; it need not exist yet.

    ``SHARPSCOPE_CACHE``, else ``sharpscope`` in the platform's own cache folder (``~/.cache`` on Linux).
    """
    chosen = os.environ.get("SHARPSCOPE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "sharpscope"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local") / "sharpscope"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "sharpscope"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # as for a user id of no account, in a container, with HOME unset
        raise DataError(
            "the cache lies in the home folder, and this user has none; set SHARPSCOPE_CACHE to a folder"
        ) from error


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


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def obtain(name: str, origin: Origin, access: Access) -> Path:
    """Return the path of a data set's file, downloading it into the cache when it is in no local folder.

    Raises DataError when it is missing and may not or cannot be downloaded.
    """
    path = find(name, origin.file, access.data_dir)
    if path is not None:
        return path
    if not access.download:
        places = " or ".join(str(folder) for folder in search_path(name, access.data_dir))
        raise DataError(
            f"{name} needs the file {origin.file}, which is not in {places}; "
            "put it there, set SHARPSCOPE_DATA, or allow the download."
        )
    target = cache_folder() / "data" / name / origin.file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            received = (
                _from_hub(origin, folder) if origin.hub else _from_address(origin, folder, access.progress)
            )
            with replacing(target, scratch=Path(received)):
                pass  # the cache never holds half a file
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"Downloading {name} needs huggingface_hub, which cannot be imported ({error}); "
            "install it with pip install 'sharpscope[vision]'."
        ) from error
    except Exception as error:  # every library below has its own network errors
        source = f"the Hugging Face hub ({origin.hub})" if origin.hub else origin.remote
        raise DataError(
            f"{name} is in no local folder and could not be downloaded from {source} "
            f"({_reason(error)}); check the connection, or put {origin.file} into a folder {name}/ "
            "and set SHARPSCOPE_DATA to the folder around it."
        ) from error
    return target


def _from_hub(origin: Origin, folder: str) -> str:
    """Download from the hub, which draws its own progress bar on standard error."""
    from huggingface_hub import constants, hf_hub_download

    require_reachable(constants.ENDPOINT)
    return str(hf_hub_download(origin.hub or "", origin.remote, repo_type="dataset", local_dir=folder))


def require_reachable(address: str) -> None:
    """Raise URLError at once when there is no connection: the hub's client would retry for half a minute."""
    from ssl import SSLError
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(address, method="HEAD"), timeout=10).close()
    except HTTPError:
        return  # an answer, whatever it says
    except URLError as error:
        if not isinstance(error.reason, SSLError):  # certificates are the client's own affair
            raise


def _from_address(origin: Origin, folder: str, progress: Progress | None) -> str:
    from urllib.request import urlopen

    digest = hashlib.sha256()
    path = Path(folder) / "received"
    with urlopen(origin.remote, timeout=30) as answer, path.open("wb") as out:
        total = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(1 << 16):
            out.write(chunk)
            digest.update(chunk)
            if progress:
                progress(f"Downloading {origin.file}", out.tell(), max(total, out.tell()))
    if digest.hexdigest() != origin.sha256:
        raise DataError(
            f"The download of {origin.file} must have the SHA-256 {origin.sha256}, received "
            f"{digest.hexdigest()} from {origin.remote}; get the file elsewhere and set SHARPSCOPE_DATA."
        )
    return str(path)


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

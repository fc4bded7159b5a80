"""Rows from a file of the user's own: CSV, Parquet, JSON, plain text, or Arrow as the datasets library saves it.

Everything is read as numbers, text and bytes; nothing that a file holds is run, and no path in it is followed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.errors import DataError, InputError
from sharpscope.serialization.parquet import read_parquet

if TYPE_CHECKING:
    import pandas as pd

PARTS = {"train": ("train", "training"), "test": ("test", "validation", "valid", "val", "dev")}
"""Names that folders and files of either part have, the most usual first."""


def read_rows(path: Path, part: str = "train") -> pd.DataFrame:
    """Return the rows of a file, or of the folder that the datasets library saved, as one table.

    A folder is one of ``Dataset.save_to_disk`` (``*.arrow``), of ``DatasetDict.save_to_disk`` or in the hub's layout:
    ``part`` then chooses the folder, or the files, of that name. A text file is a table of its lines, column
    ``text``. Raises DataError for a file that is missing, empty, damaged or of another kind.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}; correct the path")
    files = _files_of(path, part) if path.is_dir() else [path]
    tables = [_read(file) for file in files]
    if len(tables) == 1:
        table = tables[0]
    else:
        import pandas as pd

        table = pd.concat(tables, ignore_index=True)
    if not len(table):
        raise DataError(f"{path} must hold at least one row below its header, it has none; add rows")
    return table.rename(columns=str)


def whole(name: str, part: str) -> None:
    """Raise InputError where a part is wanted of data that have none."""
    if part != "train":
        raise InputError(f"{name} has no parts and is measured whole, received --part {part}; leave it out")


def _files_of(folder: Path, part: str, inside: bool = False) -> list[Path]:
    """Return the files of one part of a folder's rows, in the order of their names; all if it is the part's own."""
    inner = next((folder / name for name in PARTS[part] if (folder / name).is_dir()), None)
    if inner is not None and not inside:
        return _files_of(inner, part, inside=True)
    for place in (folder, folder / "data"):
        files = sorted(f for f in place.glob("*") if f.suffix in READERS and f.is_file())
        files = [f for f in files if f.name not in ("dataset_info.json", "state.json", "dataset_dict.json")]
        named = [
            [f for f in files if any(f.stem.lower().startswith(n) for n in names)] for names in PARTS.values()
        ]
        if any(named) and not inside:  # files of named parts: those of the part that is wanted
            files = named[list(PARTS).index(part)]
        elif files and not inside:
            whole(place.name, part)
        kinds = {f.suffix for f in files}
        if len(kinds) > 1:
            raise DataError(
                f"the files of {place} must be of one kind, they are {', '.join(sorted(kinds))}; name one file"
            )
        if files:
            return files
    raise DataError(
        f"the folder {folder} holds no rows of part {part} ({', '.join(READERS)}) and no subfolders of images; "
        "name another, or another --part"
    )


def _read(path: Path) -> pd.DataFrame:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"rows are read from {', '.join(READERS)}, received {path}; convert the file")
    try:
        return reader(path)
    except DataError:
        raise
    except InputError as error:  # larger than the memory
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be text in UTF-8, byte {error.start} is not; convert the file"
        ) from error
    except (ValueError, RecursionError) as error:  # the parsers' errors are ValueErrors
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        kind = {".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet", ".arrow": "Arrow"}.get(
            path.suffix, "JSON"
        )
        raise DataError(
            f"{path} must be a table in {kind}, and it is not ({first}); mend the file"
        ) from error


def _separated(separator: str) -> Callable[[Path], pd.DataFrame]:
    def read(path: Path) -> pd.DataFrame:
        import pandas as pd

        return pd.read_csv(path, sep=separator)

    return read


def _parquet(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = read_parquet(path).to_pandas()
    return table


def _json(path: Path) -> pd.DataFrame:
    """A list of objects, an object of columns, or one object in every line."""
    import pandas as pd

    text = path.read_text(encoding="utf-8")
    try:
        found: Any = json.loads(text)
        if isinstance(found, dict) and not any(isinstance(value, list) for value in found.values()):
            found = [found]
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not isinstance(found, dict) and not (
        isinstance(found, list) and all(isinstance(row, dict) for row in found)
    ):
        raise ValueError("a list of objects, or an object in every line, is wanted")
    return pd.DataFrame(found)


def _lines(path: Path) -> pd.DataFrame:
    import pandas as pd

    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return pd.DataFrame({"text": lines})


def _arrow(path: Path) -> pd.DataFrame:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_file(source).read_all()
        frame: pd.DataFrame = table.to_pandas()
    return frame


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": _json,
    ".txt": _lines,
    ".arrow": _arrow,
}
"""What reads a file, by how its name ends."""

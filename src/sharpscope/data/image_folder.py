"""Images of the user's own: a folder with one subfolder for each class, or with a table of labels beside them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpscope.data.row_files import PARTS, read_rows, whole
from sharpscope.errors import DataError, suggestion

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
LABELS = ("metadata", "labels")
"""Names of the table beside the images; the first is that of the datasets library."""


@dataclass(frozen=True)
class Images:
    """Images (n, channels, height, width), uint8, with a label for each as it was written, and notes."""

    pixels: NDArray[np.uint8]
    labels: list[Any]
    notes: tuple[str, ...]


def is_image_folder(folder: Path) -> bool:
    """Return whether a folder, or a folder in it, holds an image by its name."""
    if not folder.is_dir():
        return False
    places = [folder, *(p for p in folder.iterdir() if p.is_dir())]
    places += [inner for p in places[1:] for inner in p.iterdir() if inner.is_dir()]
    return any(f.suffix.lower() in SUFFIXES for place in places for f in place.iterdir())


def read_image_folder(
    folder: Path, target: str | None, part: str, size: tuple[int, int] | None = None
) -> Images:
    """Return the images of a folder in the order of their paths.

    Without ``target`` the subfolder that an image lies in is its class. With it, a table beside the images
    (``metadata`` or ``labels``, CSV, JSON or Parquet) names each in the column ``file_name`` and its label in the
    column ``target``. Where the subfolders are parts (train, test, validation), ``part`` chooses. Images must be of
    one size unless ``size``, (height, width), is what all are resized to.

    Raises DataError for a folder without images or labels, and for an image that is missing, damaged or of another
    size.
    """
    root = _part_of(folder, part)
    if target is None:
        classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        paths = [f for c in classes for f in sorted(c.rglob("*")) if f.suffix.lower() in SUFFIXES]
        labels: list[Any] = [f.relative_to(root).parts[0] for f in paths]
        if not paths:
            raise DataError(
                f"the images of {root} need a subfolder for each class, or --target COLUMN of a {LABELS[0]}.csv with "
                "the columns file_name and COLUMN; there are no images in subfolders"
            )
    else:
        paths, labels = _listed(root, target)
    where = f"{folder.name}: " if root == folder else f"{folder.name}/{root.name}: "
    found = decode([(str(path.relative_to(root)), path) for path in paths], size)
    return Images(found.pixels, labels, (f"{where}{len(paths)} images.", *found.notes))


def _part_of(folder: Path, part: str) -> Path:
    """Return the subfolder of a part where all subfolders are parts, else the folder itself."""
    names = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if not names or not names <= {name for known in PARTS.values() for name in known}:
        whole(folder.name, part)
        return folder
    inner = next((name for name in PARTS[part] if name in names), None)
    if inner is None:
        raise DataError(
            f"{folder.name} has the parts {', '.join(sorted(names))}, and none for --part {part}; add it"
        )
    return folder / inner


def _listed(root: Path, target: str) -> tuple[list[Path], list[Any]]:
    """Return the images that the table beside them lists, with their labels."""
    places = [root / f"{name}{suffix}" for name in LABELS for suffix in (".csv", ".jsonl", ".parquet")]
    table_path = next((p for p in places if p.is_file()), None)
    if table_path is None:
        raise DataError(
            f"--target {target} needs a table beside the images, {root} has no {LABELS[0]}.csv; add one with the "
            f"columns file_name and {target}, or leave --target out where each class has a subfolder"
        )
    table = read_rows(table_path)
    for column in ("file_name", target):
        if column not in table.columns:
            raise DataError(
                f"{table_path.name} has the columns {', '.join(table.columns)}, and not {column!r}; "
                f"{suggestion(column, table.columns)}correct it"
            )
    paths = [root / str(name) for name in table["file_name"]]
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{table_path.name} must name files below {root}, it names {path}; correct it")
    return paths, table[target].tolist()


def decode(sources: Sequence[tuple[str, Path | bytes]], size: tuple[int, int] | None = None) -> Images:
    """Return decoded images, named as in ``sources``, without labels.

    All are taken as colour where one is; grey ones then get three equal channels, and a note says how many.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"reading images needs pillow, which cannot be imported ({error}); "
            "install it with pip install 'sharpscope[vision]'"
        ) from error
    arrays: list[NDArray[np.uint8]] = []
    flattened = 0
    for name, source in sources:
        try:
            with Image.open(
                io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
            ) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"it is in mode {image.mode}, and eight bits a channel are read")
                flattened += image.mode in ("RGBA", "LA", "PA")
                grey = image.mode in ("1", "L", "LA")
                plain = image.convert("L" if grey else "RGB")
                if size is not None and plain.size != size[::-1]:
                    plain = plain.resize(size[::-1], Image.Resampling.BILINEAR)
                arrays.append(np.asarray(plain))
        except FileNotFoundError:
            raise DataError(f"there is no image {source!s}; correct its name in the table") from None
        except Exception as error:  # the decoders raise what they like for a damaged file
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"the image {name} cannot be read ({reason}); replace it") from error
    names = [name for name, _ in sources]
    _of_one_size(arrays, names)
    colour = [array.ndim == 3 for array in arrays]
    notes = []
    if any(colour) and not all(colour):
        notes.append(f"{colour.count(False)} of {len(arrays)} images are grey and get three equal channels.")
    if flattened:
        notes.append(f"The transparency of {flattened} images is left out.")
    pixels = np.empty((len(arrays), 3 if any(colour) else 1, *arrays[0].shape[:2]), dtype=np.uint8)
    for row, array in zip(pixels, arrays, strict=True):
        row[:] = array.transpose(2, 0, 1) if array.ndim == 3 else array  # (channels, height, width)
    return Images(pixels, [], tuple(notes))


def _of_one_size(arrays: Iterable[NDArray[np.uint8]], names: Sequence[str]) -> None:
    shapes = [array.shape[:2] for array in arrays]
    for shape, name in zip(shapes, names, strict=True):
        if shape != shapes[0]:
            raise DataError(
                f"images must be of one size, {names[0]} is {shapes[0][1]} × {shapes[0][0]} and {name} is "
                f"{shape[1]} × {shape[0]}; resize them"
            )

"""Images in the Parquet layout of the Hugging Face hub: one column of encoded images, one of labels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpscope.data.decoded import DecodedImages, cache_entry, read_cache, write_cache
from sharpscope.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from sharpscope.data.files import Progress

_JPEG = b"\xff\xd8\xff"  # start of image, then a marker: ITU T.81, annex B
_BATCH = 1000


@dataclass(frozen=True)
class ImageFormat:
    """What the images of a data set must be; ``column`` names them in the file."""

    name: str
    column: str
    channels: int
    side: int
    classes: int


def read_images(
    path: Path, rows: int, layout: ImageFormat, progress: Progress | None = None
) -> DecodedImages:
    """Return the decoded images of a file, from the cache when it was decoded before.

    Raises DataError, one sentence with the remedy, for a file that is no Parquet file, is truncated, holds
    other columns or another number of rows, or images that cannot be decoded or are of another shape.
    """
    checked = _open(path, rows, layout)
    entry = cache_entry(path, layout.name)
    decoded = read_cache(entry)
    if decoded is None or len(decoded.images) != rows:
        decoded = _decode(checked, path, rows, layout, progress)
        write_cache(entry, decoded)
    return decoded


def probe_images(path: Path, rows: int, layout: ImageFormat) -> bool:
    """Return whether the first image of a file is a JPEG, after checking the file's columns and rows.

    Reads the file's metadata and one image. Raises DataError as `read_images` does.
    """
    file = _open(path, rows, layout)
    try:
        first = next(file.iter_batches(batch_size=1, columns=[f"{layout.column}.bytes"]))
        return bool(first.column(0)[0].as_py()["bytes"].startswith(_JPEG))
    except Exception as error:
        raise _damaged(path) from error


def _open(path: Path, rows: int, layout: ImageFormat) -> Any:
    from pyarrow import parquet, types

    with path.open("rb") as start:
        magic = start.read(4)
    if magic != b"PAR1":
        raise DataError(
            f"{path} must be a Parquet file, received a file that starts with {magic!r}; replace it."
        )
    try:
        file = parquet.ParquetFile(path, memory_map=True)
    except Exception as error:
        raise _damaged(path) from error
    schema = file.schema_arrow
    image, label = schema.get_field_index(layout.column), schema.get_field_index("label")
    good = (
        min(image, label) >= 0
        and types.is_struct(schema.field(image).type)
        and schema.field(image).type.get_field_index("bytes") >= 0
        and types.is_integer(schema.field(label).type)
    )
    if not good:
        raise DataError(
            f"{path} must have the columns {layout.column} (encoded images) and label (integers), received "
            f"{', '.join(schema.names)}; replace it by the file of {layout.name}."
        )
    if file.metadata.num_rows != rows:
        raise DataError(
            f"{path} must have {rows} rows, received {file.metadata.num_rows}; "
            f"replace it by the file of {layout.name}."
        )
    return file


def _decode(
    file: Any, path: Path, rows: int, layout: ImageFormat, progress: Progress | None
) -> DecodedImages:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"Reading the images of {layout.name} needs pillow, which cannot be imported ({error}); "
            "install it with pip install 'sharpscope[vision]'."
        ) from error
    images = np.empty((rows, layout.channels, layout.side, layout.side), dtype=np.uint8)
    labels = np.empty(rows, dtype=np.int64)
    mode, size = {1: "L", 3: "RGB"}[layout.channels], (layout.side, layout.side)
    row = jpeg = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH, columns=[f"{layout.column}.bytes", "label"]):
            labels[row : row + len(batch)] = batch.column("label").to_numpy(zero_copy_only=False)
            for cell in batch.column(layout.column).field("bytes").to_pylist():
                with Image.open(io.BytesIO(cell), formats=("PNG", "JPEG")) as image:
                    if image.mode != mode or image.size != size:
                        raise DataError(
                            f"{path} must hold {size[0]} × {size[1]} images in mode {mode}, received in row {row} "
                            f"{image.size[0]} × {image.size[1]} in mode {image.mode}; replace it."
                        )
                    pixels = np.asarray(image)  # (side, side) or (side, side, channels)
                images[row] = pixels if layout.channels == 1 else pixels.transpose(2, 0, 1)
                jpeg += cell.startswith(_JPEG)
                row += 1
            if progress:
                progress(f"Decoding {layout.name}/{path.name}", row, rows)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, row) from error
    if labels.min() < 0 or labels.max() >= layout.classes:
        raise DataError(
            f"{path} must have labels from 0 to {layout.classes - 1}, received {labels.min()} to {labels.max()}; "
            f"replace it by the file of {layout.name}."
        )
    return DecodedImages(images, labels, jpeg)


def _damaged(path: Path, row: int | None = None) -> DataError:
    where = "" if row is None else f" (row {row} cannot be read)"
    return DataError(
        f"{path} must be a whole Parquet file, received one that is truncated or damaged{where}; "
        "copy or download it again."
    )

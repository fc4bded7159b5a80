"""Image data sets read from small Parquet files made here."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from sharpscope.data import DataConfig
from sharpscope.data.files import Access, cache_folder
from sharpscope.data.image_sets import CIFAR10, FASHION_MNIST
from sharpscope.errors import DataError

TRAIN, TEST = 23, 11
GREY = replace(FASHION_MNIST, info=replace(FASHION_MNIST.info, train=TRAIN, test=TEST, total=TRAIN + TEST))
COLOUR = replace(CIFAR10, info=replace(CIFAR10.info, train=TRAIN, test=TEST, total=TRAIN + TEST))


def _pixels(n, image_set, seed=0):
    layout = image_set.layout
    shape = (n, layout.side, layout.side, *([layout.channels] if layout.channels > 1 else []))
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _encoded(pixels, kind):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return {"bytes": out.getvalue(), "path": None}


def _write(path, pixels, column, kinds=("PNG",), labels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [_encoded(image, kinds[i % len(kinds)]) for i, image in enumerate(pixels)]
    labels = [i % 10 for i in range(len(cells))] if labels is None else labels
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({column: pa.array(cells, kind), "label": pa.array(labels, pa.int64())})
    parquet.write_table(table, path, row_group_size=7)  # uneven row groups


def _folder(tmp_path, image_set, **changes):
    column = image_set.layout.column
    folder = tmp_path / "data" / image_set.info.name
    _write(folder / image_set.train.file, _pixels(TRAIN, image_set), column, **changes)
    _write(folder / image_set.test.file, _pixels(TEST, image_set, seed=1), column, **changes)
    return tmp_path / "data"


def _load(image_set, folder, **fields):
    access = Access(folder, download=False)
    return image_set.load(DataConfig(name=image_set.info.name, **fields), access)


@pytest.mark.parametrize("image_set", [GREY, COLOUR])
def test_pixels_and_labels_arrive_unchanged(tmp_path, image_set):
    folder = _folder(tmp_path, image_set)
    data = _load(image_set, folder, pixels="unit")
    expected = _pixels(TRAIN, image_set).reshape(TRAIN, image_set.layout.side, image_set.layout.side, -1)
    expected = torch.from_numpy(expected.transpose(0, 3, 1, 2).copy())
    assert torch.equal((data.train.inputs * 255).round().to(torch.uint8), expected)
    assert data.train.targets.tolist() == [i % 10 for i in range(TRAIN)]
    assert data.input_shape == tuple(expected.shape[1:])
    assert data.notes == ()


def test_the_second_load_comes_from_the_cache_and_is_the_same(tmp_path, monkeypatch):
    folder = _folder(tmp_path, COLOUR)
    first = _load(COLOUR, folder, train_samples=9)
    monkeypatch.setattr(Image, "open", None)  # decoding again would fail
    second = _load(COLOUR, folder, train_samples=9)
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert first.standardisation == second.standardisation


def test_a_damaged_cache_is_decoded_again(tmp_path):
    folder = _folder(tmp_path, GREY)
    first = _load(GREY, folder)
    for path in cache_folder().glob("decoded/*/images.npy"):
        path.write_bytes(path.read_bytes()[:200])
    assert torch.equal(_load(GREY, folder).train.inputs, first.train.inputs)


def test_another_file_of_the_same_name_does_not_meet_the_old_cache(tmp_path):
    folder = _folder(tmp_path, GREY)
    first = _load(GREY, folder)
    _write(folder / "fashion_mnist" / GREY.train.file, _pixels(TRAIN, GREY, seed=7), "image")
    assert not torch.equal(_load(GREY, folder).train.inputs, first.train.inputs)


def test_what_a_killed_process_left_is_swept_up_later(tmp_path):
    left = cache_folder() / "decoded" / ".writing-old"
    fresh = cache_folder() / "decoded" / ".writing-now"
    for folder in (left, fresh):
        folder.mkdir(parents=True)
    os.utime(left, (0, 0))
    _load(GREY, _folder(tmp_path, GREY))
    assert not left.exists()
    assert fresh.exists()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SHARPSCOPE_CACHE", str(tmp_path / "file"))
    assert len(_load(GREY, _folder(tmp_path, GREY)).train) == TRAIN


def test_jpeg_is_seen_in_the_bytes_and_noted(tmp_path):
    folder = _folder(tmp_path, COLOUR, kinds=("PNG", "PNG", "JPEG"))
    for _ in range(2):  # decoded, then cached
        assert _load(COLOUR, folder).notes[0].startswith("10 of 34 images here are JPEG")
    assert COLOUR.describe(folder).notes == ()  # looks at the first image of each file only
    folder = _folder(tmp_path, COLOUR, kinds=("JPEG", "PNG"))
    assert "JPEG" in COLOUR.describe(folder).notes[0]


def test_progress_is_told(tmp_path):
    told = []
    GREY.load(
        DataConfig(name="fashion_mnist"), Access(_folder(tmp_path, GREY), False, lambda *a: told.append(a))
    )
    assert told[-1] == (f"Decoding fashion_mnist/{GREY.test.file}", TEST, TEST)


def _text(path):
    path.write_text("not a table\n" * 100)


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-300])


def _empty(path):
    path.write_bytes(b"")


def _holed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 900] = bytes(900)
    path.write_bytes(content)


def _other_columns(path):
    parquet.write_table(pa.table({"x": [1, 2], "y": [3, 4]}), path)


def _labels_as_text(path):
    table = parquet.read_table(path)
    text = table.column("label").cast(pa.string())
    parquet.write_table(table.set_column(1, "label", text), path)


def _fewer_rows(path):
    parquet.write_table(parquet.read_table(path).slice(0, TRAIN - 1), path)


def _other_label(path):
    _write(path, _pixels(TRAIN, GREY), "image", labels=[10] * TRAIN)


def _colour_images(path):
    _write(path, _pixels(TRAIN, COLOUR)[:, :28, :28], "image")


def _null_image(path):
    table = parquet.read_table(path)
    cells = table.column("image").to_pylist()
    cells[4] = {"bytes": None, "path": "somewhere.png"}
    parquet.write_table(table.set_column(0, "image", pa.array(cells, table.column("image").type)), path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_text, "must be a Parquet file"),
        (_empty, "must be a Parquet file"),
        (_truncated, "truncated or damaged"),
        (_holed, "truncated or damaged"),
        (_null_image, r"row 4 cannot be read"),
        (_other_columns, "must have the columns image .* received x, y"),
        (_labels_as_text, "must have the columns"),
        (_fewer_rows, f"must have {TRAIN} rows, received {TRAIN - 1}"),
        (_other_label, "labels from 0 to 9, received 10"),
        (_colour_images, "must hold 28 × 28 images in mode L"),
    ],
)
def test_a_foreign_or_broken_file_is_one_sentence(tmp_path, spoil, words):
    folder = _folder(tmp_path, GREY)
    path = folder / "fashion_mnist" / GREY.train.file
    spoil(path)
    with pytest.raises(DataError, match=words) as raised:
        _load(GREY, folder)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    assert ";" in message  # the remedy


def test_a_broken_file_is_described_and_not_raised(tmp_path):
    folder = _folder(tmp_path, GREY)
    _text(folder / "fashion_mnist" / GREY.test.file)
    info = GREY.describe(folder)
    assert not info.found
    assert info.problem is not None
    assert "must be a Parquet file" in info.problem


def test_a_missing_file_names_the_places(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="not in .*data/fashion_mnist or .*cache/data/fashion_mnist"):
        _load(GREY, tmp_path / "data")
    with pytest.raises(DataError, match="must exist, received .*nowhere"):
        _load(GREY, tmp_path / "nowhere")


def test_the_environment_names_the_folder_and_the_argument_wins(tmp_path, monkeypatch):
    folder = _folder(tmp_path, GREY)
    monkeypatch.setenv("SHARPSCOPE_DATA", str(folder))
    assert len(_load(GREY, None).test) == TEST
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty/fashion_mnist"):
        _load(GREY, tmp_path / "empty")
    monkeypatch.setenv("SHARPSCOPE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="SHARPSCOPE_DATA"):
        _load(GREY, None)

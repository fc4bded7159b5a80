"""Data of the user's own: tables, arrays, folders of images and of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from sharpscope.data import Dataset
from sharpscope.data.own import OwnData
from sharpscope.data.row_files import read_rows
from sharpscope.errors import DataError, InputError


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": [1.0, 2.0, 4.0],
            "b": [3, 0, 7],
            "word": ["x", "y", "x"],
            "number": [0, 1, 1],
            "rings": [1, 9, 4],
        }
    )


def own(path: Path, target: str | None = None, *columns: str, **more: Any) -> Dataset:
    return OwnData(path, target, columns or None, **more).load()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".json", ".jsonl", ".arrow"])
def test_every_format_gives_the_same_inputs_as_they_stand(
    table: pd.DataFrame, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"t{suffix}"
    match suffix:
        case ".parquet":
            table.to_parquet(path)
        case ".json" | ".jsonl":
            table.to_json(path, orient="records", lines=suffix == ".jsonl")
        case ".arrow":
            with (
                pa.OSFile(str(path), "wb") as sink,
                pa.ipc.new_stream(sink, pa.Schema.from_pandas(table)) as out,
            ):
                out.write_table(pa.Table.from_pandas(table))
        case _:
            table.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
    data = own(path, "word", "a", "b")
    assert data.train.inputs.tolist() == [[1, 3], [2, 0], [4, 7]]
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.tolist() == [0, 1, 0]
    assert data.train is data.test
    assert data.notes[0] == f"t{suffix}: 3 rows; inputs a, b; target word."
    assert data.notes[-1] == "Classes, numbered from 0: x, y."


def test_what_a_target_means(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False)
    assert (own(path, "number").task, own(path, "number").n_outputs) == ("classification", 2)
    rings = own(path, "rings")  # integers, but not 0 … K − 1
    assert (rings.task, rings.train.targets.tolist()) == ("regression", [[1], [9], [4]])
    kept = own(path, "rings", task="classification")  # class numbers stay as they are
    assert (kept.n_outputs, kept.train.targets.tolist()) == (10, [1, 9, 4])
    assert "3 of the classes 0 to 9 occur." in kept.notes
    assert own(path, "number", task="regression").train.targets.dtype == torch.float32
    assert "Columns left out: word." in own(path, "rings").notes
    scaled = own(path, "rings", "a", "b", standardise=True).train.inputs
    assert torch.allclose(scaled.mean(0), torch.zeros(2), atol=1e-6)


def test_one_sample_will_do(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,y\n1,2\n")
    assert own(tmp_path / "one.csv", "y").train.targets.tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("text", "target", "columns", "words"),
    [
        ("", "y", (), "must be a table in CSV"),
        ("a,y\n", "y", (), "at least one row"),
        ("a,y\n1,2\n", None, (), "--target is needed, .* it has a, y"),
        ("a,price\n1,2\n", "prise", (), "did you mean price"),
        ("a,y\n1,2\n", "y", ("b",), "not 'b'"),
        ("a,y\n1,2\n", "y", ("y",), "cannot be an input too"),
        ("a,y\nx,2\n", "y", ("a",), "must hold a number in every row, row 1 holds 'x'"),
        ("a,b,y\n1,2,2\n1,,2\n", "y", (), "row 2 holds nan"),
        ("a,y\n1,\n", "y", (), "row 1 is empty"),
        ("a,y\n1,inf\n", "y", (), "finite number in every row, row 1 does not"),
        ("a,y\n1,k\n2,k\n", "y", (), "two classes or more, y has 1"),
        ("a,y\nq,1\nr,2\n", "y", (), "needs a numeric column"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, text: str, target: str, columns: Any, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises((DataError, InputError), match=words) as told:
        own(tmp_path / "t.csv", target, *columns)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("values", [["k", "l"], [0.5, 1.0], [-1, 0]])
def test_targets_that_do_not_fit_the_task(tmp_path: Path, values: list[Any]) -> None:
    pd.DataFrame({"a": [1, 2], "y": values}).to_csv(tmp_path / "t.csv", index=False)
    task: Any = "regression" if values[0] == "k" else "classification"
    with pytest.raises(DataError, match="say --task"):
        own(tmp_path / "t.csv", "y", task=task)


@pytest.mark.parametrize("name", ["t.parquet", "t.json", "t.jsonl", "t.arrow", "t.csv"])
def test_a_damaged_or_foreign_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\x00PAR1 no such thing" * 3)
    with pytest.raises((DataError, InputError)) as told:
        own(tmp_path / name, "y")
    assert "\n" not in str(told.value)
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(DataError, match="rows are read from"):
        own(tmp_path / "t.xlsx", "y")


def test_folders_of_rows_have_parts(tmp_path: Path) -> None:
    for name, values in (
        ("train-0.csv", "a,y\n1,1\n"),
        ("train-1.csv", "a,y\n2,2\n"),
        ("validation.csv", "a,y\n9,3\n"),
    ):
        (tmp_path / name).write_text(values)
    assert read_rows(tmp_path, "train")["a"].tolist() == [1, 2]
    assert read_rows(tmp_path, "test")["a"].tolist() == [9]
    saved = tmp_path / "saved" / "train"  # as DatasetDict.save_to_disk lays it out
    saved.mkdir(parents=True)
    (saved / "state.json").write_text('{"_data_files": [{"filename": "../../secret"}]}')
    with pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as sink:
        batch = pa.table({"text": ["one", "two"]})
        with pa.ipc.new_stream(sink, batch.schema) as out:
            out.write_table(batch)
    assert read_rows(tmp_path / "saved", "train")["text"].tolist() == ["one", "two"]
    with pytest.raises(DataError, match="holds no rows of part test"):
        read_rows(tmp_path / "saved", "test")
    (tmp_path / "saved" / "validation").mkdir()
    (tmp_path / "saved" / "validation" / "rows.csv").write_text("text\nthree\n")
    assert read_rows(tmp_path / "saved", "test")["text"].tolist() == ["three"]
    with pytest.raises(InputError, match="train has no parts and is measured whole, received --part test"):
        read_rows(saved, "test")
    with pytest.raises(DataError, match="no file or folder"):
        read_rows(tmp_path / "nowhere")


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((4, 2), dtype=np.float64), y=np.array([0, 1, 2, 1]))
    data = own(path)
    assert (data.task, data.n_outputs, data.train.inputs.dtype) == ("classification", 3, torch.float32)
    np.savez(
        path, pictures=np.full((2, 3, 4, 4), 255, dtype=np.uint8), label=np.array([0, 1]), other=np.ones(2)
    )
    pictures = own(path, "label", "pictures")
    assert float(pictures.train.inputs.max()) == 1.0
    assert "pixels / 255" in pictures.standardisation
    np.savez(path, tokens=np.array([[1, 2], [3, 4]]), y=np.array([0.5, 1.0]))
    assert own(path).train.inputs.dtype == torch.int64
    assert own(path).train.targets.shape == (2, 1)


@pytest.mark.parametrize(
    ("arrays", "target", "words"),
    [
        ({"x": np.ones((3, 2)), "y": np.ones(2)}, "y", "one entry for each sample"),
        ({"x": np.ones((3, 2)), "y": np.ones(3)}, "z", "not 'z'"),
        ({"x": np.ones((3, 2)), "w": np.ones(3)}, None, "--target is needed"),
        ({"x": np.ones(3), "u": np.ones(3), "y": np.ones(3)}, "y", "--column is needed"),
        ({"x": np.array([{}, 1, 2], dtype=object), "y": np.ones(3)}, "y", "plain arrays"),
        ({"x": np.array(["a", "b"]), "y": np.ones(2)}, "y", "must be numbers"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "y", "one entry for each"),
    ],
)
def test_what_is_wrong_with_arrays(tmp_path: Path, arrays: Any, target: str, words: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises((DataError, InputError), match=words):
        own(tmp_path / "d.npz", target)


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="plain arrays"):
        own(tmp_path / "d.npz", "y")


def image(path: Path, value: int = 7, mode: str = "L", size: tuple[int, int] = (4, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path)


def test_images_in_a_folder_for_each_class(tmp_path: Path) -> None:
    image(tmp_path / "train" / "cat" / "1.png", 255)
    image(tmp_path / "train" / "dog" / "1.png", 0)
    image(tmp_path / "test" / "dog" / "1.png", 51)
    image(tmp_path / "test" / "cat" / "1.png", 51)
    data = own(tmp_path)
    assert data.input_shape == (1, 3, 4)  # channels, height, width
    assert data.train.inputs[:, 0, 0, 0].tolist() == [1.0, 0.0]
    assert data.notes == ("%s/train: 2 images." % tmp_path.name, "Classes, numbered from 0: cat, dog.")  # noqa: UP031
    assert float(own(tmp_path, part="test").train.inputs[0, 0, 0, 0]) == pytest.approx(0.2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        image(tmp_path / name / "1.png")
    assert own(tmp_path).n_outputs == 2
    with pytest.raises(InputError, match="has no parts"):
        own(tmp_path, part="test")
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    with pytest.raises(InputError, match=r"t\.csv has no parts"):
        own(tmp_path / "t.csv", "y", part="test")
    image(tmp_path / "parts" / "train" / "a" / "1.png")
    with pytest.raises(DataError, match="has the parts train, and none for --part test"):
        own(tmp_path / "parts", part="test")


def test_images_with_a_table_beside_them(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 10)
    image(tmp_path / "b.png", 20)
    (tmp_path / "metadata.csv").write_text("file_name,age\nb.png,2.5\na.png,1.5\n")
    data = own(tmp_path, "age")
    assert data.train.targets.tolist() == [[2.5], [1.5]]
    assert float(data.train.inputs[0, 0, 0, 0]) == pytest.approx(20 / 255)
    with pytest.raises(DataError, match="not 'aeg'; did you mean age"):
        own(tmp_path, "aeg")
    (tmp_path / "metadata.csv").write_text("file_name,age\n../x.png,2.5\n")
    with pytest.raises(DataError, match="must name files below"):
        own(tmp_path, "age")
    (tmp_path / "metadata.csv").write_text("file_name,age\nc.png,2.5\n")
    with pytest.raises(DataError, match="there is no image"):
        own(tmp_path, "age")
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(DataError, match="needs a table beside the images"):
        own(tmp_path, "age")
    with pytest.raises(DataError, match="a subfolder for each class"):
        own(tmp_path)


def test_grey_images_among_colour_ones_get_equal_channels(tmp_path: Path) -> None:
    image(tmp_path / "c" / "1.png", 10, "RGB")
    image(tmp_path / "d" / "2.png", 10)
    image(tmp_path / "d" / "3.png", 10, "RGBA")
    data = own(tmp_path)
    assert torch.equal(data.train.inputs[0], data.train.inputs[1])
    assert "1 of 3 images are grey and get three equal channels." in data.notes
    assert "The transparency of 1 images is left out." in data.notes


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    image(tmp_path / "c" / "1.png")
    image(tmp_path / "d" / "2.png", size=(5, 3))
    with pytest.raises(DataError, match=r"of one size, c/1\.png is 4 × 3 and d/2\.png is 5 × 3"):
        own(tmp_path)
    (tmp_path / "d" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"d/2\.png cannot be read"):
        own(tmp_path)
    image(tmp_path / "d" / "2.png", mode="I;16")
    with pytest.raises(DataError, match="eight bits"):
        own(tmp_path)


def test_images_in_the_hub_s_layout(tmp_path: Path) -> None:
    cells = []
    for value in (0, 255):
        image(tmp_path / "x.png", value)
        cells.append({"bytes": (tmp_path / "x.png").read_bytes(), "path": None})
    pd.DataFrame({"image": cells, "label": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    data = own(tmp_path / "t.parquet", "label")
    assert data.train.inputs[:, 0, 0, 0].tolist() == [0.0, 1.0]
    assert data.train.targets.tolist() == [0, 1]


def test_json_of_a_foreign_shape(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([1, 2]))
    with pytest.raises(DataError, match="list of objects"):
        read_rows(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(json.dumps({"a": [1, 2], "y": [3, 4]}))
    assert read_rows(tmp_path / "t.json")["y"].tolist() == [3, 4]

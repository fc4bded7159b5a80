from __future__ import annotations

import numpy as np
import pytest
import torch

from sharpscope.data import DataConfig, load
from sharpscope.errors import DataError

ROWS = 4177


def _lines(n=ROWS):
    numbers = np.random.default_rng(0).uniform(0.1, 2, (n, 7))
    return [
        f"{'MFI'[i % 3]},{','.join(f'{v:.4f}' for v in row)},{5 + i % 7}" for i, row in enumerate(numbers)
    ]


def _write(tmp_path, lines):
    folder = tmp_path / "data" / "abalone"
    folder.mkdir(parents=True)
    (folder / "abalone.data").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def _load(folder, **fields):
    return load(DataConfig(name="abalone", **fields), data_dir=folder, download=False)


def test_inputs_are_one_hot_sex_and_seven_measurements_standardised_on_the_training_rows(tmp_path):
    data = _load(_write(tmp_path, _lines()))
    assert (len(data.train), len(data.test)) == (3341, 836)
    assert data.train.inputs.shape == (3341, 10)
    assert data.train.targets.shape == (3341, 1)
    assert data.task == "regression"
    np.testing.assert_allclose(data.train.inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.inputs.std(0, correction=0), 1, atol=1e-5)
    assert float(data.test.inputs.mean(0).abs().max()) > 1e-3
    assert [len(torch.unique(column)) for column in data.train.inputs.T[:4]][:3] == [2, 2, 2]
    assert ((data.train.inputs[:, :3] > 0).sum(1) == 1).all()
    assert sorted(set(data.train.targets.flatten().tolist())) == [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    assert data.notes == ("The file is not byte for byte the UCI's abalone.data.",)


def test_the_choices_of_the_released_code(tmp_path):
    data = _load(_write(tmp_path, _lines()), first_row="lost", targets="standardised")
    assert len(data.train) + len(data.test) == ROWS - 1
    assert abs(float(data.train.targets.mean())) < 1e-5
    assert "target likewise" in data.standardisation
    assert any("first row" in note for note in data.notes)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (_lines(ROWS - 1), "must have 4177 rows, received 4176"),
        (["Sex,Length,Diameter", *_lines()], "in line 1"),
        (["<html>404</html>"], "in line 1"),
        ([*_lines()[:9], "M,1,2,3,4,5,6,nan,9", *_lines()[10:]], "in line 10"),
        ([*_lines()[:9], "X,1,2,3,4,5,6,7,9", *_lines()[10:]], "in line 10"),
        ([*_lines()[:-1], _lines()[-1][:20]], "in line 4177"),
    ],
)
def test_a_foreign_or_short_file_is_one_sentence(tmp_path, lines, words):
    with pytest.raises(DataError, match=words) as raised:
        _load(_write(tmp_path, lines))
    assert "replace it" in str(raised.value)
    assert "\n" not in str(raised.value)

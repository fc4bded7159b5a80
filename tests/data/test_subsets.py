from __future__ import annotations

import numpy as np
import pytest

from sharpscope.data import DataConfig
from sharpscope.data.subsets import Rows, choose_rows, split_80_20
from sharpscope.errors import InputError


def chosen(config: DataConfig, *sizes: int, **official: int) -> Rows:
    return choose_rows(config.name, config.sizes, config.subset_seed, *sizes, **official)


def test_an_uncut_part_keeps_its_order():
    rows = chosen(DataConfig(name="digits"), 7, 3)
    assert rows.train.tolist() == list(range(7))
    assert rows.test.tolist() == [0, 1, 2]
    assert rows.validation is None
    assert rows.notes == ()


def test_a_smaller_subset_is_a_prefix_of_a_larger_one():
    small = chosen(DataConfig(name="cifar10", train_samples=10, test_samples=4), 100, 50)
    large = chosen(DataConfig(name="cifar10", train_samples=60, test_samples=9), 100, 50)
    assert small.train.tolist() == large.train[:10].tolist()
    assert small.test.tolist() == large.test[:4].tolist()
    assert sorted(small.train) != list(range(10))


def test_validation_is_apart_from_training_and_leaves_the_training_prefix_alone():
    plain = chosen(DataConfig(name="cifar10", train_samples=60), 100, 50)
    carved = chosen(DataConfig(name="cifar10", train_samples=60, validation_samples=40), 100, 50)
    assert carved.train.tolist() == plain.train.tolist()
    assert carved.validation is not None
    assert sorted([*carved.train, *carved.validation]) == list(range(100))


def test_validation_without_a_training_size_leaves_the_rest_for_training():
    rows = chosen(DataConfig(name="cifar10", validation_samples=30), 100, 50)
    assert rows.validation is not None
    assert len(rows.train) == 70
    assert not set(rows.train) & set(rows.validation)


def test_an_official_validation_part_is_cut_in_place():
    whole = chosen(DataConfig(name="cora"), 140, 1000, validation=500)
    assert whole.validation is not None
    assert whole.validation.tolist() == list(range(500))
    part = chosen(DataConfig(name="cora", validation_samples=20), 140, 1000, validation=500)
    assert part.validation is not None
    assert len(part.validation) == 20
    assert len(part.train) == 140


def test_seed_and_name_decide_the_rows():
    def rows(name, seed):
        return chosen(DataConfig(name=name, train_samples=50, subset_seed=seed), 100, 50).train.tolist()

    assert rows("digits", 0) == rows("digits", 0)
    assert rows("digits", 0) != rows("digits", 1)
    assert rows("digits", 0) != rows("cifar10", 0)


def test_the_rows_stay_what_they_were():
    # Fixed numbers: a change here changes the data of every stored run.
    rows = chosen(DataConfig(name="digits", train_samples=5), 1437, 360)
    assert rows.train.tolist() == [1137, 1237, 1228, 564, 877]
    assert np.concatenate(split_80_20("abalone", 4177, 0))[:3].tolist() == [3903, 3339, 1196]


@pytest.mark.parametrize(
    "sizes",
    [
        {"train_samples": 101},
        {"train_samples": 61, "validation_samples": 40},
        {"validation_samples": 100},
        {"test_samples": 51},
    ],
)
def test_more_rows_than_there_are(sizes):
    with pytest.raises(InputError, match="ask for at most"):
        chosen(DataConfig(name="cifar10", **sizes), 100, 50)


def test_cut_parts_are_noted():
    rows = chosen(DataConfig(name="cifar10", train_samples=10, subset_seed=3), 100, 50)
    assert rows.notes == ("10 of 100 training samples, a random subset with seed 3.",)

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sharpscope.data import DataConfig, load
from sharpscope.errors import InputError


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "mnist"}, "must be one of digits"),
        ({"name": "digits", "train_samples": 0}, "greater than or equal to 1"),
        ({"name": "digits", "train_samples": 10.0}, "valid integer"),
        ({"name": "digits", "train_samples": True}, "valid integer"),
        ({"name": "digits", "subset_seed": -1}, "greater than or equal to 0"),
        ({"name": "digits", "sample": 3}, "Extra inputs"),
        ({"name": "abalone", "pixels": "unit"}, "applies to digits, fashion_mnist, cifar10 only"),
        ({"name": "digits", "rows": "normalised"}, "applies to cora only"),
        ({"name": "cora", "targets": "standardised"}, "applies to abalone, table only"),
    ],
)
def test_refuses_what_it_cannot_mean(fields, words):
    with pytest.raises(ValidationError, match=words):
        DataConfig(**fields)


def test_is_frozen():
    config = DataConfig(name="digits")
    with pytest.raises(ValidationError):
        config.train_samples = 5


def test_an_unknown_name_is_an_input_error():
    with pytest.raises(InputError, match="received 'mnist'"):
        load("mnist")

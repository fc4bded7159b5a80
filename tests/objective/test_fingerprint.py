"""The description of a loss that enters a fingerprint."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sharpscope.objective.fingerprint import describe_callable


def test_a_description_changes_with_the_meaning_and_with_nothing_else() -> None:
    def one(o: object, t: object) -> int:
        return 1

    def two(o: object, t: object) -> int:
        return 2

    def scaled(by: object) -> object:
        return lambda o, t: F.cross_entropy(o, t) * by

    def by_default(o: object, t: object, by: float = 3.0) -> object:
        return by

    class Scaled:
        def __init__(self, by: float) -> None:
            self.by = by

        def __call__(self, o: object, t: object) -> float:
            return self.by

        def method(self, o: object, t: object) -> float:
            return -self.by

    different = [
        F.cross_entropy,
        F.mse_loss,
        partial(F.cross_entropy, label_smoothing=0.1),
        partial(F.cross_entropy, label_smoothing=0.2),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0])),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(ignore_index=1),
        one,
        two,
        scaled(1.0),
        scaled(2.0),
        scaled(torch.ones(2)),
        by_default,
        Scaled(1.0),
        Scaled(2.0),
        Scaled(1.0).method,
    ]
    described = [describe_callable(f) for f in different]
    assert len(set(described)) == len(described)
    assert describe_callable(nn.CrossEntropyLoss()) == describe_callable(nn.CrossEntropyLoss())
    assert not any("0x" in text for text in described)


def test_a_description_is_the_same_in_another_process() -> None:
    program = (
        "import torch; from torch import nn; from sharpscope.objective.fingerprint import describe_callable;"
        "print(describe_callable(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert there.strip() == describe_callable(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])))


SCALE = 1.0


def _by_global(o: object, t: object) -> float:
    return SCALE


def test_a_value_of_the_module_is_part_of_the_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe_callable(_by_global)
    monkeypatch.setitem(_by_global.__globals__, "SCALE", 2.0)
    assert describe_callable(_by_global) != before


def test_a_function_that_refers_to_itself_has_a_description() -> None:
    def again(o: object, t: object) -> object:
        return again

    assert "again" in describe_callable(again)

"""What a loss must be, and the description of it that enters a fingerprint."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sharpscope.errors import InputError
from sharpscope.objective.loss_checks import check_mean_reduction, describe_callable


def test_means_pass_and_sums_do_not_wherever_they_are() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(9, 3), torch.randint(3, (9,))
    for mean in (F.cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.1), lambda o, t: o.square().mean()):
        check_mean_reduction(mean, outputs, targets)
    for wrong in (
        nn.CrossEntropyLoss(reduction="sum"),
        lambda o, t: F.cross_entropy(o, t, reduction="sum") / 7,
    ):
        with pytest.raises(InputError, match="mean over samples"):
            check_mean_reduction(wrong, outputs, targets)
    with pytest.raises(InputError, match=r"scalar tensor, received shape \(9,\)"):
        check_mean_reduction(nn.CrossEntropyLoss(reduction="none"), outputs, targets)


def test_a_description_changes_with_the_meaning_and_with_nothing_else() -> None:
    def one(o: object, t: object) -> int:
        return 1

    def two(o: object, t: object) -> int:
        return 2

    different = [
        F.cross_entropy,
        F.mse_loss,
        partial(F.cross_entropy, label_smoothing=0.1),
        partial(F.cross_entropy, label_smoothing=0.2),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0])),
        one,
        two,
    ]
    described = [describe_callable(f) for f in different]
    assert len(set(described)) == len(described)
    assert describe_callable(nn.CrossEntropyLoss()) == describe_callable(nn.CrossEntropyLoss())
    assert not any("0x" in text for text in described)


def test_a_description_is_the_same_in_another_process() -> None:
    program = (
        "import torch; from torch import nn; from sharpscope.objective.loss_checks import describe_callable;"
        "print(describe_callable(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert there.strip() == describe_callable(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])))

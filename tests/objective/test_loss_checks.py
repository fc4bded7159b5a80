"""What a loss must be, on all of the data."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sharpscope.errors import InputError
from sharpscope.objective.loss_checks import check_mean_reduction


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

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


def test_losses_of_samples_that_cancel_are_compared_as_well_as_their_sums_are_known() -> None:
    """A mean of 1e-4 over losses of a thousand and either sign: sums in another order differ by more than it."""

    def mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs * targets).mean()

    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        half = 1000 * torch.randn(32, 1, generator=draws)
        targets = torch.cat([half, -half])[torch.randperm(64, generator=draws)] + 1e-4
        outputs = torch.ones(64, 1)
        check_mean_reduction(mean, outputs, targets)
        with pytest.raises(InputError, match="mean over samples"):
            check_mean_reduction(lambda o, t: 64 * mean(o, t).square().sqrt() + o.sum(), outputs, targets)
        with pytest.raises(InputError, match="mean over samples"):  # a wrong weight of large losses shows
            check_mean_reduction(lambda o, t: (o * t).sum() / (len(t) + 1), outputs, targets)


@pytest.mark.parametrize("spare", [0.0, 1e-8])
def test_a_loss_that_is_huge_for_a_single_sample_is_not_excused_by_its_size(spare: float) -> None:
    """Divided by n - 1, which one sample leaves at nothing or next to it."""
    outputs = torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="mean over samples"):
        check_mean_reduction(lambda o, t: o.square().sum() / (len(t) - 1 + spare), outputs, outputs)

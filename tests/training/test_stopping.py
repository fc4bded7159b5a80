"""The stopping rules of the five papers, on loss curves worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from sharpscope.training import PlateauConfig, StopConfig
from sharpscope.training.stopping import HopelessConfig, stop_reason


def stopped(
    stop: StopConfig,
    losses: Sequence[float],
    train_losses: Sequence[float] | None = None,
    accuracies: Sequence[float] | None = None,
) -> tuple[int, str] | None:
    """Play the epochs one by one: the epoch and rule that stop the run."""
    rows = []
    for index, loss in enumerate(losses):
        row = {"epoch_loss": loss, "train_loss": loss, "train_accuracy": 0.0}
        if train_losses is not None:
            row["train_loss"] = train_losses[index]
        if accuracies is not None:
            row["train_accuracy"] = accuracies[index]
        rows.append(row)
        reason = stop_reason(stop, rows)
        if reason is not None:
            return len(rows), reason
    return None


PATRIARCA = StopConfig(epochs=1000, plateau=PlateauConfig(threshold=1e-4, patience=5))


def test_patriarca2024_stops_after_five_quiet_epochs_in_a_row() -> None:
    # moves: 1, .00005, .00005, .0002 (loud: the count starts again), then five of .00005
    curve = [3, 2, 1.99995, 1.9999, 1.9997, 1.99965, 1.9996, 1.99955, 1.9995, 1.99945, 1.9994]
    assert stopped(PATRIARCA, curve) == (10, "plateau")


def test_patriarca2024_a_run_that_never_moves_stops_after_its_sixth_epoch() -> None:
    assert stopped(PATRIARCA, [2.30259] * 20) == (6, "plateau")


def test_patriarca2024_rises_count_as_much_as_falls_and_equality_is_not_quiet() -> None:
    rule = StopConfig(epochs=99, plateau=PlateauConfig(threshold=0.5, patience=2))
    assert stopped(rule, [1.0, 1.25, 1.0, 5.0]) == (3, "plateau")
    assert stopped(rule, [1.0, 1.5, 1.0, 1.5, 1.0]) is None


HAMMOUD = StopConfig(epochs=10, relative_change=0.05)


def test_hammoud2023_stops_when_the_loss_changes_by_less_than_five_percent() -> None:
    # 20 %, 10 %, then 0.72 to 0.69: 4.17 %
    assert stopped(HAMMOUD, [1.0, 0.8, 0.72, 0.69, 0.1]) == (4, "relative_change")


def test_hammoud2023_divides_by_the_previous_loss() -> None:
    # 1.0 to 1.051 is 5.1 % of the previous loss and 4.9 % of the current one
    assert stopped(HAMMOUD, [1.0, 1.051]) is None
    # 1.0 to 0.951 is 4.9 % of the previous loss and 5.2 % of the current one
    assert stopped(HAMMOUD, [1.0, 0.951]) == (2, "relative_change")


def test_hammoud2023_stops_after_ten_epochs_at_the_latest() -> None:
    assert stopped(HAMMOUD, [0.5**k for k in range(20)]) == (10, "epochs")


def test_hammoud2023_gat_runs_at_least_ten_epochs() -> None:
    rule = StopConfig(epochs=20, min_epochs=10, relative_change=0.05)
    assert stopped(rule, [1.0] * 20) == (10, "relative_change")
    falling = [0.5**k for k in range(12)]
    assert stopped(rule, [*falling, falling[-1], 0.0]) == (13, "relative_change")


def test_hammoud2023_as_coded_a_previous_loss_of_100_seeds_the_rule() -> None:
    rule = StopConfig(epochs=10, relative_change=0.05, first_previous_loss=100.0)
    assert stopped(rule, [96.0, 1.0]) == (1, "relative_change")
    assert stopped(rule, [94.0, 93.0]) == (2, "relative_change")
    assert stopped(HAMMOUD, [96.0, 1.0]) is None


def test_a_loss_that_stays_at_zero_has_not_changed() -> None:
    assert stopped(HAMMOUD, [1.0, 0.0, 0.0]) == (3, "relative_change")
    assert stopped(HAMMOUD, [0.0, 1.0]) is None


def test_kaur2022_stops_at_99_percent_training_accuracy() -> None:
    rule = StopConfig(epochs=500, train_accuracy=0.99)
    assert stopped(rule, [1.0] * 4, accuracies=[0.5, 0.9899, 0.99, 1.0]) == (3, "train_accuracy")


def test_matched_training_loss_stops_when_it_is_reached() -> None:
    rule = StopConfig(epochs=500, train_loss=0.01)
    epoch_losses = [0.005, 0.004, 0.003]  # not watched by this rule
    assert stopped(rule, epoch_losses, train_losses=[0.02, 0.0101, 0.01]) == (3, "train_loss")


@pytest.mark.parametrize("epochs", [100, 200])
def test_coldenhoff2022_and_jastrzebski2018_run_a_fixed_number_of_epochs(epochs: int) -> None:
    assert stopped(StopConfig(epochs=epochs), [0.0] * 300, accuracies=[1.0] * 300) == (epochs, "epochs")


def test_min_epochs_holds_back_every_rule_but_counts_quiet_epochs() -> None:
    rule = StopConfig(
        epochs=9,
        min_epochs=7,
        plateau=PlateauConfig(threshold=0.1, patience=2),
        train_accuracy=0.9,
        train_loss=1.0,
    )
    assert stopped(rule, [0.5] * 9, accuracies=[0.0] * 9, train_losses=[2.0] * 9) == (7, "plateau")
    assert stopped(rule, [0.5] * 9, accuracies=[1.0] * 9) == (7, "train_accuracy")


def test_the_goal_is_named_before_the_exhaustion_that_came_with_it() -> None:
    rule = StopConfig(epochs=2, train_accuracy=0.9, relative_change=0.05)
    assert stopped(rule, [1.0, 1.0], accuracies=[0.0, 1.0]) == (2, "train_accuracy")
    assert stopped(rule, [1.0, 1.0]) == (2, "relative_change")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"epochs": 0},
        {"epochs": 3.0},
        {"epochs": 3, "min_epochs": 4},
        {"epochs": 3, "relative_change": 0.0},
        {"epochs": 3, "relative_change": float("nan")},
        {"epochs": 3, "first_previous_loss": 100.0},
        {"epochs": 3, "train_accuracy": 99.0},
        {"epochs": 3, "plateau": {"threshold": -1.0}},
        {"epochs": 3, "plateau": 1e-4},
    ],
)
def test_rules_without_a_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StopConfig.model_validate(wrong)


def test_a_hopeless_run_is_given_up_at_its_look_and_at_no_other_epoch() -> None:
    rule = StopConfig(epochs=6, hopeless=[HopelessConfig(epoch=3, train_loss=1.0)])
    assert stopped(rule, [9, 9, 1.1, 0.1]) == (3, "hopeless")
    assert stopped(rule, [9, 9, 1.0, 9, 9, 9]) == (6, "epochs")
    slow = StopConfig(epochs=6, hopeless=[HopelessConfig(epoch=2, train_accuracy=0.5)])
    assert stopped(slow, [9] * 6, accuracies=[0, 0.49, 1, 1, 1, 1]) == (2, "hopeless")
    assert stopped(slow, [9] * 6, accuracies=[0, 0.5, 0, 0, 0, 0]) == (6, "epochs")


def test_a_run_that_ends_by_another_rule_is_finished_and_not_hopeless() -> None:
    look = [HopelessConfig(epoch=3, train_loss=0.5)]
    assert stopped(StopConfig(epochs=3, hopeless=look), [9, 9, 9]) == (3, "epochs")
    reached = StopConfig(epochs=9, train_accuracy=0.9, hopeless=look)
    assert stopped(reached, [9, 9, 9], accuracies=[0, 0, 0.95]) == (3, "train_accuracy")
    assert stopped(StopConfig(epochs=9, min_epochs=4, hopeless=look), [9] * 9) == (9, "epochs")


def test_a_rule_that_is_not_there_leaves_the_identifiers_of_runs_as_they_were() -> None:
    assert "hopeless" not in StopConfig(epochs=3).model_dump(mode="json")
    asked = StopConfig(epochs=3, hopeless=[HopelessConfig(epoch=1, train_loss=2.0)]).model_dump(mode="json")
    assert asked["hopeless"] == [{"epoch": 1, "train_loss": 2.0, "train_accuracy": None}]
    with pytest.raises(ValidationError, match="told by train_loss or train_accuracy"):
        HopelessConfig(epoch=1)

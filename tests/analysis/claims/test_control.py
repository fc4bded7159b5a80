"""Training loss beside a claim: what it leaves of a relation, and what the reader is told."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise

RATES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]


def trend(rows, **keys):
    return judge(rows, kind="trend", x="lr", y="sharpness", direction="falling", **keys)


def table(explained, seeds=5):
    """Sharpness follows the training loss that the rate sets, or the rate itself."""
    rows = grid(seeds, lr=RATES)
    loss = -np.log(rows["lr"]) + noise(rows, 1.0)
    cause = loss if explained else -np.log(rows["lr"])
    return rows.assign(train_loss=np.exp(loss), sharpness=np.exp(cause + noise(rows, 0.7, 1)))


def test_what_training_loss_explains_does_not_survive_it():
    kept, gone = trend(table(False)), trend(table(True))
    assert kept.verdict == gone.verdict == "supported"
    assert kept.control.partial.high < 0
    assert gone.control.partial.low < 0 < gone.control.partial.high


def test_the_partial_correlation_is_that_of_ranks_within_seeds():
    rows = grid(1, lr=RATES).assign(train_loss=[5, 6, 3, 4, 1, 2], sharpness=[9, 5, 7, 1, 2, 3])
    ranks = [stats.rankdata(rows[name]) for name in ("lr", "sharpness", "train_loss")]
    left = [r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2]]
    partial = trend(rows).control.partial
    assert partial.value == pytest.approx(np.corrcoef(*left)[0, 1])
    assert np.isnan(partial.low)


def test_seeds_are_ranked_apart():
    rows = table(False, seeds=3)
    shifted = rows.copy()
    shifted.loc[shifted["seed"] == 1, ["sharpness", "train_loss"]] *= 1e6
    assert trend(shifted).control.partial == trend(rows).control.partial


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(train_loss=1 / t["lr"]), "exactly as the claim's quantities do"),
        (lambda t: t.assign(train_loss=0.1), "train_loss does not vary"),
        (lambda t: t.assign(train_loss=np.nan), "fewer than three runs"),
        (lambda t: t.drop(columns="train_loss"), "no train_loss"),
    ],
)
def test_a_control_that_is_not_there_says_why(change, said):
    control = trend(change(table(False))).control
    assert control.partial is None
    assert said in control.note


def test_another_control():
    rows = table(False).assign(norm=lambda t: 1 / t["lr"] * np.exp(noise(t, 0.5, 7)))
    assert trend(rows, control="norm").control.partial.name.endswith("given norm")


def test_the_interval_covers_nothing_where_there_is_nothing():
    draw = np.random.default_rng(0)
    rows, covered = grid(3, lr=RATES), 0
    for _ in range(60):
        found = trend(
            rows.assign(train_loss=draw.normal(size=len(rows)) ** 2, sharpness=draw.normal(size=len(rows)))
        )
        covered += found.control.partial.low <= 0 <= found.control.partial.high
    assert covered >= 52


def test_losses_and_accuracies_are_means_of_settings():
    rows = table(False, seeds=2)
    rows["train_loss"] = rows["lr"] + 0.001 * rows["seed"]
    rows["train_accuracy"] = 1 - rows["lr"]
    control = trend(rows).control
    assert control.losses == pytest.approx((0.0105, 0.5005))
    assert control.accuracies == pytest.approx((0.5, 0.99))


def test_confounds_are_told_gravest_first():
    rows = table(False, seeds=3)
    rows["epochs"] = np.where(rows["lr"] > 0.1, 200, 5)
    rows["stop_reason"] = np.where(rows["lr"] > 0.1, "epochs", "plateau")
    rows.loc[rows["lr"] == 0.5, "status"] = "diverged"
    rows.loc[0, "status"] = "diverged"
    rows["constant_loss"] = np.where(rows["seed"] == 2, rows["train_loss"], np.nan)
    found = trend(rows).confounds
    assert found[0] == "4 of 18 runs diverged and are left out; 1 setting never finished."
    assert found[1].startswith(
        "5 of 14 runs learned next to nothing: their training loss is no more than 5% below"
    )
    assert found[2].startswith("The settings compared stopped at unequal training losses, from ")
    assert "the loss goes with what is compared (rank correlation -0." in found[2]
    assert found[3] == "The runs trained for unequal times, from 5 to 200 epochs."
    assert found[4] == "The runs stopped for different reasons: epochs (3), plateau (11)."
    assert found[5] == "Only 3 seeds."


def test_no_confounds_no_sentences():
    rows = grid(6, lr=RATES).assign(sharpness=lambda t: np.exp(noise(t, 0.1)) / t["lr"])
    assert trend(rows).confounds == ()


def humped(own, configurations=24, seeds=2, draw=0):
    """Sharpness and gap follow the training loss along a hump, and one another by ``own``."""
    draw = np.random.default_rng(draw)
    rows = grid(seeds, setting=list(range(configurations)))
    loss = draw.uniform(size=configurations)[rows["setting"]] + 0.02 * draw.normal(size=len(rows))
    common = own * draw.normal(size=len(rows))
    x, y = (-4 * (loss - 0.5) ** 2 + 0.15 * draw.normal(size=len(rows)) + common for _ in "xy")
    return rows.assign(train_loss=np.exp(loss), sharpness=x, gap=y)


def correlation(rows):
    return judge(rows, kind="correlation", x="sharpness", y="gap", sign=1).control


def test_a_hump_in_training_loss_survives_ranks_and_not_the_spline():
    found = [correlation(humped(0.0, draw=i)) for i in range(40)]
    assert sum(control.partial.low > 0 for control in found) > 30
    assert sum(bool(control.survives) for control in found) <= 5
    kept = [correlation(humped(0.3, draw=i)) for i in range(10)]
    assert all(control.survives for control in kept)


def test_a_spline_needs_rows_enough():
    control = correlation(humped(0.3, configurations=5))
    assert np.isnan(control.spline_p)
    assert control.survives is None


def test_pools_that_stop_at_several_losses_report_each():
    rows = grid(3, setting=list(range(8)))
    draw = np.random.default_rng(0)
    level = np.where(rows["setting"] < 4, 0.01, 0.5)
    rows["train_loss"] = level * np.exp(0.02 * draw.normal(size=len(rows)))
    own = draw.normal(size=8)[rows["setting"]]
    rows["sharpness"], rows["gap"] = own - 10 * level, np.where(level < 0.1, own, -own) - 10 * level
    found = correlation(rows).within
    assert [effect.value for effect in found] == pytest.approx([1, -1])
    assert found[0].name == "rank correlation of 12 runs at a loss of 0.01"
    assert correlation(rows.assign(train_loss=0.1 * np.exp(0.1 * draw.normal(size=24)))).within == ()

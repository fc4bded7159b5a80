"""What holds in every row, or in most."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge


def test_an_invariance_fails_with_one_row():
    rows = grid(3, lr=[1, 2]).assign(change=[1e-6, -1e-5, 0.0, 9e-5, -9e-5, 2e-5])
    found = judge(rows, kind="invariance", y="change")
    assert (found.verdict, found.effect.value) == ("supported", pytest.approx(9e-5))
    assert np.isnan(found.effect.low)
    rows.loc[4, "change"] = -2e-4
    found = judge(rows, kind="invariance", y="change")
    assert found.verdict == "contradicted"
    assert "1 of 6 rows exceed 0.0001" in found.reason
    assert judge(rows, kind="invariance", y="change", below=1e-3).verdict == "supported"


def bound(rows, **keys):
    return judge(rows, kind="bound", low_side="reached", high_side="promised", **keys)


@pytest.mark.parametrize(
    ("held", "verdict"), [(20, "supported"), (19, "inconclusive"), (8, "contradicted"), (14, "inconclusive")]
)
def test_the_share_of_settings_within_a_bound(held, verdict):
    rows = grid(1, lr=list(range(20))).assign(promised=1.0)
    rows["reached"] = np.where(np.arange(20) < held, 0.5, 1.5)
    found = bound(rows)
    assert found.effect.value == pytest.approx(held / 20)
    assert found.verdict == verdict


def test_seeds_of_a_setting_are_no_further_trials():
    once = bound(grid(1, lr=list(range(10))).assign(promised=1.0, reached=0.5))
    thrice = bound(grid(3, lr=list(range(10))).assign(promised=1.0, reached=0.5))
    assert once.effect == thrice.effect
    assert once.effect.low == pytest.approx(0.025 ** (1 / 10))
    assert bound(grid(20, lr=[1]).assign(promised=1.0, reached=0.5)).clusters == 20


def test_slack():
    rows = grid(1, lr=list(range(20))).assign(promised=1.0, reached=1.05)
    assert bound(rows).verdict == "contradicted"
    assert bound(rows, slack=0.1).verdict == "supported"
    assert bound(rows).others[0].value == pytest.approx(1.05)

"""The ratio law: two exponents that cancel, or do not."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise


def table(of_rate, of_batch, seeds=3, spread=0.05):
    rows = grid(seeds, lr=[0.01, 0.03, 0.1], batch_size=[32, 128, 512])
    y = rows["lr"] ** of_rate * rows["batch_size"] ** of_batch * np.exp(noise(rows, spread) + rows["seed"])
    return rows.assign(lambda_max=y)


def law(rows, **keys):
    return judge(rows, **({"kind": "ratio_law", "y": "lambda_max", "margin": 0.1} | keys))


@pytest.mark.parametrize(
    ("exponents", "verdict"),
    [((-0.8, 0.8), "supported"), ((-0.96, 0.3), "contradicted"), ((-0.8, 0.9), "inconclusive")],
)
def test_verdicts(exponents, verdict):
    found = law(table(*exponents))
    assert found.verdict == verdict
    assert found.effect.value == pytest.approx(sum(exponents), abs=0.03)
    assert [other.value for other in found.others] == pytest.approx(exponents, abs=0.03)
    assert found.effect.name == "sum of the exponents of lr and batch_size in lambda_max"


def test_the_sum_is_that_of_least_squares_within_seeds():
    rows = table(-0.7, 0.4, spread=0.3)
    logs = np.log(rows[["lr", "batch_size", "lambda_max"]])
    centred = (logs - logs.groupby(rows["seed"]).transform("mean")).to_numpy()
    slopes = np.linalg.lstsq(centred[:, :2], centred[:, 2], rcond=None)[0]
    found = law(rows)
    assert [other.value for other in found.others] == pytest.approx(slopes)
    assert found.effect.value == pytest.approx(slopes.sum())


def test_a_quantity_that_depends_on_neither_obeys_and_says_so():
    found = law(table(0.0, 0.0))
    assert found.verdict == "supported"
    assert any("hardly depends on either" in sentence for sentence in found.confounds)


def test_other_quantities_and_strata():
    rows = table(-0.8, 0.8).assign(momentum=lambda t: t["seed"] % 2)
    renamed = rows.rename(columns={"lr": "eta", "batch_size": "b"})
    assert law(renamed, numerator="eta", denominator="b").effect.value == law(rows).effect.value
    assert law(rows, within=["momentum"]).verdict == "supported"


def test_not_evaluable():
    rows = table(-0.8, 0.8)
    assert "positive" in law(rows.assign(lambda_max=-1.0)).reason
    diagonal = rows[np.isclose(rows["lr"] * 3200, rows["batch_size"], rtol=0.3)]
    assert "vary apart" in law(diagonal.assign(batch_size=diagonal["lr"] * 3200)).reason
    assert law(rows[rows["seed"] == 0]).verdict == "inconclusive"

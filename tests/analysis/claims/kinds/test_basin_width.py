"""Which end of a line sits in the wider basin."""

import numpy as np
import pandas as pd
import pytest

from analysis.claims.grids import grid, judge


def tables(ratio, seeds=4, spread=0.1):
    """Pairs of a small and a large batch, every second one the other way round."""
    runs = grid(seeds, batch=[128, 1024, 4096])
    draw = np.random.default_rng(1)
    rows = []
    for seed in range(seeds):
        ends = [runs[(runs["batch"] == b) & (runs["seed"] == seed)]["run_id"].item() for b in (128, 1024)]
        widths = [0.5 * ratio * np.exp(spread * draw.normal()), 0.5]
        if seed % 2:
            ends, widths = ends[::-1], widths[::-1]
        rows += [[f"p{seed}", *ends, alpha, 1.0, *widths] for alpha in (0.0, 0.5, 1.0)]
    columns = ["pair", "run_a", "run_b", "alpha", "loss", "width_a", "width_b"]
    return runs, pd.DataFrame(rows, columns=columns)


def widths(runs, lines, **keys):
    claim = {"kind": "basin_width", "a": {"batch": 128}, "b": {"batch": 1024}, "direction": "wider"}
    claim = {key: value for key, value in (claim | keys).items() if value is not None}
    return judge(runs, landscapes=lines, **claim)


@pytest.mark.parametrize(
    ("ratio", "keys", "verdict"),
    [
        (2.0, {}, "supported"),
        (0.5, {}, "contradicted"),
        (1.0, {}, "inconclusive"),
        (0.5, {"direction": "narrower"}, "supported"),
        (1.05, {"direction": None, "ratio": {"min": 0.7, "max": 1.4}}, "supported"),
        (2.0, {"direction": None, "ratio": {"min": 0.7, "max": 1.4}}, "contradicted"),
    ],
)
def test_verdicts(ratio, keys, verdict):
    found = widths(*tables(ratio), **keys)
    assert found.verdict == verdict
    assert found.clusters == 4


def test_a_pair_counts_once_and_its_ends_by_their_settings():
    found = widths(*tables(2.0, spread=0.0))
    assert found.effect.value == pytest.approx(2.0)
    assert [effect.value for effect in found.others] == pytest.approx([1.0, 0.5])
    assert found.rows == 8


def test_incomplete_widths_are_told():
    runs, lines = tables(2.0)
    lines["complete_a"], lines["complete_b"] = True, True
    assert not any("lower bound" in sentence for sentence in widths(runs, lines).confounds)
    lines.loc[lines["pair"] == "p1", "complete_b"] = False
    assert any(s.startswith("In 1 of 4 pairs") for s in widths(runs, lines).confounds)


def test_not_evaluable():
    runs, lines = tables(2.0)
    assert "no interpolation yet" in widths(runs, lines[:0]).reason
    assert "have no width_b" in widths(runs, lines.drop(columns="width_b")).reason
    assert "No pair joins" in widths(runs, lines, b={"batch": 4096}).reason
    assert "no column 'rho'" in widths(runs, lines, b={"rho": 1}).reason
    assert "no such pair" in widths(runs, lines.assign(width_a=np.nan)).reason.lower()
    assert widths(*tables(2.0, seeds=1)).verdict == "inconclusive"

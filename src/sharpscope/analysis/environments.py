"""How often a measure gets the sign of a change wrong, one change of one setting at a time; and what it adds to them.

An average over many runs hides where a measure fails. Each change of a single setting, from one value to another with
all else equal, is an *environment* of its own here (Dziugaite, Drouin, Neal, Rajkumar, Caballero, Wang, Mitliagkas &
Roy, *In search of robust measures of generalization*, NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import sqrt

import numpy as np
import pandas as pd

from sharpscope.analysis.granulated import one_factor_pairs
from sharpscope.analysis.resampling import Floats, Integers

WITHIN_NOISE = 2.0
"""A change of the outcome smaller than this many of its standard errors has no sign to get right (Dziugaite et al.
2020 leave out what is within two standard errors)."""


def sign_errors(
    x: Floats, y: Floats, levels: Mapping[str, Integers], rest: Integers, configurations: Integers
) -> pd.DataFrame:
    """Return one row per environment: ``axis``, ``low``, ``high`` (levels), ``pairs``, ``left_out``, ``sign_error``.

    ``x`` is the measure and ``y`` the outcome of each run, ``levels`` the number of each setting's value, ``rest``
    what two runs must share besides to be compared, the seed. A pair is two configurations that differ in the one
    setting alone; its changes are means over the runs of equal ``rest``. The sign error is the share of pairs whose
    changes of x and y have opposite signs, a change of zero in x counting half. Pairs whose change of y is smaller
    than `WITHIN_NOISE` standard errors are left out; the error is that of the runs of one configuration, pooled,
    and where every configuration has one run it is unknown and no pair is left out.

    >>> levels = {"rate": np.array([0, 1, 0, 1]), "batch": np.array([0, 0, 1, 1])}
    >>> x, y = np.array([1.0, 2, 3, 2]), np.array([1.0, 2, 3, 4])
    >>> sign_errors(x, y, levels, np.zeros(4, int), np.arange(4))[["axis", "pairs", "sign_error"]].values.tolist()
    [['rate', 2, 0.5], ['batch', 2, 0.25]]
    """
    noise = _noise(y, configurations)
    rows = []
    for axis, (first, second) in one_factor_pairs(levels, rest).items():
        swap = levels[axis][first] > levels[axis][second]
        first, second = np.where(swap, second, first), np.where(swap, first, second)
        pairs = pd.DataFrame(
            {
                "low": levels[axis][first],
                "high": levels[axis][second],
                "a": configurations[first],
                "b": configurations[second],
                "x": x[second] - x[first],
                "y": y[second] - y[first],
            }
        )
        means = pairs.groupby(["low", "high", "a", "b"], sort=True).agg(
            x=("x", "mean"), y=("y", "mean"), runs=("y", "size")
        )
        error = noise * np.sqrt(2 / means["runs"])
        means["clear"] = (means["y"].abs() >= WITHIN_NOISE * error) & (means["y"] != 0)
        means["wrong"] = (1 - np.sign(means["x"]) * np.sign(means["y"])) / 2
        for _, part in means.groupby(level=["low", "high"]):
            low, high = part.index[0][:2]
            clear = part[part["clear"]]
            rows.append(
                {
                    "axis": axis,
                    "low": int(low),
                    "high": int(high),
                    "pairs": len(clear),
                    "left_out": len(part) - len(clear),
                    "sign_error": float(clear["wrong"].mean()) if len(clear) else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=["axis", "low", "high", "pairs", "left_out", "sign_error"])


def _noise(y: Floats, configurations: Integers) -> float:
    """Return the standard deviation of the runs of one configuration, pooled; zero where it is unknown."""
    _, group = np.unique(configurations, return_inverse=True)
    count = np.bincount(group)
    left = y - (np.bincount(group, y) / count)[group]
    freedom = len(y) - len(count)
    return sqrt(float(left @ left) / freedom) if freedom > 0 else 0.0


def conditional_information(
    x: Floats, y: Floats, levels: Mapping[str, Integers], rest: Integers, at_most: int = 2
) -> float:
    """Return what the sign of a change in x says of that in y beyond any two settings, as a share of what there is.

    Over all pairs of runs of equal ``rest``, V_x and V_y are the signs of their differences and U_S the values that
    the settings in S have in both. The number is the smallest over S of at most two settings of I(V_x; V_y | U_S) /
    H(V_y | U_S): 0 where some two settings explain all of the relation, 1 where x orders the outcomes perfectly
    whatever they are (Jiang, Neyshabur, Mobahi, Krishnan & Bengio, *Fantastic generalization measures*, ICLR 2020,
    equations 6 to 8). It has no sign. NaN where no pair differs in both.

    >>> levels = {"rate": np.array([0, 1, 2, 0, 1, 2]), "batch": np.array([0, 0, 0, 1, 1, 1])}
    >>> y = np.array([1.0, 2, 3, 4, 5, 6])
    >>> conditional_information(y**3, y, levels, np.zeros(6, int))
    1.0
    """
    first, second = np.nonzero(
        (rest[:, None] == rest) & ~np.eye(len(rest), dtype=bool)
    )  # both orders of each pair
    of_x, of_y = np.sign(x[second] - x[first]), np.sign(y[second] - y[first])
    keep = (of_x != 0) & (of_y != 0)
    if not keep.any():
        return float("nan")
    first, second, of_x, of_y = first[keep], second[keep], of_x[keep] > 0, of_y[keep] > 0
    shares = []
    for size in range(min(at_most, len(levels)) + 1):
        for chosen in combinations(levels.values(), size):
            held = np.stack(
                [np.zeros_like(first), *(part[side] for part in chosen for side in (first, second))]
            )
            _, group = np.unique(held, axis=1, return_inverse=True)
            group = group.ravel()
            joint = np.zeros((int(group.max()) + 1, 2, 2))
            np.add.at(joint, (group, of_x.astype(int), of_y.astype(int)), 1.0)
            own = _entropy(joint.sum(axis=1)) - _entropy(joint.sum(axis=(1, 2))[:, None])
            if own > 1e-12:
                given = _entropy(joint.reshape(len(joint), 4)) - _entropy(joint.sum(axis=2))
                shares.append(1 - given / own)
    return float(np.clip(min(shares), 0.0, 1.0)) if shares else float("nan")


def _entropy(counts: Floats) -> float:
    """Return the joint entropy, in nats, of everything that the cells of ``counts`` tell apart."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())

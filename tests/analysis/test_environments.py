"""Signs of changes, one setting at a time, and what a measure says beyond the settings."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from sharpscope.analysis.environments import conditional_information, sign_errors

CELLS = np.array(list(product(range(3), range(2), range(4))))  # rate, batch, seed
LEVELS = {"rate": CELLS[:, 0], "batch": CELLS[:, 1]}
SEED, CONFIGURATION = CELLS[:, 2], CELLS[:, 0] * 2 + CELLS[:, 1]


def test_each_change_of_one_setting_is_an_environment():
    y = CELLS[:, 0] + 10.0 * CELLS[:, 1]
    found = sign_errors(y, y, LEVELS, SEED, CONFIGURATION)
    assert found[["axis", "low", "high", "pairs"]].values.tolist() == [
        ["rate", 0, 1, 2],
        ["rate", 0, 2, 2],
        ["rate", 1, 2, 2],
        ["batch", 0, 1, 3],
    ]
    assert (found["sign_error"] == 0).all()
    assert (sign_errors(-y, y, LEVELS, SEED, CONFIGURATION)["sign_error"] == 1).all()
    assert (sign_errors(0 * y, y, LEVELS, SEED, CONFIGURATION)["sign_error"] == 0.5).all()


def test_a_good_average_may_hide_an_environment_in_which_the_measure_always_fails():
    y = CELLS[:, 0] + 10.0 * CELLS[:, 1]
    x = -1.0 * CELLS[:, 0] + 10.0 * CELLS[:, 1]
    found = sign_errors(x, y, LEVELS, SEED, CONFIGURATION).set_index("axis")["sign_error"]
    assert (found["rate"] == 1).all()
    assert found["batch"] == 0


def test_changes_within_the_noise_are_left_out():
    draw = np.random.default_rng(0)
    y = 10.0 * CELLS[:, 1] + draw.normal(size=len(CELLS))  # the rate does nothing
    found = sign_errors(-y, y, LEVELS, SEED, CONFIGURATION).set_index("axis")
    assert found.loc["rate", "left_out"].sum() >= 4
    assert found.loc["batch", "left_out"] == 0
    one = SEED == 0  # with one seed the noise is unknown
    levels = {name: values[one] for name, values in LEVELS.items()}
    assert sign_errors(-y[one], y[one], levels, SEED[one], CONFIGURATION[one])["left_out"].sum() == 0


def test_noise_is_two_standard_errors_of_a_difference_of_means():
    y = np.array([0.0, 2.0, 1.0, 3.0])  # a change of one, standard deviation √2
    rate, seed = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    left_out = [
        int(sign_errors(y, y + by * rate, {"rate": rate}, seed, rate)["left_out"][0]) for by in (1.8, 1.9)
    ]
    assert left_out == [1, 0]  # two standard errors are 2 √(2·2/2) = 2.83


def test_information_given_two_settings_is_sklearns():
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(2, len(CELLS)))
    y = y + x
    pairs = [(i, j) for i in range(24) for j in range(24) if i != j and SEED[i] == SEED[j]]
    first, second = np.array(pairs).T
    a, b = x[first] > x[second], y[first] > y[second]
    shares = []
    for held in ((), ("rate",), ("batch",), ("rate", "batch")):
        key = [tuple(LEVELS[h][end] for h in held for end in pair) for pair in pairs]
        groups = [[i for i, other in enumerate(key) if other == k] for k in set(key)]
        mutual = sum(len(rows) * mutual_info_score(a[rows], b[rows]) for rows in groups)
        entropy = sum(len(rows) * mutual_info_score(b[rows], b[rows]) for rows in groups)
        shares.append(mutual / entropy)
    assert conditional_information(x, y, LEVELS, SEED) == pytest.approx(min(shares))


def test_what_the_settings_explain_is_no_information():
    draw = np.random.default_rng(2)
    x, y = (CELLS[:, 0] + 0.5 * CELLS[:, 1] + 1e-9 * draw.normal(size=24) for _ in "xy")
    assert conditional_information(y, y, LEVELS, SEED) != 0
    assert np.isnan(conditional_information(0 * x, y, LEVELS, SEED))
    assert conditional_information(x, y, {"rate": LEVELS["rate"]}, SEED) == pytest.approx(
        1
    )  # the batch is left
    noisy = y + 0.7 * draw.normal(size=24)
    explained = [conditional_information(x, noisy, held, SEED) for held in ({}, LEVELS)]
    assert explained[1] < 0.5 * explained[0]

from __future__ import annotations

import numpy as np
import pytest

from oracles.dense import dense
from problems import PROBLEMS, Problem
from sharpscope import InputError, spectral_density


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_moments_agree_with_the_dense_spectrum(problem: Problem) -> None:
    obj = problem.objective()
    spectrum = np.linalg.eigvalsh(dense(obj)[2].numpy())
    density = spectral_density(obj, probes=20, steps=12)
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-9)
    for power in (1, 2, 3):
        mean, stderr = density.moment(power)
        exact = float((spectrum**power).mean())
        assert abs(mean - exact) <= 4.5 * stderr + 1e-9 * np.abs(spectrum).max() ** power


def test_the_density_integrates_to_one_and_has_a_band() -> None:
    obj = PROBLEMS[2].objective()
    density = spectral_density(obj, probes=5, steps=25)
    grid, mean, error = density.on_grid()
    assert float(mean.sum() * (grid[1] - grid[0])) == pytest.approx(1, abs=1e-3)
    assert (error >= 0).all()
    assert error.max() > 0
    assert density.products == 5 * 25


def test_probe_i_is_its_own() -> None:
    obj = PROBLEMS[2].objective()
    few, many = spectral_density(obj, probes=2, steps=8), spectral_density(obj, probes=4, steps=8)
    np.testing.assert_array_equal(few.nodes, many.nodes[:2])
    with pytest.raises(InputError, match="at least 2"):
        spectral_density(obj, probes=1)

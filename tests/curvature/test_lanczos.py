"""Lanczos with full reorthogonalisation."""

from __future__ import annotations

import numpy as np
import torch

from sharpscope.curvature.lanczos import Krylov, lanczos


def test_lanczos_basis_is_orthonormal_over_many_steps() -> None:
    matrix = torch.diag(torch.logspace(0, -8, 150, dtype=torch.float64))
    krylov = lanczos(
        lambda v: matrix @ v, torch.ones(150, dtype=torch.float64), 150, lambda: torch.randn(150).double()
    )
    torch.testing.assert_close(
        krylov.basis @ krylov.basis.T, torch.eye(150, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_a_run_off_given_vectors_sees_the_rest_alone() -> None:
    g = torch.Generator().manual_seed(0)
    values = torch.tensor([9.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    beside = torch.eye(5, dtype=torch.float64)[:1]
    krylov = Krylov(torch.randn(5, generator=g, dtype=torch.float64), beside)
    while not krylov.closed:
        krylov.extend(values * krylov.following)
    np.testing.assert_allclose(krylov.ritz()[0], [1, 2, 3, 4], rtol=1e-12)


def test_multiple_eigenvalues_are_found_by_going_on_where_the_space_closes() -> None:
    g = torch.Generator().manual_seed(0)
    values = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    fresh = lambda: torch.randn(5, generator=g, dtype=torch.float64)  # noqa: E731
    krylov = lanczos(lambda v: values * v, fresh(), 5, fresh)
    np.testing.assert_allclose(krylov.ritz()[0], [1, 1, 2, 2, 2], rtol=1e-12)

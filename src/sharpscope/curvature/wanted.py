"""Which eigenvalues a search is for, and what it knows of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""Maps a vector (n,) or the rows of a block (b, n) to their images."""

Array = NDArray[np.float64]
Which = Literal["largest", "smallest", "magnitude", "both"]
Outcome = Literal["running", "finished", "limited by precision", "out of products"]


ROUNDING, ROUNDING_OF_SMALL = 10, 64
"""Multiples of the epsilon in use, and of float64's, times ‖A‖ below which no error is claimed: what products and
what small dense matrices leave unknown. With 10 of float64's alone one claim of seventy on matrices of 60 and 300 was
off, by 1e-15."""

SUMMED = 0.125
"""Multiple of epsilon for every sample whose products are summed one after another. Terms of one size are rounded
alike: sums of up to 8192 constants on a CPU were off by up to 0.124 a term in either precision, where matrices are
narrow; with 64 inputs and 32 outputs by 17 in all."""


def rounding(epsilon: float, norm: float, summed: int = 0) -> float:
    """Return what is unknown of eigenvalues of a matrix of this norm in this precision, see `ROUNDING`, `SUMMED`."""
    products = (ROUNDING + SUMMED * summed) * epsilon
    return (products + ROUNDING_OF_SMALL * float(np.finfo(np.float64).eps)) * norm


@dataclass(frozen=True)
class Wanted:
    """What is sought: ``k`` eigenvalues of an end, of each of both ends, or of the largest magnitude."""

    k: int
    which: Which
    tol: float
    confidence: float

    @property
    def ends(self) -> tuple[float, ...]:
        """The direction signs of the ends looked at: the largest eigenvalues of sign · A."""
        return {"largest": (1.0,), "smallest": (-1.0,), "magnitude": (1.0, -1.0), "both": (1.0, -1.0)}[
            self.which
        ]

    def chosen(self, ritz: Array) -> dict[float, NDArray[np.intp]]:
        """Return the indices of the wanted Ritz values, outermost first, by end; ``ritz`` is ascending."""
        ascending = np.arange(len(ritz))
        outermost = {1.0: ascending[::-1], -1.0: ascending}
        if self.which != "magnitude":
            return {end: outermost[end][: self.k] for end in self.ends}
        largest = set(np.argsort(-np.abs(ritz), kind="stable")[: self.k].tolist())
        return {
            end: np.array(
                [i for i in outermost[end] if i in largest and (end > 0) == (ritz[i] >= 0)], dtype=int
            )
            for end in self.ends
        }


@dataclass(frozen=True)
class Assessment:
    """What is known of the wanted values: Ritz values and how far each eigenvalue may lie beyond, with confidence."""

    values: Array
    """Ritz values (w,), the outermost of each end first; for the magnitude the largest first."""
    coefficients: Array
    """Their vectors in the basis [U, V] as columns (j + m, w)."""
    residuals: Array
    errors: Array
    confidence: float
    enough: bool
    """Whether as many as wanted are known and every error is within what is asked, or what precision allows."""
    accurate: bool
    """Whether the residuals are small enough for the Ritz vectors to be deflated."""
    in_reach: bool
    """Whether this run can end with a certificate: not where it has found more than one of the wanted itself."""

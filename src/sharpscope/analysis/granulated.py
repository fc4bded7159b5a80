"""Kendall's τ_b along one hyperparameter at a time, averaged over the hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sharpscope.analysis.resampling import Floats, Integers


class Granulated:
    """Granulated Kendall coefficients of x and y, under any resampling of clusters.

    A plain rank correlation over a grid may owe everything to one hyperparameter that moves both quantities. For each
    factor i the coefficient ψ_i is therefore τ_b over those pairs of runs alone that differ in factor i and in
    nothing else, and Ψ = mean_i ψ_i (Jiang, Neyshabur, Mobahi, Krishnan & Bengio, *Fantastic generalization
    measures and where to find them*, ICLR 2020, equations 4 and 5). There ψ_i is the mean of τ over the lines of a
    full grid along factor i; here the pairs of all lines are put together, which is the same where the lines are
    equally long and have no ties, and needs no full grid.

    ``pairs``: factor → two arrays of rows, the pairs that differ in that factor alone (see `one_factor_pairs`).

    >>> x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 1, 2])     # y follows the rate, not the batch
    >>> pairs = {"rate": (np.array([0, 2]), np.array([1, 3])), "batch": (np.array([0, 1]), np.array([2, 3]))}
    >>> psi = Granulated(x, y + 0.1 * np.array([1, 0, 0, 1]), np.arange(4), pairs)
    >>> psi.along(np.ones((1, 4)))["rate"], psi.along(np.ones((1, 4)))["batch"], psi(np.ones((1, 4)))
    (array([1.]), array([0.]), array([0.5]))
    """

    def __init__(
        self, x: Floats, y: Floats, labels: Integers, pairs: Mapping[str, tuple[Integers, Integers]]
    ) -> None:
        k = int(labels.max()) + 1
        self._forms: dict[str, Floats] = {}
        for factor, (first, second) in pairs.items():
            sign_x, sign_y = (np.sign(values[second] - values[first]) for values in (x, y))
            form = np.zeros((3, k, k))
            for part, terms in zip(form, (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y)), strict=True):
                np.add.at(part, (labels[first], labels[second]), terms)
            self._forms[factor] = form

    def along(self, counts: Floats) -> dict[str, Floats]:
        """Return ψ of every factor for each resample, NaN where it has no pair untied in both."""
        found = {}
        for factor, form in self._forms.items():
            agreement, untied_x, untied_y = (((counts @ part) * counts).sum(axis=1) for part in form)
            scale = np.sqrt(untied_x * untied_y)
            psi = np.full(len(counts), np.nan)
            np.divide(agreement, scale, out=psi, where=scale > 0)
            found[factor] = np.clip(psi, -1.0, 1.0)
        return found

    def __call__(self, counts: Floats) -> Floats:
        """Return Ψ of each resample: the mean of ψ over the factors that have one there."""
        along = self.along(counts)
        if not along:
            return np.full(len(counts), np.nan)
        psi = np.stack(list(along.values()))  # (factors, r)
        there = np.isfinite(psi)
        found = np.full(len(counts), np.nan)
        np.divide(
            np.where(there, psi, 0.0).sum(axis=0), there.sum(axis=0), out=found, where=there.any(axis=0)
        )
        return found


def one_factor_pairs(factors: Mapping[str, Integers], rest: Integers) -> dict[str, tuple[Integers, Integers]]:
    """Return, per factor, the pairs of rows that differ in it and agree in every other and in ``rest``.

    ``factors``: name → the level of each row; ``rest``: what must be equal besides, such as the seed. A factor
    without such a pair is left out.

    >>> levels = {"rate": np.array([0, 1, 0, 1]), "batch": np.array([0, 0, 1, 1])}
    >>> pairs = one_factor_pairs(levels, np.zeros(4, dtype=int))
    >>> [(first.tolist(), second.tolist()) for first, second in pairs.values()]
    [([0, 2], [1, 3]), ([0, 1], [2, 3])]
    """
    found = {}
    for factor, level in factors.items():
        others = np.stack([rest, *(other for name, other in factors.items() if name != factor)])
        _, line = np.unique(others, axis=1, return_inverse=True)
        parts = []
        for members in _members(line.ravel()):
            first, second = (members[index] for index in np.triu_indices(len(members), 1))
            apart = level[first] != level[second]
            parts.append((first[apart], second[apart]))
        first, second = (np.concatenate(side) for side in zip(*parts, strict=True))
        if len(first):
            found[factor] = (first, second)
    return found


def _members(labels: Integers) -> list[Integers]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)

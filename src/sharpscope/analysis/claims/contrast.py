"""Linear contrasts of y within seeds: slopes and their sums, with an interval that suits the number of seeds.

The grid of settings is chosen and not drawn, so that chance lies in the seeds alone. A *block* is a seed, or a seed
and stratum; what all its runs share (the seed's initial weights and order of data) is taken out by an intercept per
block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import sqrt

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.confidence import Student
from sharpscope.analysis.claims.estimate import Estimated, student, with_error
from sharpscope.analysis.claims.finding import Relation
from sharpscope.analysis.claims.selection import Selected, labels
from sharpscope.analysis.claims.verdict import NAN
from sharpscope.analysis.resampling import Floats, Integers

FEW_SEEDS = 5
"""Up to this many seeds Student's distribution of the seeds' own slopes has few degrees of freedom, and the error is
pooled over settings and seeds unless the slopes differ much."""

POOL_UNLESS_FEW = 0.1
POOL_UNLESS = 0.25
"""The error is pooled unless the slopes differ between seeds at this level, the former up to `FEW_SEEDS` seeds.
Bancroft advises .25 (*Analysis and inference for incompletely specified models*, Biometrics 20, 1964). With .25 three
seeds would decide .37 of cases with three settings and a rise of two standard deviations, and five seeds .70; with .1
they decide .43 and .75 (``benchmarks/verdicts.py``). The price is coverage where slopes vary twice as much as the
noise: 91 % instead of 93. Not much is left to gain: of all intervals around the mean whose width depends on the two
mean squares and which hold in 93 % of cases whatever the slopes, the best decides .41 with three seeds and .75 with
five (by linear programming)."""

SEEDS_DIFFER = 0.3
"""What a seed does alike to all models of a `bound`, or to all settings of a `curve`, enters degrees of freedom where
it is found at this level. Entered wherever the mean square is the larger one, intervals from two or three seeds cover
97.7 to 98 % if there is nothing; at .25 those of eight models and three seeds cover 94.7 if there is something
(``benchmarks/verdicts.py``)."""

UNEQUAL_FEW = {2: 0.25, 3: 0.1}
"""By the number of seeds: where the settings' noises are found unequal at this level, an interval is the wider of
that of the pooled noise and that of the seeds' own coefficients. Where noise is equal, three seeds then decide .405
of cases instead of .43; were there a level for five, say .05, these would decide .745 instead of .75
(``benchmarks/verdicts.py``)."""

UNEQUAL = 0.01
"""Found at this level, it is that of the seeds' own coefficients, also where it is narrower. Pooled alone, a trend of
six settings one of which is ten times as noisy covers 77, 82 and 90 % with 2, 3 and 5 seeds; so 88, 93 and 94."""

DRAWS = 399
"""Draws of equal noise with which the test for unequal noises is made; fewer where there are many rows."""

MOST_DRAWN = 2_000_000
"""Numbers that these draws have at most."""


@dataclass(frozen=True)
class Noise:
    """The variance of runs about the means of setting and block, pooled over settings, and its degrees of freedom.

    ``unequal``: the p-value of Cochran's C, the largest share that a setting has of all residuals, for equal noise in
    all settings (*The distribution of the largest of a set of estimated variances as a fraction of their total*,
    Annals of Eugenics 11, 1941); its null distribution is drawn.
    """

    variance: float
    freedom: int
    unequal: float = 1.0

    def choose(self, pooled: Estimated, own: Estimated) -> Estimated:
        """Return which of two estimates holds: with the pooled noise, or from the seeds' own values alone."""
        if self.unequal < UNEQUAL:
            return own
        if self.unequal >= UNEQUAL_FEW.get(own.clusters, 0.0):
            return pooled
        (low, high), (own_low, own_high) = pooled.interval(0.95), own.interval(0.95)
        return own if own_high - own_low > high - low else pooled


@dataclass(frozen=True)
class Design:
    """The rows of a contrast: regressors and y, and what each row belongs to.

    ``columns``: (n, p) regressors. ``blocks`` share an intercept, and each lies within one of the ``seeds``.
    ``settings``: equal for runs that differ in their seed alone. ``separate``: whether each row is a run of its
    own, so that residuals may be pooled over rows; the epochs of one run are not independent of one another.
    """

    columns: Floats
    y: Floats
    blocks: Integers
    seeds: Integers
    settings: Integers
    separate: bool = True


def coefficient(design: Design, weights: Floats, noise: Noise | None = None) -> Estimated:
    """Return the combination ``weights``, (p,), of the least-squares coefficients of y, one intercept per block.

    - One seed: no interval.
    - Where the seeds' own coefficients differ no more than the residual explains: the coefficients of all rows
      together. Their error is that of `pooled_noise`, with Student's distribution, or of ``noise`` where it is given.
      Where that is unequal among settings, the seeds' own coefficients are the sample (`Noise.choose`).
    - Where they differ more (an F test at `POOL_UNLESS_FEW` or `POOL_UNLESS`): the mean of the seeds' own
      coefficients, each weighted by its precision. Its error is their weighted variance, seeds - 1 degrees of
      freedom (Hartung & Knapp, Statistics in Medicine 20, 2001).

    >>> x, y = np.array([0.0, 1, 2, 0, 1, 2]), np.array([0.0, 1, 2.5, 5, 6.5, 7])
    >>> seeds = np.repeat([0, 1], 3)
    >>> found = coefficient(Design(x[:, None], y, seeds, seeds, np.tile([0, 1, 2], 2)), np.ones(1))
    >>> round(found.value, 3), [round(end, 2) for end in found.interval(0.95)]
    (1.125, [0.36, 1.89])
    """
    x, y = centred(design.columns, design.blocks), centred(design.y, design.blocks)
    own, factors = _of_each_seed(x, y, design.seeds, weights)
    known = np.isfinite(own)
    own, factors = own[known], factors[known]
    k = len(own)
    if k == 0:
        return Estimated(NAN, 0)
    if k == 1 or not design.separate:
        return student(own)
    residual = pooled_noise(design) if noise is None else noise
    variance, freedom = residual.variance, residual.freedom
    if freedom < 1:
        return student(own)
    gram = x.T @ x
    solved = np.linalg.pinv(gram, hermitian=True) @ weights
    together, factor = float(solved @ (x.T @ y)), float(solved @ gram @ solved)
    if abs(together) <= 1e-12 * float(np.abs(design.y).max() * np.abs(x @ solved).sum()):
        together = 0.0  # a constant y, but for rounding
    pooled = with_error(together, k, Student(together, sqrt(variance * factor), freedom), own)
    pooled = residual.choose(pooled, student(own))
    if noise is None:
        slopes = _indicators(design.seeds)[:, :, None] * design.columns[:, None, :]  # (n, k, p)
        without, left = _residual(design, slopes.reshape(len(y), -1))
    else:  # of the noise that was given, the part that is not the spread of these coefficients
        weight = 1 / factors
        spread = float(weight @ (own - weight @ own / weight.sum()) ** 2)
        without, left = max(variance * freedom - spread, 0.0), freedom - (k - 1)
    level = POOL_UNLESS_FEW if k <= FEW_SEEDS else POOL_UNLESS
    if not 0 < left < freedom:
        return pooled
    square = (variance * freedom - without) / (freedom - left)
    if not differ(square, freedom - left, without / left, left, level):
        return pooled
    return _random(own, factors, without / left)


def pooled_noise(design: Design) -> Noise:
    """Return the residual variance of a mean per setting and an intercept per block, and its degrees of freedom.

    The freedom is (settings - 1)(seeds - 1) where every seed ran every setting. The settings' means may have any
    shape, so that a curve in them is not taken for noise. Spreads beneath 1e-12 of y's size are rounding and zero.
    """
    names = (np.asarray(one, dtype=np.int64).tobytes() for one in (design.blocks, design.settings))
    basis, shares, drawn = _equal_noise(
        *names, np.asarray(design.columns, dtype=np.float64).tobytes(), len(design.y)
    )
    freedom = len(design.y) - len(np.unique(design.blocks)) - basis.shape[1]
    if freedom < 1:
        return Noise(NAN, 0)
    y = centred(design.y, design.blocks)
    residuals = y - basis @ (basis.T @ y)
    variance = float(residuals @ residuals) / freedom
    if sqrt(variance) <= 1e-12 * float(np.abs(design.y).max()):
        return Noise(0.0, freedom)
    largest = _largest_share(residuals / np.abs(residuals).max(), design.settings, shares)
    return Noise(variance, freedom, (1 + int((drawn >= largest * (1 - 1e-9)).sum())) / (1 + len(drawn)))


def _random(own: Floats, factors: Floats, residual: float) -> Estimated:
    """Return the weighted mean of the seeds' coefficients with their weighted variance.

    ``factors`` times ``residual`` are the variances that the residual alone gives them. The variance between seeds is
    that of DerSimonian & Laird (Controlled Clinical Trials 7, 1986).
    """
    k = len(own)
    weight = 1 / factors
    spread = float((weight * (own - (weight @ own) / weight.sum()) ** 2).sum())
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(0.0, (spread - (k - 1) * residual) / scale) if scale > 0 else 0.0
    weight = 1 / (between + factors * residual)
    mean = float(weight @ own / weight.sum())
    error = sqrt(float(weight @ (own - mean) ** 2) / ((k - 1) * float(weight.sum())))
    return with_error(mean, k, Student(mean, error, k - 1), own)


def differ(square: float, freedom: float, residual: float, left: float, level: float) -> bool:
    """Return whether a mean square with ``freedom`` is larger than the residual's with ``left``: an F test at level.

    >>> differ(4.0, 2, 1.0, 4, 0.25), differ(4.0, 2, 1.0, 4, 0.1)
    (True, False)
    """
    from scipy.special import fdtrc

    if residual <= 0:
        return square > 0
    return bool(fdtrc(freedom, left, max(square, 0.0) / residual) < level)


def _of_each_seed(x: Floats, y: Floats, seeds: Integers, weights: Floats) -> tuple[Floats, Floats]:
    """Return each seed's combination of coefficients and its variance factor, NaN where its runs fix none."""
    of_seed = _indicators(seeds)  # (n, k)
    scale = np.sqrt(of_seed.T @ x**2)  # (k, p)
    found, factors = np.full((2, len(scale)), NAN)
    known = np.asarray((scale >= 1e-9).all(axis=1))
    scaled_x = x / np.where(known[:, None], scale, 1.0)[of_seed.argmax(axis=1)]
    gram = np.einsum("nk,np,nq->kpq", of_seed, scaled_x, scaled_x)  # (k, p, p)
    known &= np.linalg.eigvalsh(gram)[:, 0] > 1e-12
    wanted = weights / scale[known]  # (k, p)
    solved = np.linalg.solve(gram[known], wanted[:, :, None])[:, :, 0]
    found[known] = (solved * (of_seed.T @ (scaled_x * y[:, None]))[known]).sum(axis=1)
    factors[known] = (solved * wanted).sum(axis=1)
    return found, factors


def _residual(design: Design, columns: Floats) -> tuple[float, int]:
    """Return the residual sum of squares of y on blocks, settings and columns, and its degrees of freedom."""
    x = _regressors(design.blocks, design.settings, columns)
    y = centred(design.y, design.blocks)
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-9)
    left = y - x @ solution
    return float(left @ left), len(y) - len(np.unique(design.blocks)) - int(rank)


def _regressors(blocks: Integers, settings: Integers, columns: Floats) -> Floats:
    """Return the indicators of settings and the columns, less their blocks' means, each of size 1; (n, p)."""
    x = centred(np.hstack([_indicators(settings), columns]), blocks)
    size = np.abs(x).max(axis=0)
    return np.asarray(x[:, size > 1e-12] / size[size > 1e-12])


@lru_cache(maxsize=8)  # a basis of ten thousand runs takes 80 MB
def _equal_noise(blocks: bytes, settings: bytes, columns: bytes, n: int) -> tuple[Floats, Floats, Floats]:
    """Return what residuals and the test for equal noise need that does not depend on y.

    A basis of the regressors, (n, p); the expected share of each setting in the residuals, (settings,); and the
    `_largest_share` of `DRAWS` draws of equal noise, (draws,), none where the residuals say nothing of it.
    """
    block, setting = (np.frombuffer(one, dtype=np.int64) for one in (blocks, settings))
    x = _regressors(block, setting, np.frombuffer(columns, dtype=np.float64).reshape(n, -1))
    left, size, _ = np.linalg.svd(x, full_matrices=False)
    basis = left[:, size > 1e-9 * size.max(initial=0.0)]
    place = np.unique(block, return_inverse=True)[1]
    shares = _indicators(setting).T @ (1 - 1 / np.bincount(place)[place] - (basis**2).sum(axis=1))
    if (shares > 1e-9).sum() < 3:  # the residuals of two settings mirror each other
        return basis, shares, np.empty(0)
    z = centred(np.random.default_rng(0).standard_normal((n, min(DRAWS, MOST_DRAWN // n))), block)
    return basis, shares, _largest_share(z - basis @ (basis.T @ z), setting, shares)


def _largest_share(residuals: Floats, settings: Integers, shares: Floats) -> Floats:
    """Return the largest mean square of a setting's residuals, (n,) or (n, draws), over the sum of all squares."""
    found = _indicators(settings).T @ residuals**2  # (settings,) or (settings, draws)
    known = shares > 1e-9
    largest = (found[known].T / shares[known]).max(axis=-1, initial=0.0)
    return np.asarray(largest / found.sum(axis=0), dtype=np.float64)


def _indicators(names: Integers) -> Floats:
    present, index = np.unique(names, return_inverse=True)
    return np.asarray(np.eye(len(present))[index], dtype=np.float64)


def steps(design: Design, x: Floats) -> list[tuple[float, float, Estimated]]:
    """Return, for each two neighbouring values of x, both values and the change of y from the one to the other.

    The change is that of the runs at these two values alone; its error is that of the whole design, unless the
    seeds' own changes differ by more.
    """
    values = np.unique(x)
    noise = pooled_noise(design)
    found = []
    for low, high in pairwise(values):
        here = (x == low) | (x == high)
        part = Design(
            (x[here] == high).astype(np.float64)[:, None],
            design.y[here],
            design.blocks[here],
            design.seeds[here],
            design.settings[here],
            design.separate,
        )
        found.append((float(low), float(high), coefficient(part, np.ones(1), noise)))
    return found


def scaled(values: Floats, expression: str) -> tuple[Floats, bool]:
    """Return the base-10 logarithm of positive values and True, or the values themselves and False.

    What the expression already gives as a logarithm is left as it is.

    >>> scaled(np.array([0.1, 10.0]), "lr")
    (array([-1.,  1.]), True)
    >>> scaled(np.array([2.0, 3.0]), "log10(batch_size)")
    (array([2., 3.]), False)
    """
    if (values > 0).all() and not expression.lstrip().startswith(("log(", "log10(")):
        return np.log10(values), True
    return values, False


def centred(values: Floats, blocks: Integers) -> Floats:
    """Return the values, (n,) or (n, p), less the mean of their block."""
    _, block = np.unique(blocks, return_inverse=True)
    count = np.bincount(block)
    if values.ndim == 1:
        return np.asarray(values - (np.bincount(block, values) / count)[block], dtype=np.float64)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, block, values)
    return np.asarray(values - (sums / count[:, None])[block], dtype=np.float64)


def related(claim: BaseClaim, chosen: Selected, within: list[str]) -> Relation:
    """Return the two chosen columns as a relation within clusters and strata."""
    x, y = chosen.columns
    clusters = labels(chosen.rows, [claim.cluster])
    return Relation(chosen.rows, x, y, labels(chosen.rows, [claim.cluster, *within]), clusters)


def design_of(relation: Relation, columns: Floats, y: Floats) -> Design:
    """Return the design of a relation: its settings are the configurations of its rows."""
    rows = relation.rows
    separate = not rows["run_id"].duplicated().any()
    return Design(columns, y, relation.blocks, relation.clusters, labels(rows, ["configuration"]), separate)


def without_trend(x: str, y: str, cluster: str, relation: Relation) -> str:
    """Return why no seed and stratum has a trend."""
    spans = [np.ptp(relation.x[relation.blocks == block]) for block in np.unique(relation.blocks)]
    if max(spans) > 0:
        return f"{y} is the same at every value of {x}"
    return f"no {cluster} was run at two values of {x} with the rest equal"

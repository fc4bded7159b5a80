"""How each measure correlates with each outcome, with p-values and intervals that respect the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpscope.analysis.partial_correlation import Partial, partial_p_value
from sharpscope.analysis.rank_correlation import METHODS, Coefficient
from sharpscope.analysis.resampling import (
    FEWEST_CLUSTERS,
    Floats,
    Integers,
    percentile_interval,
    resample_counts,
)
from sharpscope.analysis.tables import RUN_COLUMNS, finished, measure_names, require_columns, wide_measures
from sharpscope.errors import InputError

COLUMNS = (
    "measure",
    "target",
    "given",
    "method",
    "value",
    "low",
    "high",
    "p_value",
    "p_clustered",
    "n",
    "clusters",
    "excluded",
    "note",
)
"""The columns of a table of correlations."""

TARGETS = ("test_loss", "gap")
"""The outcomes correlated unless others are named: test loss, and the gap test loss - training loss."""


def correlations(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    targets: Sequence[str] = TARGETS,
    methods: Sequence[str] = ("kendall", "spearman", "pearson"),
    *,
    cluster: str = "configuration",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the correlation of every measure with every target, one row each per method.

    Columns: ``measure``, ``target``, ``given`` (empty here), ``method``, ``value``; ``low`` and ``high``, the
    bootstrap interval over clusters (`percentile_interval`); ``p_value``, SciPy's two-sided p-value of the n
    rows, which *assumes the rows independent* and is too small where seeds share a configuration;
    ``p_clustered``, the same test on the clusters' means, which does not; ``n`` rows used, ``clusters`` they
    form, ``excluded`` rows without a finite pair or diverged, and ``note``, in words, where something is
    missing or odd.

    ``cluster`` names the column of ``runs`` whose values are resampled whole. Where all runs share one
    configuration (fifty seeds of one setting, as in hammoud2023) the runs themselves are independent, and
    they are what is resampled. Raises `InputError` for an unknown method or a missing column.

    >>> runs = pd.DataFrame({"run_id": list("abcd"), "configuration": list("abcd"), "status": "finished",
    ...                      "test_loss": [1.0, 2.0, 3.0, 4.0]})
    >>> long = pd.DataFrame({"run_id": list("abcd"), "measure": "trace", "value": [1.0, 3.0, 2.0, 4.0]})
    >>> found = correlations(runs, long, ["test_loss"], ["kendall"], resamples=100)
    >>> round(float(found["value"][0]), 3), int(found["clusters"][0])
    (0.667, 4)
    """
    rows = _rows(runs, measures, targets, methods, None, cluster, level, resamples, seed)
    return _table(rows)


def partial_correlations(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    targets: Sequence[str] = TARGETS,
    methods: Sequence[str] = ("kendall", "spearman"),
    *,
    given: str = "train_loss",
    cluster: str = "configuration",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the correlation of every measure with every target, the column ``given`` held fixed.

    The control that belongs beside every correlation of sharpness: models that stopped at different training
    losses differ in sharpness for that reason alone. The columns are those of `correlations`, ``given``
    filled in; the p-values are those of `partial_p_value`.
    """
    rows = _rows(runs, measures, targets, methods, given, cluster, level, resamples, seed)
    return _table(rows)


def _table(rows: Iterator[tuple[object, ...]]) -> pd.DataFrame:
    """Return the rows as a table whose columns have their kind even where there are no rows."""
    numbers = dict.fromkeys(("value", "low", "high", "p_value", "p_clustered"), float)
    counts = dict.fromkeys(("n", "clusters", "excluded"), int)
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype({**numbers, **counts})


@dataclass(frozen=True)
class _Sample:
    """The finite rows of one measure and one target, and the cluster of each."""

    x: Floats
    y: Floats
    z: Floats | None
    labels: Integers

    @property
    def clusters(self) -> int:
        return int(self.labels.max()) + 1 if len(self.labels) else 0

    def coefficient(self, method: str) -> Coefficient:
        if self.z is None:
            return METHODS[method](self.x, self.y, self.labels)
        return Partial(method, self.x, self.y, self.z, self.labels)

    def means(self) -> _Sample:
        """Return the clusters' means, one row per cluster."""
        size = np.bincount(self.labels)
        x, y = (np.bincount(self.labels, weights=sample) / size for sample in (self.x, self.y))
        z = None if self.z is None else np.bincount(self.labels, weights=self.z) / size
        return _Sample(x, y, z, np.arange(len(size)))


def _rows(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    targets: Sequence[str],
    methods: Sequence[str],
    given: str | None,
    cluster: str,
    level: float,
    resamples: int,
    seed: int,
) -> Iterator[tuple[object, ...]]:
    for method in methods:
        if method not in METHODS:
            raise InputError(f"a correlation is one of {', '.join(METHODS)}, got {method!r}")
    held = [] if given is None else [given]
    require_columns(runs, [*RUN_COLUMNS, cluster, *targets, *held], "runs")
    wide = wide_measures(runs, measures)
    usable = finished(runs).to_numpy()
    for measure in measure_names(measures):
        for target in targets:
            names = [target, *held]
            columns = [wide[measure].to_numpy()]
            columns += [pd.to_numeric(runs[name]).to_numpy(dtype=float) for name in names]
            keep = usable & np.isfinite(np.stack(columns)).all(axis=0)
            groups = runs.loc[keep, cluster]
            labels = pd.factorize(groups)[0].astype(np.int64)
            if len(labels) and labels.max() == 0:
                labels = np.arange(len(labels))
            x, y, *z = (column[keep] for column in columns)
            sample = _Sample(x, y, z[0] if z else None, labels)
            excluded = len(runs) - int(keep.sum())
            for method in methods:
                found = _estimate(sample, method, level, resamples, seed)
                value, low, high, p_value, p_clustered, note = found
                yield (
                    *(measure, target, given or "", method, value, low, high, p_value, p_clustered),
                    *(len(x), sample.clusters, excluded, note),
                )


def _estimate(
    sample: _Sample, method: str, level: float, resamples: int, seed: int
) -> tuple[float, float, float, float, float, str]:
    """Return value, low, high, p_value, p_clustered and note of one sample."""
    nothing = (float("nan"),) * 5
    n, k = len(sample.x), sample.clusters
    if n < 3:
        return *nothing, f"only {n} finite pair{'' if n == 1 else 's'}: no correlation"
    for values, what in ((sample.x, "measure"), (sample.y, "target"), (sample.z, "control")):
        if values is not None and np.ptp(values) == 0:
            return *nothing, f"constant {what}"
    coefficient = sample.coefficient(method)
    value = float(coefficient(np.ones((1, k)))[0])
    if not np.isfinite(value):
        return *nothing, "the control ranks the runs exactly as the measure or the target does"
    p_value = _p_value(sample, method, value)
    p_clustered = p_value if n == k else _p_of_means(sample, method)
    if k < FEWEST_CLUSTERS:
        nan = float("nan")
        return value, nan, nan, p_value, p_clustered, f"{k} configurations are too few for an interval"
    low, high = percentile_interval(coefficient(resample_counts(k, resamples, seed)), k, level)
    note = "" if np.isfinite(low) else "too few resamples with a value for an interval"
    return value, low, high, p_value, p_clustered, note


def _p_value(sample: _Sample, method: str, value: float) -> float:
    """Return the two-sided p-value that takes the rows for independent."""
    from scipy import stats

    if sample.z is not None:
        return partial_p_value(method, value, len(sample.x))
    test = {"kendall": stats.kendalltau, "spearman": stats.spearmanr, "pearson": stats.pearsonr}[method]
    return float(test(sample.x, sample.y).pvalue)


def _p_of_means(sample: _Sample, method: str) -> float:
    """Return the p-value of the clusters' means, independent of one another where the rows are not."""
    means = sample.means()
    controls = [] if means.z is None else [means.z]
    if len(means.x) < 3 or any(np.ptp(values) == 0 for values in (means.x, means.y, *controls)):
        return float("nan")
    value = float(means.coefficient(method)(np.ones((1, len(means.x))))[0])
    return _p_value(means, method, value)

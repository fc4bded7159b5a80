"""A league table: how well each measure predicts an outcome over a pool of runs, with and without the control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sharpscope.analysis.granulated import Granulated, one_factor_pairs
from sharpscope.analysis.partial_correlation import Partial
from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.resampling import Flags, Floats, Integers, percentile_interval, resample_counts
from sharpscope.analysis.tables import RUN_COLUMNS, finished, require_columns

STATISTICS = ("tau", "granulated", "partial_tau", "partial_rho")
"""What the league holds of each measure, each with ``_low`` and ``_high`` beside it."""


def league(
    results: pd.DataFrame,
    measures: Sequence[str],
    axes: Sequence[str],
    target: str = "gap",
    *,
    given: str = "train_loss",
    together: Sequence[str] = ("seed",),
    cluster: str = "configuration",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per measure, best predictor first.

    ``results`` has one row per run and a column per measure; ``axes`` are the settings that vary, ``together`` what
    two runs must share besides to be compared along one of them. Diverged runs are left out.

    Columns: ``rank``, ``rank_low``, ``rank_high``, ``measure``; for each of `STATISTICS` its value and interval:

    - ``tau``: Kendall's τ_b of measure and target over all runs;
    - ``granulated``: Ψ, the mean over the axes of τ_b along one alone (`Granulated`);
    - ``partial_tau``, ``partial_rho``: Kendall's and Spearman's partial coefficients with ``given`` held fixed; ask
      both before saying that a measure predicts beyond it (`Partial`);

    then ``n`` runs, ``clusters``, ``along_<axis>``, τ_b along each axis, and ``note``, in words, where something is
    missing.

    Intervals are expanded percentile intervals over resamples of whole clusters (`percentile_interval`), the same
    resamples for every measure; where all runs share one configuration the runs are what is resampled. The rank is by
    ``tau``, highest first (lowest first for an accuracy), since every measure of sharpness is meant to rise with the
    gap; its interval is that of the rank in the resamples. Raises `InputError` for a missing column.

    >>> runs = pd.DataFrame({"run_id": list("abcdef"), "configuration": list("abcdef"), "status": "finished",
    ...     "lr": [1, 2, 3, 1, 2, 3], "batch": [1, 1, 1, 2, 2, 2], "seed": 0, "train_loss": [3.0, 1, 2, 1, 3, 2],
    ...     "gap": [1.0, 2, 3, 4, 5, 6], "trace": [1.0, 2, 3, 4, 5, 6], "norm": [6.0, 5, 4, 3, 1, 2]})
    >>> league(runs, ["norm", "trace"], ["lr", "batch"])[["rank", "measure", "tau", "granulated"]].round(3)
       rank measure    tau  granulated
    0     1   trace  1.000       1.000
    1     2    norm -0.867      -0.833
    """
    require_columns(results, [*RUN_COLUMNS, target, given, cluster, *axes, *together, *measures], "results")
    runs = results[finished(results)].sort_values("run_id").reset_index(drop=True)
    groups = pd.factorize(runs[cluster])[0].astype(np.int64)
    if len(groups) and groups.max() == 0:
        groups = np.arange(len(groups))
    k = int(groups.max()) + 1 if len(groups) else 0
    pool = _Pool(
        outcome=_numbers(runs[target]),
        control=_numbers(runs[given]),
        groups=groups,
        # the first resample holds every cluster once: the pool itself
        counts=np.vstack([np.ones((1, k)), resample_counts(k, resamples, seed)]) if k else np.ones((1, 0)),
        levels={axis: pd.factorize(runs[axis])[0].astype(np.int64) for axis in axes},
        rest=pd.factorize(pd.MultiIndex.from_frame(runs[[*together]]))[0].astype(np.int64)
        if together
        else groups * 0,
        given=given,
    )
    found = [pool.statistics(_numbers(runs[measure])) for measure in measures]
    table = pd.DataFrame([_row(one, measure, level) for one, measure in zip(found, measures, strict=True)])
    table = table.reindex(columns=_columns(table.columns))
    sign = -1 if target.endswith("accuracy") else 1
    ranks = _ranks(sign * np.stack([one.values["tau"] for one in found]) if found else np.empty((0, 1)))
    table["rank"] = ranks[:, 0]
    table["rank_low"], table["rank_high"] = _rank_interval(ranks[:, 1:], level)
    table = table.astype(dict.fromkeys(("rank", "rank_low", "rank_high"), "Int64"))
    return table.sort_values(["rank", "measure"], kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class _Statistics:
    """One measure's statistics, the pool's own first and then those of every resample."""

    values: dict[str, Floats]
    along: dict[str, float]
    n: int
    clusters: int
    note: str = ""


@dataclass(frozen=True)
class _Pool:
    """The finished runs of a pool, but for the measures."""

    outcome: Floats
    control: Floats
    groups: Integers
    counts: Floats
    levels: dict[str, Integers]
    rest: Integers
    given: str

    def statistics(self, measure: Floats) -> _Statistics:
        """Return what is found of a measure, given its values."""
        keep = np.isfinite(measure) & np.isfinite(self.outcome)
        x, y = measure[keep], self.outcome[keep]
        labels, counts = self._clusters(keep)
        values = dict.fromkeys(STATISTICS, np.full(len(self.counts), np.nan))
        found = _Statistics(values, {}, len(x), counts.shape[1])
        if len(x) < 3:
            return replace(found, note=f"{len(x)} runs with a finite value are too few")
        for what, column in (("measure", x), ("target", y)):
            if np.ptp(column) == 0:
                return replace(found, note=f"constant {what}")
        values["tau"] = Kendall(x, y, labels)(counts)
        levels = {axis: level[keep] for axis, level in self.levels.items()}
        granulated = Granulated(x, y, labels, one_factor_pairs(levels, self.rest[keep]))
        values["granulated"] = granulated(counts)
        along = {axis: float(psi[0]) for axis, psi in granulated.along(counts[:1]).items()}
        notes = [] if along else ["no two runs differ in one setting alone"]
        both = keep & np.isfinite(self.control)
        if both.sum() < 3 or np.ptp(self.control[both]) == 0:
            notes.append(f"{self.given} is the same in all runs, or unknown")
        else:
            labels, counts = self._clusters(both)
            samples = (measure[both], self.outcome[both], self.control[both], labels)
            values["partial_tau"], values["partial_rho"] = (
                Partial(method, *samples)(counts) for method in ("kendall", "spearman")
            )
        return replace(found, along=along, note="; ".join(notes))

    def _clusters(self, keep: Flags) -> tuple[Integers, Floats]:
        """Return the cluster of each kept row, numbered anew, and the resamples of those clusters."""
        present, labels = np.unique(self.groups[keep], return_inverse=True)
        return labels, self.counts[:, present]


def _numbered(runs: pd.DataFrame, names: Sequence[str]) -> Integers:
    """Return a number per row, equal where all the named columns are."""
    if not names:
        return np.zeros(len(runs), dtype=np.int64)
    return np.asarray(runs.groupby([*names], dropna=False, sort=False).ngroup(), dtype=np.int64)


def _row(found: _Statistics, measure: str, level: float) -> dict[str, object]:
    row: dict[str, object] = {"measure": measure}
    for name, values in found.values.items():
        low, high = (
            percentile_interval(values[1:], found.clusters, level) if len(values) > 1 else (np.nan, np.nan)
        )
        row |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    row |= {"n": found.n, "clusters": found.clusters}
    return row | {f"along_{axis}": psi for axis, psi in found.along.items()} | {"note": found.note}


def _columns(names: Iterable[str]) -> list[str]:
    """Return the league's columns in their order, whatever measures there are."""
    ranks = ["rank", "rank_low", "rank_high", "measure"]
    statistics = [f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high")]
    along = [name for name in names if name.startswith("along_")]
    return [*ranks, *statistics, "n", "clusters", *along, "note"]


def _ranks(values: Floats) -> Floats:
    """Return the rank of each measure in each resample, 1 the highest; those without a value share the last."""
    return (
        pd.DataFrame(values)
        .rank(ascending=False, method="min", na_option="bottom")
        .to_numpy(dtype=np.float64)
    )


def _rank_interval(ranks: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the lowest and highest rank that a measure takes in the middle ``level`` of the resamples."""
    if not ranks.size:
        return (np.full(len(ranks), np.nan),) * 2
    low, high = np.quantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=1, method="nearest")
    return low, high


def _numbers(column: pd.Series[Any]) -> Floats:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)

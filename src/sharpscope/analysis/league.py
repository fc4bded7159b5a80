"""A league table: how well each measure predicts an outcome over a pool of runs, with and without the control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from sharpscope.analysis.environments import conditional_information, sign_errors
from sharpscope.analysis.granulated import Granulated, one_factor_pairs
from sharpscope.analysis.partial_correlation import Partial
from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.resampling import Flags, Floats, Integers, resample_counts
from sharpscope.analysis.tables import RUN_COLUMNS, finished, require_columns
from sharpscope.analysis.within_seeds import FEWEST, all_then_without_each, comparable, jackknife

NAN = float("nan")

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

    - ``tau``: Kendall's τ_b of measure and target among runs of equal ``together``, a seed's;
    - ``granulated``: Ψ, the mean over the axes of τ_b along one alone (`Granulated`);
    - ``partial_tau``, ``partial_rho``: Kendall's and Spearman's partial coefficients with ``given`` held fixed; ask
      both before saying that a measure predicts beyond it (`Partial`);

    ``sign_error``, ``worst_sign_error``: the mean and the largest over environments of `sign_errors`, and
    ``environments``, how many there are; ``information``: `conditional_information`; then ``n`` runs, ``clusters``,
    ``along_<axis>``, τ_b along each axis, and ``note``, in words, where something is missing.

    Intervals are those of the jackknife that leaves out one cluster with all its seeds at a time (`jackknife`); where
    all runs share one configuration the runs are what is left out. The rank is by how far τ's interval stays from
    zero, on whichever side, and then by the size of τ: a measure that may not predict at all does not lead. Its
    interval is that of the rank by size in resamples of whole clusters. Raises `InputError` for a missing column.

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
        configurations=_numbered(runs, ["configuration"]),
        resamples=resample_counts(k, resamples, seed) if k else np.ones((resamples, 0)),
        levels={axis: pd.factorize(runs[axis], sort=True)[0].astype(np.int64) for axis in axes},
        rest=_numbered(runs, together),
        given=given,
        level=level,
    )
    found = [pool.statistics(_numbers(runs[measure])) for measure in measures]
    rows = [{"measure": measure} | one.row for one, measure in zip(found, measures, strict=True)]
    table = pd.DataFrame(rows)
    table = table.reindex(columns=_columns(table.columns))
    if target.endswith("accuracy"):
        # A sharp model is meant to be accurate on the training set alone: there a rise foretells a fall.
        mean, worst = 1 - table["sign_error"], [1 - one.smallest_sign_error for one in found]
        table = table.assign(sign_error=mean, worst_sign_error=worst)
    ends = np.maximum(table["tau_low"].to_numpy(float), -table["tau_high"].to_numpy(float))
    sure = np.maximum(np.nan_to_num(ends), 0.0)
    # Measures whose τ may be zero share no place with those whose may not; the size of τ orders them.
    sizes = np.abs([one.tau for one in found]) if found else np.empty((0, 1))  # (measures, 1 + resamples)
    order = (
        np.lexsort([-np.nan_to_num(sizes[:, 0], nan=-1.0), -sure]) if found else np.empty(0, dtype=np.int64)
    )
    ranks = np.empty(len(found))
    ranks[order] = np.arange(1, len(found) + 1)
    table["rank"] = ranks
    table["rank_low"], table["rank_high"] = _rank_interval(_ranks(sizes[:, 1:]), level)
    table = table.astype(dict.fromkeys(("rank", "rank_low", "rank_high"), "Int64"))
    return table.sort_values(["rank", "measure"], kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class _Found:
    """What is found of one measure: its row of the league, and τ of the pool and of every resample."""

    row: dict[str, object]
    tau: Floats
    smallest_sign_error: float = NAN


@dataclass(frozen=True)
class _Pool:
    """The finished runs of a pool, but for the measures."""

    outcome: Floats
    control: Floats
    groups: Integers
    configurations: Integers
    resamples: Floats
    levels: dict[str, Integers]
    rest: Integers
    given: str
    level: float

    def statistics(self, measure: Floats) -> _Found:
        """Return what is found of a measure, given its values."""
        keep = np.isfinite(measure) & np.isfinite(self.outcome)
        x, y = measure[keep], self.outcome[keep]
        clusters = len(np.unique(self.groups[keep]))
        row: dict[str, object] = {"n": len(x), "clusters": clusters}
        nothing = np.full(1 + len(self.resamples), NAN)
        if len(x) < 3:
            return _Found(row | {"note": f"{len(x)} runs with a finite value are too few"}, nothing)
        for what, column in (("measure", x), ("target", y)):
            if np.ptp(column) == 0:
                return _Found(row | {"note": f"constant {what}"}, nothing)
        labels, counts, blocks = self._clusters(keep)
        rest, levels = self.rest[keep], {axis: level[keep] for axis, level in self.levels.items()}
        tau = Kendall(x, y, labels, blocks)(counts)
        row |= self._interval("tau", tau, clusters)
        granulated = Granulated(x, y, labels, one_factor_pairs(levels, rest))
        row |= self._interval("granulated", granulated(counts), clusters)
        along = {f"along_{axis}": float(psi[0]) for axis, psi in granulated.along(counts[:1]).items()}
        notes = [] if along else ["no two runs differ in one setting alone"]
        errors = sign_errors(x, y, levels, rest, self.configurations[keep])["sign_error"].dropna()
        if len(errors):
            worst = float(errors.max())
            row |= {
                "sign_error": float(errors.mean()),
                "worst_sign_error": worst,
                "environments": len(errors),
            }
        row["information"] = conditional_information(x, y, levels, blocks)
        both = keep & np.isfinite(self.control)
        if both.sum() < 3 or np.ptp(self.control[both]) == 0:
            notes.append(f"{self.given} is the same in all runs, or unknown")
        else:
            labels, given_counts, blocks = self._clusters(both)
            samples = (measure[both], self.outcome[both], self.control[both], labels, blocks)
            k = int(labels.max()) + 1
            for name, method in (("partial_tau", "kendall"), ("partial_rho", "spearman")):
                row |= self._interval(name, Partial(method, *samples)(given_counts[: 1 + k]), k)
        smallest = float(errors.min()) if len(errors) else NAN
        sampled = np.concatenate([tau[:1], tau[1 + clusters :]])
        return _Found(row | along | {"note": "; ".join(notes)}, sampled, smallest)

    def _interval(self, name: str, values: Floats, clusters: int) -> dict[str, float]:
        """Return a statistic with its interval, from its values over all clusters and without each."""
        value, error, k = jackknife(values[: 1 + clusters])
        low = high = NAN
        if k >= FEWEST and np.isfinite(error):
            reach = error * float(stdtrit(k - 2, (1 + self.level) / 2))
            low, high = max(value - reach, -1.0), min(value + reach, 1.0)
        return {name: value, f"{name}_low": low, f"{name}_high": high}

    def _clusters(self, keep: Flags) -> tuple[Integers, Floats, Integers]:
        """Return the cluster of each kept row, the counts of clusters asked for, and the blocks compared within.

        The counts are all clusters once, all but each in turn, and the resamples.
        """
        present, labels = np.unique(self.groups[keep], return_inverse=True)
        counts = np.vstack([all_then_without_each(len(present)), self.resamples[:, present]])
        _, blocks = comparable(labels, self.rest[keep])
        return labels, counts, blocks


def _numbered(runs: pd.DataFrame, names: Sequence[str]) -> Integers:
    """Return a number per row, equal where all the named columns are."""
    if not names:
        return np.zeros(len(runs), dtype=np.int64)
    return np.asarray(runs.groupby([*names], dropna=False, sort=False).ngroup(), dtype=np.int64)


def _columns(names: Iterable[str]) -> list[str]:
    """Return the league's columns in their order, whatever measures there are."""
    ranks = ["rank", "rank_low", "rank_high", "measure"]
    statistics = [f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high")]
    along = [name for name in names if name.startswith("along_")]
    more = ["sign_error", "worst_sign_error", "environments", "information"]
    return [*ranks, *statistics, *more, "n", "clusters", *along, "note"]


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

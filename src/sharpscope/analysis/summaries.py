"""The mean of a quantity at each setting, with an interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.tables import finished, measure_names, require_columns, wide_measures
from sharpscope.errors import InputError


def summarise(
    table: pd.DataFrame,
    by: Sequence[str],
    value: str,
    *,
    seed: str = "seed",
    level: float = 0.95,
    scale: Literal["linear", "log"] = "linear",
) -> pd.DataFrame:
    """Return mean and interval over seeds of the column ``value`` in every group of ``by``.

    Columns: those of ``by``, ``mean``, ``low``, ``high``, ``sd`` (between seeds; of the logarithm where
    ``scale`` is "log"), ``seeds`` and ``n`` rows. Rows whose value is not finite are left out; groups come
    in the order of their first row.

    The interval is Student's, mean ± t sd/sqrt(seeds), seeds - 1 degrees of freedom. Where a group mixes
    settings (``by`` names fewer axes than the study varied) each seed's rows are averaged first: the settings
    are the grid's, not a sample, and only the seeds are chance. With one seed ``low`` and ``high`` are NaN.
    With ``scale="log"`` the mean is geometric and the interval is taken of the logarithm, which suits a
    quantity that spans orders of magnitude and keeps the interval positive; a value that is not positive
    raises `InputError`.

    >>> table = pd.DataFrame({"lr": [0.1, 0.1, 0.2], "seed": [0, 1, 0], "trace": [1.0, 3.0, 5.0]})
    >>> summarise(table, ["lr"], "trace")[["lr", "mean", "seeds"]].values.tolist()
    [[0.1, 2.0, 2.0], [0.2, 5.0, 1.0]]
    """
    from scipy.stats import t

    require_columns(table, [*by, value, seed], "values")
    rows = table[[*dict.fromkeys([*by, value, seed])]].copy()
    rows[value] = pd.to_numeric(rows[value]).astype(float)
    rows = rows[np.isfinite(rows[value])]
    if scale == "log":
        if (rows[value] <= 0).any():
            worst = float(rows[value].min())
            raise InputError(
                f"a logarithmic mean needs positive values, and {value!r} falls to {worst!r}: "
                "use scale='linear'"
            )
        rows[value] = np.log(rows[value])
    found = []
    # A constant key lets an empty `by` mean one group of everything.
    for _, group in rows.groupby([*by] or (lambda _: 0), sort=False, dropna=False):
        per_seed = group.groupby(seed, sort=True)[value].mean().to_numpy()
        n, mean = len(per_seed), float(per_seed.mean())
        sd = float(per_seed.std(ddof=1)) if n > 1 else float("nan")
        reach = float(t.ppf((1 + level) / 2, n - 1)) * sd / sqrt(n) if n > 1 else float("nan")
        limits = (mean, mean - reach, mean + reach)
        if scale == "log":
            limits = tuple(float(np.exp(min(limit, 700.0))) for limit in limits)  # type: ignore[assignment]
        found.append([*group.iloc[0][[*by]].tolist(), *limits, sd, n, len(group)])
    return pd.DataFrame(found, columns=[*by, "mean", "low", "high", "sd", "seeds", "n"])


def summaries(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    axes: Sequence[str],
    *,
    quantities: Sequence[str] = ("train_loss", "test_loss", "gap"),
    seed: str = "seed",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return `summarise` of every measure and of ``quantities`` at every setting of all ``axes`` together.

    One row per setting and quantity: the columns of ``axes``, ``quantity``, and those of `summarise`.
    Diverged runs are left out.
    """
    require_columns(runs, ["run_id", "status", *axes, *quantities], "runs")
    table = pd.concat([runs[[*dict.fromkeys([*axes, seed])]], runs[[*quantities]]], axis=1)
    wide = wide_measures(runs, measures)
    parts = []
    for name in [*quantities, *measure_names(measures)]:
        column = wide[name] if name in wide.columns else runs[name]
        values = table.assign(**{"value of one quantity": column})[finished(runs)]
        part = summarise(values, axes, "value of one quantity", seed=seed, level=level)
        part.insert(len(axes), "quantity", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)

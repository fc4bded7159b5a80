"""Caveats of a table of runs: divergence, convergence, confounds, small samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.tables import (
    RUN_COLUMNS,
    finished,
    measure_names,
    require_columns,
    unfinished,
    wide_measures,
)

FEW_CONFIGURATIONS = 10
"""Below this many configurations an interval for a rank correlation spans half of [-1, 1] or more."""

UNEQUAL_LOSSES = 1.5
"""Training losses whose largest is this many times the smallest are called unequal."""

UNTRAINED = 0.95
"""A run whose training loss exceeds this share of the best constant answer's loss learned next to nothing."""


@dataclass(frozen=True)
class Caveat:
    """One thing to know: its ``kind`` for programs, ``text`` for readers, ``run_ids`` it is about."""

    kind: Literal[
        "diverged",
        "stopped",
        "nothing finished",
        "untrained",
        "not converged",
        "missing",
        "unequal losses",
        "few configurations",
        "single seed",
    ]
    text: str
    run_ids: tuple[str, ...] = ()


def warnings(runs: pd.DataFrame, measures: pd.DataFrame) -> list[Caveat]:
    """Return what qualifies the numbers of these tables, gravest first; empty where nothing does.

    >>> runs = pd.DataFrame({"run_id": ["a"], "configuration": ["a"], "status": ["diverged"]})
    >>> [caveat.kind for caveat in warnings(runs, pd.DataFrame())]
    ['diverged', 'nothing finished']
    """
    require_columns(runs, RUN_COLUMNS, "runs")
    found = [*_divergence(runs)]
    done = runs[finished(runs)]
    if len(done):
        found += [
            *_untrained(done),
            *_unequal_losses(done),
            *_convergence(done, measures),
            *_missing(done, measures),
        ]
        found += _sample_size(done)
    return found


_WHY = {
    "diverged": "the loss or a weight stopped being a finite number",
    "stopped": "a rule of the study gave up on it as hopeless, so what is shown is of the runs that learned sooner",
}


def _divergence(runs: pd.DataFrame) -> list[Caveat]:
    if not len(runs):
        return [Caveat("nothing finished", "The store holds no runs yet, so there is nothing to show.")]
    found = []
    for status, words in unfinished(runs).items():
        bad = runs[runs["status"] == status]
        survived = set(bad["configuration"]) & set(runs["configuration"][finished(runs)])
        found.append(
            Caveat(
                "diverged" if status == "diverged" else "stopped",
                f"{words}: {_WHY[status]}. {'It is' if len(bad) == 1 else 'They are'} listed below and left out of "
                "every statistic and chart of the measures."
                + (
                    " The settings they ran are seen only through the seeds that survived."
                    if survived
                    else ""
                ),
                tuple(bad["run_id"].astype(str)),
            )
        )
    if not finished(runs).any():
        every = (
            "diverged" if (runs["status"] == "diverged").all() else "diverged or was stopped early by rule"
        )
        text = f"Every run {every}, so there is nothing to correlate: try a smaller learning rate."
        found.append(Caveat("nothing finished", text))
    return found


def untrained(runs: pd.DataFrame) -> np.ndarray:
    """Return which runs learned next to nothing: their loss hardly less than the best constant answer's."""
    if not {"train_loss", "constant_loss"} <= set(runs.columns):
        return np.zeros(len(runs), dtype=bool)
    loss, constant = (pd.to_numeric(runs[name]).to_numpy(float) for name in ("train_loss", "constant_loss"))
    return np.asarray(loss > UNTRAINED * constant)  # false where either is missing


def _untrained(done: pd.DataFrame) -> list[Caveat]:
    bad = done[untrained(done)]
    if not len(bad):
        return []
    text = (
        f"{_of(len(bad), len(done), 'finished run')} learned next to nothing: the training loss is no more than "
        f"{1 - UNTRAINED:.0%} below that of one answer to every sample. What holds among untrained networks says "
        "nothing of minima: train longer, or at another learning rate."
    )
    return [Caveat("untrained", text, tuple(bad["run_id"].astype(str)))]


def _unequal_losses(done: pd.DataFrame) -> list[Caveat]:
    if "train_loss" not in done.columns:
        return []
    losses = pd.to_numeric(done["train_loss"]).to_numpy(dtype=float)
    losses = losses[np.isfinite(losses)]
    if len(losses) < 2:
        return []
    low, high = float(losses.min()), float(losses.max())
    if high <= UNEQUAL_LOSSES * low:
        return []
    times = f", a factor of {high / low:,.3g}" if low > 0 else ""
    lower, upper = np.quantile(losses, [0.25, 0.75])
    return [
        Caveat(
            "unequal losses",
            f"The runs stopped at unequal training losses, from {low:.3g} to {high:.3g}{times} (the middle "
            f"half lies between {lower:.3g} and {upper:.3g}). How sharp a model is depends on how far its "
            "training had come, and so does its test loss. A measure can therefore seem to predict test loss "
            "when it only tells well-trained runs from barely trained ones. Read every correlation beside "
            "the one given training loss.",
        )
    ]


def _convergence(done: pd.DataFrame, measures: pd.DataFrame) -> list[Caveat]:
    if "converged" not in measures.columns:
        return []
    found = []
    of_done = measures[measures["run_id"].isin(done["run_id"])]
    for name in measure_names(of_done):
        of_one = of_done[of_done["measure"].astype(str) == name]
        # A missing flag (a measure without the notion) is not a failure to converge.
        failed = of_one[of_one["converged"].map(lambda flag: not pd.isna(flag) and not flag).astype(bool)]
        if len(failed):
            text = (
                f"{name} did not converge in {_of(len(failed), len(of_one), 'run')}: the value "
                "shown is the last estimate, marked †, and still enters the statistics."
            )
            found.append(Caveat("not converged", text, tuple(failed["run_id"].astype(str))))
    return found


def _missing(done: pd.DataFrame, measures: pd.DataFrame) -> list[Caveat]:
    found = []
    wide = wide_measures(done, measures)
    for name in wide.columns:
        bad = done[~np.isfinite(wide[name].to_numpy())]
        if len(bad):
            text = (
                f"{name} has no finite value for {_of(len(bad), len(done), 'finished run')}: "
                f"{'that run is' if len(bad) == 1 else 'those runs are'} left out of its statistics."
            )
            found.append(Caveat("missing", text, tuple(bad["run_id"].astype(str))))
    return found


def _sample_size(done: pd.DataFrame) -> list[Caveat]:
    found = []
    configurations, n = int(done["configuration"].nunique()), len(done)
    # The runs of a single configuration are themselves what is resampled.
    independent, what = (n, "run") if configurations == 1 else (configurations, "configuration")
    if independent < FEW_CONFIGURATIONS:
        text = (
            f"All statistics rest on {independent} independent {what}{'' if independent == 1 else 's'}. "
            f"Below about {FEW_CONFIGURATIONS} the intervals are too wide to tell much, and below 3 there are none."
        )
        found.append(Caveat("few configurations", text))
    if "seed" in done.columns and configurations > 1 and n == configurations:
        text = "Every configuration was run with a single seed, so the charts carry no interval over seeds."
        found.append(Caveat("single seed", text))
    return found


def _of(part: int, whole: int, noun: str) -> str:
    """Return "2 of 5 runs", the noun in the number of the whole."""
    return f"{part} of {whole} {noun}{'' if whole == 1 else 's'}"

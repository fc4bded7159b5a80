"""What claims are judged on: the tables of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

Source = Literal["results", "history", "tracks"]


@dataclass(frozen=True)
class Evidence:
    """The tables of one study; a claim takes those it needs, and an empty one is no error.

    - ``results``: one row per run: ``run_id``, ``configuration`` (the setting without the seed), ``status``,
      ``stop_reason``, ``epochs``, ``seed``, every axis of the grid, the losses and accuracies at the end, ``gap``,
      and a column per measure (``<label>_stderr`` beside it).
    - ``history``: one row per run and epoch: ``run_id``, ``epoch``, losses and accuracies.
    - ``landscapes``: one row per pair of runs and point between them: ``pair``, ``run_a``, ``run_b``, ``alpha``,
      ``loss``, ``accuracy``, and, alike in all rows of a pair, the basin widths ``width_a`` and ``width_b``
      (``complete_a``, ``complete_b`` where known: False means that the width is a lower bound).
    - ``tracks``: one row per run, epoch and measure followed over training: ``run_id``, ``epoch``, ``measure``,
      ``value``.
    """

    results: pd.DataFrame
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    landscapes: pd.DataFrame = field(default_factory=pd.DataFrame)
    tracks: pd.DataFrame = field(default_factory=pd.DataFrame)

    def table(self, source: Source) -> pd.DataFrame:
        """Return one row per run, or per run and epoch, with the runs' settings beside the values.

        ``history``: the epoch's own losses and accuracies, and its learning rate as ``epoch_lr``, for ``lr`` is the
        run's setting. ``tracks``: a column per measure followed, and the epoch's losses and accuracies.
        """
        if source == "results":
            return self.results
        epochs = self.history.rename(columns={"lr": "epoch_lr"})
        if source == "history":
            return self._with_settings(epochs)
        if not len(self.tracks):
            return pd.DataFrame()
        wide = self.tracks.pivot_table(
            index=["run_id", "epoch"], columns="measure", values="value", sort=False
        ).reset_index()
        wide.columns.name = None
        if len(epochs):
            own = ["run_id", "epoch", *(name for name in epochs.columns if name not in wide.columns)]
            return self._with_settings(wide.merge(epochs[own], on=["run_id", "epoch"], how="left"))
        at_the_end = [name for name in self.results.columns if name.endswith(("_loss", "_accuracy"))]
        return self._with_settings(wide).drop(columns=[*at_the_end, "gap"], errors="ignore")

    def _with_settings(self, table: pd.DataFrame) -> pd.DataFrame:
        if not len(table):
            return table
        beside = ["run_id", *(name for name in self.results.columns if name not in table.columns)]
        return table.merge(self.results[beside], on="run_id", how="inner")

"""The runs of several studies and stores as one pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpscope.errors import InputError
from sharpscope.studies.results.tables import Tables, collect_all
from sharpscope.sweep import Store

if TYPE_CHECKING:
    import pandas as pd

_ALWAYS = ("data", "model", "optimizer", "lr", "batch_size")
"""Settings that every run has, whether or not its own study varied them."""


@dataclass(frozen=True)
class Pool:
    """Runs of one or several studies, each once, with their measures.

    ``runs`` and ``measures`` are as in `Tables`, with the column ``study`` in ``runs``; ``axes`` are the settings
    that vary over the pool; ``notes`` say where one name stands for two things.
    """

    runs: pd.DataFrame
    measures: pd.DataFrame
    axes: tuple[str, ...]
    notes: tuple[str, ...]

    def results(self) -> pd.DataFrame:
        """Return one row per run with a column per measure."""
        from sharpscope.analysis import wide_measures

        return self.runs.join(wide_measures(self.runs, self.measures))


def pool_stores(stores: Sequence[Store]) -> Pool:
    """Return the runs of all studies in the stores; a run that several stores hold is taken from the first of them.

    Raises `InputError` where there is no run, `StoreError` as `collect_all`.
    """
    import pandas as pd

    named = [(name, tables) for store in stores for name, tables in collect_all(store).items()]
    runs = pd.concat([tables.runs.assign(study=name) for name, tables in named], ignore_index=True)
    runs = runs.drop_duplicates("run_id").reset_index(drop=True)
    if not len(runs):
        raise InputError(
            "a pool needs a finished run, and these stores hold none yet; run their studies first"
        )
    measures = pd.concat([tables.measures for _, tables in named], ignore_index=True)
    once = measures.drop_duplicates(["run_id", "measure"]).reset_index(drop=True)
    axes = dict.fromkeys([*_ALWAYS, *(axis for _, tables in named for axis in tables.study["axes"])])
    varying = tuple(axis for axis in axes if axis != "seed" and runs[axis].nunique(dropna=False) > 1)
    return Pool(runs, once, varying, (*_two_values(measures), *_two_definitions(named)))


def _two_values(measures: pd.DataFrame) -> list[str]:
    """Return what several studies measured of one run and found differently."""
    found = (
        measures.groupby(["measure", "run_id"], sort=False)["value"]
        .nunique()
        .gt(1)
        .groupby("measure", sort=False)
    )
    return [
        f"{name} has two values for {count} of the runs that several studies measured; the first is used."
        for name, count in found.sum().items()
        if count
    ]


def _two_definitions(named: Sequence[tuple[str, Tables]]) -> list[str]:
    """Return the labels that stand for different measures, or for measures of different losses."""
    meant: dict[str, set[str]] = {}
    for _, tables in named:
        for label, definition in tables.measures[["measure", "definition"]].drop_duplicates().to_numpy():
            meant.setdefault(label, set()).add(f"{definition} {tables.study['objective']}")
    return [
        f"{label} is not measured alike in all studies of the pool (another definition, or another part of the "
        "data): its values may not compare."
        for label, meanings in meant.items()
        if len(meanings) > 1
    ]

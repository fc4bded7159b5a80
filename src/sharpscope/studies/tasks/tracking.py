"""Train a run and measure it at the ends of epochs; the measuring changes no bit of the training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.errors import NonFiniteError
from sharpscope.serialization import json_ready, write_whole
from sharpscope.studies.file.schema import ObjectiveConfig
from sharpscope.studies.tasks.run_measures import TrainedRun, take
from sharpscope.studies.tasks.runs import (
    all_ranks,
    build_objective,
    publish_run,
    train_here,
    untrained,
    write_json,
)
from sharpscope.sweep import TaskContext
from sharpscope.training import RunConfig

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset

KEPT = "tracks.json"


def train_and_track(payload: Mapping[str, Any], context: TaskContext) -> None:
    """Train a run with measures taken at the ends of epochs; publish the run, and each track that is missing.

    Measuring leaves weights, buffers, gradients and generators unchanged, so the run has the same bits as without it.
    The rows measured so far are kept beside the training's own progress; a call that resumes does not measure an
    epoch again. Where the run is already published and a track is missing, the run is trained once more.
    """
    import pandas as pd
    import torch

    config, execution = RunConfig.model_validate(payload["run"]), payload["execution"]
    dataset, model = untrained(config, execution, context)
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    model.to(execution["device"], dtype)
    tracks = [
        _Track(asked, config, dataset.to(execution["device"], dtype), model)
        for asked in payload["tracks"]
        if asked["id"] in context.missing
    ]
    kept = _Kept(context.workspace / KEPT)

    def measure(epoch: int, last: bool = False) -> None:
        for track in tracks:
            if track.due(epoch, last) and not kept.has(track.id, epoch):
                kept.add(track.id, epoch, track.row(epoch))

    with all_ranks(context, "sharpscope.studies.tasks.runs:train_rank", payload) as group:
        on_epoch = lambda row: measure(int(row["epoch"]))  # noqa: E731
        outcome = train_here(config, dataset, model, execution, context, on_epoch, group)
    if outcome.status == "finished":
        measure(outcome.epochs, last=True)
    for track in tracks:
        rows = kept.rows(track.id, outcome.epochs)
        table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
        table.to_parquet(context.output / track.id / "track.parquet", index=False)
        write_json(
            context.output / track.id / "timing.json", {"seconds": sum(row["seconds"] for row in rows)}
        )
    run_id = config.run_id()
    if run_id in context.missing:
        publish_run(config, dataset, model, outcome, execution, context, context.output / run_id)


COLUMNS = {
    "epoch": "int64",
    "value": "float64",
    "stderr": "float64",
    "error": "float64",
    "converged": "bool",
    "products": "float64",
    "note": "str",
}
"""The columns of a track and their kinds."""


class _Track:
    """One measure that is being followed."""

    def __init__(
        self, asked: Mapping[str, Any], config: RunConfig, dataset: Dataset, model: nn.Module
    ) -> None:
        self.id: str = asked["id"]
        self._every, self._spec = int(asked["every"]), asked["spec"]
        self._config, self._dataset, self._model = config, dataset, model
        self._objective = ObjectiveConfig.model_validate(asked["objective"])

    def due(self, epoch: int, last: bool) -> bool:
        return last or epoch == 1 or epoch % self._every == 0

    def row(self, epoch: int) -> dict[str, Any]:
        began = time.perf_counter()
        obj = build_objective(self._model, self._dataset, self._config.loss, self._objective)
        try:
            e = take(TrainedRun(self._config, epoch, self._dataset, obj), self._spec)
        except NonFiniteError as error:
            taken: dict[str, Any] = {"value": None, "converged": False, "note": str(error)}
        else:
            taken = {
                "value": e.value, "stderr": e.stderr, "error": e.error, "converged": e.converged,
                "products": float(e.cost.get("products", 0)), "note": "",
            }  # fmt: skip
        return {**taken, "seconds": time.perf_counter() - began}


class _Kept:
    """The rows measured so far, kept in a file beside the training's own progress."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}
        if path.exists():
            self._rows = json.loads(path.read_text(encoding="utf-8"))

    def has(self, track: str, epoch: int) -> bool:
        return str(epoch) in self._rows.get(track, {})

    def add(self, track: str, epoch: int, row: dict[str, Any]) -> None:
        self._rows.setdefault(track, {})[str(epoch)] = json_ready(row)
        write_whole(self._path, json.dumps(self._rows))

    def rows(self, track: str, epochs: int) -> list[dict[str, Any]]:
        """Return a track's rows by epoch, up to the last epoch of the run."""
        found = sorted((int(epoch), row) for epoch, row in self._rows.get(track, {}).items())
        return [{"seconds": 0.0, "epoch": epoch, **row} for epoch, row in found if epoch <= epochs]

"""The task of a view: compute it from trained runs and publish it as a table and a summary."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.serialization import json_ready
from sharpscope.studies.tasks.runs import CHECKPOINT, ENDED, objective_of, write_json
from sharpscope.sweep import TaskContext
from sharpscope.training import RunConfig

if TYPE_CHECKING:
    import pandas as pd

    from sharpscope.objective.objective import Objective

PARTIAL = "points.json"


def make_view(payload: Mapping[str, Any], context: TaskContext) -> None:
    """Take a view; runs that did not finish give an empty table and a summary that says so."""
    import pandas as pd
    import torch

    torch.set_num_threads(context.threads)
    began = time.perf_counter()
    configs = [RunConfig.model_validate(run) for run in payload["runs"]]
    folders = [context.needs[config.run_id()] for config in configs]
    ends = {f.name: json.loads((f / "outcome.json").read_text())["status"] for f in folders}
    if lost := [name for name, status in ends.items() if status != "finished"]:
        table: pd.DataFrame = pd.DataFrame()
        summary: dict[str, Any] = {"note": f"not taken: the run {lost[0]} {ENDED[ends[lost[0]]]}"}
    else:
        checkpoints = [folder / CHECKPOINT for folder in folders]
        obj = objective_of(configs[0], checkpoints[0], payload["objective"], payload["execution"])
        make = {"landscapes": _line, "surfaces": _surface, "audits": _audit, "histograms": _histogram}
        table, summary = make[payload["kind"]](obj, checkpoints, payload["request"], context)
    table.to_parquet(context.output / "table.parquet", index=False)
    write_json(context.output / "summary.json", json_ready(summary))
    write_json(context.output / "timing.json", {"seconds": time.perf_counter() - began})


def _line(
    obj: Objective, checkpoints: list[Path], request: Mapping[str, Any], context: TaskContext
) -> tuple[pd.DataFrame, dict[str, Any]]:
    from copy import deepcopy

    import numpy as np

    from sharpscope.landscape import interpolate
    from sharpscope.training import load_checkpoint

    other = deepcopy(obj.model)
    load_checkpoint(checkpoints[1], other)
    chosen = request["alphas"]
    found = interpolate(
        obj.model,
        other,
        obj,
        np.linspace(chosen["start"], chosen["stop"], chosen["points"]).tolist(),
        batch_norm=request["batch_norm"],
        partial=context.workspace / PARTIAL,
        progress=_reporter(context),
    )
    summary: dict[str, Any] = {
        "distance": found.distance,
        "protocol": json.dumps(found.protocol, sort_keys=True),
    }
    for end in ("a", "b"):
        width = found.basin_width("a" if end == "a" else "b", request["rise"])
        summary |= {f"width_{end}": width.distance, f"complete_{end}": width.complete}
        summary |= {f"low_{end}": width.interval[0], f"high_{end}": width.interval[1]}
    return found.table(), summary


def _surface(
    obj: Objective, checkpoints: list[Path], request: Mapping[str, Any], context: TaskContext
) -> tuple[pd.DataFrame, dict[str, Any]]:
    from sharpscope.landscape import surface

    found = surface(
        obj,
        radius=request["radius"],
        points=request["points"],
        batch_norm=request["batch_norm"],
        seed=request["seed"],
        partial=context.workspace / PARTIAL,
        progress=_reporter(context),
    )
    protocol = json.dumps(found.protocol, sort_keys=True)
    return found.table(), {"lengths": json.dumps(list(found.lengths)), "protocol": protocol}


def _audit(
    obj: Objective, checkpoints: list[Path], request: Mapping[str, Any], context: TaskContext
) -> tuple[pd.DataFrame, dict[str, Any]]:
    from sharpscope.measures import audit

    found = audit(
        obj,
        request["measures"],
        repetitions=request["repetitions"],
        spread=request["spread"],
        seed=request["seed"],
        progress=_reporter(context),
    )
    table = found.table.drop(columns=["changed", "seconds"], errors="ignore")  # times are no results
    return table, {
        "function_change": found.function_change,
        "rescalings": "; ".join(str(rescaling) for rescaling in found.rescalings),
    }


def _histogram(
    obj: Objective, checkpoints: list[Path], request: Mapping[str, Any], context: TaskContext
) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pandas as pd

    from sharpscope.measures import weight_histogram

    found = weight_histogram(obj, request["parameter"], request["bins"])
    table = pd.DataFrame({"low": found.edges[:-1], "high": found.edges[1:], "count": found.counts})
    return table, {"parameter": found.parameter, "entries": int(found.counts.sum())}


def _reporter(context: TaskContext) -> Any:
    return lambda state: context.report({"fraction": state.done / state.expected if state.expected else 0.0})

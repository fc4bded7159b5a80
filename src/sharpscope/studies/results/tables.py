"""Read a store into tables of runs, measures and history. This needs neither torch nor the study file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.studies.plan.column_check import OUTCOMES
from sharpscope.studies.results.reading import read_json, stack_parquet
from sharpscope.studies.results.records import Record, folder_of, read_records
from sharpscope.studies.results.view_tables import read_views
from sharpscope.sweep import Store

if TYPE_CHECKING:
    import pandas as pd

    from sharpscope.analysis.claims.verdict import Verdict

MEASURE_COLUMNS = {
    "run_id": "str",
    "measure": "str",
    "definition": "str",
    "value": "float64",
    "stderr": "float64",
    "error": "float64",
    "low": "float64",
    "high": "float64",
    "samples": "float64",
    "converged": "bool",
    "losses": "float64",
    "gradients": "float64",
    "products": "float64",
    "protocol": "str",
    "fingerprint": "str",
    "note": "str",
}


@dataclass(frozen=True)
class Tables:
    """The results of a study as far as it is done.

    ``runs`` has one row per published run, ``measures`` one per run and measure, ``history`` one per run and
    epoch, ``tracks`` one per run, measure and epoch at which it was taken; ``views`` holds what else the study
    asked for: ``landscapes`` (one row per pair of runs and point), ``surfaces``, ``audits``, ``histograms``.
    ``configs`` are the runs' whole configurations. Rows are in the order of the
    study's plan, so they do not depend on the order in which workers finished. ``core_seconds`` is what training and
    measuring took, each run's threads counted; stores of before tracks and views were timed leave these out.
    """

    study: Record
    runs: pd.DataFrame
    measures: pd.DataFrame
    history: pd.DataFrame
    notes: tuple[str, ...]
    environment: dict[str, str]
    tracks: pd.DataFrame
    views: dict[str, pd.DataFrame]
    configs: dict[str, Record]
    core_seconds: float = 0.0

    def results(self) -> pd.DataFrame:
        """Return the result table: one row per run, every measure's value and standard error as columns.

        An audit adds ``<audit>_<measure>_change``: the largest relative change under its rescalings.
        """
        table = self.runs
        if not self.measures.empty:
            wide = self.measures.pivot(index="run_id", columns="measure", values=["value", "stderr"])
            labels = list(dict.fromkeys(self.measures["measure"]))
            columns = [(kind, label) for label in labels for kind in ("value", "stderr")]
            wide = wide[[c for c in columns if c[0] == "value" or bool(wide[c].notna().any())]]
            wide.columns = [c[1] if c[0] == "value" else f"{c[1]}_stderr" for c in wide.columns.tolist()]
            table = table.merge(wide.reset_index(), on="run_id", how="left")
        audits = self.views["audits"]
        if not audits.empty:
            named = audits["audit"] + "_" + audits["measure"] + "_change"
            changes = audits.assign(named=named).pivot(index="run_id", columns="named", values="largest")
            table = table.merge(changes[list(dict.fromkeys(named))].reset_index(), on="run_id", how="left")
        return table

    @property
    def precondition(self) -> str:
        """Say what the study requires of its runs, and how many of them met it; "" where it has no claims either."""
        from sharpscope.analysis.claims.requirements import precondition

        own = [claim.get("requires", self.study["requires"]) for claim in self.study["claims"]]
        if self.runs.empty or not (own or self.study["requires"]):
            return ""
        required = self.study["requires"] if not own or any(one != {} for one in own) else {}
        return precondition(self.results(), required)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the runs so far say of each of the study's claims."""
        if not self.study["claims"]:
            return []
        from sharpscope.analysis.claims import Evidence, Looks, assess, read_claims

        evidence = Evidence(self.results(), self.history, self.views["landscapes"], self.tracks)
        kept = self.study.get("looks")
        looks = Looks(tuple(kept["planned"]), tuple(kept["taken"])) if kept and kept["taken"] else None
        return assess(
            read_claims(self.study["claims"]),
            evidence,
            self.study["scale"],
            requires=self.study["requires"],
            looks=looks,
        )


def collect(store: Store) -> Tables:
    """Read the tables of the one study a store holds.

    Raises `InputError` where it holds several (see `collect_all`), `StoreError` where none or a damaged file.
    """
    records = read_records(store)
    if len(records) > 1:
        raise InputError(
            f"the store {store.root} holds {len(records)} studies, and one is wanted; use collect_all"
        )
    return _collect(store, records[0])


def collect_all(store: Store) -> dict[str, Tables]:
    """Read the tables of every study that a store holds, by its folder's name (`kaur2022-fig1-laptop`).

    Raises `StoreError` where it holds none or a damaged file.
    """
    return {folder_of(record): _collect(store, record) for record in read_records(store)}


def _collect(store: Store, study: Record) -> Tables:
    import pandas as pd

    notes: dict[str, None] = {}
    environment: dict[str, dict[str, None]] = {}
    core_seconds = 0.0
    runs: list[Record] = []
    configs: dict[str, Record] = {}
    paths = store.paths()
    done = [planned for planned in study["runs"] if planned["id"] in paths]
    for planned in done:
        folder = paths[planned["id"]]
        outcome = read_json(folder / "outcome.json")
        configs[planned["id"]] = read_json(folder / "config.json")
        runs.append(_run_row(planned, configs[planned["id"]], outcome))
        notes |= dict.fromkeys([outcome["data"]["standardisation"], *outcome["data"]["notes"]])
        around = read_json(folder / "environment.json")
        core_seconds += float(around.pop("seconds", 0.0)) * int(around.get("threads", 1))
        for key, value in around.items():
            environment.setdefault(key, {})[str(value)] = None
    measures = [
        {"measure": planned["label"], **read_json(paths[planned["id"]] / "measure.json", drop="measure")}
        for planned in study["measures"]
        if planned["id"] in paths
    ]
    history = stack_parquet(
        ({"run_id": planned["id"]}, paths[planned["id"]] / "history.parquet") for planned in done
    )
    tracks = stack_parquet(
        ({"run_id": planned["run"], "measure": planned["label"]}, paths[planned["id"]] / "track.parquet")
        for planned in study["tracks"]
        if planned["id"] in paths
    )
    for planned in (*study["measures"], *study["tracks"], *study["views"]):
        if planned["id"] in paths and (timing := paths[planned["id"]] / "timing.json").exists():
            core_seconds += float(read_json(timing)["seconds"])
    table = _runs_table(runs, study["axes"])
    return Tables(
        study,
        table,
        _measures_table(measures),
        history if done else pd.DataFrame({"run_id": [], "epoch": []}),
        tuple(notes),
        {key: ", ".join(values) for key, values in sorted(environment.items())},
        tracks,
        read_views(store, study, table),
        configs,
        core_seconds,
    )


def _run_row(planned: dict[str, Any], config: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    full = config["batch_size"] == "full"
    row = {
        "run_id": planned["id"],
        "configuration": planned["configuration"],
        "status": outcome["status"],
        "stop_reason": outcome["stop_reason"],
        "epochs": outcome["epochs"],
        "parameters": outcome["parameters"],
        "data": config["data"]["name"],
        "model": config["model"]["name"],
        "optimizer": config["optimizer"]["name"],
        "lr": config["optimizer"]["lr"],
        "batch_size": outcome["train_samples"] if full else config["batch_size"],
        "seed": config["seed"],
    }
    for name, value in planned["settings"].items():
        if name not in row:
            row[name] = value if isinstance(value, int | float | str | None) else json.dumps(value)
    return row | {key: outcome.get(key) for key in OUTCOMES}


def _runs_table(rows: list[dict[str, Any]], axes: list[str]) -> pd.DataFrame:
    import pandas as pd

    first = ["run_id", "configuration", "status", "stop_reason", "epochs", "parameters", "data", "model"]
    table = pd.DataFrame(
        rows, columns=None if rows else [*first, "optimizer", "lr", "batch_size", "seed", *OUTCOMES]
    )
    for column in OUTCOMES:
        table[column] = table[column].astype("float64")
    table["gap"] = table["test_loss"] - table["train_loss"]
    return table


def _measures_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(MEASURE_COLUMNS))
    for column, kind in MEASURE_COLUMNS.items():
        if kind == "float64":
            table[column] = table[column].astype("float64")
        elif kind == "bool":
            table[column] = table[column].astype(bool)
        else:
            table[column] = table[column].astype(object).where(table[column].notna(), "").astype(str)
    return table

"""``sharpscope status``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from sharpscope.cli.options import Json, StoreFolder
from sharpscope.cli.streams import say

if TYPE_CHECKING:
    from sharpscope.sweep import CoordinatorState


def status(
    store: StoreFolder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file's SHA-256 with what was published.")
    ] = False,
    json: Json = False,
) -> None:
    """Say how far a study is: what is done, what is missing, what runs where, what failed and why.

    It only reads, so it may be asked at any time, by anyone, while sweeps run. With --verify it ends with status 1
    where a result is damaged.
    """
    from sharpscope.cli.printing import print_json, print_table
    from sharpscope.studies.results.records import read_records, results_by_name
    from sharpscope.sweep import Store, activity

    opened = Store(store, create=False)
    records = read_records(opened)
    planned = results_by_name(records)
    published = opened.published()
    known = {result for results in planned.values() for result in results}
    damage = opened.find_damage(known) if verify else {}
    records_damaged = opened.find_damaged_records() if verify else {}
    coordinators = [one for one in activity(opened.root) if one.alive is not False or one.results]
    running = {result for one in coordinators if one.alive is not False for result in one.results}
    running -= published.keys()
    failures = [one for one in opened.failures() if one.id in known and one.id not in running]
    lost = {failure.id for failure in failures}
    rows = []
    for name, results in planned.items():
        counts = [sum(one in some for one in results) for some in (published, running, lost)]
        rows.append([name, *counts[:2], len(results) - sum(counts), counts[2]])
    if json:
        print_json(
            {
                "study": " ".join(study["key"] for study in records),
                "store": str(opened.root),
                "tasks": [
                    dict(zip(("what", "done", "running", "missing", "failed"), row, strict=True))
                    for row in rows
                ],
                "coordinators": [dataclasses.asdict(one) for one in coordinators],
                "failures": [{"task": f.id, "label": f.label, "reason": f.reason} for f in failures],
                **({"damaged": {**damage, **records_damaged}} if verify else {}),
            }
        )
    else:
        for study in records:
            say(f"{study['key']}: {study['title'] or 'untitled'}")
        print_table(["", "done", "running", "missing", "failed"], rows, right=[1, 2, 3, 4])
        for one in coordinators:
            say("\n".join(_lines(one)))
        together: dict[tuple[str, str], list[str]] = {}
        for failure in failures:
            together.setdefault((failure.label, failure.reason), []).append(failure.id)
        for (label, reason), ids in together.items():
            more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
            say(f"failed: {ids[0]}{more}, {label}: {reason}")
        for result, what in damage.items():
            say(f"damaged: {published[result]}/{result}: {what}")
        if damage:
            say(f"'sharpscope retry {opened.root} --damaged', then the study again, redoes just these")
        for path, what in records_damaged.items():
            say(f"damaged: {path}: {what}")
        if verify and not damage and not records_damaged:
            say("every result is as it was published")
    if damage or records_damaged:
        raise typer.Exit(1)


def _lines(one: CoordinatorState) -> list[str]:
    """Return what there is to say of a coordinator: one line for itself and one for each task it runs."""
    from sharpscope.cli.printing import duration

    if one.alive is False:
        what = f"{len(one.results)} result{'s' if len(one.results) > 1 else ''}"
        return [f"died: process {one.pid} of {one.host}, at work on {what}; the next run goes on from there"]
    left = "" if one.eta is None else f", {duration(one.eta)} left"
    sure = "" if one.alive else ", if it still lives: that machine was not asked"
    lines = [f"at work: process {one.pid} of {one.host}, {one.workers} at a time{left}{sure}"]
    for task in one.running:
        host = "" if task.host == one.host else f" of {task.host}"
        where = "" if task.pid is None else f" (process {task.pid}{host})"
        share = "" if task.fraction is None else f", {task.fraction:.0%} done"
        still = "" if task.left is None else f", {duration(task.left)} left"
        number = "starting" if task.worker is None else f"worker {task.worker}"
        lines.append(
            f"  {number}{where}: {task.label or task.task} for {duration(task.seconds)}{share}{still}"
        )
    return lines

"""``sharpscope plan``: power before compute."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpscope.cli.options import Json, Looks, Scale, Store, StudyName
from sharpscope.cli.streams import say
from sharpscope.errors import InputError

if TYPE_CHECKING:
    from sharpscope.studies.forecast import Forecast


def plan(
    study: StudyName,
    store: Store = None,
    scale: Scale = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", metavar="N,N,...", help="Seeds in all, each judged alone.  [default: the study's own]"
        ),
    ] = None,
    looks: Looks = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="[COLUMN=]SD",
            help="Assume this standard deviation over seeds instead of earlier runs; repeatable.",
        ),
    ] = None,
    effect: Annotated[
        list[str] | None,
        typer.Option(
            "--effect",
            metavar="[COLUMN=]SIZE",
            help="With --noise: the true effect, by column or claim.  [default: what matters to the claim]",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say how likely each claim is to be decided with so many seeds, how many it takes, and what that costs.

    From earlier runs of the study in a store, or from an assumed noise. Nothing is run. An effect estimated from
    three seeds is often wrong by half: take the answer for an order of magnitude. Noise and effects are in the unit
    of the column, as shares where a claim is about a ratio: 0.1 for a factor of 1.1.

    \b
    Examples:
      sharpscope plan kaur2022/fig1 --scale laptop --store results/kaur2022-fig1-laptop
      sharpscope plan kaur2022/fig1 --scale paper --noise test_accuracy=0.01 --noise lambda_max=0.2
    """
    from sharpscope.cli.printing import print_json
    from sharpscope.studies import load_studies
    from sharpscope.studies.forecast import forecast
    from sharpscope.studies.plan.cost import Calibration
    from sharpscope.sweep import Store

    if looks and seeds:
        raise InputError("--seeds and --looks exclude each other, received both; leave one out")
    if effect and not noise:
        raise InputError("--effect belongs to --noise, received without it; give --noise too")
    if noise and store:
        raise InputError("--store and --noise exclude each other, received both; leave one out")
    studies = load_studies(study, scale)
    planned, asked = _planned(looks), _numbers(seeds)
    assumed = (_by_name(noise, "--noise"), _by_name(effect, "--effect"))
    found, left_out, timing = [], [], Calibration()
    for one in studies:
        place = store or (Path("results") / one.folder if not noise else None)
        there = place is not None and (store is not None or (place / "study.json").exists())
        earlier = Store(place, create=False) if there and place is not None else None
        try:
            found.append(
                forecast(
                    one,
                    asked,
                    store=earlier,
                    noise=assumed[0],
                    effects=assumed[1],
                    looks=planned,
                    calibration=timing,
                )
            )
        except InputError as refusal:  # of several studies those that can be planned are
            left_out.append(refusal)
    if left_out and not found:
        raise left_out[0]
    for said in left_out:
        say(f"left out: {said}", error=True)
    if json:
        print_json([_document(expected) for expected in found])
    else:
        for expected in found:
            _print(expected)


def _planned(text: str | None) -> Any:
    from sharpscope.analysis.claims import Looks

    return None if text is None else Looks(Looks.read(text))


def _numbers(text: str | None) -> list[int]:
    """Return the numbers of seeds, ascending."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 10_000 for part in parts):
        raise InputError(
            f"--seeds must be whole numbers up to 10000 separated by commas, received {text!r}; write 3,5,8"
        )
    return sorted(set(map(int, parts)))


def _by_name(given: list[str] | None, option: str) -> dict[str, float]:
    """Return the sizes by column, that of every column under the empty name."""
    found = {}
    for text in given or []:
        name, _, size = text.rpartition("=")
        try:
            found[name.strip()] = float(size)
        except ValueError:
            found[name.strip()] = float("nan")
        if not (isfinite(found[name.strip()]) and found[name.strip()] > 0):
            raise InputError(
                f"{option} must be a positive number, alone or after COLUMN=, received {text!r}; write gap=0.01"
            )
    return found


def _print(one: Forecast) -> None:
    from sharpscope.cli.printing import print_table

    title = one.key if one.scale == "own" else f"{one.key} ({one.scale})"
    say(f"{title}: from {one.basis}")
    asked = list(one.runs)
    rows, notes = [], []
    for claim, part in one.table.groupby("id", sort=False):
        chances = ["–" if c != c else f"{100 * c:.0f} %" for c in part["chance"]]
        needed, note = part["needed"].iloc[0], part["note"].iloc[0]
        takes = f"{needed:.0f}" if needed == needed else "–" if note else "over 500"
        rows.append([claim, part["kind"].iloc[0], *chances, takes])
        notes += [f"{claim}: {note}"] if note else []
    heads = [f"{k} seed{'s' if k > 1 else ''}" for k in asked]
    rows.append(["runs", "", *(str(one.runs[k]) for k in asked), ""])
    hours = [one.core_hours[k] for k in asked]
    rows.append(["core-hours", "", *("–" if h is None else f"{h:.2g}" for h in hours), ""])
    print_table(["claim", "kind", *heads, "seeds for 80 %"], rows, right=range(2, 3 + len(asked)))
    for note in notes:
        say(f"  {note}")
    if one.cost_basis:
        say(f"  core-hours: {one.cost_basis}")
    say()


def _document(one: Forecast) -> dict[str, Any]:
    claims = [
        {
            "id": claim,
            "kind": part["kind"].iloc[0],
            "chance": {str(k): c for k, c in zip(part["seeds"], part["chance"], strict=True)},
            "needed": part["needed"].iloc[0],
            "note": part["note"].iloc[0],
        }
        for claim, part in one.table.groupby("id", sort=False)
    ]
    return {
        "study": one.key,
        "scale": one.scale,
        "basis": one.basis,
        "claims": claims,
        "runs": {str(k): count for k, count in one.runs.items()},
        "core_hours": {str(k): hours for k, hours in one.core_hours.items()},
        "cost_basis": one.cost_basis,
    }

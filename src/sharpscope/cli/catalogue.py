"""``sharpscope data``, ``models``, ``measures`` and ``studies``: what there is to train on, train, measure, run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from sharpscope.cli.options import DataDir, Json, complete_study
from sharpscope.cli.streams import say


def data(data_dir: DataDir = None, json: Json = False) -> None:
    """List the data sets: sizes, where they were found, how they are standardised.

    Files are looked for in --data-dir (or $SHARPSCOPE_DATA), then in the cache ($SHARPSCOPE_CACHE or
    ~/.cache/sharpscope); what is missing is downloaded when a run needs it. digits is always there.
    """
    from sharpscope.cli.printing import print_json, print_table
    from sharpscope.data import available

    sets = available(data_dir)
    if json:
        print_json([{**asdict(s), "found": s.found, "sizes": s.sizes} for s in sets])
        return
    print_table(
        ["name", "sizes", "task", "found"],
        [[s.name, s.sizes, s.task, s.where if s.found else f"no: {s.problem}"] for s in sets],
    )
    say()
    for s in sets:
        say(f"{s.name}: {s.title}. {s.standardisation}")
        for note in s.notes:
            say(f"  note: {note}")


def models(json: Json = False) -> None:
    """List the models: parameters at their reference setting, the papers that use them, their options.

    Use your own with model = "package.module:factory" in a study; the factory returns an nn.Module.
    """
    from sharpscope.cli.printing import print_json, print_table
    from sharpscope.models import catalogue

    listed = catalogue()
    if json:
        print_json([asdict(m) for m in listed])
        return
    print_table(
        ["name", "parameters", "papers", "what it is"],
        [[m.name, f"{m.parameters:,}", ", ".join(m.papers) or "–", m.title] for m in listed],
        right=[1],
    )
    say("\nOptions and defaults: sharpscope models --json")


def measures(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One measure, with its options and their defaults.")
    ] = None,
    json: Json = False,
) -> None:
    """List the measures: definition, source, cost, and whether rescaling the network changes them.

    A measure that function-preserving rescalings change compares only networks that are scaled alike; see
    sharpscope audit.
    """
    from sharpscope.cli.printing import print_json, print_table
    from sharpscope.measures import REGISTRY, find

    listed = [find(name)] if name else list(REGISTRY.values())
    if json:
        print_json(
            [
                {
                    **{
                        k: getattr(m, k)
                        for k in ("name", "title", "symbol", "definition", "source", "unit", "cost")
                    },
                    "rescaling_invariant": m.rescaling_invariant,
                    "options": {key: _plain(value) for key, value in m.options.items()},
                }
                for m in listed
            ]
        )
        return
    if name:
        m = listed[0]
        say(f"{m.title}, {m.symbol}" + (f", in {m.unit}" if m.unit else ""))
        say(m.definition)
        say(f"source: {m.source or '–'}")
        say(f"cost: {m.cost}")
        say(f"changed by rescalings: {'no' if m.rescaling_invariant else 'yes'}")
        for key, value in m.options.items():
            say(f"  {key} = {_plain(value)!r}")
        return
    print_table(
        ["name", "changed by rescalings", "cost", "source", "definition"],
        [
            [m.name, "no" if m.rescaling_invariant else "yes", m.cost, m.source or "–", m.definition]
            for m in listed
        ],
    )
    say("\nOptions and defaults: sharpscope measures NAME")


def _plain(value: object) -> object:
    """Return a default as JSON can hold it."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def studies(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]", help="PAPER, PAPER/EXPERIMENT, or a study file.", autocompletion=complete_study
        ),
    ] = None,
    cost: Annotated[
        bool, typer.Option(help="Estimate the time on this machine; takes a few seconds.")
    ] = True,
    json: Json = False,
) -> None:
    """List the studies: papers, experiments, claims; at every scale the runs and the time they will take here.

    The time is an estimate for all cores of this machine: one training step of each network is timed, runs are
    taken to last as long as they may.

    \b
    Examples:
      sharpscope studies
      sharpscope studies kaur2022
      sharpscope studies kaur2022/fig1
    """
    from sharpscope.cli.printing import print_json
    from sharpscope.studies.plan.catalogue import describe, every_file

    if study is None:
        listed = every_file(cost)
        if json:
            print_json(listed)
        else:
            _print_files(listed)
        return
    described = describe(study, cost)
    if json:
        print_json(described)
    elif len(described) > 1:
        _print_experiments(described)
    else:
        for one in described:
            _print_study(one)


def _words(extent: dict[str, Any]) -> str:
    from sharpscope.cli.printing import duration

    runs = f"{extent['runs']} runs"
    if "seconds" not in extent:
        return runs
    seconds = extent["seconds"]
    days = f"{seconds / 86400:.0f} days" if seconds >= 3 * 86400 else duration(seconds)
    return f"{runs}, at most about {days}"


def _print_files(listed: list[dict[str, Any]]) -> None:
    for one in listed:
        counts = f"{len(one['experiments'])} experiments, " if one["experiments"] else ""
        say(f"{one['name']}: {one['title']} ({counts}{one['claims']} claims)")
        for scale, extent in one["scales"].items():
            say(f"  {scale + ':':8}{_words(extent)}")
    _print_caution(listed)
    say("More: sharpscope studies NAME. Run: sharpscope run NAME/EXPERIMENT --scale SCALE")


def _print_experiments(described: list[dict[str, Any]]) -> None:
    from sharpscope.cli.printing import print_table

    say(described[0]["paper"])
    scales = list(described[0]["scales"])
    rows = [
        [
            one["name"],
            ", ".join(claim["id"] for claim in one["claims"]) or "–",
            *(_words(one["scales"][scale]) for scale in scales),
            one["title"],
        ]
        for one in described
    ]
    print_table(["experiment", "claims", *scales, "what it is"], rows)
    _print_caution(described)


def _print_study(one: dict[str, Any]) -> None:
    say(f"{one['name']}: {one['title'] or 'untitled'}")
    if one["description"]:
        say(one["description"])
    for claim in one["claims"]:
        say(f"  {claim['id']}: {claim['statement']}")
    for scale, extent in one["scales"].items():
        note = f" {extent['note']}" if extent["note"] else ""
        say(f"{scale}: {_words(extent)}.{note}")
    _print_caution([one])


def _print_caution(listed: list[dict[str, Any]]) -> None:
    cores = [extent["cores"] for one in listed for extent in one["scales"].values() if "cores" in extent]
    if cores:
        say(
            f"Times are estimates for the {cores[0]} cores of this machine and runs of full length; most stop sooner."
        )

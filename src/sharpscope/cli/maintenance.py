"""``sharpscope gc`` and ``sharpscope retry``: what is taken out of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpscope.cli.options import Json, StoreFolder
from sharpscope.cli.streams import say


def gc(
    store: StoreFolder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")] = False,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="Also results that no study of the store asks for any more.")
    ] = False,
    other_machines: Annotated[
        bool,
        typer.Option(
            "--other-machines",
            help="Also what processes of other machines left: only when none of them works in the store.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Clear away what dead processes left in a store: temporary files, leases, workspaces of published tasks.

    Results are never touched, unless --unplanned asks for those that no study mentions; nor is what an unfinished
    task has saved. A store of an older format is brought up to date.
    """
    from sharpscope.cli.printing import print_json
    from sharpscope.studies.maintenance import clear_away
    from sharpscope.sweep import Store

    opened = Store(store, create=False)
    gone = clear_away(opened, dry_run=dry_run, unplanned=unplanned, other_machines=other_machines)
    if json:
        print_json({"store": str(opened.root), "removed": not dry_run, "paths": gone})
        return
    for path in gone:
        say(path)
    say(f"{len(gone)} {'would go' if dry_run else 'removed'}" if gone else "there is nothing to clear away")


def retry(
    store: StoreFolder,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Results to make anew, published or failed.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Forget every failure and what failed tasks had saved.")
    ] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Remove every result that is not as it was published.")
    ] = False,
    json: Json = False,
) -> None:
    """Take results out of a store, with all that was made from them, so that the next run redoes just that.

    Failed tasks are tried again by the next run in any case, from what they had saved; --failed lets them start
    afresh. No sweep may run that takes a result to be removed for done.
    """
    from sharpscope.cli.printing import print_json
    from sharpscope.errors import InputError
    from sharpscope.studies.maintenance import retry as take_out
    from sharpscope.studies.results.records import command_of, read_records
    from sharpscope.sweep import Store

    if not (ids or failed or damaged):
        raise InputError(
            "retry needs to know what, received nothing; name ids, or pass --failed or --damaged"
        )
    opened = Store(store, create=False)
    commands = [f"{command_of(record)} --store {opened.root}" for record in read_records(opened)]
    retried = take_out(opened, ids or (), failed=failed, damaged=damaged)
    if json:
        print_json(
            {
                "store": str(opened.root),
                "removed": retried.removed,
                "forgotten": list(retried.forgotten),
                "next": commands,
            }
        )
        return
    for result, why in retried.removed.items():
        say(f"removed: {result}: {why}")
    for result in retried.forgotten:
        say(f"forgotten: the failure of {result}")
    if not (retried.removed or retried.forgotten):
        say("there is nothing to do again")
    else:
        say("next:")
        for command in commands:
            say(f"  {command}")

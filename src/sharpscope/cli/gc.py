"""``sharpscope gc``."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpscope.cli.options import Json, StoreFolder


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
        print(path)
    print(f"{len(gone)} {'would go' if dry_run else 'removed'}" if gone else "there is nothing to clear away")

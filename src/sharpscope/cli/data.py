"""``sharpscope data``."""

from __future__ import annotations

from dataclasses import asdict

from sharpscope.cli.options import DataDir, Json


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
    print()
    for s in sets:
        print(f"{s.name}: {s.title}. {s.standardisation}")
        for note in s.notes:
            print(f"  note: {note}")

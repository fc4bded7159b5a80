"""``sharpscope league``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpscope.cli.options import Json
from sharpscope.cli.streams import say


def league(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="Folders that studies were run into.")
    ],
    target: Annotated[
        str, typer.Option(help="The outcome to predict: gap, test_loss, test_accuracy.", metavar="COLUMN")
    ] = "gap",
    measures: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.  [default: all]", metavar="NAMES")
    ] = None,
    given: Annotated[
        str, typer.Option(help="What is held fixed in the partial columns.", metavar="COLUMN")
    ] = ("train_loss"),
    csv: Annotated[Path | None, typer.Option(help="Write the whole table there.", metavar="FILE")] = None,
    json: Json = False,
) -> None:
    """Rank measures as predictors of the generalisation gap over all runs of one or several stores.

    Kendall's tau among runs of one seed; granulated tau, the mean over runs that differ in one setting alone;
    partial tau and rho with training loss held fixed; the share of changes of one setting whose sign the measure
    gets wrong, on average and at worst; what it says beyond any two settings. Intervals are 95 %, over
    configurations. First comes the measure whose tau stays furthest from zero with certainty.
    """
    from sharpscope.analysis import measure_names, warnings
    from sharpscope.analysis.league import league as rank
    from sharpscope.cli.printing import print_json, print_table
    from sharpscope.errors import InputError, StoreError
    from sharpscope.studies.results.pool import pool_stores
    from sharpscope.sweep import Store

    pool = pool_stores([Store(path, create=False) for path in stores])
    names = measure_names(pool.measures)
    chosen = [name.strip() for name in measures.split(",")] if measures else names
    for name in chosen:
        if name not in names:
            raise InputError(f"--measures must be among {', '.join(names) or 'none'}, received {name!r}")
    together = ("study", "seed") if pool.runs["study"].nunique() > 1 else ("seed",)
    table = rank(pool.results(), chosen, pool.axes, target, given=given, together=together)
    caveats = [*pool.notes, *(caveat.text for caveat in warnings(pool.runs, pool.measures))]
    if csv is not None:
        try:
            csv.write_text(table.to_csv(index=False), encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"the table cannot be written to {csv} ({error.strerror}); pass another --csv"
            ) from error
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    if json:
        print_json(
            {
                "target": target,
                "given": given,
                "axes": list(pool.axes),
                "measures": records,
                "cautions": caveats,
            }
        )
        return
    say(f"{len(pool.runs)} runs, {target} predicted; 95 % intervals over configurations")
    headers = ["rank", "measure", "τ_b", "granulated τ", f"τ given {given}", f"ρ given {given}"]
    headers += ["sign error (worst)", "information", "runs"]
    rows = [
        [
            _ranks(row),
            row["measure"],
            *(_with_interval(row, name) for name in ("tau", "granulated", "partial_tau", "partial_rho")),
            _sign_error(row),
            "–" if row["information"] is None else f"{row['information']:.2f}",
            row["n"],
        ]
        for row in records
    ]
    print_table(headers, rows, right=[8])
    for row in records:
        if row["note"]:
            say(f"{row['measure']}: {row['note']}")
    for caveat in caveats:
        say(f"note: {caveat}")


def _ranks(row: Mapping[Hashable, Any]) -> str:
    """Return a rank and those that the resamples gave: ``2 (1–3)``."""
    low, high = row["rank_low"], row["rank_high"]
    return f"{row['rank']} ({low}–{high})" if low != high else str(row["rank"])


def _sign_error(row: Mapping[Hashable, Any]) -> str:
    """Return the mean and the worst sign error: ``0.25 (1.00)``."""
    mean, worst = row["sign_error"], row["worst_sign_error"]
    return "–" if mean is None else f"{mean:.2f} ({worst:.2f})"


def _with_interval(row: Mapping[Hashable, Any], name: str) -> str:
    """Return a coefficient with its interval: ``+0.42 [+0.10, +0.66]``."""
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "–"
    return f"{value:+.2f}" if low is None else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"

"""``sharpscope audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpscope.cli.options import Json, Settings, TargetOptions, with_target
from sharpscope.cli.streams import say


@with_target(samples=16)
def audit(
    target: TargetOptions,
    measures: Annotated[
        str | None,
        typer.Option(
            "--measures",
            metavar="NAMES",
            help="Comma-separated names, or 'all'.  [default: one of every kind, at settings that show a change]",
        ),
    ] = None,
    set_: Settings = None,
    repetitions: Annotated[int, typer.Option("--repetitions", min=1, help="Random rescalings.")] = 2,
    spread: Annotated[
        float, typer.Option("--spread", metavar="S", help="Factors lie between 1/S and S, one per channel.")
    ] = 4.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of factors and random estimates.")] = 0,
    json: Json = False,
) -> None:
    """Say which measures are safe to compare across models.

    Rescales the network's channels and mixes the units of attention's heads at random without changing its function,
    and reports how much each measure changes. Rescalings are found by tracing the model (ReLU and pooling networks,
    with or without batch normalisation), heads by the names of their layers; copies are changed. Few samples serve:
    whether a measure changes does not depend on the data.

    \b
    Examples:
      sharpscope audit --checkpoint results/quickstart/runs/ID/checkpoint.safetensors
      sharpscope audit lenet5 --data fashion_mnist --measures lambda_max,worst_case --set worst_case.radius=0.01
    """
    from sharpscope.cli.printing import number, print_json, print_table
    from sharpscope.cli.target import load_target, show_progress, specs_of
    from sharpscope.measures.invariance.audit import USUAL
    from sharpscope.measures.invariance.audit import audit as take_audit

    specs = specs_of(measures, set_ or [], USUAL)
    loaded = load_target(target, seed)
    found = take_audit(
        loaded.obj,
        specs,
        repetitions=repetitions,
        spread=spread,
        seed=seed,
        progress=show_progress,
    )
    if json:
        print_json(
            {
                "rescalings": [str(r) for r in found.rescalings],
                "heads": [f"{pair.module}: {pair.what}, head {pair.head}" for pair in found.heads],
                "function_change": found.function_change,
                "spread": spread,
                "repetitions": repetitions,
                "seed": seed,
                "fingerprint": loaded.obj.fingerprint,
                "data": loaded.data,
                "samples": loaded.obj.n_samples,
                "notes": list(loaded.notes),
                "measures": found.table.to_dict("records"),
            }
        )
        return
    say(
        f"{len(found.rescalings)} rescalings, {sum(r.channels for r in found.rescalings)} channels, factors "
        f"{1 / spread:g} to {spread:g}, GL(h) of {len(found.heads)} pairs of attention's weights, {repetitions} draws"
        f"; outputs changed by {found.function_change:.1e} (rounding)"
    )
    for note in loaded.notes:
        say(f"note: {note}")
    say()
    print_table(
        ["measure", "value", "largest relative change", "comparable across models", "seconds"],
        [
            [
                r["measure"], number(r["value"]), f"{r['largest']:.1e}", "yes" if r["invariant"] else "NO",
                f"{r['seconds']:.1f}",
            ]
            for r in found.table.to_dict("records")
        ],
        right=[1, 2, 4],
    )  # fmt: skip

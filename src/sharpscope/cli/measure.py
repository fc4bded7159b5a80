"""``sharpscope measure``."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpscope.cli.options import Json, Settings, TargetOptions, with_target
from sharpscope.cli.streams import say
from sharpscope.cli.world import Shard, join

COSTS = ("losses", "gradients", "products")


@with_target()
def measure(
    target: TargetOptions,
    measures: Annotated[
        str, typer.Option("--measures", metavar="NAMES", help="Comma-separated names, or 'all'.")
    ] = "all",
    set_: Settings = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random estimates.")] = 0,
    shard: Shard = False,
    json: Json = False,
) -> None:
    """Measure a checkpoint: every value with its error, cost, protocol and fingerprint.

    \b
    Examples:
      sharpscope measure --checkpoint results/quickstart/runs/ID/checkpoint.safetensors
      sharpscope measure lenet5 --checkpoint w.safetensors --data fashion_mnist --measures lambda_max,trace
      sharpscope measure mynet:build --checkpoint w.pt --data table.parquet --target label --set trace.samples=64
      torchrun --nproc-per-node 2 -m sharpscope measure lenet5 --checkpoint FOLDER --data fashion_mnist --shard
      sharpscope measure hf:my-bert --data reviews.csv --column text --target stars --measures lambda_max
    """
    from sharpscope.cli.printing import number, print_json, print_table
    from sharpscope.cli.target import load_target, show_progress, specs_of
    from sharpscope.measures import measure as take_all

    specs = specs_of(measures, set_ or [])
    loaded = load_target(target, seed, join(target.device, shard))
    obj = loaded.obj
    table = take_all(obj, specs, seed=seed, strict=measures != "all", progress=show_progress)
    if json:
        print_json(
            {
                "fingerprint": obj.fingerprint,
                "data": loaded.data,
                "standardisation": loaded.standardisation,
                "notes": list(loaded.notes),
                "samples": obj.n_samples,
                "parameters": obj.size,
                "loss": obj.loss(),
                "measures": table.to_dict("records"),
            }
        )
        return
    say(
        f"loss {number(obj.loss(), 6)} on {obj.n_samples:g} {loaded.counted} of {loaded.data}, "
        f"mode {target.mode}"
    )
    say(f"{obj.size:,} parameters, fingerprint {obj.fingerprint}")
    for note in loaded.notes:
        say(f"note: {note}")
    say()
    print_table(
        ["measure", "value", "95 % low", "95 % high", "converged", *COSTS, "seconds", "protocol"],
        [
            [
                r["measure"], number(r["value"]), number(r["low"]), number(r["high"]),
                "yes" if r["converged"] else "NO", *(number(r[cost]) for cost in COSTS),
                f"{r['seconds']:.1f}", r["protocol"],
            ]
            for r in table.to_dict("records")
        ],
        right=[1, 2, 3, 5, 6, 7, 8],
    )  # fmt: skip
    totals = ", ".join(f"{number(float(table[cost].sum()))} {cost}" for cost in COSTS)
    say(f"\ntotal: {totals} over the data, {table['seconds'].sum():.1f} s")

"""``sharpscope measure``."""

from __future__ import annotations

from typing import Annotated

import typer

from sharpscope.cli.options import (
    Checkpoint,
    Data,
    DataDir,
    Device,
    Factory,
    Json,
    ModelOption,
    Part,
    Samples,
    Settings,
)
from sharpscope.cli.streams import say

COSTS = ("losses", "gradients", "products")


def measure(
    factory: Factory = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    measures: Annotated[
        str, typer.Option("--measures", metavar="NAMES", help="Comma-separated names, or 'all'.")
    ] = "all",
    option: ModelOption = None,
    set_: Settings = None,
    samples: Samples = None,
    part: Part = "train",
    mode: Annotated[
        str,
        typer.Option(
            "--mode", metavar="eval|train", help="Batch normalisation: running or batch statistics."
        ),
    ] = "eval",
    seed: Annotated[int, typer.Option("--seed", help="Seed of random estimates.")] = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure a checkpoint: every value with its error, cost, protocol and fingerprint.

    \b
    Examples:
      sharpscope measure --checkpoint results/quickstart/runs/ID/checkpoint.safetensors
      sharpscope measure lenet5 --checkpoint w.safetensors --data fashion_mnist --measures lambda_max,trace
      sharpscope measure mynet:build --checkpoint w.safetensors --data cifar10 --set average_direction.radius=1.0
    """
    from sharpscope.cli.printing import number, print_json, print_table
    from sharpscope.cli.target import load_target, specs_of
    from sharpscope.measures import measure as take_all

    specs = specs_of(measures, set_ or [])
    target = load_target(
        factory, checkpoint, data, option or [], data_dir, device,
        samples=samples, part=part, mode=mode, seed=seed,
    )  # fmt: skip
    obj, dataset = target.obj, target.dataset
    table = take_all(obj, specs, seed=seed, strict=measures != "all")
    if json:
        print_json(
            {
                "fingerprint": obj.fingerprint,
                "data": dataset.name,
                "standardisation": dataset.standardisation,
                "notes": list(dataset.notes),
                "samples": obj.n_samples,
                "parameters": obj.size,
                "loss": obj.loss(),
                "measures": table.to_dict("records"),
            }
        )
        return
    say(f"loss {number(obj.loss(), 6)} on {obj.n_samples:g} {part} samples of {dataset.name}, mode {mode}")
    say(f"{obj.size:,} parameters, fingerprint {obj.fingerprint}")
    for note in dataset.notes:
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

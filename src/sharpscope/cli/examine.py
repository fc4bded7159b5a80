"""``sharpscope examine``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sharpscope.cli.options import Json, TargetOptions, with_target
from sharpscope.cli.streams import say
from sharpscope.cli.world import Shard, join, rank


@with_target()
def examine(
    target: TargetOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.")
    ] = Path("examination.html"),
    without: Annotated[
        str | None, typer.Option("--without", metavar="PARTS", help="Comma-separated parts to leave out.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Eigenvalues at each end.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random estimates and directions.")] = 0,
    shard: Shard = False,
    json: Json = False,
) -> None:
    """Examine a model: curvature, sharpness at several radii, rescalings and a surface, on one page.

    The parts are eigenvalues, trace, frobenius_norm, density, by_layer, average_direction, worst_case, audit and
    surface. The page needs no network.

    \b
    Examples:
      sharpscope examine --checkpoint results/quickstart/runs/ID/checkpoint.safetensors
      sharpscope examine mynet:build --checkpoint w.pt --data table.csv --target price -o mynet.html
      sharpscope examine hf:my-gpt2 --text book.txt --block 64
      sharpscope examine lenet5 --data fashion_mnist --samples 1000 --without surface,audit
    """
    from sharpscope.cli.printing import number, print_json, print_table
    from sharpscope.cli.target import load_target, show_progress, tell_cost
    from sharpscope.errors import InputError
    from sharpscope.examination import examine as examine_objective

    skipped = [part.strip() for part in (without or "").split(",") if part.strip()]
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(
            f"--output takes a file in a folder that exists, received {str(output)!r}; name such a file"
        )
    loaded = load_target(target, seed, join(target.device, shard))
    tell_cost(loaded.obj, skipped)
    found = examine_objective(
        loaded.obj,
        k=k,
        without=skipped,
        title=f"{loaded.model} on {loaded.data}",
        counted="token" if loaded.counted == "tokens" else "sample",
        seed=seed,
        progress=show_progress,
    )
    said = (*loaded.notes, f"Inputs: {loaded.standardisation}.")
    found = replace(found, notes=(*said, *found.notes))
    if rank() == 0:
        found.to_html(output)
    table = found.to_frame()
    if json:
        print_json(
            {
                "page": str(output),
                "fingerprint": found.fingerprint,
                "data": loaded.data,
                "notes": list(found.notes),
                "summary": [found.sentences.headline, *found.sentences.lines],
                "numbers": table.to_dict("records"),
            }
        )
        return
    for line in [str(found), *(f"note: {note}" for note in found.notes)]:
        say(line)
    say()
    print_table(
        ["measure", "radius", "value", "95 % low", "95 % high", "converged"],
        [
            [
                r["measure"], number(r["radius"]), number(r["value"]), number(r["low"]), number(r["high"]),
                "yes" if r["converged"] else "NO",
            ]
            for r in table.to_dict("records")
        ],
        right=[1, 2, 3, 4],
    )  # fmt: skip
    say(f"\npage: {output}")

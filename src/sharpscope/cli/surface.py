"""``sharpscope surface``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpscope.cli.options import Frozen, Json, Output, TargetOptions, with_target
from sharpscope.cli.streams import say


@with_target("factory", "checkpoint")
def surface(
    target: TargetOptions,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Weights, see --checkpoint of measure. None for an hf: model's own."
        ),
    ] = None,
    radius: Annotated[
        float, typer.Option("--radius", help="Half the side; 1 is as long as the weights that move.")
    ] = 1.0,
    points: Annotated[int, typer.Option("--points", min=3, help="Points along a side, odd.")] = 21,
    trajectory: Annotated[
        list[Path] | None,
        typer.Option(
            "--trajectory", metavar="FILE", help="An earlier checkpoint to project; repeatable, oldest first."
        ),
    ] = None,
    principal: Annotated[
        bool, typer.Option("--principal", help="The plane of the trajectory instead of random directions.")
    ] = False,
    frozen: Frozen = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the directions.")] = 0,
    output: Output = Path("landscape"),
    json: Json = False,
) -> None:
    """The loss over a plane through a model: filter-normalised directions, or the plane of its trajectory.

    Interrupted, the same command goes on from the points it has.

    \b
    Example:
      sharpscope surface RUN/checkpoint.safetensors --samples 1000 --points 21
    """
    from copy import deepcopy
    from dataclasses import replace

    import numpy as np

    from sharpscope.cli.printing import number, print_json
    from sharpscope.cli.target import load_target, output_folder, show_progress
    from sharpscope.examination.surface_figure import surface_figure
    from sharpscope.landscape import surface as take
    from sharpscope.models.weights import load_weights
    from sharpscope.report.landscape import save_specification

    output_folder(output)
    loaded = load_target(replace(target, checkpoint=checkpoint), seed)
    obj, path = loaded.obj, []
    for earlier in trajectory or []:
        other = deepcopy(obj.model)
        load_weights(earlier, other)
        named = dict(other.named_parameters())
        path.append(obj.layout.join(named[n].detach().to(obj.dtype) for n in obj.layout.names))
    found = take(
        obj,
        radius=radius,
        points=points,
        directions="trajectory" if principal else "random",
        trajectory=path or None,
        batch_norm="frozen" if frozen else "recomputed",
        seed=seed,
        partial=output / "surface.partial.json",
        progress=show_progress,
    )
    found.table().to_csv(output / "surface.csv", index=False)
    places = None if found.trajectory is None else [(float(x), float(y)) for x, y in found.trajectory]
    title = f"Loss around a model: {loaded.data}, batch norm {found.protocol['batch_norm']}"
    figures = save_specification({**surface_figure(found), "title": title}, output / "surface")
    (output / "surface.partial.json").unlink(missing_ok=True)
    centre = float(found.losses[points // 2, points // 2])
    highest = float(found.losses[np.isfinite(found.losses)].max())
    if json:
        print_json(
            {
                "loss": centre,
                "largest": highest,
                "explained": found.explained,
                "lengths": list(found.lengths),
                "protocol": dict(found.protocol),
                "fingerprint": found.fingerprint,
                "trajectory": places,
                "points": found.table().to_dict("records"),
                "figures": [str(f) for f in figures],
                "notes": list(loaded.notes),
            }
        )
        return
    say(f"loss {number(centre)} at the model, {number(highest)} at most in the plane")
    for note in loaded.notes:
        say(f"note: {note}")
    if found.explained is not None:
        say(f"the plane holds {100 * found.explained:.1f} % of the trajectory's squared distance")
    say(f"table:  {output / 'surface.csv'}\nfigure: {figures[0]}")

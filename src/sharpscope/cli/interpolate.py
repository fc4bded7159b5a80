"""``sharpscope interpolate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpscope.cli.options import Frozen, Json, Output, TargetOptions, with_target
from sharpscope.cli.streams import say


@with_target("factory", "checkpoint")
def interpolate(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Weights of the first model, see --checkpoint of measure.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Weights of the second model.")],
    target: TargetOptions,
    start: Annotated[float, typer.Option("--from", help="First α; 0 is A.")] = -1.0,
    to: Annotated[float, typer.Option("--to", help="Last α; 1 is B.")] = 2.0,
    points: Annotated[int, typer.Option("--points", min=2, help="Points on the line.")] = 61,
    rise: Annotated[float, typer.Option("--rise", help="Rise of the loss that bounds a basin.")] = 0.1,
    frozen: Frozen = False,
    output: Output = Path("landscape"),
    json: Json = False,
) -> None:
    """Loss and accuracy on the line through two models, and the width of the basin at either end.

    Interrupted, the same command goes on from the points it has.

    \b
    Example:
      sharpscope interpolate RUN1/checkpoint.safetensors RUN2/checkpoint.safetensors --samples 2000
    """
    from copy import deepcopy
    from dataclasses import replace

    import numpy as np

    from sharpscope.cli.printing import number, print_json
    from sharpscope.cli.target import load_target, output_folder, show_progress
    from sharpscope.landscape import interpolate as take
    from sharpscope.models.weights import load_weights
    from sharpscope.report.landscape import draw_line, save_specification

    output_folder(output)
    loaded = load_target(replace(target, checkpoint=first))
    obj = loaded.obj
    other = deepcopy(obj.model)
    load_weights(second, other)
    line = take(
        obj.model,
        other,
        obj,
        np.linspace(start, to, points).tolist(),
        batch_norm="frozen" if frozen else "recomputed",
        partial=output / "interpolation.partial.json",
        progress=show_progress,
    )
    widths = {"a": line.basin_width("a", rise), "b": line.basin_width("b", rise)}
    line.table().to_csv(output / "interpolation.csv", index=False)
    shown = {f"{end.upper()} (rise {rise:g})": w.interval for end, w in widths.items()}
    title = f"Loss between two models: {loaded.data}, batch norm {line.protocol['batch_norm']}"
    figures = save_specification(draw_line(line.table(), shown, title), output / "interpolation")
    (output / "interpolation.partial.json").unlink(missing_ok=True)
    if json:
        print_json(
            {
                "distance": line.distance,
                "own_losses": list(line.own_losses),
                "protocol": dict(line.protocol),
                "fingerprint": line.fingerprint,
                "basin_width": {end: {**vars(w)} for end, w in widths.items()},
                "points": line.table().to_dict("records"),
                "figures": [str(f) for f in figures],
                "notes": list(loaded.notes),
            }
        )
        return
    say(
        f"distance {number(line.distance)} between the models; own losses {', '.join(map(number, line.own_losses))}"
    )
    for note in loaded.notes:
        say(f"note: {note}")
    for end, width in widths.items():
        least = "" if width.complete else "at least "
        say(
            f"basin at {end.upper()}: the loss stays within {rise:g} of its own over {least}{number(width.alpha)} of "
            f"the line, {number(width.distance)} in parameters"
        )
    say(f"table:  {output / 'interpolation.csv'}\nfigure: {figures[0]}")

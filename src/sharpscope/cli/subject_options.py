"""Options that name what ``measure``, ``audit``, ``interpolate`` and ``surface`` look at, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpscope.cli.options import complete_data, complete_model

Factory = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A model's name, or package.module:factory for your own. Not needed for sharpscope's checkpoints, "
        "which know theirs.",
        autocompletion=complete_model,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A model's name, or package.module:factory. Not needed for sharpscope's checkpoints.",
        autocompletion=complete_model,
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of MODEL, as TOML; repeatable."),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="FILE", help="Weights, as safetensors.")
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="NAME", help="The data set.", autocompletion=complete_data)
]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="Measure on a seeded subset of this size.")
]
Part = Annotated[str, typer.Option("--part", metavar="train|test", help="Split to measure on.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="MEASURE.KEY=VALUE", help="An option of a measure, as TOML; repeatable."),
]
Frozen = Annotated[
    bool,
    typer.Option("--frozen", help="Keep batch normalisation's statistics, interpolated, not recompute them."),
]
Output = Annotated[
    Path, typer.Option("--output", metavar="FOLDER", help="Where table, figure and progress go.")
]

"""The options that several commands share, each declared once, and their completion in a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def _data_names(incomplete: str) -> list[str]:
    from sharpscope.data import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


def _study_names(incomplete: str) -> list[str]:
    from sharpscope.studies.file.library import open_study, shipped

    files = [str(p) for p in Path().glob(f"{incomplete}*.toml")]
    paper, slash, _ = incomplete.partition("/")
    names = (
        [f"{paper}/{e}" for e in open_study(paper).experiments] if slash and paper in shipped() else shipped()
    )
    return [name for name in [*names, "all"] if name.startswith(incomplete)] + files


def _model_names(incomplete: str) -> list[str]:
    from sharpscope.models import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


def _known_device(device: str) -> str:
    from sharpscope.errors import InputError

    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise InputError(f"--device must be cpu, cuda or cuda:NUMBER, received {device!r}; choose one")
    return device


DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        envvar="SHARPSCOPE_DATA",
        help="Where data sets lie. Missing ones are downloaded into the cache.",
    ),
]
Store = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", help="Where results go.  [default: results/NAME of the study]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Runs at a time.  [default: what the cores, or the Ray cluster, hold; 32 on Slurm]",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of each run. Results can depend on it in their last bits, never on --workers.",
    ),
]
Executor = Annotated[
    str,
    typer.Option("--executor", metavar="local|ray|slurm", help="Where to run; results do not depend on it."),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus",
        metavar="SHARE",
        help="Of a GPU for each run, with --device cuda: 0.25 lets four share one. Slurm gives whole ones.",
    ),
]
Memory = Annotated[
    float | None, typer.Option("--memory", metavar="GB", help="Main memory for each run, on Ray and Slurm.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        help="The Ray cluster to use, 'auto' for this machine's.  [default: one started on this machine]",
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="LIMIT",
        help="Slurm: time limit of a job, in minutes or as D-HH:MM:SS. Runs that need longer go on in the next.",
    ),
]
Partition = Annotated[str | None, typer.Option("--partition", metavar="NAME", help="Slurm: the partition.")]
Slurm = Annotated[
    list[str] | None,
    typer.Option("--slurm", metavar="KEY=VALUE", help="Slurm: any option of sbatch. Repeat for more."),
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", metavar="smoke|laptop|paper", help="Of a study that declares scales: which one."),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="cpu|cuda", help="Where to train and measure.", callback=_known_device),
]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study file (TOML), a shipped study, PAPER, PAPER/EXPERIMENT or all.",
        autocompletion=_study_names,
    ),
]
StoreFolder = Annotated[Path, typer.Argument(metavar="STORE", help="The folder that a study was run into.")]
Factory = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A model's name, or package.module:factory for your own. Not needed for sharpscope's checkpoints, "
        "which know theirs.",
        autocompletion=_model_names,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A model's name, or package.module:factory. Not needed for sharpscope's checkpoints.",
        autocompletion=_model_names,
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
    str | None, typer.Option("--data", metavar="NAME", help="The data set.", autocompletion=_data_names)
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
complete_study = _study_names

"""The options that several commands share, each declared once, and their completion in a shell."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

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
    typer.Option(
        "--store", metavar="FOLDER", help="Where its results lie.  [default: results/NAME of the study]"
    ),
]
Looks = Annotated[
    str | None,
    typer.Option(
        "--looks",
        metavar="N,N,...",
        help="Seeds in all at each look of 'run --until decided', which takes 3,5,8,12 by default.",
    ),
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
Ranks = Annotated[
    int,
    typer.Option(
        "--ranks",
        min=1,
        help="Processes that compute each run and measure together, each with --threads, or a GPU of its own.",
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

_SECONDS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
"""Seconds of each unit of a time, the longest first, which is the order that they are written in."""


def seconds_in(text: str, option: str) -> float:
    """Return the seconds of a time such as 90s, 15m, 1.5h, 1d or 1h30m, the value of ``option``.

    >>> [seconds_in(text, "--deadline") for text in ("90s", "15m", "90 min", "1.5h", "1h30m", "1d")]
    [90.0, 900.0, 5400.0, 5400.0, 5400.0, 86400.0]

    Raises `InputError` for all else, and for a time of nothing.
    """
    from sharpscope.errors import InputError

    amount, rest, total = r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*", text, 0.0
    for unit, seconds in _SECONDS.items():
        if found := re.match(f"{amount}{unit}(?![a-z])\\s*", rest):
            total += float(found[1]) * seconds
            rest = rest[found.end() :]
    if rest or not total:
        raise InputError(
            f"{option} must be a time such as 90s, 15m, 1h30m or 1d, received {text!r}; write it so"
        )
    return total


@dataclass(frozen=True)
class TargetOptions:
    """What a command measures: a model with its weights, on data. A command takes all of it by `with_target`."""

    factory: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A model's name, package.module:factory for your own, or hf:FOLDER_OR_NAME for one of the "
            "transformers library. Not needed for sharpscope's checkpoints, which know theirs.",
            autocompletion=_model_names,
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The same as MODEL before the options.",
            autocompletion=_model_names,
        ),
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of MODEL, as TOML; repeatable."),
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Weights: .safetensors, a folder or index of shards, .pt, .pth, .bin, or Lightning's .ckpt.",
        ),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "--dataset",
            metavar="DATA",
            help="A data set's name, a file (.csv, .parquet, .npz, .json, .jsonl), a folder of images or rows, or "
            "package.module:factory.",
            autocompletion=_data_names,
        ),
    ] = None
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="A text file, for a language model.")
    ] = None
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="The column, or array of an .npz, to predict."),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="COLUMN",
            help="An input; repeatable.  [default: every other column of numbers, or the column of text]",
        ),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="classification|regression",
            help="What the target is.  [default: classes if text or integers 0 to K-1]",
        ),
    ] = None
    standardise: Annotated[
        bool,
        typer.Option("--standardise", help="Inputs of a file less their mean over their standard deviation."),
    ] = False
    block: Annotated[
        int | None,
        typer.Option("--block", min=2, metavar="TOKENS", help="Tokens in a row of text.  [default: 128]"),
    ] = None
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="NAME",
            help="cross_entropy, mse, or package.module:function.  [default: the task's]",
        ),
    ] = None
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--params",
            metavar="PATTERN",
            help="Measure the parameters of these names only, such as '*lora*'; repeatable.",
        ),
    ] = None
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Measure on a seeded subset of this size.")
    ] = None
    part: Annotated[str, typer.Option("--part", metavar="train|test", help="Split to measure on.")] = "train"
    mode: Annotated[
        str,
        typer.Option(
            "--mode", metavar="eval|train", help="Batch normalisation: running or batch statistics."
        ),
    ] = "eval"
    float64: Annotated[
        bool,
        typer.Option(
            "--float64", help="Measure in float64, which tells eigenvalues near zero apart; slower."
        ),
    ] = False
    data_dir: DataDir = None
    device: Device = "cpu"


def with_target(*without: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command every field of `TargetOptions` as an option of its own.

    They stand where the command has its parameter ``target``, which then receives them together. ``without`` names
    fields that are left out; ``defaults`` are other defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(TargetOptions, include_extras=True)
        names = [field.name for field in fields(TargetOptions) if field.name not in without]
        own = inspect.signature(command, eval_str=True).parameters
        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(
                name,
                keyword,
                default=defaults.get(name, getattr(TargetOptions, name)),
                annotation=hints[name],
            )
            for name in names
        ]
        at = list(own).index("target")
        others = [parameter.replace(kind=keyword) for name, parameter in own.items() if name != "target"]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            chosen = TargetOptions(**{name: given.pop(name) for name in names})
            command(target=chosen, **given)

        parameters: Sequence[inspect.Parameter] = [*others[:at], *shared, *others[at:]]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate

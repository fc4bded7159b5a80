"""The target of a command: a model with its weights, on a part of a data set."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.cli.streams import visible

if TYPE_CHECKING:
    from sharpscope.data import Dataset
    from sharpscope.objective.objective import Objective
    from sharpscope.training import RunConfig


@dataclass(frozen=True)
class Target:
    """An objective and the data set it came from."""

    obj: Objective
    dataset: Dataset


def load_target(
    factory: str | None,
    checkpoint: Path | None,
    data: str | None,
    options: list[str],
    data_dir: str | None,
    device: str,
    *,
    samples: int | None,
    part: str = "train",
    mode: str = "eval",
    seed: int = 0,
) -> Target:
    """Build what the options in `sharpscope.cli.options` name; raise `InputError` in one sentence."""
    import torch

    from sharpscope.data import load
    from sharpscope.errors import InputError
    from sharpscope.models import build
    from sharpscope.studies.file.schema import ObjectiveConfig
    from sharpscope.studies.tasks.runs import build_objective
    from sharpscope.training import load_checkpoint

    if part not in ("train", "test") or mode not in ("eval", "train"):
        raise InputError(
            f"--part is train or test and --mode eval or train, received {part!r} and {mode!r}; choose from these"
        )
    _check_gpu(device)
    config = None if checkpoint is None else _config_in(checkpoint)
    if (factory is None or data is None) and config is None:
        missing = "MODEL" if factory is None else "--data"
        raise InputError(
            f"{missing} is needed unless --checkpoint is one of sharpscope's own, received none; name it"
        )
    model_choice, data_choice = _choices(factory, data, options, config)
    dataset = load(data_choice, data_dir=data_dir)
    model = build(model_choice, dataset, seed)
    if config is not None and config.dtype == "float64":
        model = model.to(torch.float64)
    if checkpoint is not None:
        load_checkpoint(checkpoint, model)
    dtype = next(model.parameters()).dtype
    chosen = ObjectiveConfig(part=part, mode=mode, samples=samples)  # type: ignore[arg-type]
    loss = config.loss if config is not None else None
    obj = build_objective(model.to(device), dataset.to(device, dtype), loss, chosen)
    return Target(obj, dataset)


def output_folder(folder: Path) -> Path:
    """Make the folder of a command's output and return it; raise `InputError` where that cannot be."""
    from sharpscope.errors import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--output must be a folder that can be made, received {str(folder)!r} ({error.strerror}); name another"
        ) from error
    return folder


def _check_gpu(device: str) -> None:
    import torch

    from sharpscope.errors import InputError

    number = int(device.partition(":")[2] or 0)
    there = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device != "cpu" and number >= there:
        raise InputError(
            f"--device {device} needs CUDA device {number} and this machine has {there} of them; use --device cpu"
        )


def specs_of(
    measures: str | None, settings: list[str], usual: Sequence[str | Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the checked specifications of comma-separated measures with options MEASURE.KEY=VALUE.

    ``all`` stands for every registered measure, None for the ``usual`` ones, whose labels MEASURE then is.
    """
    from sharpscope.errors import InputError
    from sharpscope.measures import REGISTRY, checked

    if measures is None:
        chosen = [{"measure": spec} if isinstance(spec, str) else dict(spec) for spec in usual]
    else:
        names = REGISTRY if measures == "all" else [m.strip() for m in measures.split(",") if m.strip()]
        chosen = [{"measure": name} for name in names]
    specs = {str(spec.get("name", spec["measure"])): spec for spec in chosen}
    for text in settings:
        path, value = _assignment(text, "--set", "MEASURE.KEY=VALUE")
        name, dot, key = path.partition(".")
        if not dot or name not in specs:
            raise InputError(
                f"--set takes MEASURE.KEY=VALUE for a measure being taken, received {text!r}; "
                f"measures being taken: {', '.join(specs)}"
            )
        specs[name][key] = value
    for spec in specs.values():
        checked(spec)
    return list(specs.values())


def _assignment(text: str, flag: str, form: str) -> tuple[str, Any]:
    import tomllib

    from sharpscope.errors import InputError

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{flag} takes {form}, received {text!r}; write the equals sign")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value  # a bare word is a string


def _config_in(checkpoint: Path) -> RunConfig | None:
    """The run's configuration that one of sharpscope's own checkpoints carries.

    A checkpoint may have come from someone else, so that no file of its choice is read for it, and no code that it
    names is run: a table of data is named on the command line.
    """
    from pydantic import ValidationError

    from sharpscope.errors import InputError
    from sharpscope.serialization import explain
    from sharpscope.training import RunConfig, read_metadata

    found = read_metadata(checkpoint).get("run")
    if found is None:
        return None
    try:
        config = RunConfig.model_validate(found)
    except ValidationError as error:
        raise InputError(
            f"the checkpoint {checkpoint} names no valid run ({explain(error).rstrip('.')}); name MODEL and --data"
        ) from error
    if config.loss is not None and ":" in config.loss:
        raise InputError(
            f"the checkpoint {checkpoint} names the loss {config.loss}, which is code, and a file's code is not run; "
            "measure it in a study, or in Python with Objective"
        )
    return config.model_copy(update={"data": config.data.model_copy(update={"path": None})})


def _choices(
    factory: str | None, data: str | None, options: list[str], config: RunConfig | None
) -> tuple[Any, Any]:
    from pydantic import ValidationError

    from sharpscope.data import DataConfig
    from sharpscope.errors import InputError
    from sharpscope.models import ModelConfig

    try:
        own = dict(_assignment(text, "--option", "KEY=VALUE") for text in options)
        if factory is None:
            assert config is not None
            if ":" in config.model.name:
                raise InputError(
                    f"the checkpoint names the model {config.model.name!r}, which is code that would be imported and "
                    "run; if you trust it, name it as MODEL on the command line"
                )
            model = config.model.model_copy(update={"options": {**config.model.options, **own}})
        else:
            model = ModelConfig(name=factory, options=own)
        if data is None:
            assert config is not None
            return model, config.data
        return model, DataConfig(name=data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(str(first["msg"]).removeprefix("Value error, ")) from error


def show_progress(done: int, total: int, what: str = "") -> None:
    """Print how far a long evaluation is, where a person watches."""
    if sys.stderr.isatty():
        end = "" if done < total else "\n"
        with contextlib.suppress(OSError):  # a message is not worth the measurement
            print(f"\r{done}/{total} {visible(what):<40}", end=end, file=sys.stderr, flush=True)

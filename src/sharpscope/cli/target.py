"""The target of a command: a model with its weights, on data."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.cli.options import TargetOptions
from sharpscope.cli.own_data import OWN_CODE, Target, call_data_factory, dataset_of, own_data, own_errors
from sharpscope.cli.streams import visible

if TYPE_CHECKING:
    from torch import Tensor

    from sharpscope.cli.world import World
    from sharpscope.curvature.call_limits import CallProgress
    from sharpscope.data import Dataset
    from sharpscope.models import ModelConfig
    from sharpscope.training import RunConfig

PRETRAINED = "hf:"


def load_target(chosen: TargetOptions, seed: int = 0, world: World | None = None) -> Target:
    """Build what the options name; raise `InputError`, `DataError` or `CheckpointError` in one sentence."""
    from sharpscope.errors import InputError, require_one_of

    if chosen.factory is not None and chosen.model is not None:
        raise InputError(
            f"the model is named twice, {chosen.factory!r} and --model {chosen.model!r}; leave one out"
        )
    require_one_of("--part", chosen.part, ("train", "test"))
    require_one_of("--mode", chosen.mode, ("eval", "train"))
    if chosen.task is not None:
        require_one_of("--task", chosen.task, ("classification", "regression"))
    if world is not None:
        chosen = replace(chosen, device=world.device)
    _check_gpu(chosen.device)
    name = chosen.factory or chosen.model
    if name is not None and name.startswith(PRETRAINED):
        from sharpscope.cli.pretrained import load_pretrained

        if world is not None:
            raise InputError(
                f"torchrun measures models of inputs and targets, received {name!r}; measure it in one process, or "
                "in Python with Objective.from_transformers(..., group=torch.distributed.group.WORLD)"
            )
        return load_pretrained(name.removeprefix(PRETRAINED), chosen, seed)
    for flag, value in (("--text", chosen.text), ("--block", chosen.block)):
        if value is not None:
            raise InputError(
                f"{flag} is for language models, hf:FOLDER_OR_NAME, received the model {name!r}; leave it out"
            )
    return _load_plain(name, chosen, seed, world)


def _load_plain(name: str | None, chosen: TargetOptions, seed: int, world: World | None) -> Target:
    """Build a model of sharpscope or of the user's own on inputs and targets."""
    import torch

    from sharpscope.errors import InputError
    from sharpscope.models import build
    from sharpscope.models.construction import build_empty
    from sharpscope.models.distributed_checkpoint import (
        is_distributed_checkpoint,
        load_distributed_checkpoint,
    )
    from sharpscope.models.weights import find_weights
    from sharpscope.studies.file.schema import ObjectiveConfig
    from sharpscope.studies.tasks.runs import build_objective

    config = None if chosen.checkpoint is None else _config_in(chosen.checkpoint)
    if (name is None or chosen.data is None) and config is None:
        missing = "MODEL" if name is None else "--data"
        raise InputError(
            f"{missing} is needed unless --checkpoint is one of sharpscope's own, received none; name it"
        )
    model_choice = _model_choice(name, chosen.option or [], config)

    def read() -> Dataset:
        return _dataset(chosen, config)

    dataset = read() if world is None else world.in_turn(read)
    filled = chosen.checkpoint is not None and world is not None and world.sharded
    empty = build_empty(model_choice, dataset) if filled else None  # so that no rank ever holds all of it
    try:
        model = build(model_choice, dataset, seed) if empty is None else empty
    except InputError as error:
        if chosen.task is None and dataset.task == "regression" and _may_be_classes(dataset.train.targets):
            raise InputError(f"{error} If whole numbers are classes, say --task classification.") from error
        raise
    if chosen.float64 or (config is not None and config.dtype == "float64"):
        model = model.to(torch.float64)
    notes = dataset.notes
    distributed = chosen.checkpoint is not None and is_distributed_checkpoint(chosen.checkpoint)
    weights = None
    if chosen.checkpoint is not None and not distributed:
        weights = find_weights(chosen.checkpoint, model)
        notes = (*notes, *weights.notes)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    if dtype not in (torch.float32, torch.float64):
        model, dtype = model.float(), torch.float32
    model = model if empty is not None else model.to(chosen.device)
    model = model if world is None else world.shard(model)
    model = model if empty is None else model.to_empty(device=chosen.device)
    if weights is not None:
        weights.put_into(model)
    elif chosen.checkpoint is not None:
        load_distributed_checkpoint(chosen.checkpoint, model)
    settings = ObjectiveConfig(part=chosen.part, mode=chosen.mode, samples=chosen.samples)  # type: ignore[arg-type]
    loss = chosen.loss or (config.loss if config is not None else None)
    with own_errors(f"the model {name or model_choice.name} with the loss {loss or 'of the task'}"):
        obj = build_objective(model, dataset.to(chosen.device, dtype), loss, settings, world)
    if chosen.params:
        obj = obj.with_params(chosen.params)
    parts = dataset.train is not dataset.test  # a file of one's own is measured whole
    return Target(
        obj,
        name or model_choice.name,
        dataset.name,
        dataset.standardisation,
        notes,
        f"{chosen.part} samples" if parts else "samples",
    )


def _may_be_classes(targets: Tensor) -> bool:
    """Return whether numbers to be predicted are whole and not negative."""
    return targets.shape[1:] == (1,) and bool(((targets >= 0) & (targets == targets.round())).all())


def _dataset(chosen: TargetOptions, config: RunConfig | None) -> Dataset:
    from sharpscope.data import NAMES, DataConfig, load
    from sharpscope.data.own import is_path
    from sharpscope.errors import InputError, suggestion

    data = chosen.data
    if data is None or data in NAMES or OWN_CODE.fullmatch(data):
        _refuse_columns(chosen)
    if data is None:
        assert config is not None
        return load(config.data, data_dir=chosen.data_dir)
    if data in NAMES:
        return load(DataConfig(name=data), data_dir=chosen.data_dir)
    if OWN_CODE.fullmatch(data):
        return dataset_of(call_data_factory(data, chosen.part), data)
    if not is_path(data):
        raise InputError(
            f"--data must be one of {', '.join(NAMES)}, a file (.csv, .parquet, .npz, .json), a folder, or "
            f"package.module:factory, received {data!r}; {suggestion(data, NAMES)}choose one of these"
        )
    path = Path(data)
    if config is not None and config.data.name == "table" and path.is_file():
        return load(config.data.model_copy(update={"path": data}), data_dir=chosen.data_dir)
    return own_data(chosen, path).load()


def _refuse_columns(chosen: TargetOptions) -> None:
    from sharpscope.errors import InputError

    given: dict[str, object] = {
        "--target": chosen.target,
        "--column": chosen.column,
        "--task": chosen.task,
        "--standardise": chosen.standardise or None,
    }
    for flag, value in given.items():
        if value is not None:
            raise InputError(
                f"{flag} is for a file or folder given as --data, received --data {chosen.data}; leave it out"
            )


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
    from sharpscope.errors import InputError, suggestion
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
                f"{suggestion(name, specs)}measures being taken: {', '.join(specs)}"
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

    from sharpscope.errors import CheckpointError, InputError
    from sharpscope.serialization import explain
    from sharpscope.training import RunConfig, read_metadata

    if not checkpoint.exists():
        raise CheckpointError(f"the checkpoint {checkpoint} does not exist; correct the path")
    if checkpoint.suffix != ".safetensors" or not checkpoint.is_file():
        return None  # another's format, which names no run; `load_weights` says what is wrong with it
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


def _model_choice(name: str | None, options: list[str], config: RunConfig | None) -> ModelConfig:
    from pydantic import ValidationError

    from sharpscope.errors import InputError
    from sharpscope.models import ModelConfig

    try:
        own = dict(_assignment(text, "--option", "KEY=VALUE") for text in options)
        if name is not None:
            return ModelConfig(name=name, options=own)
        assert config is not None
        if ":" in config.model.name:
            raise InputError(
                f"the checkpoint names the model {config.model.name!r}, which is code that would be imported and "
                "run; if you trust it, name it as MODEL on the command line"
            )
        return config.model.model_copy(update={"options": {**config.model.options, **own}})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(str(first["msg"]).removeprefix("Value error, ")) from error


def show_progress(state: CallProgress) -> None:
    """Print how far a long call is, where a person watches: one line that is written over and over."""
    if sys.stderr.isatty():
        end = "" if state.expected is None or state.done < state.expected else "\n"
        width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be written over
        with contextlib.suppress(OSError):  # a message is not worth the measurement
            print(f"\r{visible(str(state))[:width]:<{width}}", end=end, file=sys.stderr, flush=True)

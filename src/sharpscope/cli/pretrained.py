"""The target of a command for a model of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.cli.options import TargetOptions
from sharpscope.cli.own_data import OWN_CODE, Target, call_data_factory, own_data, own_errors
from sharpscope.errors import DataError, InputError, suggestion

if TYPE_CHECKING:
    import pandas as pd

    from sharpscope.models.pretrained import Pretrained

IMAGES = 32
"""Images evaluated together at most, the least that fills the cores with a small network."""


def load_pretrained(name: str, chosen: TargetOptions, seed: int) -> Target:
    """Build the objective of ``hf:name`` on a text, on rows of a file, on images, or on batches of one's own."""
    import torch

    from sharpscope.models.pretrained import open_pretrained
    from sharpscope.models.weights import load_weights
    from sharpscope.objective.batches import map_tensors
    from sharpscope.objective.objective import Objective

    for flag, value in (("--option", chosen.option), ("--loss", chosen.loss)):
        if value:
            raise InputError(f"{flag} does not apply to hf:{name}, whose head has its own loss; leave it out")
    if (chosen.text is None) == (chosen.data is None):
        raise InputError(f"hf:{name} needs --text FILE or --data DATA, one of the two; name it")
    opened = open_pretrained(name)
    notes = opened.notes
    if chosen.checkpoint is not None:
        notes = (*notes, *load_weights(chosen.checkpoint, opened.model))
    batches, data, how, said = _batches(opened, chosen, seed)
    if isinstance(batches, list):
        batches = [map_tensors(batch, lambda t: t.to(chosen.device)) for batch in batches]
    with own_errors(f"the model hf:{name}"):
        obj = Objective.from_transformers(
            opened.model.to(chosen.device),
            batches,
            mode=chosen.mode,
            params=chosen.params or None,
            dtype=torch.float64 if chosen.float64 else None,
        )
    counted = "samples" if opened.kind.endswith("classifier") else "tokens"
    return Target(obj, f"hf:{name}", data, how, (*notes, *said), counted)


def _batches(opened: Pretrained, chosen: TargetOptions, seed: int) -> tuple[Any, str, str, tuple[str, ...]]:
    """Return batches, the name of the data, what was done to the inputs, and notes."""
    from sharpscope.models.token_batches import blocks_of

    if chosen.data is not None and OWN_CODE.fullmatch(chosen.data):
        return (
            call_data_factory(chosen.data, chosen.part),
            chosen.data,
            "batches as the function returns them",
            (),
        )
    if opened.kind == "image classifier":
        if chosen.text is not None:
            raise InputError(
                f"hf:{opened.name} is an image classifier, which takes no --text; name images as --data"
            )
        return _images(opened, chosen, seed)
    if chosen.text is not None:
        if opened.kind == "text classifier":
            raise InputError(
                f"hf:{opened.name} is a text classifier, which needs labels beside the text; name a table as --data, "
                "with --column and --target"
            )
        texts = [_read_text(chosen.text)]
        batches, notes = blocks_of(opened, texts, chosen.block, chosen.samples, seed)
        return batches, chosen.text.name, "tokens", notes
    return _rows(opened, chosen, seed)


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be text in UTF-8, byte {error.start} is not; convert the file"
        ) from error
    except OSError as error:
        raise DataError(f"--text {path} cannot be read ({error.strerror}); check the path") from error
    if not text.strip():
        raise DataError(f"--text {path} must hold some text, it is empty; name another file")
    return text


def _rows(opened: Pretrained, chosen: TargetOptions, seed: int) -> tuple[Any, str, str, tuple[str, ...]]:
    from sharpscope.data.row_files import read_rows
    from sharpscope.models.token_batches import blocks_of, labelled_rows

    assert chosen.data is not None
    path = Path(chosen.data)
    table = read_rows(path, chosen.part)
    texts = _texts(table, chosen, path.name)
    if opened.kind != "text classifier":
        if chosen.target is not None:
            raise InputError(f"hf:{opened.name} is a {opened.kind}, which has no --target; leave it out")
        batches, notes = blocks_of(opened, texts, chosen.block, chosen.samples, seed)
        return batches, path.name, "tokens", notes
    if chosen.target is None:
        raise InputError(
            f"--target is needed, the column of labels; {path.name} has {', '.join(table.columns)}"
        )
    if chosen.target not in table.columns:
        raise DataError(
            f"{path.name} has the columns {', '.join(table.columns)}, and not {chosen.target!r}; "
            f"{suggestion(chosen.target, table.columns)}correct --target"
        )
    labels, said = labels_for(opened, table[chosen.target].to_numpy(), chosen)
    batches, notes = labelled_rows(opened, texts, labels, chosen.block, chosen.samples, seed)
    return batches, path.name, "tokens", (*notes, *said)


def _texts(table: pd.DataFrame, chosen: TargetOptions, name: str) -> list[str]:
    """Return the texts of the columns that were named, or of the only column of text, joined by a line break."""
    from pandas.api.types import is_numeric_dtype

    wanted = chosen.column or [
        c for c in table.columns if c != chosen.target and not is_numeric_dtype(table[c])
    ]
    if not chosen.column and len(wanted) != 1:
        raise InputError(
            f"--column is needed, the column of text; {name} has {', '.join(map(str, table.columns))}"
        )
    for column in wanted:
        if column not in table.columns:
            raise DataError(
                f"{name} has the columns {', '.join(table.columns)}, and not {column!r}; "
                f"{suggestion(column, table.columns)}correct --column"
            )
        empty = [i for i, cell in enumerate(table[column]) if not isinstance(cell, str) or not cell.strip()]
        if empty:
            raise DataError(
                f"column {column!r} must hold text in every row, row {empty[0] + 1} holds "
                f"{table[column].iloc[empty[0]]!r}; mend the table"
            )
    return ["\n".join(row) for row in zip(*(table[column] for column in wanted), strict=True)]


def labels_for(opened: Pretrained, values: Any, chosen: TargetOptions) -> tuple[Any, tuple[str, ...]]:
    """Return labels as the classifier's head takes them: by its own names of the classes where they fit."""
    import torch

    from sharpscope.data.own import as_targets

    count = int(getattr(opened.config, "num_labels", 2))
    known = {str(name): int(i) for name, i in (getattr(opened.config, "label2id", None) or {}).items()}
    task: Any = chosen.task or ("regression" if count == 1 else "classification")
    if (
        task == "classification"
        and values.dtype.kind not in "iufb"
        and {str(v) for v in values} <= set(known)
    ):
        return torch.tensor([known[str(v)] for v in values]), ("Classes by the names in its configuration.",)
    labels, outputs, said = as_targets(values, task, chosen.target or "the class")
    if task == "classification" and int(labels.max()) >= count:
        raise InputError(
            f"hf:{opened.name} tells {count} classes apart, the labels name {outputs}; number them from 0 to "
            f"{count - 1}"
        )
    if task == "regression" and labels.shape[1] == 1:
        labels = labels[:, 0]
    return labels, said


def _images(opened: Pretrained, chosen: TargetOptions, seed: int) -> tuple[Any, str, str, tuple[str, ...]]:
    import numpy as np
    import torch

    from sharpscope.data import NAMES, load
    from sharpscope.data.image_folder import is_image_folder, read_image_folder
    from sharpscope.models.pretrained import image_scale
    from sharpscope.seeding import generator

    assert chosen.data is not None
    path = Path(chosen.data)
    if is_image_folder(path):
        size, means, deviations, how = image_scale(opened)
        found = read_image_folder(path, chosen.target, chosen.part, size)
        mean, deviation = (np.array(v, dtype=np.float32).reshape(1, -1, 1, 1) for v in (means, deviations))
        pixels = torch.from_numpy((found.pixels.astype(np.float32) / 255 - mean) / deviation)
        labels, said = labels_for(opened, np.array(found.labels), chosen)
        name, notes = path.name, (*found.notes, *said)
    else:
        dataset = (
            load(chosen.data, data_dir=chosen.data_dir)
            if chosen.data in NAMES
            else own_data(chosen, path).load()
        )
        split = dataset.train if chosen.part == "train" else dataset.test
        pixels, labels = split.inputs, split.targets
        name, how, notes = dataset.name, dataset.standardisation, dataset.notes
    channels = int(getattr(opened.config, "num_channels", pixels.shape[1]))
    if pixels.ndim != 4 or pixels.shape[1] not in (1, channels):
        raise InputError(
            f"hf:{opened.name} takes images (n, {channels}, height, width), {name} has the shape "
            f"{tuple(pixels.shape)}; convert them"
        )
    if pixels.shape[1] != channels:
        pixels = pixels.expand(-1, channels, -1, -1)
        notes = (*notes, f"Grey images are given {channels} equal channels.")
    if chosen.samples is not None and chosen.samples < len(pixels):
        rows = torch.randperm(len(pixels), generator=generator("objective", seed))[: chosen.samples]
        pixels, labels = pixels[rows], labels[rows]
    many = _images_together(opened, pixels.shape[2], pixels.shape[3])
    batches = [
        {"pixel_values": x, "labels": y} for x, y in zip(pixels.split(many), labels.split(many), strict=True)
    ]
    return batches, name, how, notes


def _images_together(opened: Pretrained, height: int, width: int) -> int:
    """Return how many images are evaluated together: those with the tokens of a batch of text, `IMAGES` at most."""
    from sharpscope.objective.transformers import CHUNK_TOKENS

    patch = getattr(opened.config, "patch_size", None)
    if not isinstance(patch, int) or patch < 1:
        return IMAGES
    return max(1, min(IMAGES, CHUNK_TOKENS // ((height // patch) * (width // patch) + 1)))

"""Models of Hugging Face's transformers from a folder or from the hub: ``hf:PATH_OR_NAME``.

No code that comes with a model is run (``trust_remote_code`` is never given), no adapter or base model that a file
names is opened, and weights are tensors only.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sharpscope.errors import InputError

Kind = Literal["causal language model", "masked language model", "text classifier", "image classifier"]

AUTO: dict[Kind, tuple[str, str]] = {
    "causal language model": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM"),
    "masked language model": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "AutoModelForMaskedLM"),
    "text classifier": (
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForSequenceClassification",
    ),
    "image classifier": ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", "AutoModelForImageClassification"),
}
"""For each kind of model the library's table of architectures and the class that loads one."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""A folder without any of these has no tokenizer: the library would make up an empty one."""


@dataclass(frozen=True)
class Pretrained:
    """A model with its configuration, its tokenizer if it has one, and what was noted on loading it."""

    name: str
    kind: Kind
    model: nn.Module
    config: Any
    tokenizer: Any
    folder: Path | None
    notes: tuple[str, ...]

    @property
    def most_tokens(self) -> int | None:
        """The number of tokens that the model's positions reach, None where there is no limit."""
        for key in ("max_position_embeddings", "n_positions"):
            value = getattr(self.config, key, None)
            if isinstance(value, int) and value > 0:
                return value
        return None


def open_pretrained(name: str) -> Pretrained:
    """Return the model of a local folder, else of that name on the hub, in float32 unless it is saved in float64.

    Raises `InputError`, one sentence, for a folder that holds no such model, custom code, an adapter, quantised
    weights, an architecture of another kind than `AUTO`, or weights that the architecture needs and the folder has
    not: the library would draw those at random.
    """
    try:
        import transformers
        from transformers.models.auto import modeling_auto
    except ImportError as error:
        raise InputError(
            f"hf:{name} needs the transformers library, which cannot be imported ({error}); install it with "
            "pip install 'sharpscope[transformers]'"
        ) from error
    folder = _folder(name)
    options = {"trust_remote_code": False, "local_files_only": folder is not None}
    where = name if folder is None else str(folder)
    with _quiet(transformers):
        try:
            if folder is None:
                _reach_hub(name)
            config = transformers.AutoConfig.from_pretrained(where, **options)
        except Exception as error:  # the library and the hub raise errors of many classes
            raise InputError(_reason(name, folder, error)) from error
        if getattr(config, "quantization_config", None) is not None:
            raise InputError(
                f"hf:{name} has quantised weights, which have no derivative; measure the model before quantisation"
            )
        kind, architecture = _kind_of(name, config, modeling_auto)
        try:
            # eager attention has a second derivative everywhere, and no kernel is fetched that a file names
            model, found = getattr(transformers, AUTO[kind][1]).from_pretrained(
                where, config=config, attn_implementation="eager", output_loading_info=True, **options
            )
            tokenizer = _tokenizer(transformers, where, folder, options) if "image" not in kind else None
        except Exception as error:
            raise InputError(_reason(name, folder, error)) from error
    missing = sorted(found.get("missing_keys") or ())
    if missing:
        raise InputError(
            f"hf:{name} must hold every weight of {architecture}, it lacks {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; save the model whole"
        )
    notes = [f"{architecture} of {where}, a {kind}."]
    unused = sorted(found.get("unexpected_keys") or ())
    if unused:
        notes.append(
            f"Weights: {len(unused)} tensors that {architecture} does not use are left out ({unused[0]}, …)."
        )
    half = {p.dtype for p in model.parameters()} & {torch.float16, torch.bfloat16}
    if half:
        model = model.float()
        names = ", ".join(sorted(str(d).removeprefix("torch.") for d in half))
        notes.append(f"The weights are saved as {names} and measured at these very values in float32.")
    return Pretrained(name, kind, model.eval(), config, tokenizer, folder, tuple(notes))


def _folder(name: str) -> Path | None:
    """Return the folder that is meant, None for a name on the hub."""
    path = Path(name).expanduser()
    if name and path.is_dir():
        if (path / "config.json").is_file():
            return path
        if (path / "adapter_config.json").is_file():
            raise InputError(
                f"hf:{name} is an adapter, and the base model that its file names is not opened; measure it in "
                "Python with Objective.from_transformers(model, batches, params='*lora*'), or save the merged model"
            )
        raise InputError(
            f"hf:{name} must be a folder that save_pretrained wrote, {path} has no config.json; name another"
        )
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip("/"):
        raise InputError(
            f"hf: takes a folder that save_pretrained wrote or a name on the hub, there is no folder {name!r}"
        )
    return None


def _reach_hub(name: str) -> None:
    """Raise at once where a model is not in the cache and the hub is out of reach: its client retries for long."""
    from huggingface_hub import constants, try_to_load_from_cache

    from sharpscope.data.files import require_reachable

    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        require_reachable(constants.ENDPOINT)


def _kind_of(name: str, config: Any, tables: Any) -> tuple[Kind, str]:
    architectures = list(getattr(config, "architectures", None) or ())
    for kind, (table, _) in AUTO.items():
        known = getattr(tables, table).get(config.model_type)
        known = (known,) if isinstance(known, str) else tuple(known or ())
        for architecture in architectures:
            if architecture in known:
                return kind, architecture
    listed = ", ".join(map(str, architectures)) or f"no architecture for {config.model_type}"
    raise InputError(
        f"hf:{name} must be a {', '.join(list(AUTO)[:-1])} or image classifier, its configuration names {listed}; "
        "measure it in Python with Objective.from_transformers(model, batches, loss=...)"
    )


def _tokenizer(transformers: Any, where: str, folder: Path | None, options: dict[str, Any]) -> Any:
    if folder is not None and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return None
    return transformers.AutoTokenizer.from_pretrained(where, **options)


def _reason(name: str, folder: Path | None, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = (lines or [type(error).__name__])[0].rstrip(".")
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return (
            f"hf:{name} brings code of its own, which is not run; build the model in a module of yours and name it "
            "as module:factory"
        )
    if folder is None:
        return (
            f"hf:{name} is no folder here and could not be had from the hub ({type(error).__name__}: {first[:160]}); "
            "check the name and the connection"
        )
    return f"hf:{name} cannot be loaded ({type(error).__name__}: {first[:200]}); save the model anew"


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Hold back the library's warnings and progress bars; what matters of them is said in notes."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub = getLogger("huggingface_hub")
    level = hub.level
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.setLevel(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
        hub.setLevel(level)
        if bars:
            logging.enable_progress_bar()


def image_scale(pretrained: Pretrained) -> tuple[tuple[int, int] | None, list[float], list[float], str]:
    """Return what an image classifier's folder says of its inputs: (height, width), means, deviations, a sentence.

    Taken from ``preprocessor_config.json`` as numbers; without it, images are resized to the configuration's
    ``image_size`` and pixels are over 255.
    """
    size = getattr(pretrained.config, "image_size", None)
    shape = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list | tuple) else None
    said = {}
    if pretrained.folder is not None and (pretrained.folder / "preprocessor_config.json").is_file():
        with contextlib.suppress(ValueError, OSError):
            said = json.loads((pretrained.folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    means, deviations = _numbers(said.get("image_mean")), _numbers(said.get("image_std"))
    resized = "" if shape is None else f"resized to {shape[1]} × {shape[0]}, "
    if said.get("do_normalize", True) and means and deviations:
        return (
            shape,
            means,
            deviations,
            f"{resized}pixels / 255, by the means and deviations of its processor",
        )
    return shape, [0.0], [1.0], f"{resized}pixels / 255"


def _numbers(values: Any) -> list[float]:
    good = isinstance(values, list) and all(isinstance(v, int | float) and v == v for v in values)
    return [float(v) for v in values] if good else []

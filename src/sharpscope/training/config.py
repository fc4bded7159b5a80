"""What a run is: its data, model, loss, optimizer, schedule, batches, stopping rules and seed.

A run's identifier is the hash of exactly this. Where the data lie, which device trains, how many workers or
threads there are and when it happens are no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import (
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from sharpscope.data import DataConfig
from sharpscope.models import ModelConfig
from sharpscope.seeding import seed_of
from sharpscope.serialization import StrictConfig, canonical_json, content_hash
from sharpscope.training.optimizers import OptimizerConfig
from sharpscope.training.schedules import ScheduleConfig
from sharpscope.training.stopping import PlateauConfig, StopConfig

__all__ = [
    "OptimizerConfig",
    "PlateauConfig",
    "RunConfig",
    "ScheduleConfig",
    "StopConfig",
    "weight_seed",
]


_LATER_KEYS: dict[str, object] = {"steps_per_epoch": None, "precision": "full", "compile": False}
_ALWAYS = object()


class RunConfig(StrictConfig):
    """One training run, completely: the same configuration gives the same bits.

    - ``data``, ``model``: what is trained on what; a bare name stands for ``{"name": ...}``.
    - ``loss``: ``cross_entropy``, ``mse``, or None for what the data set's task asks for.
    - ``batch_size``: samples a step, or ``full`` for gradient descent on the whole training set.
    - ``steps_per_epoch``: with ``full``, this many steps an epoch instead of one (hammoud2023's released code).
    - ``drop_last``: leave out the last, smaller batch of an epoch. By default it is used.
    - ``seed``: distinguishes repetitions of one setting.
    - ``initial_weights``: ``per_run`` draws them anew for every run (patriarca2024); ``shared`` gives every
      setting of the same data, model and seed the same ones (kaur2022).
    - ``dtype``: of weights, inputs and, unless ``precision`` says otherwise, all arithmetic.
    - ``precision``: ``bfloat16`` computes the products and convolutions of training steps in bfloat16
      (``torch.autocast``); weights, their gradients and updates, sums and evaluations stay float32.
    - ``compile``: let ``torch.compile`` write the kernels of training steps. Needs a C++ compiler, on a GPU Triton.
    """

    data: DataConfig
    model: ModelConfig
    loss: Literal["cross_entropy", "mse"] | None = None
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    batch_size: int | Literal["full"]
    steps_per_epoch: PositiveInt | None = None
    drop_last: bool = False
    stop: StopConfig
    seed: int = 0
    initial_weights: Literal["per_run", "shared"] = "per_run"
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["full", "bfloat16"] = "full"
    compile: bool = False

    @field_validator("data", "model", mode="before")
    @classmethod
    def _a_name_is_enough(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @field_validator("batch_size", mode="before")
    @classmethod
    def _a_size_or_full(cls, given: Any) -> Any:
        size = isinstance(given, int) and not isinstance(given, bool) and given >= 1
        if not (size or given == "full"):
            raise ValueError('a batch size is an integer of at least 1, or "full"')
        return given

    @model_validator(mode="after")
    def _steps_of_full_batches(self) -> RunConfig:
        if self.steps_per_epoch is not None and self.batch_size != "full":
            raise ValueError('steps_per_epoch has a meaning only with batch_size = "full"')
        return self

    @model_validator(mode="after")
    def _precision_of_float32(self) -> RunConfig:
        if self.precision == "bfloat16" and self.dtype != "float32":
            raise ValueError('precision = "bfloat16" has a meaning only with dtype = "float32"')
        return self

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave a key that came later out while it is unset, so that runs made before it keep their identifiers."""
        fields: dict[str, Any] = handler(self)
        return {key: value for key, value in fields.items() if _LATER_KEYS.get(key, _ALWAYS) != value}

    @model_validator(mode="after")
    def _finite_throughout(self) -> RunConfig:
        for key, value in _leaves(self.model_dump(mode="python")):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"every number must be finite and {key} is {value}")
        return self

    def canonical_json(self) -> str:
        """Return the whole configuration, defaults included, as JSON with sorted keys and no white space."""
        return canonical_json(self.model_dump(mode="json"), by_value=False)

    def run_id(self) -> str:
        """Return the run's identifier: the first 16 hexadecimal digits of the SHA-256 of `canonical_json`."""
        return content_hash(self.model_dump(mode="json"), by_value=False)


def weight_seed(config: RunConfig) -> int:
    """Return the seed of the initial weights, in [0, 2**63).

    It is the SHA-1 of the run's identifier (patriarca2024, section II-D), or of the data set's name, the model
    and the seed alone where ``initial_weights`` is ``shared`` (kaur2022).
    """
    if config.initial_weights == "shared":
        model = canonical_json(config.model.model_dump(mode="json"), by_value=False)
        return seed_of("weights", config.data.name, model, config.seed)
    return seed_of("weights", config.run_id())


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}.{index}")
    else:
        yield key, value

"""What a run is: its data, model, loss, optimizer, schedule, batches, stopping rules and seed.

A run's identifier is the hash of exactly this. Where the data lie, which device trains, how many workers or
threads there are and when it happens are no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
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
from sharpscope.training.augmentation import AugmentationConfig
from sharpscope.training.optimizers import SHARPNESS_AWARE, OptimizerConfig
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


_LATER_KEYS: dict[str, object] = {
    "steps_per_epoch": None,
    "precision": "full",
    "compile": False,
    "rho_schedule": None,
    "clip_norm": None,
    "label_smoothing": 0.0,
    "augmentation": None,
    "ema_decay": None,
    "evaluate_every": 1,
}
_ALWAYS = object()

_PARTS = {"data", "model", "optimizer", "schedule", "stop"}


class RunConfig(StrictConfig):
    """One training run, completely: the same configuration gives the same bits.

    - ``data``, ``model``: what is trained on what; a bare name stands for ``{"name": ...}``.
    - ``loss``: ``cross_entropy``, ``mse``, ``package.module:function`` for one of one's own (see `loss_function`), or
      None for what the data set's task asks for.
    - ``optimizer``, ``schedule``: see `OptimizerConfig` and `ScheduleConfig`. ``rho_schedule`` moves the radius ρ of
      SAM and its variants in the same way, from the optimizer's ``rho``.
    - ``batch_size``: samples a step, or ``full`` for gradient descent on the whole training set.
    - ``steps_per_epoch``: with ``full``, this many steps an epoch instead of one (hammoud2023's released code).
    - ``drop_last``: leave out the last, smaller batch of an epoch. By default it is used.
    - ``seed``: distinguishes repetitions of one setting.
    - ``initial_weights``: ``per_run`` draws them anew for every run (patriarca2024); ``shared`` gives every
      setting of the same data, model and seed the same ones (kaur2022).
    - ``dtype``: of weights, inputs and, unless ``precision`` says otherwise, all arithmetic.
    - ``precision``: ``bfloat16`` computes the products and convolutions of training steps in bfloat16
      (``torch.autocast``); weights, their gradients and updates, sums and evaluations stay float32.
    - ``clip_norm``: before every step of the optimizer the gradient g of all weights is multiplied by
      min(1, c / (‖g‖₂ + 1e-6)) for this c (Pascanu et al. 2013; ``torch.nn.utils.clip_grad_norm_``). SAM's two
      gradients are clipped one by one, which leaves the direction of its ascent as it is.
    - ``label_smoothing``: training steps use `smoothed_cross_entropy`; evaluations and measures use the
      cross-entropy to the labels themselves, and so does a stopping rule on ``train_loss``.
    - ``augmentation``: see `AugmentationConfig`; for the images of training steps only.
    - ``ema_decay``: evaluate, measure and publish an exponential moving average of the weights with this decay, see
      `WeightAverage`. Training itself goes on from the weights of the last step.
    - ``evaluate_every``: evaluate after every so many epochs, and after the last one. The rows of other epochs have
      the losses and accuracies of their own minibatches only, and rules on ``train_accuracy`` and ``train_loss`` look
      at evaluated epochs only. Evaluating after every epoch takes up to a third of a run's time.
    - ``compile``: let ``torch.compile`` write the kernels of training steps. Needs a C++ compiler, on a GPU Triton.
    """

    data: DataConfig
    model: ModelConfig
    loss: str | None = None
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
    rho_schedule: ScheduleConfig | None = None
    clip_norm: PositiveFloat | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augmentation: AugmentationConfig | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    evaluate_every: PositiveInt = 1

    @model_validator(mode="before")
    @classmethod
    def _subset_that_follows_the_seed(cls, given: Any) -> Any:
        """Put the run's seed where the data's ``subset_seed`` is ``"seed"``."""
        data = given.get("data") if isinstance(given, Mapping) else None
        if isinstance(data, DataConfig) and data.subset_seed == "seed":
            data = data.model_dump()
        if not isinstance(data, Mapping) or data.get("subset_seed") != "seed":
            return given
        return {**given, "data": {**data, "subset_seed": given.get("seed", 0)}}

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

    @field_validator("loss")
    @classmethod
    def _a_known_loss_or_ones_own(cls, loss: str | None) -> str | None:
        if loss not in (None, "cross_entropy", "mse") and ":" not in str(loss):
            raise ValueError("a loss is cross_entropy, mse, or package.module:function")
        return loss

    @model_validator(mode="after")
    def _options_that_apply(self) -> RunConfig:
        optimizer = self.optimizer
        own = ":" in optimizer.name
        if self.rho_schedule is not None and not own and optimizer.name not in SHARPNESS_AWARE:
            raise ValueError(
                f"rho_schedule moves the ρ of SAM and its variants, and {optimizer.name} has none"
            )
        if self.clip_norm is not None and "lbfgs" in (optimizer.name, optimizer.options.get("base")):
            raise ValueError("clip_norm would falsify the line search of lbfgs; leave one of them out")
        if self.label_smoothing and self.loss not in (None, "cross_entropy"):
            raise ValueError(f"label_smoothing is for cross_entropy, and the loss is {self.loss}")
        return self

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

    def table(self, known: dict[int, tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
        """Return what ``model_dump(mode="json")`` does; runs that share a part share its table.

        ``known`` keeps the parts met so far with their tables, by the part's identity.
        """
        table = self.model_dump(mode="json", exclude=_PARTS)
        for name in _PARTS:
            part = getattr(self, name)
            if id(part) not in known:
                known[id(part)] = (part, part.model_dump(mode="json"))
            table[name] = known[id(part)][1]
        return table

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

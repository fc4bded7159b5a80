"""Optimizers by name: which exist, which options they take, and how one is built.

An optimizer here is any ``torch.optim.Optimizer`` whose ``step`` takes a closure that clears the gradients,
evaluates the loss, runs backward and returns the loss; so one that evaluates several times a step (L-BFGS,
sharpness-aware minimisation) fits as well as SGD.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue, PositiveFloat, ValidationInfo, field_validator

from sharpscope.errors import InputError, suggestion
from sharpscope.models.own_code import call_own, find_own, takes
from sharpscope.serialization import StrictConfig

if TYPE_CHECKING:
    import torch

SHARPNESS_AWARE = frozenset({"sam", "asam", "gsam", "friendlysam", "looksam"})
"""Optimizers around another one, whose perturbation has a radius ρ."""

# How a step is carried out, not what it computes: a run's configuration names no such thing.
_EXECUTION = frozenset({"foreach", "fused", "capturable", "differentiable"})


class OptimizerConfig(StrictConfig):
    """An optimizer by its name in ``torch.optim`` (any case), its learning rate and its other options.

    ``options`` are the class's own keyword arguments, such as ``momentum`` or ``betas``. The name is stored in
    lower case and numbers are stored as the class declares them, so that spelling does not make a new run.

    ``sam`` and its variants ``asam``, ``gsam``, ``friendlysam`` and ``looksam`` (`sharpscope.SAM` and so on) take
    ``rho``, ``rescale``, ``eta``, ``decay_in_ascent``, a variant's own options, ``base`` (the name of another
    optimizer, ``sgd`` by default) and the base's options.

    ``package.module:factory`` is an optimizer of one's own: a class or a function that receives the parameters,
    ``lr``, the options, and ``model`` if it takes that, and returns a ``torch.optim.Optimizer``. Its name and options
    are stored as they are written; its module is imported when a run begins, not before.
    """

    name: str
    lr: PositiveFloat
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        if ":" in name:
            return name
        classes = optimizer_classes()
        if name.lower() not in classes:
            raise ValueError(
                f"there is no such optimizer, {suggestion(name, classes)}choose one of {', '.join(classes)}, or "
                "package.module:factory"
            )
        return name.lower()

    @field_validator("options")
    @classmethod
    def _taken_by_its_class(cls, options: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        if not {"name", "lr"} <= info.data.keys():
            return options  # refused already, for another key
        name, lr = info.data["name"], info.data["lr"]
        if ":" in name:
            if "lr" in options:
                raise ValueError("the learning rate is the optimizer's own key lr, not one of its options")
            return options
        base = options.get("base", "sgd")
        if name in SHARPNESS_AWARE and (not isinstance(base, str) or base.lower() not in _bases()):
            raise ValueError(
                f"the base of {name} is the name of another optimizer, one of {', '.join(_bases())}, not {base!r}"
            )
        accepted = _options_of(name, str(base).lower())
        for key in options:
            if key == "lr":
                raise ValueError("the learning rate is the optimizer's own key lr, not one of its options")
            if key not in accepted:
                raise ValueError(f"{name} has no option {key}, its options are {', '.join(sorted(accepted))}")
        spelt = {key: _spelt(str(accepted[key].annotation), key, value) for key, value in options.items()}
        if name in SHARPNESS_AWARE and "base" in spelt:
            spelt["base"] = str(base).lower()
        if not spelt:
            return spelt
        import torch

        try:
            probe = torch.nn.Linear(2, 2, bias=False)
            _build(name, lr, spelt, probe.parameters(), probe)
        except InputError as refused:
            raise ValueError(str(refused)) from refused
        return spelt


@functools.cache
def optimizer_classes() -> dict[str, type[torch.optim.Optimizer]]:
    """Return every optimizer a configuration may name, by its lower-case name.

    All of ``torch.optim`` but SparseAdam, which takes only sparse gradients; and SAM and its variants around any of
    them.
    """
    import torch

    from sharpscope.optim import ASAM, GSAM, SAM, FriendlySAM, LookSAM

    found: dict[str, type[torch.optim.Optimizer]] = {}
    for name, item in sorted(vars(torch.optim).items(), key=lambda entry: entry[0].lower()):
        if inspect.isclass(item) and issubclass(item, torch.optim.Optimizer):
            found[name.lower()] = item
    del found["optimizer"], found["sparseadam"]
    for kind in (SAM, ASAM, GSAM, FriendlySAM, LookSAM):
        found[kind.__name__.lower()] = kind
    return dict(sorted(found.items()))


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[torch.Tensor], model: torch.nn.Module | None = None
) -> torch.optim.Optimizer:
    """Build the configured optimizer over parameters of a model.

    Raises `InputError` where the class refuses an option's value or these parameters (Muon, for one, takes
    matrices only), and where a factory of one's own cannot be imported, called or used.
    """
    return _build(config.name, config.lr, config.options, parameters, model)


def _build(
    name: str,
    lr: float,
    options: Mapping[str, JsonValue],
    parameters: Iterable[torch.Tensor],
    model: torch.nn.Module | None = None,
) -> torch.optim.Optimizer:
    parameters = list(parameters)
    if ":" in name:
        return _build_own(name, lr, options, parameters, model)
    classes = optimizer_classes()
    build: Any = classes[name]  # every class has its own keyword arguments
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    execution: dict[str, Any] = {}
    steps_taken_by = build
    if name in SHARPNESS_AWARE:
        steps_taken_by = classes[str(arguments.pop("base", "sgd"))]
        execution = {"base": steps_taken_by, "model": model}
    if "fused" in inspect.signature(steps_taken_by).parameters and all(
        p.device.type == "cpu" for p in parameters
    ):
        # one pass over memory: on a CPU AdaGrad 2.7 times, Adam 7 times as fast as torch's default there
        execution["fused"] = True
    try:
        optimizer: torch.optim.Optimizer = build(parameters, lr=lr, **arguments, **execution)
    except (ValueError, TypeError, IndexError, RuntimeError) as refused:
        shown = ", ".join(f"{key} = {value!r}" for key, value in {"lr": lr, **arguments}.items())
        raise InputError(f"{name} does not take {shown} ({str(refused).rstrip('.')}).") from refused
    return optimizer


def _build_own(
    name: str,
    lr: float,
    options: Mapping[str, JsonValue],
    parameters: list[torch.Tensor],
    model: torch.nn.Module | None,
) -> torch.optim.Optimizer:
    import torch

    factory = find_own(name, "optimizer", "an optimizer", torch.optim.Optimizer)
    arguments: dict[str, Any] = {"lr": lr, **options}
    if takes(factory, "model"):
        arguments["model"] = model
    optimizer = call_own(name, "optimizer", factory, parameters, **arguments)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"the optimizer factory {name} must return a torch.optim.Optimizer, received "
            f"{type(optimizer).__name__}; return the optimizer itself."
        )
    return optimizer


def _bases() -> list[str]:
    return [name for name in optimizer_classes() if name not in SHARPNESS_AWARE]


def _options_of(name: str, base: str) -> dict[str, inspect.Parameter]:
    """The options a configuration may give; SAM's and its variant's, and their base's besides."""
    classes = optimizer_classes()
    leave_out = _EXECUTION | {"params", "lr"}
    if name not in SHARPNESS_AWARE:
        parameters = inspect.signature(classes[name]).parameters
        return {key: parameter for key, parameter in parameters.items() if key not in leave_out}
    both = {name: inspect.signature(classes[name]).parameters for name in ("sam", name)}
    own = {
        key: parameter
        for parameters in both.values()
        for key, parameter in parameters.items()
        # one process, and the model is the run's
        if key not in leave_out | {"m", "model"} and parameter.kind is not parameter.VAR_KEYWORD
    }
    return {**_options_of(base, base), **own}


def _spelt(annotation: str, key: str, value: JsonValue) -> JsonValue:
    """The value as the class declares it: a whole number is a float where a float is asked for."""
    if "bool" in annotation and not isinstance(value, bool):
        raise ValueError(f"the option {key} must be true or false")
    if isinstance(value, list):
        return [_spelt(annotation, key, item) for item in value]
    if "float" in annotation and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value

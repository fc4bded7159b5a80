"""Measures that need a run's optimizer and data: λ_max up to its next iterate, and what further tuning costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError, suggestion

if TYPE_CHECKING:
    from sharpscope.data import Dataset
    from sharpscope.estimate import Estimate
    from sharpscope.measures import Measure
    from sharpscope.objective.objective import Objective
    from sharpscope.training import RunConfig


@dataclass(frozen=True)
class TrainedRun:
    """A run's configuration, the epochs it took, its data and the objective of its trained model."""

    config: RunConfig
    epochs: int
    dataset: Dataset
    obj: Objective


def between_iterates(
    trained: TrainedRun, points: int = 8, tol: float = 1e-3, max_products: int = 200, seed: int = 0
) -> Estimate:
    """Return the largest λ_max over ``points`` points between the last iterate and one further step (kaur2022).

    The step is the one that training would have taken next: the first batch of the next epoch. Without batch
    normalisation it is λ_max at the last iterate itself, as in the paper. For optimizers without a state, since a
    run keeps its weights only.

    Raises `InputError` where the optimizer has a state.
    """
    from sharpscope.curvature import between_iterates as along
    from sharpscope.estimate import CostMeter, Estimate
    from sharpscope.measures.hessian_spectrum import lambda_max

    obj, cost = trained.obj, CostMeter(trained.obj)
    if not any(hasattr(module, "running_mean") for module in obj.model.modules()):
        e = lambda_max(obj, tol, max_products, seed)
        return Estimate(
            "between_iterates", e.value, error=e.error, converged=e.converged, cost=e.cost,
            protocol={**e.protocol, "points": 1}, fingerprint=e.fingerprint,
        )  # fmt: skip
    found = along(obj, next_iterate(trained), points, tol=tol, seed=seed)
    top = int(found.values.argmax())
    return Estimate(
        "between_iterates",
        found.value,
        error=float(found.errors[top]),
        converged=bool(found.converged.all()),
        cost=cost.total(),
        protocol={**found.protocol, "position": float(found.positions[top])},
        fingerprint=found.fingerprint,
    )


def next_iterate(trained: TrainedRun) -> Any:
    """Return the parameters (size,) that training's next step would have led to; the model is not moved."""
    from copy import deepcopy

    from sharpscope.training.loop import take_step

    config, obj = trained.config, trained.obj
    refuse_state(config)
    model = deepcopy(obj.model)
    take_step(config, trained.dataset, model, trained.epochs + 1, obj.device)
    named = dict(model.named_parameters())
    return obj.layout.join(named[name].detach() for name in obj.layout.names)


def fine_tuning_rise(
    trained: TrainedRun,
    data: str = "python_source",
    steps: int = 50,
    rate: float = 1e-3,
    batch_size: int = 32,
    samples: int = 500,
    seed: int = 0,
) -> Estimate:
    """Return how much the loss on the run's own data rises while a copy of its model is tuned on other data.

    L(θ_T) − L(θ_0), T = ``steps`` steps of Adam at ``rate`` on batches of ``batch_size`` samples of the data set
    ``data``, drawn by ``seed``; L is the objective's loss. The protocol holds the loss on ``samples`` of the other
    data before and after.

    Raises `InputError` where the other data does not have the run's inputs and outputs.
    """
    from copy import deepcopy

    import torch

    from sharpscope.data import DataConfig, load
    from sharpscope.errors import require_at_least, require_positive
    from sharpscope.estimate import CostMeter, Estimate
    from sharpscope.seeding import generator
    from sharpscope.training import evaluate
    from sharpscope.training.validation import resolved_loss

    require_at_least("steps", steps, 1, "50 change a small model visibly")
    require_at_least("batch_size", batch_size, 1, "32 is usual")
    require_positive("rate", rate, "for example 1e-3")
    obj, own = trained.obj, trained.dataset
    other = load(DataConfig(name=data)).to(obj.device, obj.dtype)
    if (other.input_shape, other.n_outputs) != (own.input_shape, own.n_outputs):
        raise InputError(
            f"data must have the inputs {own.input_shape} and {own.n_outputs} outputs of {own.name}, received {data} "
            f"with {other.input_shape} and {other.n_outputs}; name another"
        )
    cost, loss = CostMeter(obj), resolved_loss(trained.config, own)
    model = deepcopy(obj.model).eval()
    part = type(other.train)(other.test.inputs[:samples], other.test.targets[:samples])
    before = evaluate(model, part, loss)[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    criterion, draws = obj.evaluator.loss, generator("fine tuning", seed)
    assert criterion is not None
    for _ in range(steps):
        chosen = torch.randint(len(other.train), (batch_size,), generator=draws).to(obj.device)
        optimizer.zero_grad()
        criterion(model(other.train.inputs[chosen]), other.train.targets[chosen]).backward()
        optimizer.step()
    named = dict(model.named_parameters())
    after = obj.layout.join(named[name].detach() for name in obj.layout.names)
    return Estimate(
        "fine_tuning_rise",
        obj.loss(after) - obj.loss(),
        cost=cost.total(),
        protocol={
            "data": data,
            "steps": steps,
            "rate": rate,
            "batch_size": batch_size,
            "seed": seed,
            "other_loss_before": before,
            "other_loss_after": evaluate(model, part, loss)[0],
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )


def refuse_state(config: RunConfig) -> None:
    """Raise `InputError` where the run's optimizer carries a state from step to step, or its weights are averages."""
    name, options = config.optimizer.name, config.optimizer.options
    base = str(options.get("base", "sgd")) if name in ("sam", "asam") else name
    if base != "sgd" or options.get("momentum"):
        raise InputError(
            "between_iterates takes one step more and needs an optimizer without a state, sgd without momentum or "
            f"SAM around it, received {name} with {options}; measure lambda_max instead"
        )
    if config.ema_decay is not None:
        raise InputError(
            "between_iterates takes one step more from the last iterate, and the weights here are a moving average; "
            "leave ema_decay out or measure lambda_max instead"
        )


def run_measures() -> dict[str, Measure]:
    """Return the measures of a run by name, described as `sharpscope.measures` describes its own."""
    from sharpscope.measures import Measure

    return {
        m.name: m
        for m in (
            Measure(
                "between_iterates",
                "Largest Hessian eigenvalue between iterates",
                "max λ_max",
                "The largest λ_max at 8 points between the last iterate and one further step, where the model has "
                "batch normalisation; at the last iterate itself where it has none.",
                "kaur2022, section 3.5; Cohen et al. 2021",
                False,
                between_iterates,
                "loss / parameter²",
            ),
            Measure(
                "fine_tuning_rise",
                "Rise of the loss under tuning on other data",
                "L(θ_T) − L(θ_0)",
                "How much the loss on a run's own data rises while its model takes 50 steps of Adam on other data.",
                "",
                False,
                fine_tuning_rise,
                "loss",
            ),
        )
    }


def checked(spec: str | Mapping[str, Any]) -> tuple[str, Measure, dict[str, Any]]:
    """Return (label, measure, options) of a specification; of `sharpscope.measures` or of a run.

    Raises `InputError` for an unknown name or option.
    """
    from sharpscope import measures

    name = spec if isinstance(spec, str) else spec.get("measure")
    own = run_measures()
    if not isinstance(name, str) or name not in own:
        if isinstance(name, str) and name not in measures.REGISTRY:
            known = ", ".join([*measures.REGISTRY, *own])
            meant = suggestion(name, [*measures.REGISTRY, *own])
            raise InputError(f"measure must be one of {known}, received {name!r}; {meant}check the spelling")
        return measures.checked(spec)
    options = {} if isinstance(spec, str) else {k: v for k, v in spec.items() if k not in ("measure", "name")}
    for key in options:
        if key not in own[name].options:
            raise InputError(
                f"{name} takes the options {', '.join(own[name].options)}, received '{key}'; "
                "remove it or check its spelling"
            )
    return (name if isinstance(spec, str) else str(spec.get("name", name))), own[name], options


def take(trained: TrainedRun, spec: Mapping[str, Any]) -> Estimate:
    """Take a measure of a trained run."""
    from sharpscope import measures

    _, found, options = checked(spec)
    if found.name == "distance_from_initialisation" and "initial" not in options:
        from sharpscope.models import build
        from sharpscope.training import weight_seed

        initial = build(trained.config.model, trained.dataset, weight_seed(trained.config))
        return measures.take(trained.obj, {**spec, "initial": initial.to(trained.obj.dtype)})
    if found.name in measures.REGISTRY:
        return measures.take(trained.obj, spec)
    estimate: Estimate = found.function(trained, **options)
    return estimate

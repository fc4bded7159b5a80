"""Which runs may train at the same time: those that differ in nothing but numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpscope.training.config import RunConfig


def group_key(config: RunConfig) -> str | None:
    """Return what runs that train at the same time have in common, None for a run that trains alone.

    That is the whole configuration but the seed, the optimizer's numbers, the schedule and the stopping rules. Of
    the optimizer's options the names must agree, and whatever is text. Compiled runs train alone: what is compiled
    belongs to one model.

    >>> from sharpscope.training import RunConfig
    >>> def run(lr, seed, **options):
    ...     optimizer = {"name": "sgd", "lr": lr, "options": options}
    ...     stop = {"epochs": 2 + seed}
    ...     return RunConfig(data="digits", model="mlp", optimizer=optimizer, batch_size=32, stop=stop, seed=seed)
    >>> group_key(run(0.1, 0, momentum=0.5)) == group_key(run(0.2, 1, momentum=0.9))
    True
    >>> group_key(run(0.1, 0)) == group_key(run(0.1, 0, momentum=0.9))
    False
    """
    if config.compile:
        return None
    shared = config.model_copy(update={"seed": 0, "schedule": type(config.schedule)()})
    fields: dict[str, Any] = shared.model_dump(mode="json", exclude={"stop"})
    fields["optimizer"] = {"name": config.optimizer.name, "options": _names(config.optimizer.options)}
    return repr(sorted(fields.items()))


def _names(options: dict[str, Any]) -> dict[str, Any]:
    """The options with every number blotted out."""
    return {
        key: value if isinstance(value, str) or value is None else "number"
        for key, value in sorted(options.items())
    }

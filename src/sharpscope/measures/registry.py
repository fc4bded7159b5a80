"""The registry of measures: what each is called, what it means, and the function that takes it.

A measure registers itself by the decorator `register` in the file of its definition. `sharpscope.measures` imports
these files, so the registry is full whenever it can be imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sharpscope.curvature.call_limits import LIMITS
from sharpscope.errors import InputError, require_one_of, suggestion
from sharpscope.estimate import Estimate

Spec = str | Mapping[str, Any]
"""A measure's name, or {"measure": name, "name": its label in tables, and any of its options}."""

F = TypeVar("F", bound=Callable[..., Estimate])


@dataclass(frozen=True)
class Measure:
    """One sharpness definition.

    ``function(obj, **options)`` returns the estimate. ``rescaling_invariant`` says whether function-preserving
    rescalings leave the value unchanged with the default options; ``cost`` what the default options cost, in passes
    over the data.
    """

    name: str
    title: str
    symbol: str
    definition: str
    source: str
    rescaling_invariant: bool
    function: Callable[..., Estimate]
    unit: str
    cost: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """The options it takes and their defaults, but for those that only limit the call."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {p.name: p.default for p in parameters if p.name not in LIMITS}


REGISTRY: dict[str, Measure] = {}
"""Every measure by name."""


def register(
    name: str,
    *,
    title: str,
    symbol: str,
    definition: str,
    source: str,
    unit: str,
    cost: str,
    rescaling_invariant: bool = False,
) -> Callable[[F], F]:
    """Return a decorator that adds a function to the registry under ``name`` and returns it unchanged."""

    def add(function: F) -> F:
        if name in REGISTRY:
            raise ValueError(f"the measure {name!r} is registered twice")
        REGISTRY[name] = Measure(
            name, title, symbol, definition, source, rescaling_invariant, function, unit, cost
        )
        return function

    return add


def find(name: str) -> Measure:
    """Return a registered measure; raise `InputError` naming the known ones."""
    require_one_of("measure", name, REGISTRY, "check the spelling")
    return REGISTRY[name]


def checked(spec: Spec) -> tuple[str, Measure, dict[str, Any]]:
    """Return (label, measure, options) of a spec; raise `InputError` for unknown names or options."""
    if isinstance(spec, str):
        return spec, find(spec), {}
    options = dict(spec)
    name = options.pop("measure", None)
    if not isinstance(name, str):
        raise InputError(
            f"a measure needs its name under 'measure', received {dict(spec)}; add measure = \"...\""
        )
    found = find(name)
    label = options.pop("name", name)
    for key in options:
        if key not in found.options:
            raise InputError(
                f"{name} takes the options {', '.join(found.options) or 'none'}, received {key!r}; "
                f"{suggestion(key, found.options)}remove it or check its spelling"
            )
    return label, found, options

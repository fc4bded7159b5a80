"""Views of trained runs that a study asks for: lines between two, surfaces, audits and histograms of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sharpscope.errors import InputError
from sharpscope.serialization import content_hash
from sharpscope.studies.plan import selection

if TYPE_CHECKING:
    from sharpscope.studies.file.library import Study
    from sharpscope.training import RunConfig

KINDS = ("landscapes", "surfaces", "audits", "histograms")
"""The kinds, as the study file and the store's folders call them."""


class Run(Protocol):
    """What is needed of a planned run."""

    @property
    def id(self) -> str:
        """Its identifier."""

    @property
    def config(self) -> RunConfig:
        """Its configuration."""

    @property
    def row(self) -> dict[str, Any]:
        """The columns by which it is selected."""


@dataclass(frozen=True)
class PlannedView:
    """One view of one run or two: its kind, its name in tables, what is asked for and on which data."""

    id: str
    kind: str
    name: str
    runs: tuple[str, ...]
    request: dict[str, Any]
    objective: dict[str, Any]


def plan_views(study: Study, runs: Sequence[Run]) -> Iterator[PlannedView]:
    """Yield every view that a study asks for.

    Raises `InputError`, naming file, line and key, for a name given twice, a selection that finds no run or no
    pair, two runs of different data or models, and an unknown measure.
    """
    for kind in KINDS:
        names: set[str] = set()
        for i, asked in enumerate(getattr(study.config, kind)):
            place: tuple[str | int, ...] = (kind, i)
            if asked.name in names:
                raise study.source.refusal(
                    (*place, "name"), f"each of the {kind} needs its own name, {asked.name!r} is given twice"
                )
            names.add(asked.name)
            request = asked.model_dump(mode="json", exclude={"name", "title", "of", "a", "b", "samples"})
            wanted = study.config.objective
            samples = asked.samples if getattr(asked, "samples", None) is not None else wanted.samples
            objective = wanted.model_copy(update={"samples": samples}).model_dump(mode="json")
            for end in ("a", "b", "of"):
                _check_selection(study, (*place, end), getattr(asked, end, {}), runs)
            try:
                if kind == "audits":
                    from sharpscope.measures import checked

                    request["measures"] = [_without_none(spec) for spec in asked.measures]
                    for spec in request["measures"]:
                        checked(spec)
                groups = _pairs(runs, asked.a, asked.b) if kind == "landscapes" else _each(runs, asked.of)
            except InputError as error:
                raise study.source.refusal(place, f"{kind} {asked.name!r}: {error}") from error
            for group in groups:
                ids = tuple(run.id for run in group)
                body = {"runs": list(ids), "kind": kind, "request": request, "objective": objective}
                yield PlannedView(content_hash(body), kind, asked.name, ids, request, objective)


def _without_none(spec: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """Return a measure's specification with None for ``none``, which TOML cannot say."""
    return spec if isinstance(spec, str) else {k: None if v == "none" else v for k, v in spec.items()}


def _check_selection(
    study: Study, place: tuple[str | int, ...], select: Mapping[str, Any], runs: Sequence[Run]
) -> None:
    for column, wanted in select.items():
        try:
            selection.check({column: wanted}, [run.row for run in runs])
        except InputError as error:
            raise study.source.refusal((*place, column), f"{place[0]}: {error}") from error


def _each(runs: Sequence[Run], of: Mapping[str, Any]) -> list[tuple[Run, ...]]:
    chosen: list[tuple[Run, ...]] = [(run,) for run in runs if selection.matches(run.row, of)]
    if not chosen:
        raise InputError(f"of = {dict(of)} selects no run; choose other values")
    return chosen


def _pairs(runs: Sequence[Run], a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[Run, ...]]:
    """Return the pairs of a run of ``a`` and one of ``b`` that agree in every column that neither names."""
    free = {name for run in runs for name in run.row} - set(a) - set(b)
    pairs: list[tuple[Run, ...]] = []
    for first in runs:
        if not selection.matches(first.row, a):
            continue
        for second in runs:
            alike = all(selection.same(first.row.get(name), second.row.get(name)) for name in free)
            if alike and first.id != second.id and selection.matches(second.row, b):
                pairs.append((first, second))
    if not pairs:
        raise InputError(
            f"no run of a = {dict(a)} has a partner of b = {dict(b)} that agrees in {sorted(free)}"
        )
    for first, second in pairs:
        if (first.config.data, first.config.model, first.config.dtype) != (
            second.config.data,
            second.config.model,
            second.config.dtype,
        ):
            raise InputError(
                "the two ends of a line must be the same model on the same data; choose such runs"
            )
    return pairs

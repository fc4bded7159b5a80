"""Check that every column which a claim or a figure names will be in the study's tables."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sharpscope.studies.tasks.run_measures import checked

if TYPE_CHECKING:
    from sharpscope.studies.file.library import Study

METRICS = tuple(f"{part}_{what}" for part in ("train", "validation", "test") for what in ("loss", "accuracy"))
OUTCOMES = (*METRICS, "constant_loss")
"""Numbers known of every finished run: losses, accuracies, and the loss of the best constant answer."""

IDENTITY = ("data", "model", "optimizer", "lr", "batch_size", "seed")
"""Columns of the table of runs that say how a run was made, whether or not the grid varies them."""

RESULTS = ("run_id", "configuration", "status", "stop_reason", "epochs", "parameters", "gap", *OUTCOMES)
"""Columns of the table of runs that say what came of a run."""

_OF_EPOCHS = ("epoch", "epoch_lr", "epoch_loss", "epoch_accuracy", "seconds")
"""Further columns of the history of a run's training."""

RESERVED = {*RESULTS, *IDENTITY, *_OF_EPOCHS, "study", "measure", "value", "stderr", "error"}
"""Names that no axis of a grid and no measure may have as a column of its own."""

_ALWAYS = (*RESULTS, *_OF_EPOCHS)
_OF_VIEWS = {
    "landscapes": (
        *("pair", "landscape", "run_a", "run_b", "alpha", "loss", "accuracy", "distance"),
        *("width_a", "width_b", "complete_a", "complete_b", "low_a", "high_a", "low_b", "high_b"),
    ),
    "surfaces": ("surface", "x", "y", "loss", "accuracy"),
    "histograms": ("histogram", "parameter", "low", "high", "count"),
}
_EXPRESSIONS = (
    "x",
    "y",
    "by",
    "match_on",
    "curve",
    "low_side",
    "high_side",
    "within",
    "match",
    "control",
    "numerator",
    "denominator",
)
_SELECTIONS = ("where", "a", "b", "baseline", "most_at")
_OF_FIGURES = ("x", "y", "colour", "panel", "line")

Place = tuple[str | int, ...]


def check_columns(study: Study, columns: Collection[str]) -> None:
    """Raise `InputError`, naming file and line, where a claim or figure names a column that no table will have.

    ``columns`` are those of the runs' rows, as `PlannedRun.row` gives them.
    """
    from sharpscope.analysis.claims.expression import columns_of

    known = _known(study, columns)
    named = list(_of_claims(study.config.claims, ("claims",)))
    named += _of_requirements(study.config.requires, ("requires",))
    for i, figure in enumerate(study.config.figures):
        at: Place = ("figures", i)
        named += _expressions(figure.model_dump(), _OF_FIGURES, at)
        named += [((*at, "where", column), column) for column in figure.where]
    for place, text in named:
        for column in [text] if text in known else columns_of(text):
            if column not in known:
                close = difflib.get_close_matches(column, known, n=1)
                remedy = f"perhaps {close[0]} is meant" if close else f"there are {', '.join(sorted(known))}"
                raise study.source.refusal(
                    place, f"{place[0]}: {place[-1]} speaks of {column!r}, which is no column; {remedy}"
                )


def check_labels(study: Study, axes: Collection[str]) -> None:
    """Raise `InputError` where a measure or track has the name of another column of its table.

    ``axes`` are the columns of what the grid varies.
    """
    taken = {*RESERVED, *axes}
    listed: list[tuple[Place, str]] = [
        (("measures", i), _label(given)) for i, given in enumerate(study.config.measures)
    ]
    taken |= {f"{label}_stderr" for _, label in listed}
    for audit in study.config.audits:
        taken |= {f"{audit.name}_{_label(given)}_change" for given in audit.measures}
    listed += [(("tracks", i), track.label) for i, track in enumerate(study.config.tracks)]
    for place, label in listed:
        if label in taken:
            raise study.source.refusal(
                (*place, "name"),
                f"{place[0]}: a measure may not have the name of another column, received {label!r}; "
                'give it a name of its own, such as name = "my_measure"',
            )


def _known(study: Study, columns: Collection[str]) -> set[str]:
    config = study.config
    known = {*_ALWAYS, *columns}
    for given in config.measures:
        label = _label(given)
        known |= {label, f"{label}_stderr"}
    known |= {track.label for track in config.tracks}
    for audit in config.audits:
        known |= {f"{audit.name}_{_label(given)}_change" for given in audit.measures}
    for kind, columns in _OF_VIEWS.items():
        known |= set(columns) if getattr(config, kind) else set()
    return known


def _label(given: str | Mapping[str, Any]) -> str:
    if isinstance(given, str):
        return given
    return checked({key: value for key, value in given.items() if key != "where"})[0]


def _of_claims(claims: Sequence[Mapping[str, Any]], at: Place) -> Iterator[tuple[Place, str]]:
    for i, claim in enumerate(claims):
        place = (*at, i)
        yield from _expressions(claim, _EXPRESSIONS, place)
        yield from _of_requirements(claim.get("requires"), (*place, "requires"))
        for key in _SELECTIONS:
            yield from (((*place, key, column), column) for column in claim.get(key, {}))
        yield from _of_claims(claim.get("claims", []), (*place, "claims"))


def _of_requirements(requires: Any, place: Place) -> Iterator[tuple[Place, str]]:
    for column, tests in (requires or {}).items():
        yield (*place, column), column
        yield from (  # "is" compares with a text
            ((*place, column, test), value)
            for test, value in tests.items()
            if isinstance(value, str) and test != "is"
        )


def _expressions(table: Mapping[str, Any], keys: Sequence[str], place: Place) -> Iterator[tuple[Place, str]]:
    for key in keys:
        given = table.get(key)
        for text in given if isinstance(given, list) else [given]:
            if isinstance(text, str):
                yield (*place, key), text

"""Read a study file's text into a table whose values are plain and whose experiments and scales are tables."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpscope.errors import InputError, suggestion
from sharpscope.studies.file.schema import SCALES
from sharpscope.studies.file.source import Source

_DEEPEST = 32
"""Levels of tables and arrays inside one another; a study needs eight, and every later step recurses."""

_LARGEST = 2**63 - 1
"""The largest whole number that every table and file format of the product holds."""

_LONGEST_KEY = 100
"""Characters of the longest key; keys become names of columns and are shown whole in messages."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters but tab, newline and carriage return."""

Place = tuple[str | int, ...]


def read_text(file: Path, shipped: Sequence[str]) -> str:
    """Return a study file's text.

    Raises `InputError` for a file that is missing, naming the shipped studies, and for one that cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"a study must be a TOML file or one of {', '.join(shipped)}, there is no {str(file)!r}; "
            f"{suggestion(file, shipped)}check the path"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"the study file {file} cannot be read ({reason}); pass a TOML file") from error


def parse(text: str, origin: str, folder: Path | None = None) -> tuple[dict[str, Any], Source]:
    """Return a study file's table and its text with line numbers.

    Raises `InputError`, one sentence naming file and line, for text that is no TOML, a value that no study can use,
    and experiments or scales that are no tables.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{origin} must be TOML, and it is not: {error}; mend that line") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise InputError(
            f"{origin} must hold numbers of at most 64 bits; shorten its longest number"
        ) from error
    except RecursionError as error:
        raise InputError(
            f"{origin} may nest tables and arrays {_DEEPEST} deep, and it nests hundreds; flatten them"
        ) from error
    source = Source(text, origin, folder)
    _check_value((), content, source)
    _check_layout(content, source)
    return content, source


def _check_value(place: Place, value: Any, source: Source) -> None:
    """Refuse a value that cannot be stored as it is: too deep, a date, an infinity, a control character."""
    wrong = None
    if len(place) > _DEEPEST:
        place, wrong = place[:4], f"is nested more than {_DEEPEST} deep; flatten it"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if _CONTROL.search(key) or not 0 < len(key.strip()) <= _LONGEST_KEY:
                raise source.refusal(
                    place,
                    f"a key must be of 1 to {_LONGEST_KEY} visible characters, received {_short(key)}; rename it",
                )
            _check_value((*place, key), inner, source)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_value((*place, index), inner, source)
    elif isinstance(value, str):
        if _CONTROL.search(value):
            wrong = f"may hold no control character, received {_short(value)}; take it out"
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            wrong = (
                f"must be a number of at most 64 bits, received one of {value.bit_length()}; make it smaller"
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            wrong = f"must be a finite number, received {value}; change it"
    else:
        wrong = (
            f"must be text, a number, true, false, an array or a table, received the date {value}; quote it"
        )
    if wrong is not None:
        raise source.refusal(place, f"{'.'.join(map(str, place))} {wrong}")


def _check_layout(content: Mapping[str, Any], source: Source) -> None:
    """Refuse experiments and scales that are no tables, ids that are missing or twice, and unknown scales."""
    experiments = content.get("experiments", [])
    if not isinstance(experiments, list) or not all(isinstance(e, dict) for e in experiments):
        raise source.refusal(("experiments",), "experiments must be tables; write [[experiments]]")
    if not isinstance(content.get("name", ""), str):
        raise source.refusal(
            ("name",), f'name must be text, received {_short(content["name"])}; write name = "..."'
        )
    seen: set[str] = set()
    for i, experiment in enumerate(experiments):
        at: Place = ("experiments", i)
        identifier = experiment.get("id")
        if not isinstance(identifier, str) or not identifier:
            raise source.refusal(at, 'an experiment needs its id; add id = "..."')
        if identifier in seen:
            raise source.refusal(
                (*at, "id"), f"every experiment needs its own id, {identifier!r} is there twice; rename one"
            )
        covers = experiment.get("covers", [])
        if not isinstance(covers, list) or not all(isinstance(one, str) for one in covers):
            raise source.refusal(
                (*at, "covers"), f'covers must be a list of ids, received {_short(covers)}; write ["fig2"]'
            )
        seen.add(identifier)
    layers: list[tuple[Place, Mapping[str, Any]]] = [((), content)]
    layers += [(("experiments", i), experiment) for i, experiment in enumerate(experiments)]
    for place, layer in layers:
        scales = _table(layer, "scales", place, source)
        _table(layer, "values", place, source)
        for name, changes in scales.items():
            there = (*place, "scales", name)
            if name not in SCALES or not isinstance(changes, dict):
                raise source.refusal(
                    there,
                    f"scales holds a table for each of {', '.join(SCALES)}, received {name!r}; use these names",
                )
            _table(changes, "values", there, source)


def _table(layer: Mapping[str, Any], key: str, place: Place, source: Source) -> Mapping[str, Any]:
    found = layer.get(key, {})
    if not isinstance(found, dict):
        raise source.refusal((*place, key), f"{key} must be a table, received {_short(found)}; write [{key}]")
    return found


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""Finding studies: shipped ones by name, the user's own by file, one experiment or all, at a scale."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sharpscope.errors import InputError, suggestion
from sharpscope.serialization import explain
from sharpscope.studies.file.layers import overlay, substitute
from sharpscope.studies.file.reading import parse, read_text
from sharpscope.studies.file.schema import SCALES, StudyConfig
from sharpscope.studies.file.source import Source, leading

OWN = "own"
"""The scale of a study that declares none."""

_LAYERED = ("experiments", "scales", "values")
_OF_THE_FILE = ("title", "description")
"""Keys that describe the file as a whole; its experiments do not inherit them."""


@dataclass(frozen=True)
class Study:
    """One study, resolved: its checked content, the scale it is at, and the file it came from.

    ``key`` names it in a store and a report: ``kaur2022/fig1`` for an experiment, the name for a flat study.
    """

    config: StudyConfig
    source: Source
    key: str
    scale: str = OWN
    paper: str = ""

    @property
    def origin(self) -> str:
        """How the user names the file."""
        return self.source.origin

    @property
    def folder(self) -> str:
        """A name for a folder of this study at this scale."""
        name = self.key.replace("/", "-")
        return name if self.scale == OWN else f"{name}-{self.scale}"


@dataclass(frozen=True)
class StudyFile:
    """A study file: its table as read, and its text."""

    content: Mapping[str, Any]
    source: Source

    @property
    def name(self) -> str:
        """The study's or paper's name."""
        return str(self.content.get("name", ""))

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales it declares, smallest first; ``paper`` comes with any other."""
        declared = set(self.content.get("scales", {}))
        for experiment in self.content.get("experiments", []):
            declared |= set(experiment.get("scales", {}))
        return tuple(s for s in SCALES if s in declared | {"paper"}) if declared else ()

    @property
    def experiments(self) -> tuple[str, ...]:
        """The ids of its experiments, none for a flat study."""
        return tuple(str(e["id"]) for e in self.content.get("experiments", []))

    def studies(self, experiment: str | None = None, scale: str | None = None) -> list[Study]:
        """Return the studies of this file at a scale: all, or the one of an id or of a figure that it covers.

        Raises `InputError` for an unknown experiment or scale and for whatever the file gets wrong.
        """
        listed = self.content.get("experiments")
        if listed is None:
            if experiment is not None:
                raise InputError(
                    f"{self.source.origin} has no experiments, received {experiment!r}; leave it out"
                )
            return [self._resolve(None, self._scale(scale))]
        chosen = [
            i
            for i, e in enumerate(listed)
            if experiment in (None, e["id"]) or experiment in e.get("covers", [])
        ]
        if not chosen:
            raise InputError(
                f"{self.source.origin} has the experiments {', '.join(self.experiments)}, received {experiment!r}; "
                f"{suggestion(experiment, self.experiments)}choose one of these"
            )
        scale = self._scale(scale)
        return [self._resolve(i, scale) for i in chosen]

    def _scale(self, wanted: str | None) -> str:
        if wanted is not None and wanted not in (self.scales or SCALES):
            raise InputError(
                f"a scale is one of {', '.join(self.scales or SCALES)}, received {wanted!r}; choose one of these"
            )
        if self.scales and wanted is None:
            raise InputError(
                f"{self.source.origin} has the scales {', '.join(self.scales)}; choose one with --scale"
            )
        if wanted is not None and not self.scales:
            raise InputError(
                f"{self.source.origin} declares no scales, received {wanted!r}; leave --scale out"
            )
        return wanted or OWN

    def _resolve(self, index: int | None, scale: str) -> Study:
        content = self.content
        experiment = content["experiments"][index] if index is not None else {}
        layers = [content, experiment, content.get("scales", {}).get(scale, {})]
        layers.append(experiment.get("scales", {}).get(scale, {}))
        at: tuple[str | int, ...] = () if index is None else ("experiments", index)
        paths = [(*at, "scales", scale), ("scales", scale), at, ()]
        source = self.source.under(*dict.fromkeys(paths))
        merged: dict[str, Any] = {}
        values: dict[str, Any] = {}
        try:
            for depth, layer in enumerate(layers):
                own = {k: v for k, v in layer.items() if k not in _LAYERED}
                if depth == 0 and index is not None:
                    own = {k: v for k, v in own.items() if k not in _OF_THE_FILE}
                merged = overlay(merged, own, shared=layer is not layers[-1] and index is not None)
                values |= layer.get("values", {})
            for key in ("id", "covers"):
                merged.pop(key, None)
            merged = substitute(merged, values)
        except InputError as error:
            raise source.refusal(leading(str(error)), str(error)) from error
        if index is None:
            return Study(_validated(merged, source), source, self.name, scale)
        key = f"{self.name}/{experiment['id']}"
        merged["name"] = key.replace("/", "-")
        return Study(_validated(merged, source), source, key, scale, str(content.get("title", "")))


def shipped() -> list[str]:
    """Return the names of the study files that come with sharpscope."""
    folder = resources.files("sharpscope.studies")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def papers() -> list[str]:
    """Return the names of the shipped files that hold the experiments of a paper."""
    return [name for name in shipped() if open_study(name).experiments]


def open_study(path: str | Path) -> StudyFile:
    """Read a study file, or a shipped one by its name.

    Raises `InputError`, one sentence naming file, line and rule, for a file that is missing, no TOML, or whose
    experiments and scales are not laid out as such.
    """
    if str(path) in shipped():
        return _shipped(str(path))
    text = read_text(Path(path), shipped())
    return StudyFile(*parse(text, str(path), Path(path).absolute().parent))


def load_studies(target: str | Path, scale: str | None = None) -> list[Study]:
    """Return the studies that ``target`` names at a scale: FILE, PAPER, PAPER/EXPERIMENT, FILE/EXPERIMENT or ``all``.

    ``all`` is every experiment of every shipped paper. Raises `InputError`, one sentence, as `open_study` does and
    for an experiment or scale that does not exist.
    """
    if str(target) == "all":
        return [study for name in papers() for study in open_study(name).studies(None, scale)]
    name, slash, experiment = str(target).rpartition("/")
    if slash and (name in shipped() or (not os.path.exists(target) and os.path.isfile(name))):
        return open_study(name).studies(experiment, scale)
    return open_study(target).studies(None, scale)


def load_study(target: str | Path, scale: str | None = None) -> Study:
    """Return the one study that ``target`` names; see `load_studies`. Raises `InputError` where it names several."""
    found = load_studies(target, scale)
    if len(found) > 1:
        raise InputError(
            f"{target} holds {len(found)} experiments, and one is wanted; name it, such as {found[0].key}"
        )
    return found[0]


@lru_cache(maxsize=32)
def _shipped(name: str) -> StudyFile:
    text = resources.files("sharpscope.studies").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return StudyFile(*parse(text, name))


def _validated(content: dict[str, Any], source: Source) -> StudyConfig:
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        sentence = explain(error)
        raise source.refusal(leading(sentence), sentence) from error

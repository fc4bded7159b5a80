"""What one study says: the base run, the grid over it, what is measured, drawn and claimed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import (
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sharpscope.errors import InputError
from sharpscope.serialization import StrictConfig
from sharpscope.sweep import GridBlock, block_named, is_range

SCALES = ("smoke", "laptop", "paper")
"""The scales a study may declare, smallest first; ``paper`` is the file as it stands."""

Select = dict[str, JsonValue]
"""Column of the table of runs -> the value wanted, or a list of values; no column wants every run."""


class ObjectiveConfig(StrictConfig):
    """On what the measures are taken.

    - ``part``: the split, ``train`` or ``test``.
    - ``samples``: how many of its samples, the first after a shuffle seeded by ``seed``; all by default.
    - ``mode``: ``eval``, or ``train`` for batch normalisation on batch statistics (dropout off in both).
    - ``batch_size``: samples per batch in ``train`` mode, where batches matter; one batch by default.
    """

    part: Literal["train", "test"] = "train"
    samples: PositiveInt | None = None
    seed: int = 0
    mode: Literal["eval", "train"] = "eval"
    batch_size: PositiveInt | None = None


class _Named(StrictConfig):
    """What stands in a list and is told apart by its name."""

    name: str
    title: str = ""


class TrackConfig(StrictConfig):
    """A measure followed over training: at the first epoch, every ``every`` epochs, and at the last.

    ``options`` are the measure's own, ``where`` the runs it is taken of, ``samples`` how many of the objective's
    samples it is taken on (all of them by default), which may be fewer than at the end of training.
    """

    measure: str
    name: str = ""
    every: PositiveInt = 1
    options: dict[str, JsonValue] = Field(default_factory=dict)
    where: Select = Field(default_factory=dict)
    samples: PositiveInt | None = None

    @property
    def label(self) -> str:
        """The name in tables."""
        return self.name or self.measure


class AlphasConfig(StrictConfig):
    """Evenly spaced points on the line, ``start`` and ``stop`` among them; 0 and 1 are always added."""

    start: float = -1.0
    stop: float = 2.0
    points: PositiveInt = 61


class LandscapeConfig(_Named):
    """The line between two runs (see `sharpscope.interpolate`), for every pair of a run of ``a`` and one of ``b``.

    Two runs are a pair where they agree in everything the grid varies but the columns that ``a`` and ``b`` name:
    in the seed, for one. ``rise`` is the rise of the loss that bounds a basin.
    """

    a: Select
    b: Select
    alphas: AlphasConfig = AlphasConfig()
    batch_norm: Literal["recomputed", "frozen"] = "recomputed"
    rise: PositiveFloat = 0.1
    samples: PositiveInt | None = None

    @model_validator(mode="after")
    def _two_ends(self) -> LandscapeConfig:
        if self.a == self.b:
            raise ValueError("a landscape joins two different selections of runs, a and b are equal")
        return self


class SurfaceConfig(_Named):
    """The loss over a plane around each run of ``of``; see `sharpscope.surface`."""

    of: Select = Field(default_factory=dict)
    radius: PositiveFloat = 1.0
    points: PositiveInt = 21
    batch_norm: Literal["recomputed", "frozen"] = "recomputed"
    seed: int = 0
    samples: PositiveInt | None = None


class AuditConfig(_Named):
    """Whether ``measures`` change under rescalings that do not change the function; see `sharpscope.audit`."""

    of: Select = Field(default_factory=dict)
    measures: list[str | dict[str, Any]] = Field(min_length=1)
    repetitions: PositiveInt = 3
    spread: float = Field(default=4.0, gt=1)
    seed: int = 0
    samples: PositiveInt | None = None


class HistogramConfig(_Named):
    """How the weights of one parameter are distributed in each run of ``of``: counts in equal bins.

    ``parameter`` is the model's own name of it, such as ``stem.0.weight``; the bins cover its largest absolute
    value to both sides.
    """

    of: Select = Field(default_factory=dict)
    parameter: str
    bins: PositiveInt = 50


class FigureConfig(StrictConfig):
    """A figure in the paper's own axes.

    ``table`` names the rows: ``results`` (a point for each run), ``history`` and ``tracks`` (curves over epochs),
    ``landscapes`` (curves over α), ``surfaces``, ``histograms``. ``x`` and ``y`` are columns or arithmetic over
    them; several ``y`` stand side by side. ``colour`` and ``panel`` are columns that tell curves and panels apart,
    ``line`` a reference curve such as ``2/lr``. ``names`` says what readers are to call any of these.
    """

    id: str
    title: str = ""
    table: Literal["results", "history", "tracks", "landscapes", "surfaces", "histograms"] = "results"
    x: str
    y: str | list[str]
    colour: str | None = None
    panel: str | None = None
    where: Select = Field(default_factory=dict)
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    line: str | None = None
    names: dict[str, str] = Field(default_factory=dict)

    @field_validator("x", "y", "line")
    @classmethod
    def _is_arithmetic(cls, given: str | list[str] | None) -> str | list[str] | None:
        from sharpscope.analysis.claims.expression import check_expression

        for text in [given] if isinstance(given, str) else given or []:
            check_expression(text)
        return given

    @field_validator("names")
    @classmethod
    def _of_what_it_draws(cls, names: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        given = [info.data.get(key) or [] for key in ("x", "y", "colour", "panel", "line")]
        drawn = [text for one in given for text in ([one] if isinstance(one, str) else one)]
        if unknown := [text for text in names if text not in drawn]:
            raise ValueError(
                f"names must be of what the figure draws: {', '.join(drawn)}; take out {unknown[0]}"
            )
        return names


class StudyConfig(StrictConfig):
    """A study: what is trained, what varies, what is measured, drawn and claimed.

    - ``run``: the base configuration, as `sharpscope.training.RunConfig`.
    - ``grid``: one table or several of dotted key = list of values; each is the product of its axes, times its
      ``cases`` (tables of keys that change together), or so many ``draws`` at each case (others with another
      ``draw_seed``); see `sharpscope.sweep.GridBlock`. Several are united and duplicates dropped.
    - ``objective``: see `ObjectiveConfig`.
    - ``measures``: names, or tables ``{measure, name, where, options...}``. ``step_size = "learning_rate"`` stands
      for each run's own rate, ``"none"`` for an option left empty, which TOML cannot say; ``where`` selects runs.
    - ``tracks``, ``landscapes``, ``surfaces``, ``audits``, ``histograms``: see the classes of those names.
    - ``figures``: see `FigureConfig`. ``claims``: see `sharpscope.analysis.claims`.
    - ``requires``: what nine in ten of the runs that a claim compares must have reached, such as
      ``{ train_accuracy = { min = 0.95 } }``; see `sharpscope.analysis.claims.requirements`. Without it, a training
      loss clearly below that of the best constant answer.
    - ``note``: what a verdict has to say of its scale, such as a narrower network or fewer images.
    - ``decisions``: what the paper leaves open and this file settles, at every scale; it follows the note.
    """

    name: str
    title: str = ""
    description: str = ""
    citation: str = ""
    note: str = ""
    decisions: str = ""
    run: dict[str, Any]
    grid: list[dict[str, Any]] = Field(default_factory=list)
    objective: ObjectiveConfig = ObjectiveConfig()
    measures: list[str | dict[str, Any]] = Field(default_factory=list)
    tracks: list[TrackConfig] = Field(default_factory=list)
    landscapes: list[LandscapeConfig] = Field(default_factory=list)
    surfaces: list[SurfaceConfig] = Field(default_factory=list)
    audits: list[AuditConfig] = Field(default_factory=list)
    histograms: list[HistogramConfig] = Field(default_factory=list)
    figures: list[FigureConfig] = Field(default_factory=list)
    claims: list[dict[str, Any]] = Field(default_factory=list)
    requires: dict[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError("a study's name uses letters, digits, '.', '_' and '-', since it names a folder")
        return name

    @field_validator("requires")
    @classmethod
    def _known_tests(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        from sharpscope.analysis.claims.requirements import check_requires

        return None if given is None else check_requires(given)

    @field_validator("grid", mode="before")
    @classmethod
    def _one_table_or_several(cls, grid: Any) -> Any:
        return [grid] if isinstance(grid, Mapping) else grid

    def remark(self) -> str:
        """Return the note and the decisions, as every page of the study shows them."""
        return " ".join(text.strip() for text in (self.note, self.decisions) if text.strip())

    def blocks(self) -> list[GridBlock]:
        """Return the grid's blocks with dotted paths, whether or not the file quoted the dots."""
        blocks = []
        for place, table in enumerate(self.grid):
            which = "" if len(self.grid) < 2 else f" {block_named(place)}"
            axes = dict(table)
            cases = axes.pop("cases", [])
            if not isinstance(cases, list):
                raise InputError(
                    f"cases must be a list of tables, received {cases!r}; write [[grid.cases]]{which}"
                )
            draws, seed = axes.pop("draws", 0), axes.pop("draw_seed", 0)
            if "draws" in table:
                _whole("draws", draws, 1, f"it is how many to draw{which}")
            _whole("draw_seed", seed, 0, f"each draws others{which}")
            if "draw_seed" in table and not draws:
                raise InputError(
                    f"draw_seed is for a block that draws, and there is no draws; add it or take draw_seed out{which}"
                )
            listed = dict(_dotted(axes, ranges=True))
            blocks.append(GridBlock(listed, [dict(_dotted(case)) for case in cases], draws, seed))
        return blocks


def _whole(name: str, value: object, least: int, meaning: str) -> None:
    """Raise `InputError` for a value that is no whole number from ``least`` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number from {least} on, received {value!r}; {meaning}")


def _dotted(table: Mapping[str, Any], prefix: str = "", *, ranges: bool = False) -> Iterator[tuple[str, Any]]:
    """Flatten nested tables to dotted paths; bare ``optimizer.lr = [...]`` in TOML makes nested tables.

    ``ranges`` keeps a table that is a range to draw from.
    """
    if not isinstance(table, Mapping):
        raise InputError(
            f"a case must be a table of key = value, received {table!r}; write {{ key = value }}"
        )
    for key, value in table.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value and not (ranges and is_range(value)):
            yield from _dotted(value, path, ranges=ranges)
        else:
            yield path, value

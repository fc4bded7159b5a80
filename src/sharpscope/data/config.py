"""The choice of a data set: everything about the data that belongs to a run's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from sharpscope.data.files import digest_of
from sharpscope.data.subsets import Sizes
from sharpscope.errors import InputError, suggestion
from sharpscope.serialization import StrictConfig

TEXTS: tuple[str, ...] = ("python_manual", "python_source")
NAMES: tuple[str, ...] = ("digits", "fashion_mnist", "cifar10", "abalone", "cora", *TEXTS)
IMAGES: tuple[str, ...] = ("digits", "fashion_mnist", "cifar10")
TABLE = "table"
"""A data set of the user's own; see `sharpscope.data.table`."""

_LATER: dict[str, str | None] = {
    **dict.fromkeys(("neighbours", "digest", "target", "columns", "task")),
    "final_test": "sample",
}
"""Keys that came later, with their defaults; while unset they are no part of a run's identity."""

Count = Annotated[int, Field(ge=1)]


class DataConfig(StrictConfig):
    """Which data, how much of it, and how its inputs are scaled.

    One seeded permutation of the training part serves every size: the training samples are its first
    ``train_samples`` rows and the validation samples its last ``validation_samples``. Hence a smaller
    training subset is a prefix of a larger one, and both stay clear of the validation samples. Test samples
    are the first rows of a permutation of their own. A part that is not cut keeps its file order. Subsets are
    drawn without regard to class. Cora brings its own 500 validation nodes; ``validation_samples`` then takes
    a subset of those.

    ``digits``, ``abalone``, the texts and a table have no official split: ``subset_seed`` also decides their 80/20
    split.

    - ``pixels`` (images): ``"standardised"`` by mean and standard deviation, or ``"unit"``, in [0, 1].
    - ``rows`` (cora): node features ``"raw"``, or ``"normalised"`` to sum 1 per node.
    - ``targets`` (abalone, table): ``"raw"``, or ``"standardised"`` by the training samples.
    - ``first_row`` (abalone): ``"lost"`` drops the file's first row, as code does that takes it for a header.

    - ``neighbours`` (digits): the images become nodes of a graph, each linked to so many of its nearest ones.
    - ``path``, ``target``, ``columns``, ``task`` (table): a CSV or Parquet file of one's own, the column to predict,
      the inputs (every other numeric column by default), and ``"classification"`` or ``"regression"`` (by default the
      latter for a column of numbers). ``digest`` stands for the file's content in a run's identity; the path does not
      enter it.

    - ``subset_seed``: a number, or ``"seed"`` in a run's configuration for the run's own seed, so that intervals over
      seeds include the choice of the samples (Bouthillier et al. 2021).
    - ``final_test``: with ``"whole"`` the test loss and accuracy at a run's end are taken over the whole test part,
      those after every epoch over ``test_samples`` of it.

    The statistics of a standardisation are those of the training samples actually used.

    >>> DataConfig(name="digits", train_samples=500).pixels
    'standardised'
    """

    name: str
    train_samples: Count | None = None
    validation_samples: Count | None = None
    test_samples: Count | None = None
    subset_seed: Annotated[int, Field(ge=0)] | Literal["seed"] = 0
    final_test: Literal["sample", "whole"] = "sample"
    pixels: Literal["standardised", "unit"] = "standardised"
    rows: Literal["raw", "normalised"] = "raw"
    targets: Literal["raw", "standardised"] = "raw"
    first_row: Literal["kept", "lost"] = "kept"
    neighbours: Annotated[int, Field(ge=1, le=100)] | None = None
    path: str | None = Field(default=None, exclude=True)
    digest: str | None = None
    target: str | None = None
    columns: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    task: Literal["classification", "regression"] | None = None

    @property
    def drawn_by(self) -> int:
        """The seed by which splits and subsets are drawn; raises InputError while it stands for a run's."""
        if self.subset_seed == "seed":
            raise InputError(
                'subset_seed = "seed" stands for the seed of a run, and there is none here; give a number.'
            )
        return self.subset_seed

    @property
    def sizes(self) -> Sizes:
        """How many samples of each part are used."""
        return Sizes(self.train_samples, self.validation_samples, self.test_samples)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (*NAMES, TABLE):
            raise ValueError(
                f"A data set must be one of {', '.join(NAMES)}, or table for one of your own, received {name!r}; "
                f"{suggestion(name, NAMES)}choose one of these."
            )
        return name

    @model_validator(mode="before")
    @classmethod
    def _content_of_its_file(cls, given: Any) -> Any:
        """Put the digest of a table's content beside its path."""
        if not (
            isinstance(given, dict) and given.get("name") == TABLE and isinstance(given.get("path"), str)
        ):
            return given
        path = Path(given["path"])
        known = path.suffix in (".csv", ".parquet")
        if not known or not path.is_file():
            what = "there is no such file" if known else "its name ends in neither"
            raise ValueError(
                f"A table's path must name a file in CSV or Parquet (.csv, .parquet), received {given['path']!r}: "
                f"{what}; correct it."
            )
        return {**given, "digest": given.get("digest") or digest_of(path)}

    @model_validator(mode="after")
    def _a_table_has_a_target(self) -> DataConfig:
        if self.name == TABLE and (self.target is None or (self.path is None and self.digest is None)):
            raise ValueError(
                "A table needs its path and the target, the column to predict; add path = and target = ."
            )
        if self.columns is not None and self.target in self.columns:
            raise ValueError(f"The target {self.target!r} cannot be one of the columns; leave it out there.")
        return self

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {key: value for key, value in fields.items() if key not in _LATER or value != _LATER[key]}

    @model_validator(mode="after")
    def _choices_apply(self) -> DataConfig:
        for key, default, where in (
            ("pixels", "standardised", IMAGES),
            ("rows", "raw", ("cora",)),
            ("targets", "raw", ("abalone", TABLE)),
            ("first_row", "kept", ("abalone",)),
            ("neighbours", None, ("digits",)),
            *((key, None, (TABLE,)) for key in ("path", "digest", "target", "columns", "task")),
        ):
            value = getattr(self, key)
            if value != default and self.name not in where:
                raise ValueError(
                    f"The choice {key} = {value!r} applies to {', '.join(where)} only, "
                    f"received it for {self.name!r}; remove it."
                )
        return self

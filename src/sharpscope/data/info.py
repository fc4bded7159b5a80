"""What is known of a data set before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """One line of the list of data sets.

    Sizes count ``unit`` (images, rows or nodes). ``official_split`` is False where sharpscope itself splits
    80/20 by seed. ``where`` is the folder in which the files were found, None when they were not; ``problem``
    says what is wrong with the files, or what happens since they are missing, None when all is well.
    """

    name: str
    title: str
    task: str
    source: str
    citation: str
    licence: str
    unit: str
    total: int
    train: int
    validation: int
    test: int
    official_split: bool
    standardisation: str
    where: str | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether the files are here and in order."""
        return self.where is not None and self.problem is None

    @property
    def sizes(self) -> str:
        """The sizes in words, such as ``60000/10000 images`` or ``2708 nodes, 140/500/1000``."""
        parts = [self.train, self.validation, self.test] if self.validation else [self.train, self.test]
        split = "/".join(map(str, parts))
        if not self.official_split:
            return f"{self.total} {self.unit}, split {split} by seed"
        if sum(parts) < self.total:
            return f"{self.total} {self.unit}, {split}"
        return f"{split} {self.unit}"

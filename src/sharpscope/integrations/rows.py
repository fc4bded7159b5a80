"""A monitor's rows: kept in memory, written to a file, told to trackers; what fails there never ends a training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.integrations.trackers import Tracker
from sharpscope.serialization import replacing

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

NUMBERS = (
    "lr",
    "two_over_lr",
    "edge",
    "loss",
    "gradient_norm",
    "lambda_max",
    "lambda_max_error",
    "lambda_max_preconditioned",
    "average_direction",
    "average_direction_stderr",
    "between_iterates",
    "cost",
)
"""Columns that trackers are told and that are floats in the table."""


def note(row: Row, words: str) -> None:
    """Add to a row's note."""
    row["note"] = f"{row['note']}; {words}" if row["note"] else words


class RowLog:
    """The rows of one monitor, one for each step that was measured.

    Attributes
    ----------
    rows
        The rows in order.
    path
        The Parquet file, replaced whole by `publish`; None for none.
    trackers
        What else is told the numbers of each row.

    """

    def __init__(self, path: Path | str | None, trackers: Sequence[Tracker]) -> None:
        self.rows: list[Row] = []
        self.path = None if path is None else Path(path)
        self.trackers = list(trackers)
        self._warned: set[str] = set()
        for tracker in self.trackers:
            if not callable(getattr(tracker, "log", None)):
                raise InputError(
                    f"a tracker has log(numbers, step), received {type(tracker).__name__}; see "
                    "sharpscope.integrations.TensorBoard, WandB and MLflow"
                )
        if self.path is not None:
            if self.path.is_dir():
                raise InputError(
                    f"path must name a file, received the folder {self.path}; add a name.parquet"
                )
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self.path.with_name(f".{self.path.name}.trial"), durable=False) as trial:
                    trial.touch()
                self.path.with_name(f".{self.path.name}.trial").unlink()
            except OSError as error:
                raise InputError(f"path must be writable, received {self.path} ({error.strerror})") from error

    def add(self, row: Row) -> None:
        """Add a row; one for the same step takes the place of the earlier one."""
        if self.rows and self.rows[-1]["step"] == row["step"]:
            self.rows.pop()
        self.rows.append(row)

    def publish(self, row: Row) -> None:
        """Tell the trackers the numbers of a row and write all rows to the file."""
        numbers = {name: float(row[name]) for name in NUMBERS if row.get(name) is not None}
        for tracker in self.trackers:
            try:
                tracker.log(numbers, row["step"])
            except Exception as error:
                self.fail(row, f"tracker {type(tracker).__name__}", error)
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self.path) as partial:
                    self.table().to_parquet(partial, index=False)
            except Exception as error:
                self.fail(row, f"file {self.path}", error)

    def fail(self, row: Row, what: str, error: BaseException) -> None:
        """Note in a row what failed and why, and warn of it the first time."""
        words = f"{what}: {type(error).__name__}: {error}".splitlines()[0]
        note(row, words)
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"the sharpness monitor goes on without {words}", RuntimeWarning, stacklevel=4)

    def table(self) -> pd.DataFrame:
        """Return the rows as a table."""
        import pandas as pd

        table = pd.DataFrame(self.rows)
        return table.astype({name: "float64" for name in table.columns if name in NUMBERS})

    def resume(self, step: int) -> None:
        """Take over the rows that the file holds up to a step. A file that cannot be read is put aside."""
        if self.path is None or not self.path.exists():
            return
        import pandas as pd

        try:
            table = pd.read_parquet(self.path)
            table = table[table["step"] <= step].astype(object)
            self.rows = [
                {str(key): None if value != value else value for key, value in row.items()}
                for row in table.to_dict("records")
            ]
        except Exception as error:
            aside = self.path.with_name(f"{self.path.name}.unreadable")
            self.path.replace(aside)
            warnings.warn(
                f"the sharpness monitor begins anew: {self.path} could not be read ({error}) and is {aside.name} now",
                RuntimeWarning,
                stacklevel=3,
            )

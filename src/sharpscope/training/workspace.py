"""The folder in which a run saves its state, so that a later attempt continues from there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sharpscope.errors import CheckpointError
from sharpscope.training.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from sharpscope.training.history import Progress

if TYPE_CHECKING:
    import torch

    from sharpscope.training.averaging import WeightAverage

FILE = "progress.safetensors"


class Workspace:
    """A folder in which one run keeps its progress: a single checkpoint, replaced as the run goes on.

    A save takes place at most every `every_s` seconds, and at most a twentieth of the time is spent on saving.
    """

    def __init__(self, folder: Path | str, run_id: str, every_s: float, *, saves: bool = True) -> None:
        self._folder, self._run_id, self._every_s = Path(folder), run_id, every_s
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"the workspace {folder} cannot be made: {error}.") from error
        # those of another process, which may be saving, are left alone by one that only reads
        for partial in (
            self._partial_files() if saves else ()
        ):  # of a save that was killed; a workspace has one run at a time
            partial.unlink(missing_ok=True)
        self._due = time.monotonic() + every_s

    def due(self) -> bool:
        """Return whether it is time to save again."""
        return time.monotonic() >= self._due

    def save(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        average: WeightAverage | None = None,
    ) -> None:
        """Save the state of the run, in place of what was saved before."""
        begin = time.monotonic()
        metadata = {"run_id": self._run_id, "progress": asdict(progress)}
        save_checkpoint(self._folder / FILE, model, optimizer, metadata=metadata, average=average)
        end = time.monotonic()
        self._due = end + max(self._every_s, 20 * (end - begin) if self._every_s > 0 else 0.0)

    def resume(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
    ) -> Progress:
        """Load what an earlier attempt saved, or return a fresh start.

        Raises `CheckpointError` where the folder holds another run, or a checkpoint that cannot be read.
        """
        path = self._folder / FILE
        if not path.exists():
            return Progress()
        found = read_metadata(path).get("run_id")
        if found != self._run_id:
            raise CheckpointError(
                f"the workspace {self._folder} belongs to run {found}, not to {self._run_id}; use another folder."
            )
        return Progress(**load_checkpoint(path, model, optimizer, average=average)["progress"])

    def _partial_files(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from list(self._folder.glob(f".{FILE}.*.partial"))
            yield from list(self._folder.glob(".tmp??????"))  # safetensors' own half-written files

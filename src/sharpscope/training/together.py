"""Training several runs at the same time, each to the bits it would have alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sharpscope.autograd.allocator import freed_memory_kept
from sharpscope.errors import InputError
from sharpscope.training.compatible import group_key
from sharpscope.training.cpu.kernels import FastKernels
from sharpscope.training.engines import Engine, engine_for
from sharpscope.training.history import Row
from sharpscope.training.member import Member
from sharpscope.training.outcome import TrainingOutcome
from sharpscope.training.reproducible import reproducible

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset
    from sharpscope.training.config import RunConfig

_FINITE_EVERY = 50  # steps between looks at the running losses: each look waits for the device


def train_together(
    configs: Sequence[RunConfig],
    dataset: Dataset,
    models: Sequence[nn.Module],
    *,
    workspace: Path | None = None,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, Row], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint_every_s: float = 5.0,
) -> list[TrainingOutcome]:
    """Train models at the same time, in place, each as `sharpscope.training.train` would; return their outcomes.

    The runs may differ in their seed and in any number of the optimizer, the schedule and the stopping rules
    (`group_key` says in what else they must agree). Each visits the data in its own order, stops by its own rule
    and diverges by itself; the others go on. **Every model ends with the bits that training it alone gives**,
    whatever the company and whenever it was interrupted: what is shared is the work around the arithmetic, never the
    arithmetic of one model with another's.

    With a `workspace`, each run keeps its progress in a folder of its own there, named by its identifier: after an
    interruption the same runs, or some of them, or one alone (``train(..., workspace=workspace / run_id)``), go on
    from wherever each of them is. `on_epoch` receives a run's number among `configs` and its new row. The
    ``seconds`` of a row are the run's share of the time.

    Raises `InputError` for runs that cannot train together, and what `train` raises.
    """
    _check_group(configs, models)
    folders = [workspace and workspace / config.run_id() for config in configs]
    group = Group(configs, dataset, models, folders, device, checkpoint_every_s)
    return group.train(on_epoch or _unheard, should_stop or _never)


def _check_group(configs: Sequence[RunConfig], models: Sequence[nn.Module]) -> None:
    if not configs or len(models) != len(configs):
        raise InputError(
            f"training together needs one model per run and at least one run; received {len(configs)} runs and "
            f"{len(models)} models."
        )
    ids = [config.run_id() for config in configs]
    if len(set(ids)) < len(ids):
        raise InputError(
            "runs that train together must differ, and two of these are the same; give each another seed."
        )
    keys = {group_key(config) for config in configs}
    if len(configs) > 1 and (len(keys) > 1 or None in keys):
        raise InputError(
            "runs that train together differ in nothing but the seed and numbers of the optimizer, schedule and "
            "stopping rules, and are not compiled; train these one by one."
        )


class Group:
    """Runs in flight at the same time; a group of one is how a single run trains."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        dataset: Dataset,
        models: Sequence[nn.Module],
        folders: Sequence[Path | None],
        device: torch.device | str,
        checkpoint_every_s: float,
    ) -> None:
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        dtype = torch.float64 if configs[0].dtype == "float64" else torch.float32
        for model in models:
            model.to(device=device, dtype=dtype)
        self.device = device
        dataset = dataset.to(device, dtype)
        with reproducible(device):
            self.members = [
                Member(config, dataset, model, device, folder, checkpoint_every_s)
                for config, model, folder in zip(configs, models, folders, strict=True)
            ]
        self._engine: Engine | None = None

    def train(
        self, on_epoch: Callable[[int, Row], None], should_stop: Callable[[], bool]
    ) -> list[TrainingOutcome]:
        """Train every member until it ends or the group is asked to stop."""
        self._on_epoch = on_epoch
        # a compiler sees to kernels itself
        mended = [m.model for m in self.members if not m.config.compile]
        self._kernels = FastKernels(mended, self.device)
        with reproducible(self.device), freed_memory_kept(), self._kernels:
            try:
                while going := [member for member in self.members if member.outcome is None]:
                    if not self._advance(going, should_stop):
                        for member in going:
                            member.interrupt()
            finally:
                self._release()
        return [member.outcome for member in self.members if member.outcome is not None]

    def _advance(self, going: list[Member], should_stop: Callable[[], bool]) -> bool:
        """Take those furthest behind to the end of their epoch, or to where others are; False when asked to stop."""
        here = min(member.position for member in going)
        together = [member for member in going if member.position == here]
        for member in together:
            member.begin()
        engine = self._engine_of(together)
        steps = len(together[0].batches)
        end = min(
            (m.position[1] for m in going if m.position[0] == here[0] and m not in together), default=steps
        )
        begin = time.perf_counter()

        def note(step: int) -> None:
            nonlocal begin
            now = time.perf_counter()
            for member in together:
                member.note(step, (now - begin) / len(together))
            begin = now

        def save(step: int) -> None:
            note(step)
            for member in together:
                member.save()

        step = here[1]
        lost: list[Member] = []
        while step < end and not lost:
            if should_stop():
                save(step)
                return False
            if together[0].due():
                save(step)
            engine.step(step)
            if step % _FINITE_EVERY == 0:
                lost = [member for member in together if not member.loss_sum.isfinite()]
            step += 1
        note(step)
        for member in together if step == steps else lost:
            self._close(member)
        return True

    def _close(self, member: Member) -> None:
        """End a member's epoch."""
        row = member.close()
        with self._kernels.paused():
            self._on_epoch(self.members.index(member), dict(row))
        outcome = member.outcome
        if outcome is not None and outcome.status == "diverged":
            return  # its last save is from before that, and a later attempt finds the same
        # one that has ended before others is saved at once: it is not to be trained again for their sake
        if member.due() or (outcome is not None and len(self.members) > 1):
            member.save()

    def _engine_of(self, together: list[Member]) -> Engine:
        """Return what carries out the steps of these members, the same as long as they stay the same."""
        if self._engine is None or self._engine.members != together:
            self._release()
            self._engine = engine_for(together)
        self._engine.begin()
        return self._engine

    def _release(self) -> None:
        if self._engine is not None:
            self._engine.release()
            self._engine = None


def _unheard(number: int, row: Row) -> None:
    """Tell nobody."""


def _never() -> bool:
    return False

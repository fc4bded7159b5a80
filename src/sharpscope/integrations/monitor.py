"""Sharpness while a model trains: a row of numbers every so often, and training none the wiser."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sharpscope.estimate import Result
from sharpscope.integrations.measurements import Measurements
from sharpscope.integrations.pace import Pace
from sharpscope.integrations.rows import Row, RowLog, note
from sharpscope.integrations.trackers import Tracker
from sharpscope.objective.objective import Objective

if TYPE_CHECKING:
    import pandas as pd

GRADIENTS_AT_FIRST = 30
"""What the first measurement is expected to cost, in gradients on the probe set, before one has been timed."""


class SharpnessMonitor(Result):
    """Records λ_max, average-direction sharpness and gradient norm on a fixed probe set during training.

    Parameters
    ----------
    objective
        The loss of the model being trained on the probe set: a few hundred to a few thousand samples, the same
        ones throughout. Its weights at each measurement are those the model then has.
    every, share
        Measure after every so many steps, or as often as this share of the wall-clock time affords (0.05: of a
        training of 100 s at most 5 s are spent here; the first measurement waits until it is affordable). Give
        one of the two.
    optimizer
        Whose edge of stability is recorded: the curvature at which its step on a quadratic turns unstable
        (`sharpscope.optim.edge_of_stability`).
    radius, samples
        Of `sharpscope.average_direction_sharpness`. The directions are the same at every measurement.
    tol
        Relative error at which λ_max counts as converged. Each search starts from the last one's result.
    between
        Points between two successive iterates at which λ_max is taken as well, the ends among them, where the
        model has batch normalisation: there the curvature at an iterate says little, and its maximum over the
        step is kept (kaur2022, 8 points). 0 to leave it out.
    path
        A Parquet file, replaced whole after each measurement; `resume` first takes over what it holds.
    trackers
        `TensorBoard`, `WandB`, `MLflow`, or anything with ``log(numbers, step)``.
    clock
        Where seconds come from, for ``share``, ``seconds`` and ``cost``.

    Attributes
    ----------
    rows
        A dict for each measurement:

        - ``step``, ``seconds`` since the monitor was made, ``loss``, ``gradient_norm``
        - ``lr``, the largest rate as the optimizer then has it, for the next step, and ``two_over_lr``
        - ``lambda_max``, ``lambda_max_error``, ``lambda_max_converged``, ``products``
        - ``edge`` and ``edge_of``, its formula or the reason why there is none
        - ``lambda_max_preconditioned``: the curvature to compare with the edge where that is not λ_max: of
          P^{-1/2} H P^{-1/2} for Adam and its like; where groups differ in rate or penalty; where some measured
          parameters are never stepped. None elsewhere
        - ``average_direction``, ``average_direction_stderr``
        - ``between_iterates`` (None without batch normalisation)
        - ``cost`` in seconds, and a ``note`` on what is missing

    Notes
    -----
    Training is bit-identical with and without: measuring touches no weight, buffer, gradient or generator
    (between iterates, weights are put back as they were). No failure of a measurement ends it either: a loss that
    is no longer finite, memory that does not suffice, a disk that is full or a tracker that raises gives a note in
    the row, and the others a warning once.

    Where the objective measures all trainable parameters, parameters that are frozen or unfrozen later leave or join
    it, and the row says so.

    Raises
    ------
    InputError
        When it is made: for arguments out of range and a path that cannot be written.

    Examples
    --------
    Gradient descent on L = 3θ²/2, whose only eigenvalue is 3, at a rate of 0.5, whose line is at 4:

    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> x, y = torch.full((1, 1), 3.0**0.5), torch.zeros(1, 1)
    >>> loss = lambda outputs, targets: (outputs - targets).square().mean() / 2
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> monitor = SharpnessMonitor(Objective(model, loss, (x, y)), every=2, optimizer=optimizer)
    >>> for _ in range(4):
    ...     optimizer.zero_grad()
    ...     loss(model(x.double()), y.double()).backward()
    ...     optimizer.step()
    ...     _ = monitor.after_step()
    >>> [(row["step"], round(row["lambda_max"], 6), row["edge"], row["edge_of"]) for row in monitor.rows]
    [(2, 3.0, 4.0, '2/η'), (4, 3.0, 4.0, '2/η')]

    """

    def __repr__(self) -> str:
        """Return one line: rows so far, and the last λ_max."""
        known = [row["lambda_max"] for row in self.rows if row["lambda_max"] is not None]
        last = f", last λ_max {known[-1]:.4g}" if known else ""
        return f"monitor with {len(self.rows)} rows{last}"

    def __init__(
        self,
        objective: Objective,
        *,
        every: int | None = None,
        share: float | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        radius: float = 1.0,
        samples: int = 20,
        tol: float = 1e-2,
        max_products: int = 100,
        between: int = 8,
        path: Path | str | None = None,
        trackers: Sequence[Tracker] = (),
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.step = 0
        self._clock = clock
        self._pace = Pace(every, share, clock)
        self._measurements = Measurements(
            objective, optimizer, radius, samples, tol, max_products, between, seed
        )
        self._kept = RowLog(path, trackers)
        self._pace.begin()
        if share is not None:
            began = self._clock()
            objective.gradient()
            one = self._clock() - began
            self._pace.paid(one, measurement=False)
            points = max(1, self._measurements.points)
            self._pace.expect((GRADIENTS_AT_FIRST * points + samples / 2) * one)

    @property
    def objective(self) -> Objective:
        """The function that is measured; another one where the trainable parameters changed."""
        return self._measurements.objective

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer whose edge is recorded."""
        return self._measurements.optimizer

    @property
    def rows(self) -> list[Row]:
        """A dict for each measurement."""
        return self._kept.rows

    @property
    def path(self) -> Path | None:
        """The Parquet file, None without."""
        return self._kept.path

    @property
    def trackers(self) -> list[Tracker]:
        """What else is told the numbers; more may be added."""
        return self._kept.trackers

    def after_step(self, step: int | None = None) -> Row | None:
        """Count a step of the optimizer and measure if it is time: the new row, or None.

        ``step`` is the number of steps taken, where another count is kept; one seen already is not counted
        again, so a callback may announce every batch of an accumulation.
        """
        step = self.step + 1 if step is None else step
        if step <= self.step:
            return None
        self.step = step
        if self._measurements.waits:
            self._finish_between()
        return self.measure() if self._pace.due(step) else None

    def measure(self) -> Row:
        """Measure now: before the first step, for one, or after the last.

        A second measurement after the same step takes the place of the first.
        """
        began = self._clock()
        row: Row = {"step": self.step, "seconds": self._pace.elapsed} | self._measurements.empty_row()
        self._kept.add(row)
        finished = False
        try:
            self._measurements.measure_into(row, self._kept.fail)
            finished = True
        finally:  # Ctrl-C leaves a row that says so
            row["cost"] = self._clock() - began
            self._pace.paid(row["cost"])
            if not finished:
                self._measurements.waits = False
                note(row, "interrupted")
            if not self._measurements.waits:
                self._publish(row)
        return row

    @property
    def share(self) -> float:
        """The share of the wall-clock time since the monitor was made that it has taken itself."""
        return self._pace.share

    @property
    def seconds(self) -> float:
        """Seconds the monitor has taken."""
        return self._pace.measuring

    def table(self) -> pd.DataFrame:
        """Return the rows as a table."""
        return self._kept.table()

    def resume(self, step: int) -> None:
        """Go on after this many steps, with the rows that the file holds up to there."""
        self.step = step
        self._kept.resume(step)

    def close(self) -> None:
        """Write what is left: a row that still waits for the next iterate goes out without it."""
        if self._measurements.waits:
            self._measurements.waits = False
            self._publish(self.rows[-1])

    def __enter__(self) -> SharpnessMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish_between(self) -> None:
        began, row = self._clock(), self.rows[-1]
        try:
            self._measurements.finish(row, self._kept.fail)
        finally:
            seconds = self._clock() - began
            self._pace.paid(seconds, measurement=False)
            row["cost"] += seconds
            self._pace.expect(row["cost"])
            self._publish(row)

    def _publish(self, row: Row) -> None:
        """Write the table and tell the trackers; what that takes is the monitor's cost too."""
        began = self._clock()
        self._kept.publish(row)
        self._pace.paid(self._clock() - began, measurement=False)

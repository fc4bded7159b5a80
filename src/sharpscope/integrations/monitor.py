"""Sharpness while a model trains: a row of numbers every so often, and training none the wiser."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sharpscope.curvature import Eigenpairs, top_eigenvalues
from sharpscope.errors import InputError, NonFiniteError, NotConvergedWarning
from sharpscope.estimate import Result
from sharpscope.integrations.pace import Pace
from sharpscope.integrations.trackers import Tracker
from sharpscope.measures import average_direction_sharpness
from sharpscope.objective.objective import Objective
from sharpscope.serialization import replacing

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

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
        Whose learning rate η gives the line 2/η, the curvature at which gradient descent on a quadratic turns
        unstable (Cohen et al. 2021, section 2). With several groups, the largest rate.
    radius, samples
        Of `sharpscope.average_direction_sharpness`. The directions are the same at every measurement.
    tol
        Relative error at which λ_max counts as converged. Each search starts from the last one's result.
    between
        Points between two successive iterates at which λ_max is taken as well, the ends among them, where the
        model has batch normalisation: there the curvature at an iterate says little, and its maximum over the
        step is kept (kaur2022, 8 points). 0 to leave it out.
    path
        A Parquet file, replaced whole after each measurement.
    trackers
        `TensorBoard`, `WandB`, `MLflow`, or anything with ``log(numbers, step)``.

    Attributes
    ----------
    rows
        A dict for each measurement: ``step``, ``seconds`` since the monitor was made, ``lr`` (as the optimizer then
        has it, for the next step), ``two_over_lr``, ``loss``,
        ``gradient_norm``, ``lambda_max``, ``lambda_max_error``, ``lambda_max_converged``, ``products``,
        ``average_direction``, ``average_direction_stderr``, ``between_iterates`` (None without batch
        normalisation), ``cost`` in seconds, ``note``.

    Notes
    -----
    Training is bit-identical with and without: measuring touches no weight, buffer, gradient or generator
    (between iterates, weights are put back as they were). A probe set on which the loss is no longer finite
    gives a row that says so, and no exception.

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
    >>> [(row["step"], round(row["lambda_max"], 6), row["two_over_lr"]) for row in monitor.rows]
    [(2, 3.0, 4.0), (4, 3.0, 4.0)]

    """

    def __repr__(self) -> str:
        """Return one line: rows so far, and the last λ_max."""
        last = f", last λ_max {self.rows[-1]['lambda_max']:.4g}" if self.rows else ""
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
    ) -> None:
        if (every is None) == (share is None):
            raise InputError(
                f"a monitor takes every or share, received {every=} and {share=}; give one of them"
            )
        if every is not None and every < 1:
            raise InputError(f"every must be at least 1 step, received {every}")
        if share is not None and not 0 < share < 1:
            raise InputError(f"share must lie between 0 and 1, received {share}; for example 0.05")
        if between < 0 or between == 1:
            raise InputError(f"between must be 0 or at least 2 points, received {between}; kaur2022 takes 8")
        self.objective, self.optimizer = objective, optimizer
        self.rows: list[Row] = []
        self.step = 0
        self.path = None if path is None else Path(path)
        self.trackers = list(trackers)
        self._radius, self._samples, self._tol, self._max_products = radius, samples, tol, max_products
        self._seed = seed
        self._pace = Pace(every, share)
        self._pace.begin()
        normalised = any(hasattr(module, "running_mean") for module in objective.model.modules())
        self._points = between if normalised else 0
        self._found: Eigenpairs | None = None
        self._before: Tensor | None = None  # the iterate of a row that waits for the next one
        if share is not None:
            began = time.perf_counter()
            objective.gradient()
            one = time.perf_counter() - began
            self._pace.paid(one, measurement=False)
            self._pace.expect((GRADIENTS_AT_FIRST * max(1, self._points) + samples / 2) * one)

    def after_step(self, step: int | None = None) -> Row | None:
        """Count a step of the optimizer and measure if it is time: the new row, or None.

        ``step`` is the number of steps taken, where another count is kept; one seen already is not counted
        again, so a callback may announce every batch of an accumulation.
        """
        step = self.step + 1 if step is None else step
        if step <= self.step:
            return None
        self.step = step
        if self._before is not None:
            self._finish_between()
        return self.measure() if self._pace.due(step) else None

    def measure(self) -> Row:
        """Measure now: before the first step, for one, or after the last."""
        began = time.perf_counter()
        rate = self._rate()
        row: Row = {
            "step": self.step,
            "seconds": self._pace.elapsed,
            "lr": rate,
            "two_over_lr": 2 / rate if rate else None,
        }
        row |= dict.fromkeys(
            ("loss", "gradient_norm", "lambda_max", "lambda_max_error", "lambda_max_converged", "products")
        )
        row |= dict.fromkeys(("average_direction", "average_direction_stderr", "between_iterates"))
        row["note"] = ""
        try:
            row["loss"], gradient = self.objective.loss_and_gradient()
            row["gradient_norm"] = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
            row |= self._lambda_max()
            average = average_direction_sharpness(
                self.objective, radius=self._radius, samples=self._samples, seed=self._seed
            )
            row["average_direction"], row["average_direction_stderr"] = average.value, average.stderr
            if self._points:
                self._before = self.objective.flat()
        except NonFiniteError as error:
            row["note"] = str(error)
        row["cost"] = time.perf_counter() - began
        self.rows.append(row)
        self._pace.paid(row["cost"])
        if self._before is None:
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
        import pandas as pd

        table = pd.DataFrame(self.rows)
        return table.astype({name: "float64" for name in table.columns if name in _NUMBERS})

    def resume(self, step: int) -> None:
        """Go on after this many steps, with the rows that the file holds up to there."""
        self.step = step
        if self.path is not None and self.path.exists():
            import pandas as pd

            table = pd.read_parquet(self.path)
            table = table[table["step"] <= step].astype(object)
            self.rows = [
                {str(key): None if value != value else value for key, value in row.items()}
                for row in table.to_dict("records")
            ]

    def close(self) -> None:
        """Write what is left: a row that still waits for the next iterate goes out without it."""
        if self._before is not None:
            self._before = None
            self._publish(self.rows[-1])

    def __enter__(self) -> SharpnessMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lambda_max(self) -> Row:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)  # the row says so
            found = top_eigenvalues(
                self.objective,
                tol=self._tol,
                max_products=self._max_products,
                seed=self._seed,
                start=self._found,
            )
        self._found = found
        return {
            "lambda_max": found.value,
            "lambda_max_error": float(found.error_estimates[0]),
            "lambda_max_converged": bool(found.converged[0]),
            "products": found.products,
        }

    def _finish_between(self) -> None:
        """Complete the last row with the highest λ_max over the step that has just been taken.

        At every point with the running statistics of now, after the step, so that it is one function's.
        """
        began = time.perf_counter()
        assert self._before is not None
        before, self._before = self._before, None
        row, after, kept = self.rows[-1], self.objective.flat(), self._found
        highest = float("-inf")
        try:
            for alpha in torch.linspace(0, 1, self._points).tolist():
                with _standing_at(self.objective, torch.lerp(before, after, alpha)):
                    found = self._lambda_max()
                highest = max(highest, found["lambda_max"])
                row["products"] += found["products"]
                row["lambda_max_converged"] &= found["lambda_max_converged"]
            row["between_iterates"] = highest
        except NonFiniteError as error:
            row["note"] = str(error)
        self._found = kept
        seconds = time.perf_counter() - began
        self._pace.paid(seconds, measurement=False)
        row["cost"] += seconds
        self._pace.expect(row["cost"])
        self._publish(row)

    def _publish(self, row: Row) -> None:
        """Write the table and tell the trackers; what that takes is the monitor's cost too."""
        began = time.perf_counter()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as partial:
                self.table().to_parquet(partial, index=False)
        numbers = {name: float(row[name]) for name in _NUMBERS if row[name] is not None}
        for tracker in self.trackers:
            tracker.log(numbers, row["step"])
        self._pace.paid(time.perf_counter() - began, measurement=False)

    def _rate(self) -> float | None:
        if self.optimizer is None:
            return None
        return max(float(group["lr"]) for group in self.optimizer.param_groups)


_NUMBERS = (
    "lr",
    "two_over_lr",
    "loss",
    "gradient_norm",
    "lambda_max",
    "lambda_max_error",
    "average_direction",
    "average_direction_stderr",
    "between_iterates",
    "cost",
)


@contextmanager
def _standing_at(objective: Objective, point: Tensor) -> Iterator[None]:
    """Give the model the parameters of a flat vector (size,), and its own back, to the bit."""
    parameters = dict(objective.model.named_parameters())
    live: list[Tensor] = [parameters[name] for name in objective.layout.names]
    kept = [parameter.detach().clone() for parameter in live]
    try:
        with torch.no_grad():
            torch._foreach_copy_(live, list(objective.layout.split(point).values()))
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(live, kept)

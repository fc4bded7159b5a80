"""The numbers of one row of a monitor, each measured on its own, so that one that fails leaves the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sharpscope.curvature import Eigenpairs, top_eigenvalues
from sharpscope.errors import InputError, NonFiniteError, NotConvergedWarning, require_positive
from sharpscope.integrations.preconditioned import as_stepped
from sharpscope.integrations.rows import Row, note
from sharpscope.measures import average_direction_sharpness
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import select
from sharpscope.optim.edge import edge_of_stability, unwrapped

Failed = Callable[[Row, str, BaseException], None]


class Measurements:
    """Measures what `SharpnessMonitor` records; the arguments are the monitor's.

    Attributes
    ----------
    objective
        The function measured. It is another one after parameters were frozen or unfrozen.
    points
        Points between iterates at which λ_max is taken, 0 without batch normalisation.
    waits
        Whether the last row waits for the next iterate.

    """

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer | None,
        radius: float,
        samples: int,
        tol: float,
        max_products: int,
        between: int,
        seed: int,
    ) -> None:
        _check(objective, optimizer, radius, samples, tol, max_products, between)
        self.objective, self.optimizer = objective, optimizer
        self._radius, self._samples, self._tol, self._max_products = radius, samples, tol, max_products
        self._seed = seed
        self._follows = set(objective.layout.names) == set(_trainable(objective))
        normalised = any(hasattr(module, "running_mean") for module in objective.model.modules())
        self.points = between if normalised else 0
        self.waits = False
        self._before = torch.empty(0)  # the iterate of a row that waits
        self._found: Eigenpairs | None = None
        self._found_as_stepped: Eigenpairs | None = None

    def empty_row(self) -> Row:
        """Return the columns of a row, with the rate filled in."""
        rate = self._rate()
        row: Row = {"lr": rate, "two_over_lr": 2 / rate if rate else None}
        row |= dict.fromkeys(("edge", "edge_of", "loss", "gradient_norm", "lambda_max", "lambda_max_error"))
        row |= dict.fromkeys(("lambda_max_converged", "lambda_max_preconditioned", "products"))
        row |= dict.fromkeys(("average_direction", "average_direction_stderr", "between_iterates"))
        return row | {"cost": None, "note": ""}

    def measure_into(self, row: Row, fail: Failed) -> None:
        """Fill a row; a measurement that fails leaves its columns empty and goes to ``fail``."""

        def loss_and_gradient() -> None:
            self._follow_parameters(row)
            row["loss"], gradient = self.objective.loss_and_gradient()
            row["gradient_norm"] = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))

        def average_direction() -> None:
            average = average_direction_sharpness(
                self.objective, radius=self._radius, samples=self._samples, seed=self._seed
            )
            row["average_direction"], row["average_direction_stderr"] = average.value, average.stderr

        def iterate() -> None:
            if self.points:
                self._before, self.waits = self.objective.flat(), True

        self.waits = False
        if not _attempt(row, fail, "loss and gradient", loss_and_gradient):
            return
        _attempt(row, fail, "lambda_max", lambda: row.update(self._lambda_max()))
        _attempt(row, fail, "edge", lambda: self._edge_into(row))
        _attempt(row, fail, "average_direction", average_direction)
        _attempt(row, fail, "between_iterates", iterate)

    def finish(self, row: Row, fail: Failed) -> None:
        """Complete a row with the highest λ_max over the step that has just been taken.

        At every point with the running statistics of now, after the step, so that it is one function's.
        """
        before, self.waits = self._before, False
        kept = self._found

        def highest() -> None:
            after, value = self.objective.flat(), float("-inf")
            for alpha in torch.linspace(0, 1, self.points).tolist():
                with _parameters_set_to(self.objective, torch.lerp(before, after, alpha)):
                    found = self._lambda_max()
                value = max(value, found["lambda_max"])
                row["products"] = (row["products"] or 0) + found["products"]
                row["lambda_max_converged"] = (
                    bool(row["lambda_max_converged"]) and found["lambda_max_converged"]
                )
            row["between_iterates"] = value

        try:
            _attempt(row, fail, "between_iterates", highest)
        finally:
            self._found = kept

    def _lambda_max(self) -> Row:
        found = self._found = self._search(self.objective, self._found)
        return {
            "lambda_max": found.value,
            "lambda_max_error": float(found.error_estimates[0]),
            "lambda_max_converged": bool(found.converged[0]),
            "products": found.products,
        }

    def _edge_into(self, row: Row) -> None:
        """Add the optimizer's edge and, where that is not λ_max, the curvature to compare with it."""
        if self.optimizer is None:
            row["edge_of"] = "none: the monitor was given no optimizer"
            return
        edge = edge_of_stability(self.optimizer, row["gradient_norm"])
        row["edge"], row["edge_of"] = edge.value, edge.formula
        if edge.value is None or (seen := as_stepped(self.objective, edge)) is None:
            return
        start = self._found_as_stepped
        if start is not None and start.vectors.shape[-1] != seen.size:
            start = None
        found = self._found_as_stepped = self._search(seen, start)
        row["lambda_max_preconditioned"] = found.value
        row["products"] = (row["products"] or 0) + found.products
        if not found.converged[0]:
            note(row, "lambda_max_preconditioned not converged")

    def _search(self, objective: Objective, start: Eigenpairs | None) -> Eigenpairs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)  # the row says so
            return top_eigenvalues(
                objective, tol=self._tol, max_products=self._max_products, seed=self._seed, start=start
            )

    def _follow_parameters(self, row: Row) -> None:
        """Measure what is trainable now, where that was the choice at the start."""
        now = set(_trainable(self.objective)) if self._follows else set()
        before = set(self.objective.layout.names)
        if not now or now == before:
            return
        self.objective = self.objective.with_params()
        self._found = self._found_as_stepped = None
        changes = [f"{len(now - before)} parameters joined"] * bool(now - before)
        changes += [f"{len(before - now)} left"] * bool(before - now)
        note(row, f"{' and '.join(changes)} what is measured: {len(now)} from here on")

    def _rate(self) -> float | None:
        if self.optimizer is None:
            return None
        rates = [float(g["lr"]) for g in unwrapped(self.optimizer).param_groups if g.get("lr") is not None]
        return max(rates, default=None)


def _attempt(row: Row, fail: Failed, what: str, measurement: Callable[[], Any]) -> bool:
    """Make one measurement, and note in the row why it failed if it does."""
    try:
        measurement()
    except NonFiniteError as error:
        note(row, str(error))
    except Exception as error:
        fail(row, what, error)
    else:
        return True
    return False


def _trainable(objective: Objective) -> list[str]:
    """Return the names of parameters that are trained as the model now stands, tied ones once."""
    trainable = [p for p in objective.model.parameters() if p.requires_grad]
    return list(select(objective.model)) if trainable else []


def _check(
    objective: object,
    optimizer: object,
    radius: float,
    samples: int,
    tol: float,
    max_products: int,
    between: int,
) -> None:
    if not isinstance(objective, Objective):
        raise InputError(
            f"a monitor measures an Objective, received {type(objective).__name__}; make one of the model, the loss "
            "and a probe set"
        )
    if objective.layout.shards is not None or objective.evaluator.distribution is not None:
        raise InputError(
            "a monitor measures in the first process alone, received an objective of several processes; give it one "
            "of a whole model, such as a copy that is loaded from a full state dict, or call ss.measure on all ranks"
        )
    if optimizer is not None and not hasattr(unwrapped(optimizer), "param_groups"):
        raise InputError(f"optimizer must be a torch optimizer, received {type(optimizer).__name__}")
    for name, value, least in (
        ("samples", samples, 4),
        ("max_products", max_products, 1),
        ("between", between, 0),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, received {value!r}")
    if between == 1:
        raise InputError(f"between must be 0 or at least 2 points, received {between}; kaur2022 takes 8")
    if samples % 2:
        raise InputError(
            f"samples are drawn in pairs and must be even, received {samples}; take {samples + 1}"
        )
    if not 0 < tol < 1:
        raise InputError(f"tol must lie between 0 and 1, received {tol}; for example 0.01")
    require_positive("radius", radius, "for example 1.0")


@contextmanager
def _parameters_set_to(objective: Objective, point: Tensor) -> Iterator[None]:
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

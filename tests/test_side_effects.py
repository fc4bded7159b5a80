"""Whatever ends a call, the model, the process and the user's data are as they were, while the exception is held.

Exceptions and interrupts are raised at random lines of the package and at random tensor operations, forward and
backward, of every public call.
"""

from __future__ import annotations

import gc
import inspect
import linecache
import os
import random
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import sharpscope as ss

PACKAGE = str(Path(ss.__file__).parent)
POINTS = int(os.environ.get("SHARPSCOPE_POINTS", "4"))
"""Lines, and as many operations, at which each call is ended; a release tries 50 of either kind."""


class Stop(Exception):
    """An error that nothing expects."""


def _model(normalised: bool = True) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(
            nn.Unflatten(1, (1, 3, 3)),
            nn.Conv2d(1, 2, 2),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.utils.weight_norm(nn.Linear(8, 3)) if normalised else nn.Linear(8, 3),
            nn.Dropout(0.3),
        )
    model.train()
    model[2].eval()  # flags that differ
    return model


def _data(n: int = 100) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(n, 9, generator=draws), torch.randint(3, (n,), generator=draws)


CALLS: dict[str, Callable[[ss.Objective], Any]] = {
    "Objective": lambda obj: ss.Objective(
        obj.model, F.cross_entropy, _data(), "train", dropout=True, check="full"
    ),
    "from_batch_loss": lambda obj: ss.Objective.from_batch_loss(
        obj.model, _data(), lambda m, b: (F.cross_entropy(m(b[0]), b[1]), len(b[1]))
    ),
    "loss": lambda obj: obj.loss(),
    "gradient": lambda obj: obj.gradient(),
    "hvp": lambda obj: obj.hvp(torch.ones(2, obj.size)),
    "top_eigenvalues": lambda obj: ss.top_eigenvalues(obj, 1, "both", tol=0.1),
    "gauss-newton": lambda obj: ss.top_eigenvalues(obj, tol=0.1, matrix="ggn"),
    "trace": lambda obj: ss.trace(obj, samples=2),
    "frobenius_norm": lambda obj: ss.frobenius_norm(obj, samples=2),
    "spectral_density": lambda obj: ss.spectral_density(obj, probes=2, steps=3),
    "lambda_max_from_sample": lambda obj: ss.lambda_max_from_sample(obj, samples=80),
    "between_iterates": lambda obj: ss.between_iterates(obj, obj.flat() * 1.01, points=2, tol=0.1),
    "average_direction": lambda obj: ss.average_direction_sharpness(obj, radius=0.5, samples=4),
    "worst_case": lambda obj: ss.worst_case_sharpness(obj, radius=1e-3, batch_size=16, restarts=2, steps=2),
    "geodesic": lambda obj: ss.measure(
        obj, [{"measure": "geodesic_sharpness", "batch_size": 16, "restarts": 2, "steps": 2}]
    ),
    "hammoud2023": lambda obj: ss.hammoud2023_sharpness(obj, "lenet", "as_coded"),
    "interpolate": lambda obj: ss.interpolate(obj.model, obj.model, obj, [0.5]),
    "measure": lambda obj: ss.measure(obj, ["gradient_norm", "sam_step"]),
    "measure with limits": lambda obj: ss.measure(
        obj, [{"measure": "trace", "samples": 2}], deadline=1e6, progress=False, on_interrupt="return"
    ),
    "surface": lambda obj: ss.surface(obj, points=3, deadline=1e6),
    "examine": lambda obj: ss.examine(
        obj, k=1, tol=0.5, without=["frobenius_norm", "density", "average_direction", "audit", "surface"]
    ),
    "audit": lambda obj: ss.audit(obj, ["gradient_norm"], repetitions=1),
}


def _found(model: nn.Module) -> list[Any]:
    """Return everything that a call may have left behind, in comparable form."""
    cuda = torch.backends.cuda
    return [
        {name: (id(t), t.requires_grad, t.tolist()) for name, t in model.state_dict(keep_vars=True).items()},
        [p.grad is None for p in model.parameters()],
        [
            {
                key: id(value) if isinstance(value, Tensor) else value
                for key, value in vars(m).items()
                if key != "_modules"
            }
            for m in model.modules()
        ],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[union-attr]
        (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
        (cuda.cudnn_sdp_enabled(), torch.backends.cudnn.enabled),
        (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()),
        torch._C._len_torch_function_stack(),
    ]


@cache
def _enters(path: str, line: int) -> bool:
    """Return whether a line is a with statement: Python itself may leave it open when it is interrupted there."""
    return linecache.getline(path, line).lstrip().startswith("with ")


class AtLine:
    """Counts lines of the package and raises at one of them."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error, self.count = at, error, 0

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and not _enters(frame.f_code.co_filename, frame.f_lineno):
            self.count += 1
            if self.count == self.left:
                raise self.error
        return self

    def run(self, call: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        finally:
            sys.settrace(before)


class AtOperation(TorchDispatchMode):
    """Counts tensor operations and raises at one of them."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__()
        self.left, self.error, self.count = at, error, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count == self.left:
            raise self.error
        return func(*args, **(kwargs or {}))

    def run(self, call: Callable[[], Any]) -> None:
        with self:
            call()


@pytest.mark.parametrize("kind", [AtLine, AtOperation])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_left_behind_however_a_call_ends(name: str, kind: Any) -> None:
    model = _model(name != "audit")  # a rescaling would change what weight normalisation computes
    obj = ss.Objective(model, F.cross_entropy, _data(), chunk_size=16)
    counted = kind(-1, Stop())
    counted.run(lambda: CALLS[name](obj))
    assert counted.count > 50
    draws = random.Random(name + kind.__name__)
    held = []
    for number in range(POINTS):
        torch.manual_seed(number)
        before = _found(model)
        error = (Stop, KeyboardInterrupt)[number % 2]("planned")
        try:
            kind(draws.randint(1, counted.count), error).run(lambda: CALLS[name](obj))
        except BaseException as raised:
            held.append(raised)  # with its traceback, and so all frames of the call
        after = _found(model)
        assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == []
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(torch.rand(3), expected)
    assert held


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_no_call_keeps_tensors_in_memory(name: str) -> None:
    def once() -> None:
        CALLS[name](ss.Objective(_model(name != "audit"), F.cross_entropy, _data()))

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    once()  # what torch makes once and keeps
    before = alive()
    once()
    assert alive() == before


def test_every_public_call_is_here() -> None:
    """Functions of the package that take an objective, apart from those that write files or need no evaluation."""
    functions = {name for name in ss.__all__ if inspect.isfunction(getattr(ss, name))}
    tried = {
        function.__name__ for function in (getattr(ss, name, None) for name in CALLS) if function is not None
    }
    tried |= {f"{name}_sharpness" for name in CALLS}
    rest = {
        "examine",
        "find_rescalings",
        "quadratic_bound",
        "sam_step_sharpness",
        "surface",
        "average_direction_sharpness",
    }
    assert functions - tried - rest == set()

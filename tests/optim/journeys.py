"""Ways of training with SAM, each a function of a state that can be saved after any step.

Run as a script, it continues every saved journey to its end: a new process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sharpscope import ASAM, SAM

STEPS = 5


def batch(step: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(step)
    return torch.randn(n, 5, generator=draws), torch.randint(0, 3, (n,), generator=draws)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))


class Journey:
    """A model, its optimizer and, where a way of training has them, a schedule and a scaler."""

    def __init__(self, name: str, seed: int) -> None:
        self.model = network(seed)
        self.run: nn.Module = self.model
        self.schedule: Any = None
        self.scaler: Any = None
        self.take: Callable[[Journey, int], None] = WAYS[name]
        params = self.model.parameters()
        match name:
            case "groups":
                groups = [
                    {"params": self.model[0].parameters(), "lr": 0.2, "sam_rho": 0.3},
                    {"params": self.model[1].parameters(), "sam_rho": 0.0, "weight_decay": 0.0},
                    {"params": self.model[3].parameters(), "sam_rescale": "matrices"},
                ]
                self.optimizer = SAM(groups, lr=0.1, momentum=0.9, weight_decay=1e-2, decay_in_ascent=True)
            case "schedule":
                self.optimizer = SAM(params, torch.optim.AdamW, rho=0.1, lr=0.01)
                self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.05, total_steps=STEPS)
            case "scaler":
                self.optimizer = SAM(params, torch.optim.Adam, rho=0.1, lr=0.01, fused=True)
                self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)
            case "compiled":
                self.run = torch.compile(self.model, backend="aot_eager")
                self.optimizer = ASAM(params, rho=0.1, lr=0.1, momentum=0.9, nesterov=True, model=self.run)
            case _:
                self.optimizer = SAM(params, rho=0.1, lr=0.1, momentum=0.9)

    def save(self, path: Path) -> None:
        parts = [p for p in (self.model, self.optimizer, self.schedule, self.scaler) if p is not None]
        torch.save([part.state_dict() for part in parts], path)

    def load(self, path: Path) -> None:
        parts = [p for p in (self.model, self.optimizer, self.schedule, self.scaler) if p is not None]
        for part, state in zip(parts, torch.load(path), strict=True):
            part.load_state_dict(state)

    def bits(self) -> list[bytes]:
        return [tensor.numpy().tobytes() for tensor in self.model.state_dict().values()]


def by_closure(journey: Journey, step: int) -> None:
    x, y = batch(step)

    def closure() -> torch.Tensor:
        journey.optimizer.zero_grad()
        loss = cross_entropy(journey.run(x), y)
        loss.backward()
        return loss

    journey.optimizer.step(closure)
    if journey.schedule is not None:
        journey.schedule.step()


def clipped(journey: Journey, step: int) -> None:
    """The gradient that steps is clipped; the first one gives a direction only."""
    x, y = batch(step)
    cross_entropy(journey.model(x), y).backward()
    journey.optimizer.first_step(zero_grad=True)
    cross_entropy(journey.model(x), y).backward()
    nn.utils.clip_grad_norm_(journey.model.parameters(), 0.1)
    journey.optimizer.second_step(zero_grad=True)


def accumulated(journey: Journey, step: int) -> None:
    x, y = batch(step)

    def backward() -> None:
        for part in range(3):
            (cross_entropy(journey.model(x[part::3]), y[part::3]) / 3).backward()

    backward()
    journey.optimizer.first_step(zero_grad=True)
    backward()
    journey.optimizer.second_step(zero_grad=True)


def one_each(journey: Journey, step: int) -> None:
    x, y = batch(step)

    def closure_of(part: int) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            journey.optimizer.zero_grad()
            loss = cross_entropy(journey.model(x[part::3]), y[part::3]) / 3
            loss.backward()
            return loss

        return closure

    journey.optimizer.step([closure_of(part) for part in range(3)])


def autocast(journey: Journey, step: int) -> None:
    x, y = batch(step)

    def closure() -> torch.Tensor:
        journey.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(journey.model(x), y)
        loss.backward()
        return loss

    journey.optimizer.step(closure)


def scaled(journey: Journey, step: int) -> None:
    """A scale that overflows at first, accumulation, and clipping of the unscaled gradients, all together."""
    x, y = batch(step)

    def backward() -> None:
        for part in range(2):
            with torch.autocast("cpu", torch.float16):
                loss = cross_entropy(journey.model(x[part::2]), y[part::2]) / 2
            journey.scaler.scale(loss).backward()

    backward()
    journey.optimizer.first_step(zero_grad=True)
    backward()
    journey.scaler.unscale_(journey.optimizer)
    nn.utils.clip_grad_norm_(journey.model.parameters(), 0.1)
    journey.scaler.step(journey.optimizer)
    journey.scaler.update()
    if step == 0:  # the overflow has been seen; go on from a scale that fits
        journey.scaler.update(2.0**10)
    journey.optimizer.zero_grad()


WAYS: dict[str, Callable[[Journey, int], None]] = {
    "groups": by_closure,
    "schedule": by_closure,
    "compiled": by_closure,
    "clipping": clipped,
    "accumulation": accumulated,
    "micro-batches": one_each,
    "autocast": autocast,
    "scaler": scaled,
}


def continue_all(folder: Path) -> None:
    for name in WAYS:
        for done in range(STEPS):
            journey = Journey(name, seed=7)  # other weights: all must come from the file
            journey.load(folder / f"{name}.{done}.pt")
            for step in range(done, STEPS):
                journey.take(journey, step)
            (folder / f"{name}.{done}.bits").write_bytes(b"".join(journey.bits()))


if __name__ == "__main__":
    continue_all(Path(sys.argv[1]))

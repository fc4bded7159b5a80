"""What a SAM step costs: against SGD's, pytorch_optimizer's SAM and the usual two-step implementation.

    OMP_NUM_THREADS=1 python benchmarks/sam.py [resnet18] [mlp] [--rounds N] [--batch N] [--own]

ResNet-18 (11 173 962 parameters) and the Fashion-MNIST MLP (567 434), batch 128 unless told otherwise, on random
inputs: the values do not change the cost. All contestants take their steps in turn, in an order drawn anew in every
round, and the medians over the rounds are compared, so that a busy machine slows all alike; processor time besides,
which leaves out what other processes took, and of it what is not spent in gradients: the optimizer's own work. Each
contestant has its own copy of the model.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope import SAM
from sharpscope.data import Dataset, Split
from sharpscope.models import build

RHO = 0.05
OPTIONS: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
LIMITS = {"resnet18": 2.05, "mlp": 2.05}


class UsualSAM(torch.optim.Optimizer):
    """SAM as it is mostly written: a loop over parameters, the norm stacked, θ cloned into the state each step."""

    def __init__(self, params: Any, base: type[torch.optim.Optimizer], rho: float, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        norms = [p.grad.norm(p=2) for group in self.param_groups for p in group["params"]]
        norm = torch.norm(torch.stack(norms), p=2)
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                self.state[p]["origin"] = p.data.clone()
                p.add_(p.grad * scale.to(p))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["origin"]
        self.base.step()
        if zero_grad:
            self.zero_grad()


def problem(name: str, batch: int) -> tuple[Callable[[], nn.Module], Tensor, Tensor]:
    shape = (3, 32, 32) if name == "resnet18" else (1, 28, 28)
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(batch, *shape, generator=draws), torch.randint(0, 10, (batch,), generator=draws)
    data = Dataset("cifar10", "classification", 10, shape, Split(x, y), None, Split(x, y), "none")
    options = {} if name == "resnet18" else {"hidden": [512, 256, 128]}
    return lambda: build(name, data, 0, **options), x, y


IN_GRADIENTS = [0.0]  # processor seconds of the current step


def contestants(
    make: Callable[[], nn.Module], x: Tensor, y: Tensor, own: bool
) -> dict[str, Callable[[], None]]:
    """A function for each that takes one step; with ``own`` SGD and sharpscope alone."""

    def backward(model: nn.Module) -> None:
        began = time.process_time()
        nn.functional.cross_entropy(model(x), y).backward()
        IN_GRADIENTS[0] += time.process_time() - began

    def plain(model: nn.Module, optimizer: Any) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad()
            backward(model)
            optimizer.step()

        return step

    def in_two(model: nn.Module, optimizer: Any) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad()  # at the start, as for SGD: gradients freed at the end cost 5 % in page faults
            backward(model)
            optimizer.first_step(zero_grad=True)
            backward(model)
            optimizer.second_step()

        return step

    def closure(model: nn.Module, optimizer: Any) -> Callable[[], None]:
        def evaluate() -> None:
            optimizer.zero_grad()
            backward(model)

        return lambda: optimizer.step(evaluate)

    sgd = torch.optim.SGD
    models = [make() for _ in range(3 if own else 5)]
    found = {
        "SGD": plain(models[0], sgd(models[0].parameters(), **OPTIONS)),
        "sharpscope SAM, closure": closure(
            models[1], SAM(models[1].parameters(), sgd, rho=RHO, model=models[1], **OPTIONS)
        ),
        "sharpscope SAM, two steps": in_two(models[2], SAM(models[2].parameters(), sgd, rho=RHO, **OPTIONS)),
    }
    if own:
        return found
    found["usual two-step SAM"] = in_two(models[3], UsualSAM(models[3].parameters(), sgd, RHO, **OPTIONS))
    try:
        import pytorch_optimizer
    except ImportError:
        print("pytorch_optimizer is not installed: pip install 'sharpscope[benchmark]'")
    else:
        theirs = pytorch_optimizer.SAM(models[4].parameters(), sgd, rho=RHO, **OPTIONS)
        found["pytorch_optimizer SAM"] = in_two(models[4], theirs)
    return found


def compare(name: str, rounds: int, batch: int, only_own: bool) -> None:
    steps = contestants(*problem(name, batch), only_own)
    seconds: dict[str, list[float]] = {label: [] for label in steps}
    processor: dict[str, list[float]] = {label: [] for label in steps}
    own: dict[str, list[float]] = {label: [] for label in steps}
    for number in range(rounds + 1):
        for label in random.sample(list(steps), len(steps)):
            IN_GRADIENTS[0] = 0.0
            began, used = time.perf_counter(), time.process_time()
            steps[label]()
            if number:  # the first round warms up
                seconds[label].append(time.perf_counter() - began)
                processor[label].append(time.process_time() - used)
                own[label].append(processor[label][-1] - IN_GRADIENTS[0])
    print(
        f"\n{name}, batch {batch}, {torch.get_num_threads()} thread(s), medians of {rounds} interleaved rounds"
    )
    print(f"{'':<28}{'ms':>10}{'× SGD':>9}{'processor ms':>15}{'× SGD':>9}{'less gradients':>17}")
    for label in steps:
        median, used = statistics.median(seconds[label]), statistics.median(processor[label])
        ratio = median / statistics.median(seconds["SGD"])
        own_ratio = used / statistics.median(processor["SGD"])
        alone = 1000 * statistics.median(own[label])
        cells = f"{1000 * median:>10.2f}{ratio:>9.3f}{1000 * used:>15.2f}{own_ratio:>9.3f}{alone:>17.2f}"
        print(f"{label:<28}{cells}", flush=True)
    print(f"asked for: at most {LIMITS[name]} × SGD")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("problems", nargs="*", choices=[*LIMITS, []], default=list(LIMITS))
    parser.add_argument(
        "--rounds", type=int, default=0, help="rounds (default: 12 for resnet18, 300 for mlp)"
    )
    parser.add_argument("--batch", type=int, default=128, help="samples in a step")
    parser.add_argument("--own", action="store_true", help="leave other implementations out")
    chosen = parser.parse_args()
    for problem_name in chosen.problems:
        rounds = chosen.rounds or {"resnet18": 12, "mlp": 300}[problem_name]
        compare(problem_name, rounds, chosen.batch, chosen.own)

"""Models per minute: sharpscope's training against the papers' style of loop and a clean tensor loop.

    python benchmarks/sweep.py [lenet5] [mlp32] [mlp128] [--rounds N] [--quick] [--device cuda]

Problems: hammoud2023's LeNet-5 on 60 000 Fashion-MNIST images, batch 64, and patriarca2024's MLP on 50 000 CIFAR-10
images, batches of 32 and 128; random pixels, which cost what others cost. A model is one epoch of training.

- papers' loop: a `DataLoader` over PIL images with a transform and a normalisation per sample, ``loss.item()`` every
  step, all cores.
- tensor loop: data as tensors, batches by a permutation, nothing else; all cores, and one thread.
- sharpscope: `sharpscope.training.train`, one process of one thread, and as many as there are cores at the same time.

Every contestant is a process of its own that waits while others run. All take their turns in every round, in an order
drawn anew, so that a busy machine slows all alike; medians over rounds are compared. The loops evaluate nothing, and
neither does sharpscope here; what its evaluation of both sets after an epoch costs is given besides. ``--quick``
trains on a twentieth of the data and multiplies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    data: str
    model: str
    shape: tuple[int, int, int]
    samples: int
    batch: int
    rate: float


PROBLEMS = {
    "lenet5": Problem("fashion_mnist", "lenet5", (1, 28, 28), 60_000, 64, 0.05),
    "mlp32": Problem("cifar10", "mlp_patriarca2024", (3, 32, 32), 50_000, 32, 0.01),
    "mlp128": Problem("cifar10", "mlp_patriarca2024", (3, 32, 32), 50_000, 128, 0.01),
}


# What the contestants do, each in its process


def contestant(name: str, problem: Problem, samples: int, device: str) -> Callable[[], float]:
    """Return a function that trains one epoch (or several models at a time) and returns its seconds."""
    import torch

    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (samples, *problem.shape), dtype=torch.uint8)
    labels = torch.randint(0, 10, (samples,))
    if name == "papers":
        return papers_loop(problem, pixels, labels)
    inputs = ((pixels.float() / 255 - 0.5) / 0.25).to(device)
    labels = labels.to(device)
    if name.startswith("tensors"):
        return tensor_loop(problem, inputs, labels, device)
    return ours(problem, inputs, labels, device, "evaluated" in name)


def papers_loop(problem: Problem, pixels: Any, labels: Any) -> Callable[[], float]:
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    channels = problem.shape[0]

    class Images(Dataset[tuple[torch.Tensor, int]]):
        """The steps that torchvision's data sets, ToTensor and Normalize take for every sample."""

        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            array = pixels[index].numpy()
            image = Image.fromarray(array[0]) if channels == 1 else Image.fromarray(array.transpose(1, 2, 0))
            return self.normalised(self.tensor(image)), int(labels[index])

        def tensor(self, image: Any) -> torch.Tensor:
            back = torch.from_numpy(np.array(image, np.uint8, copy=True))
            back = back.view(image.size[1], image.size[0], len(image.getbands()))
            return back.permute((2, 0, 1)).contiguous().to(torch.get_default_dtype()).div(255)

        def normalised(self, image: torch.Tensor) -> torch.Tensor:
            image = image.clone()
            mean, deviation = torch.as_tensor([0.5] * channels), torch.as_tensor([0.25] * channels)
            if (deviation == 0).any():
                raise ValueError
            return image.sub_(mean.view(-1, 1, 1)).div_(deviation.view(-1, 1, 1))

    model = built(problem, "cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.rate)

    def epoch() -> float:
        began, running = time.perf_counter(), 0.0
        for x, y in DataLoader(Images(), batch_size=problem.batch, shuffle=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item()
        return time.perf_counter() - began

    return epoch


def tensor_loop(problem: Problem, inputs: Any, labels: Any, device: str) -> Callable[[], float]:
    import torch

    model = built(problem, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.rate)

    def epoch() -> float:
        began = time.perf_counter()
        for chosen in torch.randperm(len(inputs), device=device).split(problem.batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return epoch


def ours(problem: Problem, inputs: Any, labels: Any, device: str, evaluated: bool) -> Callable[[], float]:
    import torch

    from sharpscope.data import Dataset, Split
    from sharpscope.models import build
    from sharpscope.training import RunConfig, run_state, train, weight_seed

    if not evaluated:  # the loops do not either
        run_state.evaluate_splits = lambda *given: {"train_loss": 0.0}
    test = Split(inputs[: len(inputs) // 6], labels[: len(labels) // 6])
    data = Dataset(
        problem.data, "classification", 10, problem.shape, Split(inputs, labels), None, test, "none"
    )
    drawn = iter(range(10**9))

    def epoch() -> float:
        run = RunConfig.model_validate(
            {
                "data": problem.data,
                "model": problem.model,
                "optimizer": {"name": "sgd", "lr": problem.rate},
                "batch_size": problem.batch,
                "stop": {"epochs": 1},
                "seed": next(drawn),
            }
        )
        model = build(run.model, data, weight_seed(run))
        began = time.perf_counter()
        outcome = train(run, data, model, device=device)
        if device != "cpu":
            torch.cuda.synchronize()
        assert outcome.status == "finished"
        return time.perf_counter() - began

    return epoch


def built(problem: Problem, device: str) -> Any:
    import torch

    from sharpscope.data import Dataset, Split
    from sharpscope.models import ModelConfig, build

    empty = Split(torch.zeros(1, *problem.shape), torch.zeros(1, dtype=torch.int64))
    data = Dataset(problem.data, "classification", 10, problem.shape, empty, None, empty, "none")
    return build(ModelConfig(name=problem.model), data, 0).to(device)


def serve(name: str, problem: str, samples: int, threads: int, device: str) -> None:
    """Be a contestant: one epoch for every line of input."""
    import torch

    torch.set_num_threads(threads)
    epoch = contestant(name, PROBLEMS[problem], samples, device)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(epoch()), flush=True)


# The one who lets them take turns


class Process:
    def __init__(self, name: str, problem: str, samples: int, threads: int, device: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        settings = [name, problem, str(samples), str(threads), device]
        command = [sys.executable, __file__, "--serve", *settings]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._answer()

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a contestant ended with status {self._process.wait()}")
        return line

    def seconds(self) -> float:
        return float(json.loads(self._answer()))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def rounds_of(entries: dict[str, list[Process]], rounds: int) -> Iterator[dict[str, float]]:
    """Yield every entry's seconds, those of the slowest of its processes, round by round."""
    for number in range(rounds + 1):
        found = {}
        for label in random.sample(list(entries), len(entries)):
            for process in entries[label]:
                process.start()
            found[label] = max(process.seconds() for process in entries[label])
        if number:  # the first round warms up
            yield found


def compare(name: str, rounds: int, quick: bool, device: str) -> None:
    problem = PROBLEMS[name]
    part = 20 if quick else 1
    samples = problem.samples // part
    cores = len(os.sched_getaffinity(0)) if device == "cpu" else 1
    entries = {f"tensor loop, {cores} thread(s)": [Process("tensors", name, samples, cores, device)]}
    if device == "cpu":
        workers = [Process("ours", name, samples, 1, device) for _ in range(cores)]
        entries |= {
            f"papers' loop, {cores} thread(s)": [Process("papers", name, samples, cores, device)],
            "tensor loop, 1 thread": [Process("tensors", name, samples, 1, device)],
            f"tensor loop, {cores} x 1 thread": [
                Process("tensors", name, samples, 1, device) for _ in range(cores)
            ],
            "sharpscope, 1 thread": workers[:1],
            f"sharpscope, {cores} x 1 thread": workers,
        }
    else:
        entries["sharpscope, one model"] = [Process("ours", name, samples, 1, device)]
    entries["sharpscope, evaluations included"] = [Process("ours evaluated", name, samples, 1, device)]
    found = list(rounds_of(entries, rounds))
    for processes in entries.values():
        for process in processes:
            process.end()
    print(f"\n{name}: batch {problem.batch}, {problem.samples} samples, medians of {rounds} rounds, {device}")
    print(f"{'':<34}{'s per epoch':>12}{'models per minute':>19}{'range of rounds':>22}")
    pace: dict[str, float] = {}
    for label, processes in entries.items():
        seconds = sorted(part * round_[label] for round_ in found)
        pace[label] = 60 * len(processes) / statistics.median(seconds)
        span = f"{seconds[0]:.2f} … {seconds[-1]:.2f} s"
        print(f"{label:<34}{statistics.median(seconds):>12.2f}{pace[label]:>19.2f}{span:>22}", flush=True)
    if device == "cpu":
        best = pace[f"sharpscope, {cores} x 1 thread"]
        print(
            f"against the papers' loop: {best / pace[f'papers{chr(39)} loop, {cores} thread(s)']:.2f} x (aim 3)"
        )
        print(f"against the tensor loop: {best / pace[f'tensor loop, {cores} thread(s)']:.2f} x (aim 1)")
        twice = pace[f"tensor loop, {cores} x 1 thread"]
        print(f"against the tensor loop in {cores} processes of one thread: {best / twice:.2f} x")
        print(f"thread for thread: {pace['sharpscope, 1 thread'] / pace['tensor loop, 1 thread']:.2f} x")
        print(
            f"{cores} workers against one: {best / pace['sharpscope, 1 thread']:.2f} x (aim {0.9 * cores:.1f})"
        )
    else:
        print(
            f"against the tensor loop: {pace['sharpscope, one model'] / pace['tensor loop, 1 thread(s)']:.2f} x"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        which, of, size, threads_given, where = sys.argv[2:]
        serve(which, of, int(size), int(threads_given), where)
        raise SystemExit
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("problems", nargs="*", help=f"of {', '.join(PROBLEMS)}; by default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    for problem_name in chosen.problems or PROBLEMS:
        compare(problem_name, chosen.rounds, chosen.quick, chosen.device)
